"""Times searches of a large atlas, exactly and by its index, and measures the index's recall.

    python benchmarks/search.py [COUNT]

Embeddings have 16 numbers and length one. Some lie around 200 centres, as those of RNNs of some tasks do;
others are drawn evenly from the sphere, which is the worst case for an index.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from rnnatlas.atlas.index import Atlas

QUERIES, K = 200, 10


def made(count, clustered):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(count, 16))
    if clustered:
        vectors = 0.3 * vectors + random.normal(size=(200, 16))[random.integers(200, size=count)]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 16)
    return Atlas({}, pa.table({"id": [f"run-{i:07d}" for i in range(count)], "embedding": column}))


def timed(atlas, queries):
    """Milliseconds of each search, and what was found."""
    atlas.search(queries[0], K)  # reads the index
    took, found = [], []
    for query in queries:
        start = time.perf_counter()
        rows = atlas.search(query, K)
        took.append(1000 * (time.perf_counter() - start))
        found.append({*rows["id"].to_pylist()})
    return took, found


def main(count="1000000"):
    for clustered in (True, False):
        atlas = made(int(count), clustered)
        folder = Path(tempfile.mkdtemp())
        try:
            start = time.perf_counter()
            atlas.save(folder / "atlas")
            saving = time.perf_counter() - start
            opened = Atlas.open(folder / "atlas")
            ids = np.random.default_rng(1).choice(atlas.ids, QUERIES).tolist()
            exact, true = timed(atlas, ids[: QUERIES // 4])
            fast, found = timed(opened, ids)
        finally:
            shutil.rmtree(folder)
        recall = np.mean([len(a & b) / K for a, b in zip(found, true)])
        print(f"{count} embeddings, {'around 200 centres' if clustered else 'evenly from the sphere'}")
        print(f"  saved with an index in {saving:.0f} s; {opened.exactness}")
        print(f"  recall of the nearest {K} on {len(true)} other queries: {recall:.4f}")
        for name, own in (("exact", exact), ("by the index", fast)):
            low, middle, high = np.percentile(own, [50, 90, 99])
            print(f"  {name}: median {low:.2f} ms a query, 90 % within {middle:.2f}, 99 % within {high:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
