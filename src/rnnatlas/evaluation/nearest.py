"""The training RNNs whose raw weights or responses are nearest, and what they have (baselines)."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from rnnatlas.evaluation.features import RNNs, raw_weights
from rnnatlas.properties.base import Classes, Property
from rnnatlas.rnn import populations

MOST = 32
"""Neighbours at most; how many of them count is chosen for each property."""


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest training RNNs of every snapshot, nearest first.

    Attributes:
        rows: Positions among the snapshots.
        train: The RNNs that could be neighbours.
    """

    rows: Int[Tensor, "rnn neighbour"]
    train: Bool[np.ndarray, " rnn"]


def find(rnns: RNNs, train: Bool[np.ndarray, " rnn"]) -> Neighbours:
    """Nearest training RNNs by the cosine of raw weights, both biases of a gate as one, less their mean.

    By Euclidean distance the smallest weights, those of early snapshots, would be nearest to everyone's.
    Only RNNs of one architecture can be compared; where no training RNN shares it, evenly spaced training
    RNNs stand in.

    Args:
        rnns: All snapshots' RNNs.
        train: The RNNs that may be neighbours.
    """
    groups = populations(rnns)
    known = [np.flatnonzero(train[positions.numpy()]) for positions, _ in groups]
    most = min(MOST, int(train.sum()))
    spaced = np.linspace(0, train.sum() - 1, most).astype(np.int64)
    rows = torch.from_numpy(np.flatnonzero(train)[spaced]).repeat(len(train), 1)
    for (positions, population), own in zip(groups, known, strict=True):
        if len(own):
            vectors = raw_weights(population)
            vectors = functional.normalize(vectors - vectors[own].mean(0))
            count = min(most, len(own))
            found = [(chunk @ vectors[own].T).topk(count).indices for chunk in vectors.split(1024)]
            # where an architecture has few training RNNs, these count again and again
            rows[positions] = positions[own][torch.cat(found)][:, torch.arange(most) % count]
    return Neighbours(rows, train)


def by_responses(responses: Float[Tensor, "rnn response"], train: Bool[np.ndarray, " rnn"]) -> Neighbours:
    """Nearest training RNNs by Euclidean distance of responses.

    Args:
        responses: Of all snapshots' RNNs, standardised.
        train: The RNNs that may be neighbours.
    """
    own = torch.from_numpy(np.flatnonzero(train))
    known, most = responses[own], min(MOST, len(own))
    found = [torch.cdist(some, known).topk(most, largest=False).indices for some in responses.split(1024)]
    return Neighbours(own[torch.cat(found)], train)


def predict(
    prop: Property,
    neighbours: Neighbours,
    target: Float[Tensor, "rnn target"],
    stopping: Bool[np.ndarray, " rnn"],
) -> Float[Tensor, "rnn target"]:
    """What the nearest training RNNs have on average, as a predictor's outputs.

    Of 1, 2, 4 … neighbours as many count as gave the stopping RNNs the lowest loss. Probabilities of classes
    are smoothed by one more neighbour that is the average training RNN, so no value is impossible.

    Args:
        prop: What is predicted.
        neighbours: Of the same RNNs.
        target: `prop.target` of them.
        stopping: The RNNs that choose the number of neighbours.
    """
    prior = target[torch.from_numpy(neighbours.train)].mean(0)
    held_out = torch.from_numpy(stopping)

    def outputs(count: int) -> Tensor:
        mean = target[neighbours.rows[:, :count]].mean(1)
        if not isinstance(prop, Classes):
            return mean
        return prop.logits(((count * mean + prior) / (count + 1)).clamp(1e-4, 1 - 1e-4))

    counts = [2**power for power in range(neighbours.rows.shape[1].bit_length())]
    losses = [prop.loss(outputs(count)[held_out], target[held_out]).mean().item() for count in counts]
    return outputs(counts[int(np.argmin(losses))])
