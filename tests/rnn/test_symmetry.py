import itertools

import pytest
import torch
from tests.made import different_leaks

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import (
    GATES,
    SYMMETRIES,
    Population,
    RNNSpec,
    canonical_bias,
    flip_signs,
    permute_hidden,
    random_permutations,
    run,
    scale_units,
    shift_biases,
)

SPECS = [
    RNNSpec(cell=cell, input=3, hidden=4, layers=layers, output=2, bias=bias, **options)
    for cell, bias in itertools.product(GATES, (True, False))
    for layers, options in ((1, {}), (2, {"bidirectional": True, "initial_state": True}), (3, {}))
]
PAIRS = [
    pytest.param(spec, name, id=f"{spec.slug}-{name}")
    for spec in SPECS
    for name, symmetry in SYMMETRIES.items()
    if symmetry.applies(spec)
]
FLIPS = {"lstm": (1, 1, -1, 1), "gru": (1, 1, -1), "elman-tanh": (-1,), "leaky-tanh": (-1,)}
"""What a flip does to the rows of each gate."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some(spec, count=5):
    population = Population.initialise(spec, [generator(i) for i in range(count)])
    # larger than as initialised, so that no non-linearity is nearly linear
    weights = {name: 2 * weight.double() for name, weight in population.weights.items()}
    return different_leaks(Population(spec, weights))


def outputs(population):
    inputs = torch.randn(4, 7, population.spec.input, generator=generator(5)).double()
    return run(population, inputs)[0]


def differ(one, other):
    """For each RNN, whether its outputs are others."""
    return (outputs(one) - outputs(other)).abs().amax((1, 2, 3)) > 1e-6


def signs_of(spec, count=5):
    return torch.randint(0, 2, (count, len(spec.suffixes), spec.hidden), generator=generator(3)) * 2.0 - 1


@pytest.mark.parametrize(("spec", "name"), PAIRS)
def test_a_symmetry_changes_weights_but_not_outputs(spec, name):
    population = some(spec)
    before = population.clone()
    changed = SYMMETRIES[name].change(population, generator(1))
    torch.testing.assert_close(outputs(changed), outputs(population), rtol=1e-9, atol=1e-11)
    assert (changed.flatten() != population.flatten()).any(1).all()
    assert torch.equal(population.flatten(), before.flatten())


@pytest.mark.parametrize(("spec", "name"), PAIRS)
def test_no_parameter_may_stay_behind(spec, name):
    population = some(spec)
    changed = SYMMETRIES[name].change(population, generator(1))
    for parameter, weight in population.weights.items():
        if not torch.equal(weight, changed.weights[parameter]):
            half = Population(spec, changed.weights | {parameter: weight})
            assert differ(half, population).any(), parameter


@pytest.mark.parametrize(("spec", "name"), PAIRS)
def test_each_rnn_has_its_own_change_that_the_generator_decides(spec, name):
    alike = some(spec, 1).select([0] * 5)
    changed, again, other = (SYMMETRIES[name].change(alike, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(changed.flatten(), again.flatten())
    assert not torch.equal(changed.flatten(), other.flatten())
    assert len(changed.flatten().unique(dim=0)) > 1


def multiplied(population, rows, columns):
    """Unit 1 of the first of two layers: its row of each gate, and the columns that read it."""
    spec, changed = population.spec, population.clone()
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        for gate, factor in enumerate(rows):
            changed.weights[name][:, gate * spec.hidden + 1] *= factor
    for name in ("weight_hh_l0", "weight_ih_l1"):
        changed.weights[name][:, :, 1] *= columns
    return changed


def two_layers(cell):
    return some(RNNSpec(cell=cell, input=3, hidden=4, layers=2, output=2))


@pytest.mark.parametrize(("cell", "rows"), FLIPS.items())
def test_a_flip_takes_the_candidates_rows_and_all_columns(cell, rows):
    population = two_layers(cell)
    signs = torch.ones(5, 2, 4)
    signs[:, 0, 1] = -1
    expected = multiplied(population, rows, -1)
    assert torch.equal(flip_signs(population, signs).flatten(), expected.flatten())


def test_scaling_takes_rows_and_its_inverse_columns():
    population = two_layers("elman-relu")
    scales = torch.ones(5, 2, 4)
    scales[:, 0, 1] = 4
    expected = multiplied(population, [4], 0.25)
    assert torch.equal(scale_units(population, scales).flatten(), expected.flatten())


@pytest.mark.parametrize("cell", GATES)
def test_every_other_way_to_flip_a_unit_changes_outputs(cell):
    population = two_layers(cell)
    ones = (1,) * len(GATES[cell])
    for *rows, columns in itertools.product((1, -1), repeat=len(ones) + 1):
        changed = differ(multiplied(population, rows, columns), population)
        if (tuple(rows), columns) in ((ones, 1), (FLIPS.get(cell), -1)):
            assert not changed.any()
        else:
            assert changed.sum() >= 4, (rows, columns)  # of 5; a relu unit may be silent


@pytest.mark.parametrize(
    ("cell", "rows", "columns"),
    [
        ("lstm", (1, 1, 2, 1), 0.5),
        ("lstm", (2, 2, 2, 2), 0.5),
        ("gru", (1, 1, 2), 0.5),
        ("elman-tanh", [2], 0.5),
        ("elman-relu", [-2], -0.5),
        ("elman-relu", [2], 1),
        ("elman-relu", [2], 2),
        ("leaky-tanh", [2], 0.5),
        ("leaky-relu", [-2], -0.5),
        ("leaky-relu", [2], 1),
    ],
)
def test_other_ways_to_scale_a_unit_change_outputs(cell, rows, columns):
    population = two_layers(cell)
    assert differ(multiplied(population, rows, columns), population).sum() >= 4  # of 5


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_other_small_change_leaves_outputs_as_they_are(cell, bidirectional):
    spec = RNNSpec(cell=cell, input=2, hidden=3, layers=2, output=3, bidirectional=bidirectional)
    vector = some(spec).select([1]).flatten()  # none of its relu units is always silent
    inputs = 3 * torch.randn(40, 6, 2, generator=generator(3)).double()
    slopes = torch.func.jacrev(lambda vector: run(Population.unflatten(spec, vector), inputs)[0].flatten())
    slope = slopes(vector).flatten(1)
    sizes = torch.linalg.svdvals(slope / slope.norm(dim=0))
    of_a_unit = {"lstm": 4, "gru": 2}.get(cell, 2 if spec.activation == "relu" else 1)
    free = len(spec.suffixes) * spec.hidden * of_a_unit
    assert (sizes < 1e-12).sum() == free, "bias shifts, and scalings of relu units"
    assert (sizes > 1e-5).sum() == spec.parameters - free


def test_the_candidates_biases_of_a_gru_mean_different_things():
    population = two_layers("gru")
    changed = population.clone()
    changed.weights["bias_ih_l0"][:, 8:] += 0.5
    changed.weights["bias_hh_l0"][:, 8:] -= 0.5
    assert differ(changed, population).all()


def test_what_is_no_symmetry_of_the_cell_is_refused():
    ones = torch.ones(5, 2, 4)
    with pytest.raises(RNNSpecMismatch, match=r"sign-flip is no symmetry of Elman \(relu\) .*relu-scal"):
        flip_signs(two_layers("elman-relu"), ones)
    with pytest.raises(RNNSpecMismatch, match="relu-scaling is no symmetry of LSTM"):
        scale_units(two_layers("lstm"), ones)
    spec = RNNSpec(cell="lstm", input=3, hidden=4, bias=False)
    with pytest.raises(RNNSpecMismatch, match="bias-shift is no symmetry of LSTM"):
        shift_biases(some(spec), torch.ones(5, 1, 4, 4))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.slug)
def test_permutations_are_a_group(spec):
    population = some(spec)
    one, two = (random_permutations(spec, 5, generator(seed)) for seed in (1, 2))
    moved = permute_hidden(population, one)
    assert torch.equal(permute_hidden(moved, one.argsort(-1)).flatten(), population.flatten())
    both = permute_hidden(population, one.gather(-1, two))
    assert torch.equal(permute_hidden(moved, two).flatten(), both.flatten())


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.activation == "tanh"], ids=lambda s: s.slug)
def test_flips_are_a_group_that_permutations_move(spec):
    population, signs, order = some(spec), signs_of(spec), random_permutations(spec, 5, generator(1))
    others = signs.flip(0)
    flipped = flip_signs(population, signs)
    assert torch.equal(flip_signs(flipped, signs).flatten(), population.flatten())
    assert torch.equal(
        flip_signs(flipped, others).flatten(), flip_signs(population, signs * others).flatten()
    )
    moved = flip_signs(permute_hidden(population, order), signs.gather(-1, order))
    assert torch.equal(permute_hidden(flipped, order).flatten(), moved.flatten())


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.activation == "relu"], ids=lambda s: s.slug)
def test_scalings_are_a_group(spec):
    population = some(spec)
    scales = 2.0 ** signs_of(spec)  # powers of two are divided by exactly
    scaled = scale_units(population, scales)
    assert torch.equal(scale_units(scaled, 1 / scales).flatten(), population.flatten())
    twice = scale_units(population, scales * scales)
    assert torch.equal(scale_units(scaled, scales).flatten(), twice.flatten())


@pytest.mark.parametrize("cell", GATES)
def test_hidden_states_move_with_their_units(cell):
    spec = RNNSpec(cell=cell, input=3, hidden=4, layers=2, bidirectional=True)
    population, order = some(spec), random_permutations(spec, 5, generator(1))
    factors = signs_of(spec) if spec.activation == "tanh" else 2 ** signs_of(spec)
    change = scale_units if spec.activation == "relu" else flip_signs
    forwards, backwards = outputs(population).chunk(2, -1)
    for states, layer in ((forwards, 2), (backwards, 3)):
        here = slice(0, 4) if layer == 2 else slice(4, 8)
        index = order[:, layer].view(5, 1, 1, 4).expand_as(states)
        torch.testing.assert_close(
            outputs(permute_hidden(population, order))[..., here], states.gather(3, index)
        )
        scaled = states * factors[:, layer].view(5, 1, 1, 4)
        torch.testing.assert_close(outputs(change(population, factors))[..., here], scaled)


@pytest.mark.parametrize("name", SYMMETRIES)
def test_gradients_flow_back(name):
    cell = "elman-relu" if name == "relu-scaling" else "lstm"
    population = two_layers(cell).requires_grad_()
    outputs(SYMMETRIES[name].change(population, generator(1))).square().sum().backward()
    expected = population.detach().clone().requires_grad_()
    outputs(expected).square().sum().backward()
    for parameter, weight in population.weights.items():
        torch.testing.assert_close(weight.grad, expected.weights[parameter].grad)


def test_each_rnn_and_layer_has_its_own_permutation():
    spec = RNNSpec(cell="lstm", input=3, hidden=20, layers=2)
    permutations = random_permutations(spec, 3, generator())
    assert permutations.shape == (3, 2, 20)
    assert (permutations.sort(-1).values == torch.arange(20)).all()
    assert len(permutations.flatten(0, 1).unique(dim=0)) == 6


def test_permutations_come_from_torchs_own_generator_if_from_no_other():
    spec = RNNSpec(cell="lstm", input=3, hidden=20)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        one = random_permutations(spec, 3)
    assert torch.equal(one, random_permutations(spec, 3, generator(4)))


@pytest.mark.parametrize("cell", GATES)
def test_canonical_biases_are_all_in_bias_ih_but_for_the_candidate_gate(cell):
    spec = RNNSpec(cell=cell, input=3, hidden=4, layers=2, output=2, bidirectional=True)
    population = some(spec)
    canonical = canonical_bias(population)
    torch.testing.assert_close(outputs(canonical), outputs(population), rtol=1e-10, atol=1e-12)
    for suffix in spec.suffixes:
        kept, before = (each.weights[f"bias_hh_{suffix}"] for each in (canonical, population))
        if cell == "gru":
            assert torch.equal(kept[:, 8:], before[:, 8:])
            kept = kept[:, :8]
        assert not kept.any()
    assert torch.equal(canonical_bias(canonical).flatten(), canonical.flatten())
    shifted = canonical_bias(SYMMETRIES["bias-shift"].change(population, generator(1)))
    torch.testing.assert_close(shifted.flatten(), canonical.flatten(), rtol=0, atol=1e-12)


def test_rnns_without_biases_are_canonical_as_they_are():
    population = some(RNNSpec(cell="lstm", input=3, hidden=4, bias=False))
    assert torch.equal(canonical_bias(population).flatten(), population.flatten())
