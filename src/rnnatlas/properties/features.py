"""What a predictor may read: embeddings, and the trivial things that they must beat (method 8)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from rnnatlas import seeds
from rnnatlas.emulation.model import Model
from rnnatlas.encoders.base import EMBED
from rnnatlas.rnn import Population
from rnnatlas.zoo.store import Zoo

DEFINITIONS: Mapping[str, str] = {
    "embedding": "the frozen embedding",
    "untrained": "the embedding of the same encoder with random weights of its own, never trained, but "
    "whitened on training RNNs as the trained encoder was at its start",
    "norms": "the logarithm of the norm of each weight tensor",
    "step": "the training step of the snapshot, one-hot",
    "architecture": "which architecture the RNN has, one-hot",
    "constant": "nothing",
}
"""Features by name, each with what it holds; all are read by the same kind of predictor."""

TRIVIAL = ("norms", "step", "architecture", "constant")
"""Features that need no encoder."""

Groups = Sequence[tuple[np.ndarray, Population]]
"""Populations of one architecture each, with their positions among the snapshots."""


def features(model: Model, zoo: Zoo, snapshots: pa.Table) -> dict[str, Float[Tensor, "rnn feature"]]:
    """All features of some snapshots of a zoo.

    Args:
        model: The trained encoder.
        zoo: Where the snapshots are.
        snapshots: As `Zoo.snapshots` gives them.
    """
    groups, count = zoo.groups(snapshots), snapshots.num_rows
    train = snapshots["split"].to_numpy(zero_copy_only=False) == "train"
    found = {
        "embedding": embed_groups(model, groups, count),
        "untrained": embed_groups(untrained(model, groups, train), groups, count),
        "norms": _norms(groups, count),
        "step": _one_hot(snapshots["step"].to_numpy()),
        "constant": torch.ones(count, 1),
    }
    if len(groups) > 1:
        found["architecture"] = _one_hot(snapshots["spec"].to_numpy(zero_copy_only=False))
    return found


def embed_groups(model: Model, groups: Groups, count: int) -> Float[Tensor, "rnn embed"]:
    """Embeddings of all groups, in the order of the snapshots.

    Raises:
        RNNSpecMismatch: The encoder does not take one of the architectures.
    """
    vectors = torch.empty(count, EMBED)
    for positions, population in groups:
        vectors[torch.from_numpy(positions)] = model.embed(population)
    return vectors


def untrained(model: Model, groups: Groups, train: Bool[np.ndarray, " rnn"]) -> Model:
    """The same encoder as it would start training under another seed, its scales set on training RNNs."""
    seed = int(seeds.stream(model.settings.seed, "untrained").integers(1 << 31))
    fresh = Model(model.path, dataclasses.replace(model.settings, seed=seed))
    fresh.encoder.eval().requires_grad_(False)
    for positions, population in groups:
        if population.spec == model.spec:
            fresh.encoder.calibrate(population.select(np.flatnonzero(train[positions]).tolist()))
    return fresh


def _norms(groups: Groups, count: int) -> Float[Tensor, "rnn feature"]:
    """One block of columns for each architecture, zero for RNNs of the others."""
    blocks = []
    for positions, population in groups:
        norms = torch.stack([weight.flatten(1).norm(dim=1) for weight in population.weights.values()], dim=1)
        block = torch.zeros(count, norms.shape[1])
        block[torch.from_numpy(positions)] = norms.clamp_min(1e-6).log().float()
        blocks.append(block)
    return torch.cat(blocks, dim=1)


def _one_hot(values: Shaped[np.ndarray, " rnn"]) -> Float[Tensor, "rnn feature"]:
    _, classes = np.unique(values, return_inverse=True)
    return functional.one_hot(torch.from_numpy(classes)).float()
