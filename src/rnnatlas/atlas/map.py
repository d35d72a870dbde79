"""One HTML file that shows an atlas: no server, nothing loaded from elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from rnnatlas import encoders
from rnnatlas.atlas import colours
from rnnatlas.atlas.columns import colour_columns, default_column
from rnnatlas.atlas.layouts import place
from rnnatlas.atlas.pages import packed, render
from rnnatlas.errors import OutputExists, SettingsError, UnknownName
from rnnatlas.files import write_text
from rnnatlas.registry import nearest

SAMPLES = 5
LAYOUTS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP", "pacmap": "PaCMAP"}


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


def write_map(
    atlas: Entries,
    out: Path | str,
    color: str | None = None,
    layouts: Sequence[str] = (),
    others: Sequence[Entries] = (),
    force: bool = False,
) -> None:
    """Writes the map as one HTML file.

    Args:
        atlas: What to show.
        out: The file.
        color: Column that colours the points at first; the task where known.
        layouts: The first places the points at first; readers can choose the others, the atlas's own and PCA.
        others: Atlases of the same RNNs by other encoders, which readers can choose.
        force: Replace a file that is there.

    Raises:
        OutputExists: The file is there already.
        UnknownName: No such column or layout.
        SettingsError: Another atlas lacks RNNs of this one, or a layout needs an extra.
    """
    out = Path(out)
    if out.is_dir():
        raise OutputExists(f"{out} should be a file, found a folder; choose another --out")
    if out.exists() and not force:
        raise OutputExists(f"{out} exists already; choose another --out, remove it, or replace it by --force")
    write_text(out, document(atlas, color, layouts, others))


def document(
    atlas: Entries,
    color: str | None = None,
    layouts: Sequence[str] = (),
    others: Sequence[Entries] = (),
) -> str:
    """The map as HTML text.

    Raises:
        UnknownName: No layout or column is called so, or the column cannot colour points.
        SettingsError: Another atlas lacks RNNs of this one, or a layout needs an extra.
    """
    from plotly.offline import get_plotlyjs

    data = _data(atlas, color, layouts, others)
    return render("rnnatlas.atlas", "map.html", data=data, plotly=get_plotlyjs())


def _data(
    atlas: Entries, color: str | None, layouts: Sequence[str], others: Sequence[Entries]
) -> dict[str, Any]:
    table = atlas.table
    columns = colour_columns(table)
    keys = [column["key"] for column in columns]
    samples = table["samples"].to_pylist() if "samples" in table.column_names else [None] * len(table)
    return {
        "title": f"Atlas of {len(table):,} RNNs",
        "ids": packed(atlas.ids),
        "samples": packed([(strings or [])[:SAMPLES] for strings in samples]),
        "writes": any(samples),
        "runs": _runs(table),
        "columns": [_packed_column(column) for column in columns],
        "encoders": _encoders(atlas, layouts, others),
        "color": _chosen(color, columns),
        "hover": [key for key in keys if key in _HOVER],
        "facts": [key for key in keys if key != "label" and not key.startswith("task.")],
        "brief": [key for key in keys if key in _BRIEF],
        "scales": {
            "sequential": colours.SEQUENTIAL,
            "sequential dark": colours.DARK,
            "cyclic": colours.CYCLIC,
            "cyclic dark": colours.CYCLIC_DARK,
        },
    }


def _encoders(atlas: Entries, layouts: Sequence[str], others: Sequence[Entries]) -> list[dict[str, Any]]:
    """Embeddings and places of each encoder; the rows are those of the first atlas."""
    found, names = [], []
    for one in (atlas, *others):
        rows = _rows(atlas, one)
        own = one.card.get("layout", "")
        wanted = list(dict.fromkeys([*layouts, own, "pca"]))
        places = {}
        for layout in wanted:
            if layout == own:
                places[layout] = np.stack([one.table[axis].to_numpy() for axis in "xy"], axis=1)
            else:
                places[layout] = place(layout, one.embeddings, one.card.get("layout_seed", 0))
        key = one.card.get("encoder", "an encoder")
        name = getattr(encoders.find(key), "title", None) or key
        count = names.count(name)
        names.append(name)
        found.append(
            {
                "name": f"{name} ({count + 1})" if count else name,
                "embedding": packed(_whole_numbers(one.embeddings[rows])),
                "layouts": [
                    {
                        "name": LAYOUTS.get(layout, layout or "the atlas's own"),
                        "x": packed(where[rows, 0].astype(np.float32)),
                        "y": packed(where[rows, 1].astype(np.float32)),
                    }
                    for layout, where in places.items()
                ],
            }
        )
    return found


def _rows(atlas: Entries, other: Entries) -> np.ndarray:
    """Where the RNNs of one atlas stand in another."""
    if other is atlas:
        return np.arange(len(atlas.ids))
    places = {id: row for row, id in enumerate(other.ids)}
    lacking = [id for id in atlas.ids if id not in places]
    if lacking:
        raise SettingsError(
            f"every atlas of one map should hold the RNNs of the first, found one without {len(lacking)} of "
            f"them, such as {lacking[0]!r}; embed the same RNNs by each encoder"
        )
    return np.array([places[id] for id in atlas.ids])


def _whole_numbers(vectors: np.ndarray) -> np.ndarray:
    """Directions of embeddings as 16-bit numbers: half the size, cosines right to four decimals."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    return np.round(vectors / np.where(largest > 0, largest, 1) * 32767).astype(np.int16).reshape(-1)


def _runs(table: pa.Table) -> dict[str, Any] | None:
    """A number for each run of each source, and the step of each snapshot, to join them by; −1 is none."""
    if not {"run", "step"} <= set(table.column_names):
        return None
    sources = table["source"].to_pylist() if "source" in table.column_names else [None] * len(table)
    codes: dict[Any, int] = {}
    runs = [
        -1 if run is None or step is None else codes.setdefault((source, run), len(codes))
        for source, run, step in zip(
            sources, table["run"].to_pylist(), table["step"].to_pylist(), strict=True
        )
    ]
    if len(codes) == sum(run >= 0 for run in runs):  # no run has two snapshots
        return None
    steps = [step or 0 for step in table["step"].to_pylist()]
    return {"run": packed(np.array(runs, np.int32)), "step": packed(np.array(steps, np.float64))}


def _packed_column(column: Mapping[str, Any]) -> dict[str, Any]:
    """With typed arrays for lists; NaN is a missing number, the code after the last a missing class."""
    if column["kind"] == "number":
        numbers = np.array(column["values"], np.float64)  # None becomes NaN
        exact = np.abs(numbers[np.isfinite(numbers)]).max(initial=0) >= 2**24 and column["whole"]
        return {**column, "values": packed(numbers if exact else numbers.astype(np.float32))}
    count = len(column["categories"])
    kind = np.uint8 if count < 2**8 else np.uint16 if count < 2**16 else np.uint32
    codes = [count if code is None else code for code in column["values"]]
    return {
        **column,
        "values": packed(np.array(codes, kind)),
        "categories": packed(column["categories"]),
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
        hint = nearest(color, known)
        hint = hint if hint.startswith("did you mean") else nearest(color, short)  # each once
        raise UnknownName(f"no column {color!r} to colour by; {hint}")
    return known[color]
