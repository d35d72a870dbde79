"""From embeddings to places on a map."""

from typing import Any

import numpy as np
from jaxtyping import Float

from rnnatlas.errors import SettingsError
from rnnatlas.registry import Registry

registry = Registry(
    "layout",
    {
        "pca": ("rnnatlas.atlas.layouts:pca", "the two directions of largest variance"),
        "tsne": ("rnnatlas.atlas.layouts:tsne", "t-SNE by cosine: keeps neighbours together"),
        "umap": ("rnnatlas.atlas.layouts:umap", "UMAP by cosine (extra `map`)"),
        "pacmap": ("rnnatlas.atlas.layouts:pacmap", "PaCMAP: neighbours and rough distances (extra `map`)"),
    },
)

FEWEST = 5
"""With fewer RNNs than this every layout is PCA: there are no neighbourhoods to keep."""


def place(
    layout: str, embeddings: Float[np.ndarray, "rnn embed"], seed: int = 0
) -> Float[np.ndarray, "rnn 2"]:
    """Places on a map, centred, the larger extent from −1 to 1.

    Raises:
        UnknownName: No layout is called so.
        SettingsError: The layout needs an extra that is not installed.
    """
    draw = registry[layout] if len(embeddings) >= FEWEST else pca
    # the libraries take seeds of 32 bits
    places = np.asarray(draw(embeddings.astype(np.float64), seed % 2**32), dtype=np.float64)
    places -= (places.max(axis=0) + places.min(axis=0)) / 2
    extent = np.abs(places).max()
    return places / extent if extent > 0 else places


def pca(embeddings: Float[np.ndarray, "rnn embed"], seed: int) -> Float[np.ndarray, "rnn 2"]:
    """The two principal components; zeros where all embeddings are alike."""
    from sklearn.decomposition import PCA

    if np.ptp(embeddings, axis=0).max() < 1e-9:
        return np.zeros((len(embeddings), 2))
    components = min(2, *embeddings.shape)
    places = PCA(components, svd_solver="full").fit_transform(embeddings)
    return np.pad(places, ((0, 0), (0, 2 - components)))


def tsne(embeddings: Float[np.ndarray, "rnn embed"], seed: int) -> Float[np.ndarray, "rnn 2"]:
    """t-SNE, started from PCA."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    # sklearn's cosine distances come out a little below zero for equal vectors; on the unit sphere
    # squared Euclidean distances are the same up to a factor.
    scaled = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    start = pca(scaled, seed)
    sd = start[:, 0].std()
    if sd < 1e-9:  # all embeddings are alike: sklearn would divide by zero and crash the process
        return start
    start = (start / sd * 1e-4).astype(np.float32)
    return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(scaled)


def umap(embeddings: Float[np.ndarray, "rnn embed"], seed: int) -> Float[np.ndarray, "rnn 2"]:
    """UMAP."""
    package: Any = _extra("umap", "umap-learn")
    neighbours = min(15, len(embeddings) - 1)
    return package.UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed).fit_transform(embeddings)


def pacmap(embeddings: Float[np.ndarray, "rnn embed"], seed: int) -> Float[np.ndarray, "rnn 2"]:
    """PaCMAP."""
    package: Any = _extra("pacmap", "pacmap")
    neighbours = min(10, len(embeddings) - 1)
    return package.PaCMAP(n_neighbors=neighbours, distance="angular", random_state=seed).fit_transform(
        embeddings
    )


def _extra(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise SettingsError(
            f"layout {module!r} needs the package {package}, which is not installed; "
            "pip install 'rnnatlas[map]', or use pca or tsne"
        ) from None
