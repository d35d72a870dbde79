"""An experiment's figures side by side: encoders and controls in rows, splits in columns."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.evaluation.figures import EMULATED, Figure, find, loss_name
from rnnatlas.evaluation.results import costs as costs_of
from rnnatlas.intervals import Interval
from rnnatlas.report import words
from rnnatlas.report.alike import comparable
from rnnatlas.report.experiment import Results

Rows = dict[str, dict[str, Interval]]
"""For each encoder, and for controls that are the same beside all, whose figure it is → the interval."""

SHARED = ("control", "trivial")
"""Groups of rows that belong to no encoder."""

OWN = ("conditioned", "embedding")
"""Whose figures stand for the encoder itself."""


def intervals(figures: Sequence[Figure], name: str, split: str) -> dict[str, Interval]:
    """The intervals of one figure on one split, by whose they are."""
    return {of: figure.interval for of, figure in find(figures, name, split).items()}


def loss_rows(results: Results, name: str, split: str) -> Rows:
    """Emulation losses conditioned on each encoder's embeddings, on fitted and other RNNs', and of z = 0."""
    own = ("conditioned", "fitted", "shuffled")
    return _rows(results, results.losses, name, split, own, "control", ("zero",))


def property_rows(results: Results, name: str, split: str) -> Rows:
    """Scores of embeddings, trained by emulation, end to end and not at all, and of baselines."""
    own = ("embedding", "direction", "supervised", "untrained", "untrained-direction")
    return _rows(results, results.properties, name, split, own, "trivial", TRIVIAL)


def _rows(
    results: Results,
    figures: Mapping[str, Sequence[Figure]],
    name: str,
    split: str,
    own: Sequence[str],
    group: str,
    controls: Sequence[str],
) -> Rows:
    """A row group an encoder; controls that do not depend on the encoder come once, in a group of their own.

    Encoders trained with other seeds or judged on other RNNs each keep theirs.
    """
    rows: Rows = {}
    shared: dict[str, Interval] = {}
    for encoder, of_encoder in figures.items():
        known = intervals(of_encoder, name, split)
        kinds = own if results.shares_controls else (*own, *controls)
        rows[encoder] = {of: known[of] for of in kinds if of in known}
        shared = shared or {of: known[of] for of in controls if of in known}
    return {**rows, group: shared} if results.shares_controls and shared else rows


def panels(results: Results, rows: Callable[..., Rows], name: str) -> dict[str, Rows]:
    """Rows for each split, under a title that says how many RNNs they rest on."""
    titled = {}
    for split in results.splits:
        counts = [runs for runs, _ in _counts([results.losses, results.properties], name, split).values()]
        if counts:
            least, most = min(counts), max(counts)
            number = f"{most} RNNs" if least == most else f"{least} to {most} RNNs, by encoder"
            titled[f"{split} ({number})"] = rows(results, name, split)
    return titled


def _counts(
    groups: Sequence[Mapping[str, Sequence[Figure]]], name: str, split: str
) -> dict[str, tuple[int, int]]:
    """RNNs and snapshots that a figure of each encoder rests on."""
    return {
        encoder: (figure.runs, figure.snapshots)
        for group in groups
        for encoder, figures in group.items()
        for figure in find(figures, name, split).values()
    }


@dataclasses.dataclass(frozen=True)
class AgainstCost:
    """What encoders reach on the main split, and what they cost.

    Attributes:
        split: The split.
        panels: What a figure is → the interval of each encoder.
        costs: What each encoder costs, as `evaluation.results.costs` says it.
    """

    split: str
    panels: dict[str, dict[str, Interval]]
    costs: dict[str, dict[str, float]]


def against_cost(results: Results) -> AgainstCost | None:
    """Loss and task score of encoders that were judged on the same RNNs; None of fewer than two."""
    split, spent = words.headline(results.splits), costs_of(results.table)
    if split is None:
        return None
    compared = [encoder for encoder in comparable(results.table, split)[0] if encoder in spent]
    if len(compared) < 2:
        return None
    score = words.task_score(results.properties)
    kinds = [(results.losses, loss_name(results.divergence), "conditioned", "emulation loss")]
    kinds += [(results.properties, score, "embedding", words.name(score))] if score else []
    panels = {
        title: {
            encoder: found[of]
            for encoder in compared
            if of in (found := intervals(figures.get(encoder, ()), name, split))
        }
        for figures, name, of, title in kinds
    }
    return AgainstCost(split, panels, {encoder: spent[encoder] for encoder in compared})


def costs(results: Results) -> dict[str, str]:
    """What each encoder costs, in a few words."""
    return {encoder: words.cost(costs) for encoder, costs in costs_of(results.table).items()}


def loss_tables(results: Results) -> list[dict[str, Any]]:
    """A table for each emulation loss, the one trained on first."""
    names = dict.fromkeys(figure.name for figures in results.losses.values() for figure in figures)
    return [_table(results, name, loss_rows, results.losses, ("zero", "shuffled")) for name in names]


def property_tables(results: Results) -> list[dict[str, Any]]:
    """A table for each score of each property."""
    names = dict.fromkeys(figure.name for figures in results.properties.values() for figure in figures)
    beaten = (*TRIVIAL, "untrained")
    return [_table(results, name, property_rows, results.properties, beaten) for name in names]


def _table(
    results: Results,
    name: str,
    rows: Callable[..., Rows],
    figures: Mapping[str, Sequence[Figure]],
    beaten: Sequence[str],
) -> dict[str, Any]:
    """Rows for encoders and controls, a column a split; marks what is better than all `beaten`."""
    columns = {split: rows(results, name, split) for split in results.splits}
    named = [figure for of_encoder in figures.values() for figure in of_encoder if figure.name == name]
    definition = _common(named[0].definition)
    lower = named[0].lower_is_better
    counts = {split: _counts([figures], name, split) for split in results.splits}
    common = {split: len(set(known.values())) <= 1 for split, known in counts.items()}

    def cell(split: str, encoder: str, of: str) -> tuple[str, bool, tuple[int, int] | None]:
        """Text, whether it is better, and what it rests on where the head of the table cannot say."""
        if of in OWN and encoder not in counts[split]:
            return "no RNN of this split", False, None
        number = None if common[split] or of not in OWN else counts[split][encoder]
        return *_cell(columns[split], encoder, of, lower, beaten), number

    groups = []
    for encoder in dict.fromkeys(encoder for column in columns.values() for encoder in column):
        kinds = dict.fromkeys(of for column in columns.values() for of in column.get(encoder, {}))
        lines = [(of, [cell(split, encoder, of) for split in results.splits]) for of in kinds]
        groups.append((encoder, lines))
    return {
        "name": name,
        "definition": definition,
        "lower": lower,
        "columns": [
            (split, next(iter(counts[split].values()), (0, 0)) if common[split] else None)
            for split in results.splits
        ],
        "groups": groups,
    }


def _common(definition: str) -> str:
    """What a figure is, without whose figure it is."""
    for emulator in EMULATED.values():
        definition = definition.removesuffix(f", of {emulator}")
    return definition.partition(", of a predictor")[0]


def _cell(rows: Rows, encoder: str, of: str, lower: bool | None, beaten: Sequence[str]) -> tuple[str, bool]:
    """A figure for people, and whether it is better than everything that it must beat."""
    interval = rows.get(encoder, {}).get(of)
    if interval is None:
        return "–", False
    if lower is None or of not in OWN:
        return str(interval), False
    groups = [rows[encoder], *(rows.get(group, {}) for group in SHARED)]
    controls = [
        control
        for group in groups
        for other, control in group.items()
        if other in beaten and np.isfinite(control.mean)
    ]
    better = all(words.compare(interval, control, lower) == "yes" for control in controls)
    return str(interval), bool(controls) and better
