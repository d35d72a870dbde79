"""Maps of embeddings and of raw weights, and what is near on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas.atlas.columns import colour_columns, default_column
from rnnatlas.atlas.map import LAYOUTS
from rnnatlas.evaluation.features import COMPONENTS
from rnnatlas.report import neighbourhoods
from rnnatlas.report.checks import Checks, find
from rnnatlas.report.claims import Records
from rnnatlas.report.experiment import Results
from rnnatlas.report.plates.base import (
    COLUMN,
    FAINT,
    INK,
    INTERVALS,
    PAGE,
    QUIET,
    Plate,
    colour,
    dot,
    legend,
    marker,
    names,
    panels,
)
from rnnatlas.report.words import name


def maps(results: Results, raw_map: pa.Table | None) -> Plate | None:
    """The map of embeddings beside that of raw weights, by task and by performance."""
    atlas = results.atlas
    if atlas is None:
        return None
    tables = {"embeddings": atlas.table, **({} if raw_map is None else {"raw weights": raw_map})}
    shown = []
    for title, table in tables.items():
        columns = {column["key"]: column for column in colour_columns(table)}
        keys = {default_column([*columns.values()]): results.noun, "metrics.performance": "performance"}
        shown += [(f"{title}, by {of}", table, columns[key]) for key, of in keys.items() if key in columns]
    figure, axes = panels(1, len(shown), PAGE if len(shown) > 2 else COLUMN, PAGE / max(4, len(shown)) + 0.4)
    for ax, (title, table, column) in zip(axes[0], shown, strict=True):
        _map(ax, table, column)
        ax.set_title(title)
    return Plate(
        "maps",
        figure,
        f"{LAYOUTS[atlas.card['layout']]} of the embeddings of {name(atlas.card['encoder'])} (seed "
        f"{atlas.card['seed']}) of all {len(atlas):,} snapshots, and of their raw weights (both biases of a "
        f"gate as one, first {COMPONENTS} principal components). Similar {results.noun}s have similar "
        "colours; snapshots of one RNN have similar weights. The figure “neighbours” says how far each "
        "clusters.",
        "atlas/entries.parquet, and the weights of the same snapshots in the zoo",
    )


def _map(ax: Any, table: pa.Table, column: Mapping[str, Any]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    from rnnatlas.atlas import colours

    x, y = (table[axis].to_numpy() for axis in "xy")
    size = 0.6 if len(x) > 3000 else 1.2 if len(x) > 800 else 3
    order = np.random.default_rng(0).permutation(len(x))
    shared = {"s": size, "linewidths": 0, "rasterized": True}
    if column["kind"] == "category":
        chosen = [FAINT if code is None else column["colors"][code] for code in column["values"]]
        ax.scatter(x[order], y[order], c=[chosen[place] for place in order], **shared)
    else:
        around = column["cyclic"]
        scale = LinearSegmentedColormap.from_list("house", colours.CYCLIC if around else colours.SEQUENTIAL)
        values = np.array([np.nan if value is None else value for value in column["values"]], dtype=float)
        limits = {"vmin": 0, "vmax": 360} if around else {}
        drawn = ax.scatter(
            x[order], y[order], c=values[order], cmap=scale, plotnonfinite=False, **limits, **shared
        )
        bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((0.2, -0.04, 0.6, 0.025)), orientation="horizontal")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=5.5, length=1.5)
    ax.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    ax.spines[:].set_visible(False)


def neighbours(results: Results, checks: Checks) -> Plate | None:
    """How far embeddings and raw weights cluster by task, and have a gradient of performance."""
    split = Records(results.table).unseen
    titles = {one: title.replace("gradient of ", "") for one, title in neighbourhoods.TITLES.items()}
    known = {check.name for check in checks if check.split == split}
    shown = {measure: title for measure, title in titles.items() if measure in known}
    if not shown:
        return None
    encoders = results.encoders
    figure, axes = panels(1, len(shown), PAGE, 0.85 + 0.26 * len(encoders), sharey=True)
    units = {
        neighbourhoods.SAME: "share",
        neighbourhoods.DEGREES: "degrees",
        neighbourhoods.SILHOUETTE: "silhouette",
    }
    for ax, (measure, title) in zip(axes[0], shown.items(), strict=True):
        for down, encoder in enumerate(encoders):
            raw, own = (find(checks, measure, split, encoder, of) for of in ("raw weights", "embedding"))
            dot(ax, down + 0.22, raw, QUIET, quiet=True)
            dot(ax, down - 0.08, own, colour(encoder, encoders))
        chance = find(checks, measure, split, encoders[0], neighbourhoods.CHANCE)
        ax.axvline(0 if chance is None else chance.mean, color=FAINT, linewidth=0.7, linestyle=(0, (1, 1.5)))
        ax.set(title=title, xlabel=units.get(measure, "rank correlation"))
    names(axes[0], encoders)
    legend(figure, {"embedding": marker(INK), "raw weights": marker(QUIET, quiet=True),
                    "chance": {"color": FAINT, "linestyle": (0, (1, 1.5)), "linewidth": 0.7}})  # fmt: skip
    told = "; ".join(f"{titles[one]}: {neighbourhoods.DEFINITIONS[one]}" for one in shown)
    return Plate(
        "neighbours",
        figure,
        f"Near embeddings and near raw weights on {split}. {told[0].upper()}{told[1:]}. {INTERVALS}.",
        f"kind check, split {split}, of embedding, raw weights and chance",
    )
