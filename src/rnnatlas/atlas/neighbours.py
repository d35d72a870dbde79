"""Nearest neighbours among many embeddings by faiss, with the recall that was measured."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rnnatlas import seeds

EXACT = 100_000
"""Up to so many entries a search is exact in any case."""
MOST = 100
"""Entries found from which a search is exact, too."""
LISTS, SAMPLE = 1024, 50
"""Lists that an index sorts entries into by k-means, and entries a list that it learns them from."""
RECALL, QUERIES, FOUND = 0.99, 100, 10
"""Share of the true nearest so many that so many queries have to find before an index is used."""


def installed() -> bool:
    """Whether faiss is."""
    return importlib.util.find_spec("faiss") is not None


def build(units: Float[np.ndarray, "rnn embed"]) -> tuple[Any, float] | None:
    """An index of vectors of length one with its recall; None where no setting has enough.

    Of the settings (how many lists are looked through) the fastest with enough recall is taken.
    """
    import faiss

    stream = seeds.stream(0, "neighbours")
    count, width = units.shape
    lists = min(LISTS, count // SAMPLE)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 10
    index.train(units[stream.choice(count, lists * SAMPLE, replace=False)])
    index.add(units)
    queries = units[stream.choice(count, QUERIES, replace=False)]
    true = np.argsort(-(queries @ units.T), axis=1, kind="stable")[:, :FOUND]
    for looked_through in (2**power for power in range(lists.bit_length())):
        index.nprobe = looked_through
        found = index.search(queries, FOUND)[1]
        recall = np.mean([len({*a} & {*b}) / FOUND for a, b in zip(found.tolist(), true.tolist())])
        if recall >= RECALL:
            return index, float(recall)
    return None


def write(index: Any, path: Path) -> None:
    """Writes an index, with how it is searched."""
    import faiss

    faiss.write_index(index, str(path))


def read(path: Path, count: int) -> Any:
    """Reads what `write` wrote of so many entries; None where that cannot be read."""
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError:
        return None
    return index if index.ntotal == count else None


def candidates(index: Any, unit: Float[np.ndarray, " embed"], count: int) -> Int[np.ndarray, " found"]:
    """Rows that are likely the nearest so many, in no order that counts."""
    rows = index.search(unit[None].astype(np.float32), count)[1][0]
    return rows[rows >= 0]
