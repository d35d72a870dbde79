import pytest
import torch

from rnnatlas.rnn import GATES, Population, RNNSpec, canonical_bias, permute_hidden, random_permutations, run


def generators(count, start=0):
    return [torch.Generator().manual_seed(start + i) for i in range(count)]


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_permuting_hidden_units_leaves_outputs_as_they_are(cell, bidirectional):
    spec = RNNSpec(cell=cell, input=3, hidden=6, layers=3, output=2, bidirectional=bidirectional)
    population = Population.initialise(spec, generators(4)).to(dtype=torch.float64)
    permutations = random_permutations(spec, generators(4, 10))
    moved = permute_hidden(population, permutations)
    inputs = torch.randn(4, 2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(run(moved, inputs)[0], run(population, inputs)[0], rtol=1e-10, atol=1e-12)
    assert not torch.equal(moved.flatten(), population.flatten())
    back = permute_hidden(moved, permutations.argsort(-1))
    assert torch.equal(back.flatten(), population.flatten())


def test_hidden_states_move_with_their_units():
    spec = RNNSpec(cell="lstm", input=3, hidden=6)
    population = Population.initialise(spec, generators(2))
    permutations = random_permutations(spec, generators(2, 10))
    inputs = torch.randn(2, 1, 4, 3)
    outputs, _ = run(population, inputs)
    moved, _ = run(permute_hidden(population, permutations), inputs)
    expected = torch.gather(outputs, 3, permutations[:, 0].view(2, 1, 1, 6).expand(2, 1, 4, 6))
    torch.testing.assert_close(moved, expected)


def test_moving_rows_without_columns_is_no_symmetry():
    spec = RNNSpec(cell="gru", input=3, hidden=6, output=2)
    population = Population.initialise(spec, generators(1))
    moved = permute_hidden(population, random_permutations(spec, generators(1, 10)))
    half = Population(spec, moved.weights | {"weight_hh_l0": population.weights["weight_hh_l0"]})
    inputs = torch.randn(1, 1, 4, 3)
    assert not torch.allclose(run(half, inputs)[0], run(population, inputs)[0], atol=1e-4)


def test_each_rnn_has_its_own_permutation():
    spec = RNNSpec(cell="lstm", input=3, hidden=20, layers=2)
    permutations = random_permutations(spec, generators(3))
    assert permutations.shape == (3, 2, 20)
    assert (permutations.sort(-1).values == torch.arange(20)).all()
    assert not torch.equal(permutations[0], permutations[1])


@pytest.mark.parametrize("cell", GATES)
def test_canonical_biases_are_all_in_bias_ih_but_for_the_candidate_gate(cell):
    spec = RNNSpec(cell=cell, input=3, hidden=4, layers=2, output=2, bidirectional=True)
    population = Population.initialise(spec, generators(3)).to(dtype=torch.float64)
    moved = canonical_bias(population)
    inputs = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(run(moved, inputs)[0], run(population, inputs)[0], rtol=1e-10, atol=1e-12)
    for suffix in spec.suffixes:
        kept = moved.weights[f"bias_hh_{suffix}"].unflatten(1, (-1, 4))
        if cell == "gru":
            before = population.weights[f"bias_hh_{suffix}"].unflatten(1, (-1, 4))
            assert torch.equal(kept[:, 2], before[:, 2])
            kept = kept[:, :2]
        assert not kept.any()
    assert torch.equal(canonical_bias(moved).flatten(), moved.flatten())


def test_rnns_without_biases_are_canonical_as_they_are():
    population = Population.initialise(RNNSpec(cell="lstm", input=3, hidden=4, bias=False), generators(2))
    assert torch.equal(canonical_bias(population).flatten(), population.flatten())
