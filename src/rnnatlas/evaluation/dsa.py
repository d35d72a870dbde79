"""Dynamical similarity analysis of hidden trajectories, by the package dsa-metric (extra `neuro`)."""

import importlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas.errors import RNNSpecMismatch, SettingsError
from rnnatlas.rnn import Mixed, Population, hidden, populations

MOST = 512
"""RNNs at most: a pair takes about a millisecond, and 512 have 130,816 pairs."""
QUERIES = (16, 24)
"""Inputs, sequences and steps, that all RNNs read."""
DELAYS, RANK = 4, 10
"""Steps that the linear model of an RNN's hidden states looks back, and its rank."""


def check(count: int) -> Any:
    """The package, for so many RNNs.

    Raises:
        SettingsError: There are too many RNNs, or the package is not installed.
    """
    if count > MOST:
        raise SettingsError(
            f"DSA compares every pair of RNNs, so there should be {MOST} snapshots at most, found {count}; "
            "leave it out, or evaluate a run that was trained on fewer (--set 'emulation.where=step >= 400')"
        )
    try:
        return importlib.import_module("DSA")
    except ImportError:
        raise SettingsError(
            "DSA needs the package dsa-metric, which is not installed; pip install 'rnnatlas[neuro]'"
        ) from None


@torch.no_grad()
def distances(
    rnns: Population | Mixed, inputs: Float[Tensor, "batch time input"]
) -> Float[np.ndarray, "rnn rnn"]:
    """How unlike the dynamics of each two RNNs are, whatever the basis of their hidden states.

    Linear models are fitted to delayed hidden states of the last layer; the distance is the Wasserstein
    distance of their eigenvalues (Ostrow et al. 2023; the default of dsa-metric 2).

    Args:
        rnns: The RNNs, of any architectures.
        inputs: Sequences that all read.

    Raises:
        SettingsError: See `check`.
        RNNSpecMismatch: The sequences are not longer than the delays.
    """
    package = check(len(rnns))
    if inputs.shape[1] <= DELAYS:
        raise RNNSpecMismatch(f"inputs should be longer than {DELAYS} steps, found {inputs.shape[1]}")
    states: list[np.ndarray] = [np.zeros(0)] * len(rnns)
    for positions, population in populations(rnns):
        found = hidden(population, inputs).nan_to_num().cpu().numpy()
        for place, own in zip(positions.tolist(), found, strict=True):
            states[place] = own
    smallest = min(own.shape[-1] for own in states)
    model = package.DSA(states, n_delays=DELAYS, rank=min(RANK, DELAYS * smallest), device="cpu")
    return np.asarray(model.fit_score(), dtype=np.float64)


def places(
    distances: Float[np.ndarray, "rnn rnn"], train: Bool[np.ndarray, " rnn"], most: int
) -> Float[Tensor, "rnn feature"]:
    """Coordinates by classical multidimensional scaling of some RNNs, and of others by their distances.

    Args:
        distances: Of all RNNs.
        train: Those that are scaled (Gower 1968 places the others).
        most: Coordinates at most; fewer where distances need no more.
    """
    squares = np.square(distances[:, train])
    known = squares[train]
    # of each RNN the inner products with those that are scaled, about their mean
    products = -0.5 * (squares - known.mean(0) - squares.mean(1, keepdims=True) + known.mean())
    values, directions = np.linalg.eigh(products[train])
    kept = np.argsort(values)[::-1][:most]
    kept = kept[values[kept] > 1e-9 * max(values[-1], 1e-300)]
    found = products @ directions[:, kept] / np.sqrt(values[kept])
    return torch.from_numpy(found if len(kept) else np.zeros((len(found), 1))).float()
