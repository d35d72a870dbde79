"""A closer look at embeddings: do probing inputs depend on responses, do neighbours do the same task."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.atlas.index import Atlas
from rnnatlas.encoders.probing import Probing
from rnnatlas.evaluation.roles import HELD_OUT, clusters
from rnnatlas.intervals import Interval, bootstrap
from rnnatlas.rnn import Signal

PAIRS = 1 << 22
"""Pairs of RNNs that are looked at together, so that memory does not grow with their square."""


def input_differences(probing: Probing, signal: Signal) -> Float[Tensor, "probe time"]:
    """How much the probing inputs differ between RNNs, mean over pairs of RNNs.

    Of tokens this is the total variation: 0 where all RNNs are shown the same, 1 where no two inputs share a
    token. Of numbers it is the mean difference as a share of their range, or of the largest difference where
    they have none.
    """
    inputs = probing.inputs.permute(1, 2, 0, 3)
    count = inputs.shape[2]
    if count < 2:
        return torch.zeros(inputs.shape[:2])
    distances = torch.cdist(inputs, inputs, p=1.0)
    most = signal.width if math.isfinite(signal.width) else distances.max().clamp_min(1e-12)
    return distances.sum((2, 3)) / (most * count * (count - 1))


def same_task(atlas: Atlas, split: str) -> tuple[Interval, float] | None:
    """How often the nearest RNN of another run has the same task, and how often a random one would.

    Args:
        atlas: Embedded snapshots.
        split: Whose nearest are looked for, among all snapshots of other runs.

    Returns:
        Both shares, the first with its interval over RNNs; None where tasks or runs are unknown, or the
        split is empty.
    """
    if "label" not in atlas.table.column_names:
        return None
    _, labels = np.unique([str(label) for label in atlas.table["label"].to_pylist()], return_inverse=True)
    return _of_nearest(atlas, split, lambda asking: labels[asking, None] == labels, 1.0)


def degrees_apart(atlas: Atlas, split: str) -> tuple[Interval, float] | None:
    """By how many degrees the angles of nearest RNNs of other runs differ, and those of random ones.

    Args:
        atlas: Embedded snapshots.
        split: Whose nearest are looked for, among all snapshots of other runs.

    Returns:
        Both means, the first with its interval over RNNs; None where no angles are known, or the split is
        empty.
    """
    table = atlas.table
    if "task" not in table.column_names or table.schema.field("task").type.get_field_index("angle") < 0:
        return None
    tasks = table["task"].to_pylist()
    angles = np.array([np.nan if task is None else task["angle"] for task in tasks], dtype=np.float64)
    return _of_nearest(
        atlas, split, lambda asking: np.abs((angles[asking, None] - angles + 180) % 360 - 180), 180.0
    )


def _of_nearest(
    atlas: Atlas, split: str, measure: Callable[[np.ndarray], np.ndarray], highest: float
) -> tuple[Interval, float] | None:
    """Means of a measure between snapshots and those nearest to them, and between them and all others.

    Args:
        atlas: Embedded snapshots.
        split: Whose nearest are looked for, among all snapshots of other runs.
        measure: Gives it for some snapshots (rows) and all (columns).
        highest: What it can be at most; 0 is the least.
    """
    table = atlas.table
    if not {"run", "split", "label"} <= set(table.column_names):
        return None
    _, runs = np.unique(table["run"].to_numpy(), return_inverse=True)
    asking = np.flatnonzero(np.asarray(table["split"].to_pylist()) == split)
    if len(np.unique(runs)) < 2 or len(asking) == 0:
        return None
    of_nearest, chance = [], []
    for chunk in np.array_split(asking, -(-len(asking) * len(runs) // PAIRS)):
        similarity = atlas.embeddings[chunk] @ atlas.embeddings.T
        others = runs[chunk][:, None] != runs
        nearest = np.where(others, similarity, -np.inf).argmax(axis=1)
        values = measure(chunk).astype(np.float64)
        of_nearest.append(values[np.arange(len(chunk)), nearest])
        chance.append((values * others).sum(axis=1) / others.sum(axis=1))
    tasks = table["task" if "task" in table.column_names else "label"].to_pylist()
    drawn = table.take(pa.array(asking)).select(["split", "run"])
    drawn = drawn.append_column("task", pa.array([str(tasks[row]) for row in asking]))
    interval = bootstrap(np.concatenate(of_nearest)[None], clusters(drawn), bounds=(0.0, highest))
    return interval, float(np.concatenate(chance).mean())


def examples(atlas: Atlas, count: int = 4, neighbours: int = 3) -> list[dict[str, Any]]:
    """A few RNNs that do well, one a split in turn and no task twice, with those nearest from other runs."""
    table = atlas.table
    if not {"run", "label", "metrics", "split"} <= set(table.column_names):
        return []
    chosen: list[int] = []
    rows = table.select(["label", "split", "metrics"]).to_pylist()
    order = sorted(range(len(rows)), key=lambda i: -((rows[i]["metrics"] or {}).get("performance") or 0))
    splits = [split for split in (*HELD_OUT, "train") if split in table["split"].to_pylist()]
    for turn in range(count):
        split = splits[turn % len(splits)]
        taken = {rows[i]["label"] for i in chosen}
        fitting = [i for i in order if rows[i]["split"] == split and rows[i]["label"] not in taken]
        chosen += fitting[:1]
    found = []
    for i in chosen:
        entry = table.slice(i, 1).to_pylist()[0]
        near = atlas.search(entry["id"], neighbours, where=f"run <> {int(entry['run'])}")
        found.append({"entry": _brief(entry), "neighbours": [_brief(row) for row in near.to_pylist()]})
    return found


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("id", "label", "step", "split", "samples", "similarity")
    performance = (row["metrics"] or {}).get("performance")
    return {**{key: row.get(key) for key in kept}, "performance": performance}
