"""A closer look at embeddings: do probing inputs depend on responses, who are the neighbours of some RNNs."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.atlas.index import Atlas
from rnnatlas.encoders.probing import Probing
from rnnatlas.evaluation.roles import HELD_OUT
from rnnatlas.rnn import Signal


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
