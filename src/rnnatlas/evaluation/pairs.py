"""Paired comparisons: the same RNNs under two encoders, or under an encoder and what it must beat."""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rnnatlas import properties
from rnnatlas.evaluation.figures import CLAIMED_OF_EACH, is_loss, loss_name, score_name
from rnnatlas.evaluation.roles import clusters
from rnnatlas.intervals import Interval, difference, ratio

Tables = tuple[list[pa.Table], list[pa.Table]]
"""Losses and predictions of one encoder, one table a seed."""

Values = dict[tuple[str, str, str], np.ndarray]
"""Name, split, whose it is → one figure a seed and snapshot."""

CALIBRATED = "calibrated_loss"

BESIDE = {"conditioned": ("zero", "shuffled", "fitted")}
ALIKE = ("conditioned", "embedding", "supervised")
"""Whose figures are compared between encoders."""


def comparisons(
    runs: Mapping[str, Collection[int]], tables: Mapping[str, Tables]
) -> Iterator[dict[str, Any]]:
    """Records of differences and ratios, as `results.SCHEMA` has them.

    Encoders that took different RNNs of the zoo are compared on those that both took.

    Args:
        runs: Label of an encoder → its seeds.
        tables: Label → losses and predictions, one table a seed, all of one zoo.
    """
    for label, own in tables.items():
        side = _Side(label, list(runs[label]), own)
        for name, split, of in side.values:
            for other in _beside(side.values, name, split, of):
                yield _record("difference", side, (name, split, of), side, (name, split, other))
    for a, b in itertools.combinations(tables, 2):
        pair = _shared(tables[a], tables[b])
        left, right = (_Side(label, list(runs[label]), own) for label, own in zip((a, b), pair, strict=True))
        for key in left.values:
            if key[2] in ALIKE and key in right.values:
                yield _record("difference", left, key, right, key)
                if key[2] == "conditioned":
                    yield _record("ratio", left, key, right, key)


class _Side:
    """One encoder of a comparison, by name, split and whose figure it is."""

    def __init__(self, label: str, seeds: list[int], tables: Tables):
        self.label, self.seeds = label, seeds
        self.values = _values(*tables)
        self.rows = _rows(*tables)
        self.lower = _lower(*tables)


def _shared(a: Tables, b: Tables) -> tuple[Tables, Tables]:
    """The rows of snapshots that both have."""
    ids, others = (set(lost[0]["id"].to_pylist()) for lost, _ in (a, b))
    if ids == others:
        return a, b

    def kept(tables: list[pa.Table]) -> list[pa.Table]:
        return [table.filter(pc.field("id").isin(sorted(ids & others))) for table in tables]

    return (kept(a[0]), kept(a[1])), (kept(b[0]), kept(b[1]))


def _record(
    kind: str, a: _Side, key: tuple[str, str, str], b: _Side, other: tuple[str, str, str]
) -> dict[str, Any]:
    name, split, of = key
    rows = a.rows[is_loss(name), split]
    compare, sign = (difference, "less") if kind == "difference" else (ratio, "over")
    same_seeds = a.seeds == b.seeds  # which began alike and saw the same batches
    found = compare(a.values[key], b.values[other], clusters(rows), same_seeds=same_seeds)
    return {
        "kind": kind,
        "name": name,
        "split": split,
        "encoder": a.label,
        "of": of,
        "versus": b.label,
        "versus_of": other[2],
        "seeds": a.seeds,
        **numbers(found),
        "p": found.p if kind == "difference" and math.isfinite(found.p) else None,
        "n_runs": len(rows["run"].unique()),
        "n_snapshots": rows.num_rows,
        "lower_is_better": {**b.lower, **a.lower}[name],
        "definition": f"mean {sign} that of the other side, paired by RNN and, where both sides have the "
        "same, by seed (ratios of seeds by their geometric mean); one of many comparisons, for which the "
        "interval is not corrected",
    }


def _beside(own: Values, name: str, split: str, of: str) -> Sequence[str]:
    if of == "embedding":
        return [kind for known, where, kind in own if (known, where) == (name, split) and kind != of]
    return [kind for kind in BESIDE.get(of, ()) if (name, split, kind) in own]


def _values(lost: list[pa.Table], predicted: list[pa.Table]) -> Values:
    found: Values = {}
    for divergence, split, rows in _parts(lost[0], "divergence"):
        for kind in ("conditioned", "zero", "shuffled", "fitted"):
            if kind in lost[0].column_names:
                found[loss_name(divergence), split, kind] = _column(lost, kind, rows)
    reads = np.asarray(predicted[0]["predictor"].to_pylist())
    for prop, split, rows in _parts(predicted[0], "property"):
        for read in dict.fromkeys(reads[rows]):
            chosen = rows[reads[rows] == read]
            for score in [*properties.kind(prop, of_classes=True).scores, CALIBRATED]:
                if score in predicted[0].column_names:
                    column = _column(predicted, score, chosen)
                    if np.isfinite(column).all():
                        found[score_name(prop, score), split, str(read)] = column
    return found


def _parts(table: pa.Table, column: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Rows of each value of a column on each split."""
    kinds, splits = (np.asarray(table[name].to_pylist()) for name in (column, "split"))
    for kind in dict.fromkeys(kinds):
        for split in dict.fromkeys(splits):
            yield str(kind), str(split), np.flatnonzero((kinds == kind) & (splits == split))


def _column(tables: Sequence[pa.Table], name: str, rows: np.ndarray) -> np.ndarray:
    return np.stack([table[name].to_numpy()[rows] for table in tables]).astype(np.float64)


def _rows(lost: list[pa.Table], predicted: list[pa.Table]) -> dict[tuple[bool, str], pa.Table]:
    """The snapshots that figures are of, by whether of emulation and by split.

    Predictions on OOD are of half of them.
    """
    found = {}
    reads = predicted[0]["predictor"].to_pylist()
    for emulation, table, column in ((True, lost[0], "divergence"), (False, predicted[0], "property")):
        for _, split, rows in _parts(table, column):
            if not emulation:
                rows = np.array([row for row in rows if reads[row] == reads[rows[0]]])
            found[emulation, split] = table.take(pa.array(rows))
    return found


def _lower(lost: list[pa.Table], predicted: list[pa.Table]) -> dict[str, bool | None]:
    found: dict[str, bool | None] = {
        loss_name(divergence): True for divergence in lost[0]["divergence"].unique().to_pylist()
    }
    for prop in predicted[0]["property"].unique().to_pylist():
        found[score_name(prop, CALIBRATED)] = CLAIMED_OF_EACH[CALIBRATED].lower_is_better
        for name, score in properties.kind(prop, of_classes=True).scores.items():
            found[score_name(prop, name)] = score.lower_is_better
    return found


def numbers(found: Interval) -> dict[str, Any]:
    """An interval as a record has it; what is not finite is null."""
    ends = {"value": found.mean, "low": found.low, "high": found.high}
    finite = {name: value if math.isfinite(value) else None for name, value in ends.items()}
    return {**finite, "n_drawn": found.n}
