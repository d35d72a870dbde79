import pytest
import torch
from tests.made import tokens

from rnnatlas.encoders.flat import Flat, FlatSettings
from rnnatlas.encoders.rows import rows
from rnnatlas.encoders.transformer import Transformer, TransformerSettings
from rnnatlas.rnn import Population, RNNSpec, canonical_bias, permute_hidden, random_permutations

LSTM = RNNSpec(cell="lstm", input=3, hidden=4, layers=2, output=5)
SPECS = [
    LSTM,
    RNNSpec(cell="gru", input=3, hidden=4, bidirectional=True),
    RNNSpec(cell="elman-tanh", input=3, hidden=4, output=2, bias=False, head_bias=False),
]
SMALL = {Flat: FlatSettings(width=8), Transformer: TransformerSettings(width=8, layers=2, feedforward=8)}
KINDS = pytest.mark.parametrize("kind", SMALL)


def some(spec=LSTM, count=6):
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    return Population.initialise(spec, generators).to(dtype=torch.float64)


def make(kind, spec=LSTM, settings=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = kind(tokens(spec), spec, settings or SMALL[kind])
    encoder.double().calibrate(some(spec))
    return encoder


def drawn(encoder, population, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return encoder(population)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_rows_hold_every_weight_once(spec):
    population = canonical_bias(some(spec))
    held = torch.cat([matrix.flatten(1) for matrix in rows(population)], 1)
    kept = [w.flatten(1) for name, w in population.weights.items() if "bias_hh" not in name or w.any()]
    assert torch.equal(held.sort(1).values, torch.cat(kept, 1).sort(1).values)


def test_a_row_is_what_one_gate_of_a_unit_is_computed_from():
    population = some()
    first, _, head = rows(canonical_bias(population))
    weights = {name: weight[2] for name, weight in population.weights.items()}
    g = 2 * 4 + 1  # gate g of unit 1
    bias = weights["bias_ih_l0"][g] + weights["bias_hh_l0"][g]
    expected = torch.cat([weights["weight_ih_l0"][g], weights["weight_hh_l0"][g], bias[None]])
    torch.testing.assert_close(first[2, g], expected)
    torch.testing.assert_close(head[2, 1], torch.cat([weights["head.weight"][1], weights["head.bias"][1:2]]))


@KINDS
def test_training_reads_each_rnn_in_an_order_of_its_own(kind):
    encoder, population = make(kind), some(count=6)
    z = drawn(encoder, population, seed=5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        order = random_permutations(LSTM, 6)
    assert len({tuple(units.flatten().tolist()) for units in order}) == 6
    encoder.eval()
    assert torch.equal(z, encoder(permute_hidden(population, order)))
    assert not torch.allclose(z, encoder(population))


@KINDS
def test_orders_follow_the_default_generator(kind):
    encoder, population = make(kind), some()
    assert torch.equal(drawn(encoder, population, 1), drawn(encoder, population, 1))
    assert not torch.allclose(drawn(encoder, population, 1), drawn(encoder, population, 2))


@KINDS
def test_without_permutations_training_and_use_are_the_same(kind):
    settings = type(SMALL[kind])(**{**vars(SMALL[kind]), "augment": "none"})
    encoder, population = make(kind, settings=settings), some()
    state = torch.random.get_rng_state()
    assert torch.equal(encoder(population), encoder.eval()(population))
    assert torch.equal(torch.random.get_rng_state(), state)


@KINDS
def test_calibration_draws_nothing(kind):
    encoder = kind(tokens(LSTM), LSTM, SMALL[kind]).double().train()
    state = torch.random.get_rng_state()
    encoder.calibrate(some())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_calibration_standardises_tensors_and_treats_all_units_alike(spec):
    encoder, population = make(Flat, spec), some(spec)
    assert encoder.sd.shape == (len(spec.shapes),)
    canonical = canonical_bias(population).weights.values()
    for weight, mean, sd in zip(canonical, encoder.mean, encoder.sd, strict=True):
        standard = (weight - mean) / sd
        assert standard.mean().abs() < 1e-6
        if weight.any():
            assert standard.std(correction=0) == pytest.approx(1)
    other = make(Flat, spec)
    other.calibrate(permute_hidden(population, random_permutations(spec, 6, torch.Generator())))
    torch.testing.assert_close(other.sd, encoder.sd)


def test_a_tensor_that_never_varies_is_left_in_its_scale():
    encoder = Flat(tokens(LSTM), LSTM, FlatSettings(width=8))
    encoder.calibrate(Population.unflatten(LSTM, torch.zeros(4, LSTM.parameters)))
    assert (encoder.sd == 1).all()
