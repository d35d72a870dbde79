"""What every registered encoder promises."""

import copy

import pytest
import torch
from tests.made import different_leaks, tokens

from rnnatlas import encoders
from rnnatlas.encoders import equivariant
from rnnatlas.encoders.base import EMBED, Encoder
from rnnatlas.errors import RNNSpecMismatch, TrainingDiverged
from rnnatlas.rnn import SYMMETRIES, Population, RNNSpec
from rnnatlas.settings import build

SMALL = {
    "statistics": {"width": 24},
    "dws": {"channels": 8, "layers": 2},
    "flat": {"width": 24},
    "transformer": {"width": 16, "layers": 2, "feedforward": 24},
    "responses": {"sequences": 2, "steps": 5, "hidden": 12, "learned": True},
    "orbit": {"sequences": 2, "steps": 5, "last": 5, "turns": 4, "hidden": 12},
    "hybrid": {"sequences": 2, "steps": 5, "hidden": 12, "decode": 0.0},
    "invariants": {"width": 16},
    "graph": {"width": 8, "channels": 4, "rounds": 2},
    "noninteractive": {"sequences": 2, "steps": 5, "width": 16, "hidden": 12},
    "interactive": {"sequences": 2, "steps": 5, "width": 16, "hidden": 12, "step_embedding": True},
}
"""Small settings for each encoder; an encoder without any is tested at its published size."""
SPECS = [
    RNNSpec(cell="lstm", input=5, hidden=6, layers=2, output=5),
    RNNSpec(cell="gru", input=3, hidden=4, output=3),
    RNNSpec(cell="elman-tanh", input=3, hidden=5, output=4, bias=False),
    RNNSpec(cell="elman-relu", input=3, hidden=5, layers=2, output=4),
    RNNSpec(cell="leaky-tanh", input=3, hidden=5, output=4, initial_state=True),
    RNNSpec(cell="leaky-relu", input=3, hidden=5, layers=2, output=4),
    RNNSpec(cell="lstm", input=3, hidden=4, output=4, initial_state=True),
]
ANY = ("invariants",)
"""Encoders that take RNNs of any architecture and interface."""
ENCODERS = pytest.mark.parametrize("name", sorted(encoders.registry))


def make(name, spec=SPECS[0], seed=0, **changes):
    """An encoder as it is used after training: some change the RNNs at random while they are trained."""
    kind = encoders.registry[name]
    settings = build(kind.Settings, SMALL.get(name, {}) | changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = kind(tokens(spec), spec, settings)
    encoder.double().eval().calibrate(some(spec, 8, seed=99))
    return encoder


def generators(count, seed=0):
    return [torch.Generator().manual_seed(1000 * seed + i) for i in range(count)]


def some(spec=SPECS[0], count=5, seed=0):
    # as initialised, RNNs respond nearly alike: what encoders make of that needs double precision
    population = Population.initialise(spec, generators(count, seed)).to(dtype=torch.float64)
    return different_leaks(population)


def check_symmetries(encoder, population):
    """A declared symmetry holds, and one that is not declared does not, of those that the RNNs have."""
    z = encoder(population)
    for name, symmetry in SYMMETRIES.items():
        if symmetry.applies(population.spec):
            changed = symmetry.change(population, torch.Generator().manual_seed(7))
            alike = torch.allclose(encoder(changed), z, atol=1e-8)
            assert alike == (name in encoder.symmetries), name


class Flat(Encoder):
    """Reads the weights as they come."""

    Settings = object
    reads_weights = True
    symmetries = frozenset()

    def __init__(self, spec):
        super().__init__(tokens(spec), spec, None)
        self.layer = torch.nn.Linear(spec.parameters, EMBED, dtype=torch.float64)

    @property
    def last(self):
        return self.layer

    def read(self, population):
        return self.layer(population.flatten())


@ENCODERS
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_embeds_at_unit_length(name, spec):
    z = make(name, spec)(some(spec))
    assert z.shape == (5, EMBED)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5, dtype=torch.float64))


@ENCODERS
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_symmetries_are_as_declared(name, spec):
    assert make(name).symmetries <= set(SYMMETRIES)
    check_symmetries(make(name, spec), some(spec))


@pytest.mark.parametrize("claimed", SYMMETRIES)
def test_a_symmetry_that_is_claimed_wrongly_is_found(claimed, monkeypatch):
    spec = next(spec for spec in SPECS if SYMMETRIES[claimed].applies(spec))
    check_symmetries(Flat(spec), some(spec))
    monkeypatch.setattr(Flat, "symmetries", frozenset({claimed}))
    with pytest.raises(AssertionError, match=claimed):
        check_symmetries(Flat(spec), some(spec))


def test_a_symmetry_that_is_not_declared_is_found():
    encoder = make("statistics")
    encoder.symmetries = frozenset({"bias-shift"})
    with pytest.raises(AssertionError, match="hidden-permutation"):
        check_symmetries(encoder, some())


@ENCODERS
def test_every_parameter_gets_a_gradient(name):
    encoder = make(name)
    encoder(some())[:, 0].sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@ENCODERS
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_parameter_of_the_rnns_counts(name, spec):
    encoder, population = make(name, spec), some(spec).requires_grad_()
    encoder(population)[:, 0].sum().backward()
    for parameter, weight in population.weights.items():
        assert weight.grad.abs().sum() > 0, parameter


@ENCODERS
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("of", ["encoder", "RNNs"])
def test_gradients_are_those_of_finite_differences(name, spec, of, monkeypatch):
    monkeypatch.setattr(equivariant, "CACHED", 5000)  # of 5 RNNs 1 to 3 at a time
    encoder, population = make(name, spec), some(spec).requires_grad_()
    moved = list(encoder.parameters()) if of == "encoder" else list(population.weights.values())
    random = torch.Generator().manual_seed(3)
    directions = [torch.randn(tensor.shape, generator=random, dtype=tensor.dtype) for tensor in moved]
    weighting = torch.randn(len(population), EMBED, generator=random, dtype=torch.float64)

    def at(distance):
        with torch.no_grad():
            for tensor, direction in zip(moved, directions):
                tensor.add_(distance * direction)
            outcome = (encoder(population) * weighting).sum()
            for tensor, direction in zip(moved, directions):
                tensor.sub_(distance * direction)
        return outcome

    gradients = torch.autograd.grad((encoder(population) * weighting).sum(), moved)
    slope = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions))
    torch.testing.assert_close(slope, (at(1e-6) - at(-1e-6)) / 2e-6, rtol=1e-4, atol=1e-4)


@ENCODERS
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_learns_on_another_device(name, spec):
    """Numbers of the device "meta", which has none, cannot be mixed with those of the CPU."""
    encoder, population = make(name, spec).to("meta").train(), some(spec).to("meta").requires_grad_()
    encoder(population).sum().backward()
    for tensor in (*encoder.parameters(), *population.weights.values()):
        assert tensor.grad.device.type == "meta"


@ENCODERS
def test_rnns_without_an_embedding_are_named_before_training(name):
    encoder, population = make(name), some()
    population.weights["weight_hh_l0"][2] = torch.nan
    with pytest.raises(TrainingDiverged, match="embeddings of training RNNs are not finite before training"):
        encoder.calibrate(population)


@ENCODERS
def test_saved_and_loaded_it_embeds_alike(name):
    encoder, other = make(name), make(name, seed=1)
    assert not torch.equal(encoder(some()), other(some()))
    other.load_state_dict(copy.deepcopy(encoder.state_dict()))
    assert torch.equal(encoder(some()), other(some()))


@ENCODERS
def test_an_embedding_does_not_depend_on_the_rest_of_the_batch(name):
    encoder, population = make(name), some(count=6)
    together = encoder(population)
    apart = torch.cat([encoder(population.select([i])) for i in (5, 0, 3)])
    torch.testing.assert_close(apart, together[[5, 0, 3]], atol=1e-6, rtol=1e-5)


@ENCODERS
def test_changes_neither_its_arguments_nor_itself(name):
    encoder, population = make(name), some()
    before, state = population.clone(), copy.deepcopy(encoder.state_dict())
    encoder(population)
    assert torch.equal(population.flatten(), before.flatten())
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, state[key]), key


@ENCODERS
def test_draws_no_random_numbers(name):
    encoder = make(name)
    before = torch.random.get_rng_state()
    encoder(some())
    assert torch.equal(torch.random.get_rng_state(), before)


@ENCODERS
def test_refuses_rnns_of_another_architecture(name):
    encoder = make(name)
    other = RNNSpec(cell="lstm", input=4, hidden=6, layers=2, output=4)
    if name in ANY:
        assert encoder(some(other)).shape == (5, EMBED)
        return
    with pytest.raises(RNNSpecMismatch, match=r"built for .*found LSTM 4→6×2→4; train one on"):
        encoder(some(other))


@ENCODERS
def test_only_mechanistic_encoders_of_one_architecture_mind_hidden_sizes(name):
    encoder = make(name)
    wider = RNNSpec(cell="gru", input=5, hidden=9, output=5)
    if encoder.reads_weights and not encoder.any_architecture:
        with pytest.raises(RNNSpecMismatch, match="found GRU"):
            encoder(some(wider))
    else:
        assert encoder(some(wider)).shape == (5, EMBED)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("statistics", 1.25e6),
        ("flat", 1.8e6),
        ("transformer", 1.28e6),
        ("dws", 1.28e6),
        ("noninteractive", 1.15e6),
        ("interactive", 1.15e6),
    ],
)
def test_sizes_are_the_published_ones(name, size):
    kind = encoders.registry[name]
    encoder = kind(
        tokens(RNNSpec.from_slug("lstm-6-32x2-6")), RNNSpec.from_slug("lstm-6-32x2-6"), kind.Settings()
    )
    assert sum(parameter.numel() for parameter in encoder.parameters()) == pytest.approx(size, rel=0.05)


def test_the_zero_control_is_zero():
    kind = encoders.controls["zero"]
    encoder = kind(tokens(SPECS[0]), SPECS[0], kind.Settings())
    assert not encoder(some()).any()
    assert not list(encoder.parameters())


@ENCODERS
def test_calibration_whitens(name):
    encoder, population = make(name), some(count=8, seed=99)  # what `make` calibrates on
    raw = encoder.read(population)
    if name == "orbit":  # what turns with the RNN is scaled, but stays where it is
        raw = raw[:, 2:]
    assert raw.mean(0).abs().max() < 1e-6
    sds = torch.linalg.svdvals(raw / len(raw) ** 0.5)
    assert sds.max() < 1 + 1e-6
    assert (sds > 1 - 1e-6).sum() >= 2, "only directions far narrower than the widest may stay below 1"
