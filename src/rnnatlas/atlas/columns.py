"""Columns of an atlas as a map shows them: with values as numbers or classes, and colours of these."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas.atlas import colours
from rnnatlas.rnn import RNNSpec
from rnnatlas.tables import flat

FEW = 12
"""Whole numbers with at most so many values are shown as ordered classes, not on a colour bar."""

NAMES = {"label": "task", "spec": "architecture", "in_distribution": "like the zoo", "ood_score": "OOD score"}
HIDDEN = {"id", "rnns", "x", "y", "embedding", "samples", "run", "seed"}
ANGLES = {"angle", "degrees", "direction"}
"""Names of numbers that go round."""


def default_column(columns: Sequence[Mapping[str, Any]]) -> str:
    """The task where known, as a number where it is an angle; else how well RNNs do, or their age."""
    angles = [column["key"] for column in columns if column["cyclic"] and column["key"].startswith("task.")]
    names = [column["key"] for column in columns]
    liked = [*angles, "label", "metrics.performance", "step"]
    return next((key for key in liked if key in names), names[0])


def colour_columns(table: pa.Table) -> list[dict[str, Any]]:
    """The columns that can colour a map, with their values as numbers or codes of categories."""
    tasks = table["task"].to_pylist() if "task" in table.column_names else None
    spread = flat(table)
    columns = []
    for name in sorted(spread.column_names, key=_rank):
        if name in HIDDEN or name.rpartition(".")[0] in HIDDEN:
            continue
        column = _column(name, spread[name])
        if column is None:
            continue
        if name == "spec":
            column["categories"] = [str(RNNSpec.from_slug(slug)) for slug in column["categories"]]
        if name == "label" and tasks is not None:
            _colour_tasks(column, spread[name].to_pylist(), tasks)
        columns.append(column)
    return columns


def _rank(name: str) -> tuple[int, int]:
    order = (
        "label",
        "metrics.performance",
        "step",
        "split",
        "task.",
        "metrics.",
        "predicted.",
        "spec",
        "source",
    )
    places = [place for place, start in enumerate(order) if name.startswith(start)]
    return (places[0] if places else len(order), 0)


def title(key: str) -> str:
    """The name for people of a column, or of a field of one."""
    first, dot, last = key.partition(".")
    if not dot:
        return NAMES.get(key, key)
    if first == "labels":
        return last
    return {"metrics": last, "task": f"task: {last}", "predicted": f"predicted {last}"}.get(
        first, key
    ).replace("_", " ")


def _column(key: str, values: pa.ChunkedArray) -> dict[str, Any] | None:
    kind = values.type
    known = values.drop_null()
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if len(known) == 0 or not (whole or pa.types.is_floating(kind) or pa.types.is_string(kind)):
        return None
    shared = {"key": key, "name": title(key), "cyclic": False}
    distinct = known.unique().to_pylist()
    if whole and len(distinct) <= FEW:
        distinct.sort()
        return {**shared, "kind": "ordered", **_coded(values, distinct), "numbers": distinct}
    if whole or pa.types.is_floating(kind):
        numbers = _rounded(values)
        around = key.rpartition(".")[2] in ANGLES and all(
            abs(own) <= 360 for own in numbers if own is not None
        )
        return {**shared, "cyclic": around, "kind": "number", "values": numbers, "whole": whole}
    distinct.sort()
    return {
        **shared,
        "kind": "category",
        **_coded(values, distinct),
        "colors": colours.categorical(len(distinct)),
    }


def _coded(values: pa.ChunkedArray, distinct: list[Any]) -> dict[str, Any]:
    texts = [f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value) for value in distinct]
    codes = {value: code for code, value in enumerate(distinct)}
    return {"values": [codes.get(value) for value in values.to_pylist()], "categories": texts}


def _rounded(values: pa.ChunkedArray) -> list[float | None]:
    """To five digits; what is not finite is missing."""
    numbers = values.cast(pa.float64(), safe=False).to_numpy()
    if pa.types.is_floating(values.type):
        size = np.abs(numbers, where=np.isfinite(numbers), out=np.ones(len(numbers)))
        factor = 10.0 ** np.clip(4 - np.floor(np.log10(np.where(size > 0, size, 1))), -300, 300)
        numbers = np.round(numbers * factor) / factor
    return [value if math.isfinite(value) else None for value in numbers.tolist()]


def _colour_tasks(
    column: dict[str, Any], labels: list[str | None], tasks: list[dict[str, Any] | None]
) -> None:
    """Lists tasks made of numbers in the order of the numbers, in colours that are alike where they are."""
    numbers = {
        label: _numbers(task)
        for label, task in zip(labels, tasks, strict=True)
        if label is not None and task is not None
    }
    if set(numbers) != set(column["categories"]) or not all(
        isinstance(value, (int, float)) for point in numbers.values() for value in point
    ):
        return
    listed = sorted(numbers, key=lambda label: numbers[label])
    places = {column["categories"].index(label): place for place, label in enumerate(listed)}
    column["values"] = [None if code is None else places[code] for code in column["values"]]
    column["categories"] = listed
    points = [numbers[label] for label in listed]
    if any(task is not None and "angle" in task for task in tasks):
        column["colors"] = [colours.oklch(0.64, 0.125, math.radians(degrees)) for (degrees,) in points]
    else:
        column["colors"] = colours.by_numbers(points)


def _numbers(task: dict[str, Any]) -> tuple[Any, ...]:
    """What a task is made of; of one with an angle, the whole degrees alone, which its label says as well."""
    angle = task.get("angle")
    return tuple(task.values()) if angle is None else (round(angle) % 360,)
