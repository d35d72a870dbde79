"""One HTML file that shows an atlas: no server, nothing loaded from elsewhere."""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from rnnatlas.atlas import colours
from rnnatlas.errors import OutputExists, UnknownName
from rnnatlas.files import write_text
from rnnatlas.registry import nearest
from rnnatlas.rnn import RNNSpec
from rnnatlas.tables import flat

FEW = 12
"""Whole numbers with at most so many values are shown as ordered classes, not on a colour bar."""

NAMES = {"label": "task", "spec": "architecture"}
HIDDEN = {"id", "x", "y", "embedding", "samples", "run", "seed"}
SAMPLES = 5


@runtime_checkable
class Entries(Protocol):
    """What a map shows of an atlas."""

    @property
    def card(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def table(self) -> pa.Table: ...  # noqa: D102
    @property
    def ids(self) -> list[str]: ...  # noqa: D102
    @property
    def embeddings(self) -> np.ndarray: ...  # noqa: D102


def write_map(atlas: Entries, out: Path | str, color: str | None = None) -> None:
    """Writes the map as one HTML file.

    Args:
        atlas: What to show.
        out: The file.
        color: Column that colours the points at first; the task where known.

    Raises:
        OutputExists: The file is there already.
        UnknownName: No such column.
    """
    out = Path(out)
    if out.exists():
        raise OutputExists(f"{out} exists already; choose another --out, or remove it first")
    write_text(out, document(atlas, color))


def document(atlas: Entries, color: str | None = None) -> str:
    """The map as HTML text.

    Raises:
        UnknownName: No column is called so, or it cannot colour points.
    """
    from plotly.offline import get_plotlyjs

    from rnnatlas.atlas.pages import render

    return render("rnnatlas.atlas", "map.html", data=_data(atlas, color), plotly=get_plotlyjs())


def _data(atlas: Entries, color: str | None) -> dict[str, Any]:
    table = atlas.table
    columns = colour_columns(table)
    keys = [column["key"] for column in columns]
    chosen = _chosen(color, columns)
    layout = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP", "pacmap": "PaCMAP"}.get(
        atlas.card.get("layout", ""), "a layout"
    )
    encoder = atlas.card.get("encoder", "an encoder")
    return {
        "title": f"Atlas of {atlas.table.num_rows:,} RNNs",
        "subtitle": f"Embedded by the {encoder} encoder, placed by {layout}",
        "note": f"Places come from {layout} and keep neighbourhoods only roughly; the list of nearest RNNs "
        "is computed from the embeddings themselves.",
        "ids": atlas.ids,
        "labels": table["label"].to_pylist()
        if "label" in table.column_names
        else [None] * atlas.table.num_rows,
        "x": _rounded(table["x"]),
        "y": _rounded(table["y"]),
        "embedding": base64.b64encode(atlas.embeddings.astype("<f4").tobytes()).decode("ascii"),
        "samples": [(strings or [])[:SAMPLES] for strings in table["samples"].to_pylist()],
        "columns": columns,
        "color": chosen,
        "hover": [key for key in keys if key in _HOVER],
        "facts": [key for key in keys if key not in ("label",) and not key.startswith("task.")],
        "brief": [key for key in keys if key in _BRIEF],
        "scales": {"sequential": colours.SEQUENTIAL, "dark": colours.DARK, "cyclic": colours.CYCLIC},
    }


_BRIEF = ("step", "metrics.performance", "split")
_HOVER = (*_BRIEF, "spec", "predicted.task", "predicted.direction", "predicted.performance")


def _chosen(color: str | None, columns: list[dict[str, Any]]) -> str:
    names = {column["key"]: column["key"] for column in columns}
    short = {column["name"]: column["key"] for column in columns}
    labels = [key for key in names if key.startswith("labels.")]
    short = {**{key.removeprefix("labels."): key for key in labels}, **short}
    if color is None:
        return default_column(columns)
    known = {**short, **names}
    if color not in known:
        raise UnknownName(f"no column {color!r} to colour by; {nearest(color, [*short, *names])}")
    return known[color]


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


def _name(key: str) -> str:
    first, dot, last = key.partition(".")
    if not dot:
        return NAMES.get(key, key)
    return {"metrics": last, "task": f"task: {last}", "predicted": f"predicted {last}"}.get(
        first, key
    ).replace("_", " ")


def _column(key: str, values: pa.ChunkedArray) -> dict[str, Any] | None:
    kind = values.type
    known = values.drop_null()
    if len(known) == 0:
        return None
    shared = {"key": key, "name": _name(key), "cyclic": key.rpartition(".")[2] in ("angle", "direction")}
    distinct = known.unique().to_pylist()
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if whole and len(distinct) <= FEW:
        distinct.sort()
        return {**shared, "kind": "ordered", **_coded(values, distinct)}
    if whole or pa.types.is_floating(kind):
        return {**shared, "kind": "number", "values": _rounded(values)}
    if pa.types.is_string(kind):
        distinct.sort()
        return {
            **shared,
            "kind": "category",
            **_coded(values, distinct),
            "colors": colours.categorical(len(distinct)),
        }
    return None


def _coded(values: pa.ChunkedArray, distinct: list[Any]) -> dict[str, Any]:
    codes = {value: code for code, value in enumerate(distinct)}
    texts = [f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value) for value in distinct]
    return {"values": [codes.get(value) for value in values.to_pylist()], "categories": texts}


def _rounded(values: pa.ChunkedArray) -> list[float | None]:
    return [
        None
        if value is None or not math.isfinite(value)
        else float(np.format_float_positional(value, 5, fractional=False))
        for value in values.to_pylist()
    ]


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
