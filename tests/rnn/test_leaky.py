"""Leaky RNNs, and learned initial states of every cell, against their equations in numpy."""

import numpy as np
import pytest
import torch
from tests.made import different_leaks

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import GATES, Population, RNNSpec, run, step
from rnnatlas.rnn.backends import eager, kernels, native, triton
from rnnatlas.rnn.population import ALPHA

LEAKY = ("leaky-tanh", "leaky-relu")
OPTIONS = [
    {},
    {"layers": 2, "output": 2, "bidirectional": True},
    {"layers": 2, "bias": False},
    {"initial_state": True},
    {"initial_state": True, "layers": 2, "output": 2, "bidirectional": True},
]
EVERY = pytest.mark.parametrize("options", OPTIONS, ids=str)


def spec_of(cell, **options):
    return RNNSpec(cell=cell, input=3, hidden=4, **options)


def population_of(spec, count=3):
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return different_leaks(Population.initialise(spec, generators).to(dtype=torch.float64))


def inputs_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def state_of(spec, count, batch):
    shape = (len(spec.suffixes), count, batch, spec.hidden)
    return tuple(inputs_of(*shape) * (number + 1) for number in range(len(spec.state)))


# --- the equations ---------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def next_state(cell, w, x, h, c):
    """Of one RNN and one layer, whose parameters are `w`, all of a batch."""
    zero = np.zeros(len(w["weight_hh"]))
    from_x = x @ w["weight_ih"].T + w.get("bias_ih", zero)
    from_h = h @ w["weight_hh"].T + w.get("bias_hh", zero)
    if cell == "lstm":
        i, f, g, o = np.split(from_x + from_h, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if cell == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(from_x, 3, -1), np.split(from_h, 3, -1)
        z = sigmoid(z_x + z_h)
        return (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h, c
    kind, phi = cell.split("-")
    new = np.tanh(from_x + from_h) if phi == "tanh" else np.maximum(from_x + from_h, 0)
    return (1 - w["alpha"]) * h + w["alpha"] * new if kind == "leaky" else new, c


def by_hand(population, index, inputs, state):
    """Outputs of one RNN and its last state, a layer and direction after the other."""
    spec = population.spec
    weights = {name: weight[index].numpy() for name, weight in population.weights.items()}
    signal, ends = inputs.numpy(), []
    for layer in range(spec.layers):
        both = []
        for way in range(spec.directions):
            number = layer * spec.directions + way
            end = f"_{spec.suffixes[number]}"
            w = {name.removesuffix(end): weight for name, weight in weights.items() if name.endswith(end)}
            start = np.zeros((len(signal), spec.hidden))
            h, c = w.get("h0", 0) + start, w.get("c0", 0) + start
            if state is not None:
                h, c = state[0][number, index].numpy(), state[-1][number, index].numpy()
            hidden = np.empty((*signal.shape[:2], spec.hidden))
            for t in range(signal.shape[1])[:: -1 if way else 1]:
                h, c = next_state(spec.cell, w, signal[:, t], h, c)
                hidden[:, t] = h
            both.append(hidden)
            ends.append((h, c)[: len(spec.state)])
        signal = np.concatenate(both, -1)
    if spec.output is not None:
        signal = signal @ weights["head.weight"].T + weights["head.bias"]
    return signal, [np.stack(part) for part in zip(*ends, strict=True)]


@EVERY
@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("cell", GATES)
def test_runs_as_its_equations_say(cell, carried, options):
    spec = spec_of(cell, **options)
    population, inputs = population_of(spec), inputs_of(3, 2, 6, 3)
    state = state_of(spec, 3, 2) if carried else None
    outputs, end = run(population, inputs, state)
    for index in range(3):
        expected, last = by_hand(population, index, inputs[index], state)
        np.testing.assert_allclose(outputs[index], expected, atol=1e-12)
        for part, one in zip(end, last, strict=True):
            np.testing.assert_allclose(part[:, index], one, atol=1e-12)


@pytest.mark.parametrize("options", [each for each in OPTIONS if "bidirectional" not in each], ids=str)
@pytest.mark.parametrize("cell", GATES)
def test_a_sequence_equals_its_steps(cell, options):
    population, inputs = population_of(spec_of(cell, **options)), inputs_of(3, 2, 6, 3)
    expected, end = run(population, inputs)
    outputs, state = [], None
    for x in inputs.unbind(2):
        output, state = step(population, x, state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs, 2), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, end, rtol=0, atol=1e-12)


@EVERY
@pytest.mark.parametrize("cell", GATES)
def test_gradients_are_those_of_finite_differences(cell, options):
    spec = spec_of(cell, **options)
    population = population_of(spec, 2).requires_grad_()
    inputs = inputs_of(2, 2, 3, 3).requires_grad_()

    def outcome(inputs, *weights):
        outputs, end = run(Population(spec, dict(zip(spec.shapes, weights, strict=True))), inputs)
        return outputs, *end

    assert torch.autograd.gradcheck(outcome, [inputs, *population.weights.values()])


# --- what α means ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", LEAKY)
def test_without_a_leak_it_is_an_elman_network_and_with_no_step_it_stays(cell):
    population, inputs = population_of(spec_of(cell, initial_state=True)), inputs_of(3, 2, 6, 3)
    for alpha, expected in (
        (1.0, run(as_elman(population), inputs)[0]),
        (0.0, population.weights["h0_l0"].view(3, 1, 1, 4).expand(3, 2, 6, 4)),
    ):
        weights = population.weights | {"alpha_l0": torch.full((3, 4), alpha, dtype=torch.float64)}
        found, _ = run(Population(population.spec, weights), inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def as_elman(population):
    spec = spec_of(population.spec.cell.replace("leaky", "elman"), initial_state=True)
    return Population(spec, {name: population.weights[name] for name in spec.shapes})


@pytest.mark.parametrize("cell", LEAKY)
def test_new_ones_have_the_published_leak_which_optimisers_leave_alone(cell):
    spec = spec_of(cell, layers=2, output=3)
    population = Population.initialise(spec, [torch.Generator().manual_seed(0)])
    assert spec.fixed == ("alpha_l0", "alpha_l1")
    assert all((population.weights[name] == ALPHA).all() for name in spec.fixed)
    trained = {id(weight) for weight in population.parameters()}
    left = {name for name, weight in population.weights.items() if id(weight) not in trained}
    assert left == set(spec.fixed)
    (module,) = population.to_modules()
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    assert frozen == {f"rnn.{name}" for name in spec.fixed}


# --- names -----------------------------------------------------------------------------------------


def test_what_they_are_called():
    spec = RNNSpec.from_slug("leaky-tanh-3-4x2-2-bidirectional-initialstate")
    assert str(spec) == "bidirectional leaky RNN (tanh) 3→4×2→2 (learned initial state)"
    assert [name for name, shape in spec.shapes.items() if name.startswith(("alpha", "h0"))] == [
        f"{kind}_{suffix}" for suffix in ("l0", "l0_reverse", "l1", "l1_reverse") for kind in ("alpha", "h0")
    ]
    lstm = RNNSpec.from_slug("lstm-3-4x1-initialstate")
    assert list(lstm.shapes)[-2:] == ["h0_l0", "c0_l0"]
    assert lstm.parameters == RNNSpec.from_slug("lstm-3-4x1").parameters + 8


def test_state_dicts_need_the_names_of_the_spec():
    spec = spec_of("leaky-tanh")
    with pytest.raises(RNNSpecMismatch, match=r"should be weight_ih_l0, .*alpha_l0, found weight_ih_l0"):
        Population.from_state_dicts([torch.nn.RNN(3, 4).state_dict()], spec)


# --- other backends --------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", GATES)
def test_backends_without_a_cell_leave_it_to_eager_torch(cell):
    population = population_of(spec_of(cell, initial_state=True)).to(dtype=torch.float32)
    inputs = inputs_of(3, 2, 6, 3).float()
    assert native.applies(population, inputs, None) == (cell not in LEAKY)
    assert set(kernels.CELLS) == set(triton.CELLS) == set(GATES) - set(LEAKY)
    expected, _ = eager.run(population, inputs, None)
    torch.testing.assert_close(run(population, inputs)[0], expected, rtol=1e-5, atol=1e-6)
