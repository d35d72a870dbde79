"""The report of an exploration: one HTML file."""

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas._version import __version__
from rnnatlas.atlas.map import colour_columns
from rnnatlas.exploration.explore import DISTANCES, MAP, REPORT, TABLE, Exploration
from rnnatlas.exploration.learned import SOURCES
from rnnatlas.files import write_text
from rnnatlas.intervals import Interval
from rnnatlas.report import charts

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
    write_text(out, render("rnnatlas.exploration", "explore.html", plotly=get_plotlyjs(), **contents(found)))
    return out


def contents(found: Exploration) -> dict[str, Any]:
    """Everything that the template shows."""
    task = found.zoo.task
    assert task is not None, "explore imports RNNs with trials"
    drawn: dict[str, charts.Chart] = {"behaviour": _map(found, found.places)}
    if found.learned is not None:
        from rnnatlas.atlas.layouts import place

        drawn["embedding"] = _map(found, place("tsne", found.learned.z))
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%d %B %Y").lstrip("0"),
        "version": __version__,
        "count": found.rows.num_rows,
        "architectures": Counter(
            str(spec) for slug in found.rows["spec"].to_pylist() for spec in found.zoo.specs if spec.slug == slug
        ),
        "cells": Counter(found.labels["cell"]),
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
        "divergence": found.learned and found.learned.model.divergence.replace("-", " "),
        "emulation": _emulation(found),
        "predicted": [_row(one) for one in found.predicted],
        "sources": {name: text for name, text in SOURCES.items()},
        "files": [name for name in (MAP, TABLE, DISTANCES) if (found.folder / name).is_file()],
        "charts": drawn,
        "scales": charts.SCALES,
        "shown": SHOWN,
    }


def _map(found: Exploration, places: np.ndarray) -> charts.Chart:
    """Places, coloured by groups and by the labels that explain distances best."""
    names = ["group"] if found.groups is not None else []
    names += [one.name for one in found.explained[:PANELS]]
    values: dict[str, Sequence[Any]] = dict(found.labels)
    if found.groups is not None:
        values["group"] = ["none" if of < 0 else f"group {of + 1}" for of in found.groups.of]
    names = names or ["cell"]
    table = pa.table(
        {
            "id": found.rows["id"].to_pylist(),
            "x": places[:, 0],
            "y": places[:, 1],
            **{name: pa.array(values[name]) for name in names},
        }
    )
    columns = {column["key"]: column for column in colour_columns(table)}
    shown = [name for name in names if name in columns]
    return charts.maps(table, [columns[name] for name in shown], [f"by {name}" for name in shown])


def _groups(found: Exploration) -> list[dict[str, Any]]:
    """Each group with its size, labels and members."""
    if found.groups is None:
        return []
    ids = np.array(found.rows["id"].to_pylist())
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
        values = [found.labels[one.name][i] for i in np.flatnonzero(members)]
        values = [value for value in values if value is not None and value == value]
        if not values or one.p > LEVEL:
            continue
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            said.append(f"median {one.name} {np.median(values):.3g}")
        else:
            value, count = Counter(map(str, values)).most_common(1)[0]
            said.append(f"{count} of {len(values)} {one.name} {value}")
    return said


def _odd(found: Exploration) -> list[dict[str, Any]]:
    """RNNs that are unlike nearly all others, the farthest first."""
    ids = found.rows["id"].to_pylist()
    far = np.median(found.distances, axis=1)
    places = sorted(np.flatnonzero(found.odd), key=lambda place: -far[place])
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


def _row(one: Any) -> dict[str, Any]:
    """A label with its scores, and whether something is better than what needs no running of RNNs."""
    return {
        "name": one.name,
        "score": one.score,
        "known": one.known,
        "of": one.of,
        "better": {source: _outcome(gain) for source, gain in one.gain.items()},
    }


def _outcome(gain: Interval) -> str:
    if not np.isfinite(gain.low):
        return "open"
    return "yes" if gain.low > 0 else "no" if gain.high < 0 else "open"


