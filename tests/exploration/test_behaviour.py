"""Behavioural distances depend on what RNNs do, not on what they are."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from rnnatlas.exploration.behaviour import behaviour
from rnnatlas.rnn import Interface, Mixed, Population, RNNSpec, Tokens, Values

NUMBERS = np.random.default_rng(0).standard_normal((12, 9, 3)).astype(np.float32)
SPECS = [RNNSpec(cell=cell, input=3, hidden=hidden, output=2) for cell, hidden in [("gru", 4), ("lstm", 6)]]


def population_of(spec, count, seed=0):
    return Population.initialise(spec, [torch.Generator().manual_seed(seed + i) for i in range(count)])


def mixed(seed=0):
    return Mixed([([0, 2, 4], population_of(SPECS[0], 3, seed)), ([1, 3], population_of(SPECS[1], 2, seed))])


def permuted(population):
    """The same RNNs with their hidden units in another order."""
    order = torch.randperm(population.spec.hidden, generator=torch.Generator().manual_seed(1))
    gates = torch.cat([order + i * len(order) for i in range(3)])
    weights = {}
    for name, weight in population.weights.items():
        weight = weight if name.startswith("head") else weight[:, gates]
        inner = "hh" in name or name == "head.weight"
        weights[name] = weight[..., order] if inner and weight.ndim == 3 else weight
    return Population(population.spec, weights)


def test_distances_are_those_of_a_metric():
    distances = behaviour(mixed(), NUMBERS).distances
    assert np.array_equal(distances, distances.T)
    assert not distances.diagonal().any()
    assert (distances[~np.eye(5, dtype=bool)] > 0).all()
    assert (distances[:, :, None] <= distances[:, None] + distances.T[None] + 1e-9).all()


def test_hidden_units_in_another_order_are_no_distance():
    population = population_of(SPECS[0], 3)
    both = Population.concat([population, permuted(population)])
    distances = behaviour(both, NUMBERS).distances
    assert np.abs(distances[np.arange(3), np.arange(3, 6)]).max() < 1e-4
    assert distances[0, 1] > 0.1


def test_the_order_and_company_of_rnns_do_not_matter():
    system = mixed()
    whole, some = behaviour(system, NUMBERS), behaviour(system.select([3, 0, 1]), NUMBERS)
    assert some.responses.shape == (3, whole.responses.shape[1])
    order = [4, 2, 0, 1, 3]
    moved = behaviour(system.select(order), NUMBERS).distances
    np.testing.assert_allclose(moved, whole.distances[np.ix_(order, order)], rtol=1e-4, atol=1e-5)


def test_positions_that_do_not_count_do_not_matter():
    mask = np.zeros((12, 9), bool)
    mask[:, 3:6] = True
    cut = NUMBERS.copy()
    cut[:, 6:] = 7.0
    whole, other = behaviour(mixed(), NUMBERS, mask), behaviour(mixed(), cut, mask)
    np.testing.assert_allclose(whole.responses, other.responses, rtol=1e-5)
    assert whole.responses.shape == (5, 12 * 3 * 2)
    assert whole.sensitivity.shape == (5, 3 * 3)


def test_more_noise_changes_more():
    sensitivity = behaviour(mixed(), NUMBERS).sensitivity.reshape(5, 3, -1).mean(2)
    assert (np.diff(sensitivity, axis=1) > 0).all()


@pytest.mark.parametrize("gives", [Tokens(2), Values(2)])
def test_tokens_are_read_and_given_out(gives):
    tokens = np.random.default_rng(0).integers(0, 3, (10, 8)).astype(np.uint8)
    population = population_of(SPECS[0], 4)
    system = Population(population.spec, population.weights, Interface(Tokens(3), gives))
    found = behaviour(system, tokens)
    assert np.isfinite(found.distances).all()
    assert found.trials == 10
    same = behaviour(system, tokens)
    assert np.array_equal(found.distances, same.distances)


def test_logits_moved_by_a_constant_give_the_same_tokens():
    population = population_of(SPECS[0], 3)
    moved = {**population.weights, "head.bias": population.weights["head.bias"] + 5.0}
    interface = Interface(Values(3), Tokens(2))
    both = Population.concat(
        [
            Population(population.spec, population.weights, interface),
            Population(population.spec, moved, interface),
        ]
    )
    distances = behaviour(both, NUMBERS).distances
    assert np.abs(distances[np.arange(3), np.arange(3, 6)]).max() < 1e-3


def test_outputs_that_overflow_are_far_not_undefined():
    system = Mixed.from_modules([(nn.RNN(3, 4, nonlinearity="relu"), nn.Linear(4, 2)) for _ in range(4)])
    with torch.no_grad():
        system.groups[0][1].weights["weight_hh_l0"][0] = 1e30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distances = behaviour(system, NUMBERS).distances
    assert np.isfinite(distances).all()
    assert distances[0, 1:].min() > distances[1:, 1:].max()


def test_inputs_near_the_largest_numbers_pass_without_warnings():
    system = Mixed.from_modules([(nn.RNN(3, 4), nn.Linear(4, 2)) for _ in range(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distances = behaviour(system, np.sign(NUMBERS) * np.float32(3e38)).distances
    assert np.isfinite(distances).all()


def test_of_many_trials_as_many_are_read_as_fit(monkeypatch):
    monkeypatch.setattr("rnnatlas.exploration.behaviour.NUMBERS", 5 * 9 * 2 * 4)
    assert behaviour(mixed(), NUMBERS).trials == 4
