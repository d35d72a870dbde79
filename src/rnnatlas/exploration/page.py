"""The report of an exploration: one HTML file."""

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas._version import __version__
from rnnatlas.atlas.columns import colour_columns
from rnnatlas.exploration.found import DISTANCES, MAP, REPORT, TABLE, Exploration
from rnnatlas.exploration.learned import SOURCES, Predicted
from rnnatlas.exploration.structure import are_numbers, is_known
from rnnatlas.files import write_text
from rnnatlas.report import charts
from rnnatlas.report.words import divergence_name

SHOWN = 12
"""RNNs of a list that are named."""
PANELS = 3
"""Labels by which the map is coloured, besides groups."""
LEVEL = 0.05


def write_report(found: Exploration) -> Path:
    """Writes report.html of an exploration and gives its path."""
    from plotly.offline import get_plotlyjs

    from rnnatlas.atlas.pages import render

    out = found.folder / REPORT
    shown = contents(found)
    write_text(
        out,
        render("rnnatlas.exploration", "explore.html", ["rnnatlas.report"], plotly=get_plotlyjs(), **shown),
    )
    return out


def contents(found: Exploration) -> dict[str, Any]:
    """Everything that the template shows."""
    task = found.zoo.task
    assert task is not None, "explore imports RNNs with trials"
    columns, titles = _columns(found), {spec.slug: str(spec) for spec in found.zoo.specs}
    specs = found.zoo.table["spec"].to_pylist()
    drawn: dict[str, charts.Chart] = {"behaviour": _map(found, found.places, columns)}
    if found.learned is not None:
        drawn["embedding"] = _map(found, found.learned.xy, columns)
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%d %B %Y").lstrip("0"),
        "version": __version__,
        "count": found.rows.num_rows,
        "architectures": Counter(titles[specs[row]] for own in found.members for row in own),
        "cells": Counter(filter(None, found.labels["cell"])),
        "trials": found.behaviour.trials,
        "time": task.time,
        "counted": task.counted,
        "reads": task.reads,
        "groups": _groups(found),
        "grouping": found.groups,
        "odd": _odd(found),
        "explained": found.explained,
        "level": LEVEL,
        "left_out": found.left_out,
        "remarks": found.remarks,
        "seconds": found.seconds,
        "learned": found.learned,
        "divergence": found.learned and divergence_name(found.learned.model.divergence),
        "emulation": _emulation(found),
        "predicted": [_row(one) for one in found.predicted],
        "sources": SOURCES,
        "files": [name for name in (MAP, TABLE, DISTANCES) if (found.folder / name).is_file()],
        "charts": drawn,
        "legends": {
            name: list(zip(column["colors"], column["categories"], strict=True))
            for name, column in columns.items()
            if column["kind"] == "category" and len(column["categories"]) <= SHOWN
        },
        "scales": charts.SCALES,
        "shown": SHOWN,
    }


def _columns(found: Exploration) -> dict[str, dict[str, Any]]:
    """What maps are coloured by: groups, and the labels that explain distances best."""
    names = [one.name for one in found.explained[:PANELS]] or ["cell"]
    values: dict[str, Sequence[Any]] = {name: found.labels[name] for name in names}
    if found.groups is not None:
        of = [None if of < 0 else f"group {of + 1}" for of in found.groups.of]
        values = {"group": of, **values}
    table = pa.table({"id": found.names, **{name: pa.array(one) for name, one in values.items()}})
    known = {column["key"]: column for column in colour_columns(table)}
    return {name: known[name] for name in values if name in known}


def _map(found: Exploration, places: np.ndarray, columns: dict[str, dict[str, Any]]) -> charts.Chart:
    """RNNs at their places, once for each column."""
    table = pa.table({"id": found.names, "x": places[:, 0], "y": places[:, 1]})
    return charts.maps(table, list(columns.values()), [f"by {name}" for name in columns])


def _groups(found: Exploration) -> list[dict[str, Any]]:
    """Each group with its size, labels and members."""
    if found.groups is None:
        return []
    ids = np.array(found.names)
    return [
        {
            "number": number + 1,
            "size": int(members.sum()),
            "about": _about(found, members),
            "ids": ids[members][:SHOWN].tolist(),
        }
        for number in range(found.groups.count)
        for members in [found.groups.of == number]
    ]


def _about(found: Exploration, members: np.ndarray) -> list[str]:
    """What labels say of a group: the most frequent class with its share, or the median of numbers."""
    said = []
    for one in found.explained:
        values = [found.labels[one.name][i] for i in np.flatnonzero(members).tolist()]
        values = list(filter(is_known, values))
        if not values or one.p > LEVEL:
            continue
        if are_numbers(values):
            said.append(f"median {one.name} {np.median(values):.3g}")
        else:
            value, count = Counter(map(str, values)).most_common(1)[0]
            said.append(f"{count} of {len(values)} {one.name} {value}")
    return said


def _odd(found: Exploration) -> list[dict[str, Any]]:
    """RNNs that are unlike nearly all others, the farthest first."""
    ids = found.names
    far = np.median(found.distances, axis=1)
    places = sorted(np.flatnonzero(found.odd).tolist(), key=lambda place: -far[place])
    return [
        {"id": ids[place], "times": far[place] / np.median(far), "labels": _labels_of(found, place)}
        for place in places
    ]


def _labels_of(found: Exploration, place: int) -> str:
    known = [(one.name, found.labels[one.name][place]) for one in found.explained[:4]]
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in known
        if value is not None
    )


def _emulation(found: Exploration) -> list[dict[str, Any]]:
    """Losses on held-out RNNs, and whether the embedding helps."""
    if found.learned is None:
        return []
    rows = []
    for split, of in found.learned.emulation.items():
        own = of["conditioned"]
        others = [interval for name, interval in of.items() if name != "conditioned"]
        helps = "yes" if all(own.high < other.low for other in others) else "open"
        rows.append({"split": split, "of": of, "helps": helps, "runs": own.n})
    return rows


def _row(one: Predicted) -> dict[str, Any]:
    """A label with its scores, and which are better than what needs no running of RNNs."""
    better = [source for source, gain in one.gain.items() if gain.low > 0]
    return {"name": one.name, "score": one.score, "known": one.known, "of": one.of, "better": better}
