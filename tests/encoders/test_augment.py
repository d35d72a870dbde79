import pytest
import torch
from tests.made import different_leaks, tokens

from rnnatlas import encoders
from rnnatlas.encoders.augment import Augmented
from rnnatlas.rnn import SYMMETRIES, Mixed, Population, RNNSpec, canonical_bias, run
from rnnatlas.settings import build

SMALL = {
    "dws": {"channels": 4, "layers": 2},
    "flat": {"width": 8},
    "graph": {"width": 8, "channels": 4, "rounds": 1},
    "transformer": {"width": 8, "layers": 1, "feedforward": 8},
}
AUGMENTED = pytest.mark.parametrize(
    "name", [name for name in sorted(encoders.registry) if issubclass(encoders.registry[name], Augmented)]
)
SPECS = [
    RNNSpec(cell="lstm", input=3, hidden=4, layers=2, output=3),
    RNNSpec(cell="gru", input=3, hidden=4, output=3, initial_state=True),
    RNNSpec(cell="elman-tanh", input=3, hidden=4, output=3, bidirectional=True),
    RNNSpec(cell="leaky-relu", input=3, hidden=4, output=3, bias=False),
]


def some(spec, count=4):
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    return different_leaks(Population.initialise(spec, generators).to(dtype=torch.float64))


def make(name, spec, augment):
    kind = encoders.registry[name]
    encoder = kind(tokens(spec), spec, build(kind.Settings, SMALL.get(name, {}) | {"augment": augment}))
    return encoder.double().train()


def read(encoder, system, seed=0):
    """The populations that an encoder reads in training."""
    found = []
    encoder.read = lambda population: found.append(population) or torch.ones(len(population), 16)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder(system)
    return found


def same(one, other):
    return torch.equal(one.flatten(), other.flatten())


def outputs(population):
    generator = torch.Generator().manual_seed(5)
    return run(population, torch.randn(2, 6, 3, generator=generator, dtype=torch.float64))[0]


@AUGMENTED
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_what_is_drawn_computes_the_same(name, spec):
    population, encoder = some(spec), make(name, spec, "all")
    (drawn,) = read(encoder, population)
    torch.testing.assert_close(outputs(drawn), outputs(population))
    assert not same(drawn, population)


@AUGMENTED
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_all_are_drawn_that_the_embedding_lacks(name, spec):
    """Signs and scales show in the sizes and signs of a unit's weights, whatever its place."""
    population, encoder = some(spec), make(name, spec, "all")
    (drawn,) = read(encoder, population)
    before, after = canonical_bias(population), canonical_bias(drawn)
    ordered = [weights.weights["weight_ih_l0"].abs().flatten(1).sort(1).values for weights in (before, after)]
    scaled = not torch.allclose(*ordered)
    assert scaled == SYMMETRIES["relu-scaling"].applies(spec)
    signs = [(weights.weights["weight_ih_l0"] > 0).flatten(1).sum(1) for weights in (before, after)]
    assert (not torch.equal(*signs)) == SYMMETRIES["sign-flip"].applies(spec)
    kept = torch.equal(before.weights["weight_hh_l0"].abs(), after.weights["weight_hh_l0"].abs())
    if not scaled:
        assert kept == ("hidden-permutation" in encoder.symmetries)


@AUGMENTED
def test_orders_alone_where_these_are_asked_for(name):
    population, encoder = some(SPECS[0]), make(name, SPECS[0], "permutation")
    (drawn,) = read(encoder, population)
    assert same(drawn, population) == ("hidden-permutation" in encoder.symmetries)
    for key, weight in population.weights.items():
        before, after = (each.flatten(1).sort(1).values for each in (weight, drawn.weights[key]))
        assert torch.equal(before, after), key


@AUGMENTED
@pytest.mark.parametrize(("augment", "training"), [("none", True), ("all", False)])
def test_nothing_is_drawn_where_nothing_is_asked_for(name, augment, training):
    population, encoder = some(SPECS[0]), make(name, SPECS[0], augment).train(training)
    (seen,) = read(encoder, population)
    assert same(seen, population)


@AUGMENTED
def test_hidden_states_that_are_outputs_stay_as_they_are(name):
    spec = RNNSpec(cell="elman-tanh", input=3, hidden=4)
    population, encoder = some(spec), make(name, spec, "all")
    (seen,) = read(encoder, population)
    assert same(seen, population)


def test_rnns_of_several_architectures_are_changed_alike():
    parts = [some(SPECS[0], 3), some(SPECS[1], 2)]
    mixed = Mixed([([0, 2, 4], parts[0]), ([1, 3], parts[1])])
    drawn = read(make("graph", SPECS[0], "all"), mixed)
    for before, after in zip(parts, drawn, strict=True):
        assert not same(before, after)
        torch.testing.assert_close(outputs(after), outputs(before))


@pytest.mark.parametrize(
    ("spec", "name"), [(s, n) for s in SPECS for n, own in SYMMETRIES.items() if own.applies(s)], ids=str
)
def test_changes_are_drawn_where_the_rnns_are(spec, name):
    """What the CPU draws, a CUDA graph would draw once for all steps; "meta" draws no numbers of the CPU."""
    before = torch.random.get_rng_state()
    changed = SYMMETRIES[name].change(some(spec).to("meta"), None)
    assert {weight.device.type for weight in changed.weights.values()} == {"meta"}
    assert torch.equal(torch.random.get_rng_state(), before)
