import numpy as np
import pytest
import torch
from tests.made import tokens
from torch.autograd import forward_ad

from rnnatlas.encoders.statistics import QUANTILES, Statistics, StatisticsSettings, statistics
from rnnatlas.rnn import Population, RNNSpec

LSTM = RNNSpec(cell="lstm", input=3, hidden=4, layers=2, output=3)


def some(spec, count=3):
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])


def summary(values):
    values = np.asarray(values, dtype=np.float64).ravel()
    return [values.mean(), values.std(), *np.quantile(values, QUANTILES)]


def test_features_are_those_of_each_gate_by_numpy():
    population = some(LSTM)
    weights = {name: weight[1].numpy() for name, weight in population.weights.items()}
    expected = []
    for layer in range(2):
        biases = weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]
        for part in (weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"], biases):
            expected += [number for gate in np.split(part, 4) for number in summary(gate)]
    expected += summary(weights["head.weight"]) + summary(weights["head.bias"])
    np.testing.assert_allclose(statistics(population)[1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "vectors"),
    [
        (LSTM, 2 * 4 * 3 + 2),
        (RNNSpec(cell="lstm", input=3, hidden=4), 4 * 3),
        (RNNSpec(cell="gru", input=3, hidden=4), 3 * 3 + 1),  # both biases of the candidate gate
        (RNNSpec(cell="elman-tanh", input=3, hidden=4, bias=False), 2),
        (RNNSpec(cell="lstm", input=3, hidden=4, bidirectional=True), 2 * 4 * 3),
    ],
    ids=str,
)
def test_number_of_vectors(spec, vectors):
    assert statistics(some(spec)).shape == (3, 7 * vectors)


def test_the_candidate_gate_of_a_gru_keeps_its_biases_apart():
    population = some(RNNSpec(cell="gru", input=3, hidden=4))
    weights = dict(population.weights)
    shift = torch.tensor([0.0, 0, 1]).repeat_interleave(4)
    weights["bias_ih_l0"] = weights["bias_ih_l0"] + shift
    weights["bias_hh_l0"] = weights["bias_hh_l0"] - shift
    assert not torch.allclose(statistics(Population(population.spec, weights)), statistics(population))


def test_calibration_standardises_the_features_of_the_training_snapshots():
    population = some(LSTM, 300)
    encoder = Statistics(tokens(LSTM), LSTM, StatisticsSettings(width=8))
    encoder.calibrate(population)
    standard = (statistics(population) - encoder.mean) / encoder.sd
    torch.testing.assert_close(standard.mean(0), torch.zeros(standard.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        standard.std(0, correction=0), torch.ones(standard.shape[1]), atol=1e-4, rtol=0
    )


def test_a_feature_that_never_varies_is_left_in_its_scale():
    weights = {name: torch.zeros_like(weight) for name, weight in some(LSTM).weights.items()}
    encoder = Statistics(tokens(LSTM), LSTM, StatisticsSettings(width=8))
    encoder.calibrate(Population(LSTM, weights))
    assert (encoder.sd == 1).all()
    assert encoder(some(LSTM)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_are_the_same_whether_or_not_gradients_are_wanted(dtype):
    population = some(RNNSpec(cell="lstm", input=3, hidden=17, layers=2, output=3)).to(dtype=dtype)
    population.weights["weight_hh_l0"][:, 5:30] = 0.1  # ties
    with_gradients = statistics(population.clone().requires_grad_())
    assert with_gradients.requires_grad
    assert torch.equal(statistics(population), with_gradients.detach())


def test_what_cannot_be_sorted_by_numpy_is_sorted_by_torch():
    population = some(LSTM)
    rough = statistics(population.to(dtype=torch.bfloat16))
    torch.testing.assert_close(rough.float(), statistics(population), atol=0.02, rtol=0)


def test_derivatives_of_all_kinds_agree():
    vectors, tangent = some(LSTM).to(dtype=torch.float64).flatten(), torch.randn(3, LSTM.parameters).double()

    def features(vectors):
        return statistics(Population.unflatten(LSTM, vectors))

    step = 1e-7 * tangent
    expected = (features(vectors + step) - features(vectors - step)) / 2e-7
    forward = torch.func.jvp(features, (vectors,), (tangent,))[1]
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(features(forward_ad.make_dual(vectors, tangent))).tangent
    jacobian = torch.func.jacrev(features)(vectors)
    torch.testing.assert_close(forward, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(dual, forward)
    torch.testing.assert_close(torch.einsum("abcd,cd->ab", jacobian, tangent), forward)
