"""What a predictor may read: embeddings, and the trivial things that they must beat."""

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
from rnnatlas.rnn import Population, canonical_bias

COMPONENTS = 64
"""Principal components of raw weights."""

DEFINITIONS: Mapping[str, str] = {
    "embedding": "the frozen embedding",
    "untrained": "the embedding of the same encoder with random weights of its own, never trained, but "
    "whitened on training RNNs as the trained encoder was at its start",
    "supervised": "the embedding of the same encoder, which started as the frozen one did but was trained "
    "end to end with the predictor, on this property instead of emulation",
    "pca": f"the first {COMPONENTS} principal components of the raw weights",
    "nearest": "the raw weights, and averages what the nearest training RNNs have",
    "norms": "the logarithm of the norm of each weight tensor, both biases of a gate as one",
    "step": "the training step of the snapshot, one-hot",
    "architecture": "which architecture the RNN has, one-hot",
    "constant": "nothing",
}
"""What a predictor reads, by name; all but "nearest" are read by the same kind of predictor."""

TRIVIAL = ("pca", "nearest", "norms", "step", "architecture", "constant")
"""Features that need no encoder."""

Groups = Sequence[tuple[np.ndarray, Population]]
"""Populations of one architecture each, with their positions among the snapshots."""


def features(
    model: Model, groups: Groups, snapshots: pa.Table, train: Bool[np.ndarray, " rnn"]
) -> dict[str, Float[Tensor, "rnn feature"]]:
    """Features of some snapshots that a predictor can read, by name.

    Args:
        model: The trained encoder.
        groups: The snapshots' weights, as `Zoo.groups` gives them.
        snapshots: As `Zoo.snapshots` gives them.
        train: Those that set the scales of features.
    """
    count = snapshots.num_rows
    found = {
        "embedding": embed_groups(model, groups, count),
        "untrained": embed_groups(untrained(model, groups, train), groups, count),
        "pca": _pca(groups, count, train, model.settings.seed),
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
    """The same encoder as it would start training under another seed."""
    fresh = started(model, int(seeds.stream(model.settings.seed, "untrained").integers(1 << 31)))
    fresh.to(model.device).encoder.eval().requires_grad_(False)
    set_scales(fresh, groups, train)
    return fresh


def started(model: Model, seed: int) -> Model:
    """The model as training starts with it, before its scales are set."""
    return Model(model.path, dataclasses.replace(model.settings, seed=seed))


def set_scales(model: Model, groups: Groups, train: Bool[np.ndarray, " rnn"]) -> None:
    """Does with the encoder what emulation does at its start, on training RNNs."""
    for positions, population in groups:
        if population.spec == model.spec:
            model.encoder.calibrate(population.select(np.flatnonzero(train[positions]).tolist()))


def raw_weights(population: Population) -> Float[Tensor, "rnn parameter"]:
    """All weights as a vector, both biases of a gate as one."""
    return canonical_bias(population).flatten()


def _pca(
    groups: Groups, count: int, train: Bool[np.ndarray, " rnn"], seed: int
) -> Float[Tensor, "rnn feature"]:
    """One block of columns for each architecture that training RNNs have, zero for RNNs of the others."""
    from sklearn.decomposition import PCA

    blocks = []
    for positions, population in groups:
        known, vectors = train[positions], raw_weights(population).numpy()
        size = min(COMPONENTS, known.sum() - 1, vectors.shape[1])
        if size < 1:
            continue
        state = int(seeds.stream(seed, "pca").integers(1 << 31))
        pca = PCA(size, svd_solver="randomized", random_state=state).fit(vectors[known])
        block = torch.zeros(count, size)
        block[torch.from_numpy(positions)] = torch.from_numpy(pca.transform(vectors)).float()
        blocks.append(block)
    return torch.cat(blocks, dim=1) if blocks else torch.zeros(count, 1)


def _norms(groups: Groups, count: int) -> Float[Tensor, "rnn feature"]:
    """One block of columns for each architecture, zero for RNNs of the others."""
    blocks = []
    for positions, population in groups:
        weights = canonical_bias(population).weights.values()
        norms = torch.stack([weight.flatten(1).norm(dim=1) for weight in weights], dim=1)
        block = torch.zeros(count, norms.shape[1])
        block[torch.from_numpy(positions)] = norms.clamp_min(1e-6).log().float()
        blocks.append(block)
    return torch.cat(blocks, dim=1)


def _one_hot(values: Shaped[np.ndarray, " rnn"]) -> Float[Tensor, "rnn feature"]:
    _, classes = np.unique(values, return_inverse=True)
    return functional.one_hot(torch.from_numpy(classes)).float()
