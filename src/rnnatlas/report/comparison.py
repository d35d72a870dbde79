"""An experiment's figures side by side: encoders and controls in rows, splits in columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.evaluation.figures import Figure, find
from rnnatlas.evaluation.results import costs as costs_of
from rnnatlas.intervals import Interval
from rnnatlas.report import words
from rnnatlas.report.experiment import Results


def intervals(figures: Sequence[Figure], name: str, split: str) -> dict[str, Interval]:
    """The intervals of one figure on one split, by whose they are."""
    return {of: figure.interval for of, figure in find(figures, name, split).items()}


def loss_rows(results: Results, name: str, split: str) -> dict[str, dict[str, Interval]]:
    """Emulation losses of every encoder, told its own and others' embeddings, and of z = 0."""
    return _rows(results, results.losses, name, split, ("conditioned", "shuffled"), "control", ("zero",))


def property_rows(results: Results, name: str, split: str) -> dict[str, dict[str, Interval]]:
    """Scores of embeddings, trained by emulation, end to end and not at all, and of trivial predictors."""
    return _rows(
        results, results.properties, name, split, ("embedding", "supervised", "untrained"), "trivial", TRIVIAL
    )


def _rows(
    results: Results,
    figures: Mapping[str, Sequence[Figure]],
    name: str,
    split: str,
    own: Sequence[str],
    group: str,
    controls: Sequence[str],
) -> dict[str, dict[str, Interval]]:
    """A row group an encoder; controls that do not depend on the encoder come once, in a group of their own.

    They depend on the seeds, so encoders trained with other seeds each keep theirs.
    """
    rows: dict[str, dict[str, Interval]] = {}
    shared: dict[str, Interval] = {}
    together = len({tuple(sorted(runs)) for runs in results.experiment.runs.values()}) == 1
    for encoder, every in figures.items():
        found = intervals(every, name, split)
        kinds = own if together else (*own, *controls)
        rows[encoder] = {of: found[of] for of in kinds if of in found}
        shared = shared or {of: found[of] for of in controls if of in found}
    return {**rows, group: shared} if together and shared else rows


def panels(results: Results, rows: Any, name: str) -> dict[str, Any]:
    """Rows for each split, under a title that says how many RNNs they rest on."""
    figures = [*next(iter(results.losses.values())), *next(iter(results.properties.values()))]
    counts = {figure.split: figure.runs for figure in figures if figure.name == name}
    return {f"{split} ({counts[split]} RNNs)": rows(results, name, split) for split in counts}


def costs(results: Results) -> dict[str, str]:
    """What each encoder costs, in a few words."""
    return {encoder: words.cost(own) for encoder, own in costs_of(results.table).items()}


def loss_tables(results: Results) -> list[dict[str, Any]]:
    """A table for each emulation loss, the one trained on first."""
    names = dict.fromkeys(figure.name for own in results.losses.values() for figure in own)
    return [_table(results, name, loss_rows, results.losses, ("zero", "shuffled")) for name in names]


def property_tables(results: Results) -> list[dict[str, Any]]:
    """A table for each score of each property."""
    names = dict.fromkeys(figure.name for own in results.properties.values() for figure in own)
    beaten = (*TRIVIAL, "untrained")
    return [_table(results, name, property_rows, results.properties, beaten) for name in names]


def _table(results: Results, name: str, rows: Any, figures: Any, beaten: Sequence[str]) -> dict[str, Any]:
    """Rows for encoders and controls, a column a split; marks what is clearly better than all `beaten`."""
    columns = {split: rows(results, name, split) for split in results.splits}
    every = [figure for own in figures.values() for figure in own if figure.name == name]
    definition = every[0].definition.partition(", given ")[0].partition(", of a predictor")[0]
    lower = every[0].lower_is_better
    groups = []
    for encoder in next(iter(columns.values())):
        lines = []
        for kind in dict.fromkeys(of for own in columns.values() for of in own.get(encoder, {})):
            cells = [_cell(columns[split], encoder, kind, lower, beaten) for split in results.splits]
            lines.append((kind, cells))
        groups.append((encoder, lines))
    counts = {figure.split: (figure.runs, figure.snapshots) for figure in every}
    return {
        "name": name,
        "definition": definition,
        "lower": lower,
        "columns": [(split, *counts.get(split, (0, 0))) for split in results.splits],
        "groups": groups,
    }


def _cell(rows: Any, encoder: str, kind: str, lower: bool | None, beaten: Sequence[str]) -> tuple[str, bool]:
    interval = rows.get(encoder, {}).get(kind)
    if interval is None:
        return "–", False
    if lower is None or kind not in ("conditioned", "embedding"):
        return str(interval), False
    beside = [*rows[encoder].items(), *rows.get("control", {}).items(), *rows.get("trivial", {}).items()]
    controls = [own for of, own in beside if of in beaten and np.isfinite(own.mean)]
    return str(interval), bool(controls) and all(
        words.compare(interval, own, lower) == "yes" for own in controls
    )
