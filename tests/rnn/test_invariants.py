"""Laws of invariants: what leaves them as they are, what moves them, and that they are always finite."""

import functools
import math

import numpy as np
import pytest
import torch
from tests.made import different_leaks

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import SYMMETRIES, BlackBox, Interface, Mixed, Population, RNNSpec, Values
from rnnatlas.rnn.invariants import BOUND, invariant_names, invariants, invariants_known
from rnnatlas.rnn.spectra import log_exponent, of_eigenvalues, of_singular_values

SLUGS = [
    "lstm-3-6x2-4",
    "lstm-3-5x1-initialstate",
    "gru-3-5x2-4-bidirectional",
    "elman-tanh-1-6x1-2-nobias",
    "elman-relu-3-5x1-4",
    "leaky-tanh-3-5x2-2-initialstate",
    "leaky-relu-2-4x1-2",
]
SPECS = [RNNSpec.from_slug(slug) for slug in SLUGS]
NAMES = invariant_names(responses=True)
OWN = ("hidden-permutation", "sign-flip", "bias-shift")


def some(spec, count=4, seed=0):
    generators = [torch.Generator().manual_seed(100 * seed + i) for i in range(count)]
    return different_leaks(Population.initialise(spec, generators).to(dtype=torch.float64))


def changed(population, change):
    weights = {name: change(weight) for name, weight in population.weights.items()}
    return Population(population.spec, weights)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_symmetries(spec):
    population = some(spec)
    before = invariants(population, responses=True)
    assert before.shape == (4, len(NAMES))
    for name, symmetry in SYMMETRIES.items():
        if symmetry.applies(spec):
            after = invariants(symmetry.change(population, torch.Generator().manual_seed(1)), responses=True)
            assert torch.allclose(before, after, atol=1e-9) == (name in OWN), name


def test_names_are_of_one_column_each():
    assert len(set(NAMES)) == len(NAMES)
    assert NAMES[: len(invariant_names())] == invariant_names()
    spec, population = SPECS[0], some(SPECS[0])
    values = dict(zip(NAMES, invariants(population, responses=True).T, strict=True))
    assert values["size: hidden units"].exp().round().tolist() == [spec.hidden] * 4
    candidate = population.weights["weight_hh_l1"].unflatten(1, (4, spec.hidden))[:, 2]
    below = population.weights["weight_hh_l0"].unflatten(1, (4, spec.hidden))[:, 2]
    radii = [torch.linalg.eigvals(part).abs().amax(1) * 3**0.5 for part in (candidate, below)]
    found = values["candidate W_hh: log spectral radius, largest of layers"]
    torch.testing.assert_close(found, (torch.maximum(*radii) + 1e-3).log())
    bias = population.weights["bias_ih_l1"] + population.weights["bias_hh_l1"]
    bias = bias.unflatten(1, (4, spec.hidden))[:, 1]  # the forget gate
    other = population.weights["bias_ih_l0"] + population.weights["bias_hh_l0"]
    other = other.unflatten(1, (4, spec.hidden))[:, 1]
    medians = [(part * (3 * spec.hidden) ** 0.5).asinh().quantile(0.5, dim=1) for part in (bias, other)]
    torch.testing.assert_close(values["retention bias: 50%, mean of layers"], sum(medians) / 2)


def test_directions_have_no_order():
    """An RNN that reads from right to left what another one reads from left to right."""
    spec = RNNSpec(cell="gru", input=3, hidden=5, output=2, bidirectional=True)
    population = some(spec)
    weights = dict(population.weights)
    for name in population.weights:
        if name.endswith("_reverse"):
            other = name.removesuffix("_reverse")
            weights[name], weights[other] = weights[other], weights[name]
    weights["head.weight"] = weights["head.weight"].roll(spec.hidden, 2)
    torch.testing.assert_close(invariants(Population(spec, weights)), invariants(population))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_jacobian_is_that_of_a_step(spec):
    """By torch, of the RNN itself: of each layer with zero input, from zero states."""
    flat = RNNSpec(
        cell=spec.cell, input=1, hidden=spec.hidden, bias=spec.bias, initial_state=spec.initial_state
    )
    population = some(flat, 1)
    size = flat.hidden * len(flat.state)

    def step(state):
        parts = tuple(state.view(len(flat.state), 1, 1, 1, -1))
        return torch.cat(population.step(torch.zeros(1, 1).double(), parts)[1]).flatten()

    if spec.activation == "relu":  # at 0 itself relu has no slope
        assert spec.bias
    jacobian = torch.autograd.functional.jacobian(step, torch.zeros(size).double())
    own = [i for i, name in enumerate(NAMES) if name.startswith("at rest") and "mean" in name]
    torch.testing.assert_close(invariants(population)[0, own], of_eigenvalues(jacobian[None])[0])


def test_rnns_are_apart():
    """Each RNN's numbers are its own, whatever stands beside it, in any order and precision."""
    parts = [
        some(RNNSpec.from_slug(slug), 2) for slug in ("lstm-3-6x2-4", "gru-3-5x1-4", "elman-relu-3-7x1-4")
    ]
    places = ([5, 0], [1, 3], [2, 4])
    mixed = Mixed(list(zip(places, parts, strict=True)))
    together = invariants(mixed, responses=True)
    alone = torch.cat([invariants(mixed[i], responses=True) for i in range(6)])
    torch.testing.assert_close(together, alone)
    single, first = invariants(mixed.to(dtype=torch.float32)), together[:, : len(invariant_names())]
    torch.testing.assert_close(single, first, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman-tanh"])
def test_size_matters_less_than_what_weights_do(cell):
    """RNNs of twice the width, as torch draws them, are nearer than those with weights 1.5 times as large."""

    def mean(hidden, factor=1.0):
        population = some(RNNSpec(cell=cell, input=4, hidden=hidden, output=4), 32, seed=hidden)
        return invariants(changed(population, lambda weight: factor * weight)), population

    (narrow, _), (wide, _), (large, _) = mean(24), mean(48), mean(24, 1.5)
    sd = narrow.std(0).clamp_min(0.05)
    free = [not name.startswith(("size:", "has:")) for name in invariant_names()]
    moved = [((other.mean(0) - narrow.mean(0)) / sd)[free].square().mean().sqrt() for other in (wide, large)]
    assert moved[0] < moved[1] / 2


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman-tanh", "elman-relu", "leaky-tanh"])
@pytest.mark.parametrize("hidden", [1, 5])
def test_degenerate_rnns_have_numbers(cell, hidden):
    population = some(RNNSpec(cell=cell, input=1, hidden=hidden, output=1), 2)
    rank_one = {
        name: weight.mean(-1, keepdim=True).expand_as(weight) if weight.ndim == 3 else weight
        for name, weight in population.weights.items()
    }
    factors = (0.0, 1e-30, 1e30, 1e300)
    cases = [changed(population, functools.partial(torch.mul, other=factor)) for factor in factors]
    for case in (*cases, Population(population.spec, rank_one)):
        assert invariants(case, responses=True).isfinite().all()
    single = changed(population, lambda weight: 1e30 * weight).to(dtype=torch.float32)
    assert invariants(single, responses=True).isfinite().all()


def test_broken_rnns_have_none_and_leave_others_alone():
    population = some(SPECS[0])
    before = invariants(population)
    population.weights["weight_hh_l1"][2, 0, 0] = torch.nan
    population.weights["bias_ih_l0"][3, 0] = torch.inf
    after = invariants(population)
    assert after[2:].isnan().all()
    torch.testing.assert_close(after[:2], before[:2])


def test_what_an_architecture_lacks_is_zero():
    for spec in SPECS:
        known = invariants_known(spec, responses=True)
        lacking = [name for name, there in zip(NAMES, known.tolist(), strict=True) if not there]
        assert bool(lacking) == (spec.cell not in ("lstm", "gru"))
        assert all("retention" in name for name in lacking)
        assert not invariants(some(spec), responses=True)[:, ~known].any()


def test_black_boxes_have_none():
    box = BlackBox(lambda inputs, state: (inputs, state), None, Interface(Values(2), Values(2)))
    with pytest.raises(RNNSpecMismatch, match="which a black box does not show"):
        invariants(box)


def test_singular_values_of_known_matrices():
    found = of_singular_values(torch.stack([torch.eye(6), torch.ones(6, 6)]).double())
    identity, ones = found[:, 5:7].tolist()
    assert identity == pytest.approx([1, 1])
    assert ones == pytest.approx([1 / 6, 1 / 6], abs=1e-3)


@pytest.mark.parametrize("exponent", [1.5, 2.5, 4.0])
def test_exponents_of_power_laws_are_found(exponent):
    random = np.random.default_rng(0)
    tail = (1 - random.random((20, 400))) ** (-1 / (exponent - 1))
    body = random.uniform(0.2, 1, (20, 400))  # which belongs to no power law
    found = log_exponent(torch.from_numpy(np.concatenate([tail, body], 1))).exp()
    assert found.median().item() == pytest.approx(exponent, rel=0.1)
    scaled = log_exponent(torch.from_numpy(7 * np.concatenate([tail, body], 1))).exp()
    torch.testing.assert_close(scaled, found)


def test_weights_beyond_the_bound_count_as_at_it():
    population = some(SPECS[3], 1)
    huge = changed(population, lambda weight: weight.sign() * 1e40)
    bound = changed(population, lambda weight: weight.sign() * BOUND)
    assert torch.equal(invariants(huge), invariants(bound))
    assert math.isfinite(invariants(huge).abs().max())
