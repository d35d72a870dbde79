"""What an imported RNN gives out, to compare with what made it."""

import torch

from rnnatlas.importers.base import find
from rnnatlas.rnn import Population, run


def rnns(path, **choices):
    """The RNNs of a file by their places; nothing in it is unclear."""
    _, found, unclear = find(path, **choices)
    assert unclear == []
    return {rnn.place: rnn for rnn in found}


def outputs(rnn, inputs):
    """[batch, time, output] of an RNN on inputs [batch, time, input]."""
    population = Population(rnn.spec, {name: weight[None].double() for name, weight in rnn.weights.items()})
    return run(population, torch.as_tensor(inputs)[None].double())[0][0].numpy()


def difference(rnn, inputs, expected):
    """The largest one between an RNN's outputs and those that are expected."""
    return abs(outputs(rnn, inputs) - expected).max()
