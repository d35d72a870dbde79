"""A made-up atlas that looks like a real one: clusters by language, a performance gradient within each."""

import numpy as np
import pyarrow as pa
import pytest

from rnnatlas.atlas.index import Atlas, with_places
from rnnatlas.atlas.layouts import place

SHIFTS = {0: "", 1: "⁺¹", 2: "⁺²", -1: "⁻¹", -2: "⁻²", -3: "⁻³"}
STEPS = (0, 100, 200, 500)


def make_atlas(runs: int = 24, layout: str = "pca", letters: str = "bc") -> Atlas:
    """`runs` runs with four snapshots each."""
    random = np.random.default_rng(0)
    m = random.integers(-3, 3, (runs, len(letters)))
    basis = random.normal(size=(len(letters), 6, 16))
    rows = []
    for run in range(runs):
        for age, step in enumerate(STEPS):
            share = 1 - np.exp(-age * random.uniform(0.6, 1.4))
            vector = share * sum(basis[i, m[run, i] + 3] for i in range(len(letters)))
            vector = vector + random.normal(0, 0.35, 16) + 0.7
            power = "".join(
                f"{letter}ⁿ{SHIFTS[value]}" for letter, value in zip("abcd", (0, *m[run]), strict=False)
            )
            n = random.integers(3, 6, 3)
            rows.append(
                {
                    "id": f"{run:04d}-{step:06d}",
                    "run": run,
                    "source": "zoo",
                    "spec": "lstm-5-16x1-5",
                    "embedding": (vector / np.linalg.norm(vector)).astype(np.float32).tolist(),
                    "label": power,
                    "task": dict(zip(letters, m[run].tolist(), strict=True)),
                    "step": step,
                    "split": ["train", "new-runs", "validation", "ood"][run % 4],
                    "metrics": {
                        "performance": float(share * random.uniform(0.8, 1.0)),
                        "loss": float(1 - share),
                    },
                    "samples": ["a" * k + "b" * k + "c" * k + ("⏎" if share > 0.2 else "…") for k in n],
                }
            )
    task = pa.struct([(letter, pa.int8()) for letter in letters])
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("run", pa.int64()),
            ("source", pa.string()),
            ("spec", pa.string()),
            ("embedding", pa.list_(pa.float32(), 16)),
            ("label", pa.string()),
            ("task", task),
            ("step", pa.int64()),
            ("split", pa.string()),
            ("metrics", pa.struct([("performance", pa.float64()), ("loss", pa.float64())])),
            ("samples", pa.list_(pa.string())),
        ]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    card = {"encoder": "interactive", "seed": 0, "layout": layout, "layout_seed": 0}
    return Atlas(card, with_places(table, place(layout, vectors)))


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """96 entries of 24 runs."""
    return make_atlas()
