"""Hidden trajectories are those of torch's modules, with or without a head behind them."""

import inspect

import pytest
import torch
from torch import nn

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import Mixed, Population, hidden, run


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both", [False, True])
def test_hidden_states_are_torchs(kind, both):
    torch.manual_seed(0)
    width = 10 if both else 5
    rnns = [kind(3, 5, num_layers=2, bidirectional=both, batch_first=True) for _ in range(2)]
    population = Population.from_modules([(rnn, nn.Linear(width, 4)) for rnn in rnns])
    inputs = torch.randn(6, 7, 3)
    found = hidden(population, inputs)
    for rnn, own in zip(rnns, found, strict=True):
        assert torch.allclose(own, rnn(inputs)[0], atol=1e-5)
    bare = Population.from_modules(rnns)
    assert torch.equal(found, hidden(bare, inputs))
    assert population.without_head().spec == bare.spec
    weights = population.weights
    read = torch.einsum("rbth,roh->rbto", found, weights["head.weight"]) + weights["head.bias"][:, None, None]
    assert torch.allclose(read, run(population, inputs)[0], atol=1e-5)


def test_mixed_systems_are_taken_one_by_one():
    mixed = Mixed.from_modules([nn.GRU(3, 5), (nn.LSTM(3, 8), nn.Linear(8, 5)), nn.GRU(3, 5)])
    with pytest.raises(RNNSpecMismatch, match="found Mixed; take a mixed system's RNNs one by one"):
        hidden(mixed, torch.zeros(2, 4, 3))
    assert [hidden(rnn, torch.zeros(2, 4, 3)).shape[-1] for rnn in mixed] == [5, 8, 5]


def test_what_is_no_system_is_refused():
    with pytest.raises(RNNSpecMismatch, match=r"found list; make a population"):
        inspect.unwrap(hidden)([nn.GRU(3, 5)], torch.zeros(2, 4, 3))
