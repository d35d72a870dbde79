"""Ablations: emulation against the number and length of probing sequences, and the divergence trained on."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rnnatlas.atlas import colours
from rnnatlas.emulation.model import read_settings
from rnnatlas.evaluation.emulations import reported
from rnnatlas.evaluation.evaluate import LOSSES, PREDICTIONS, PREDICTORS, read
from rnnatlas.evaluation.figures import loss_figures, loss_name, property_figures
from rnnatlas.evaluation.pairs import Tables, comparisons
from rnnatlas.evaluation.results import interval, record
from rnnatlas.intervals import Interval
from rnnatlas.report import charts, words
from rnnatlas.report.checks import Check, Checks, find
from rnnatlas.report.comparison import OWN
from rnnatlas.report.experiment import Results

SYMBOLS = {"sequences": "M", "steps": "L"}
TITLES = {
    "sequences": "number of probing sequences, M",
    "steps": "length of probing sequences, L",
    "divergence": "divergence trained on",
}


class Compared:
    """Runs that differ from the experiment's own in one setting, and how they are compared with these.

    Attributes:
        values: Setting and encoder → the setting's value → seed → run; the experiment's own value first, and
            others where all of their runs are evaluated.
        splits: OOD and unseen tasks, neither of which chose checkpoints; the first counts most.
        measures: Names and whose figures they are: losses that all runs have, and the score of the task.
    """

    def __init__(self, results: Results):
        self._results = results
        self.values: dict[tuple[str, str], dict[str, Mapping[int, str]]] = {}
        for setting, of_setting in results.experiment.ablations.items():
            for value, encoders in of_setting.items():
                for encoder, runs in encoders.items():
                    if all((results.folder / run / PREDICTORS).is_file() for run in runs.values()):
                        own = {self._own(setting, encoder): results.experiment.runs[encoder]}
                        self.values.setdefault((setting, encoder), own)[value] = runs
        self.splits = [one for one in ("ood", "test") if one in results.splits] or results.splits[:1]

    @functools.cached_property
    def measures(self) -> list[tuple[str, str]]:
        """See the class."""
        model = next(iter(next(iter(self._results.models.values())).values()))
        losses = [(loss_name(one), OWN[0]) for one in reported(model.task.interface.output)]
        score = words.task_score(self._results.properties)
        return losses if score is None else [*losses, (score, OWN[1])]

    def own(self, setting: str, encoder: str) -> str:
        """The value of the experiment itself."""
        return next(iter(self.values[setting, encoder]))

    def _own(self, setting: str, encoder: str) -> str:
        run = read_settings(
            self._results.folder / next(iter(self._results.experiment.runs[encoder].values()))
        )
        if setting in run.encoder_settings:
            return str(run.encoder_settings[setting])
        last, first = run.emulation.divergence, run.emulation.first_divergence
        return (
            f"{last} after {first}" if run.emulation.first_steps and first not in (None, last) else f"{last}"
        )

    def figures(
        self, checks: Checks, measure: tuple[str, str], split: str, setting: str, encoder: str
    ) -> dict[str, tuple[Interval | None, Interval | None]]:
        """By value a figure, and its paired difference from that with the experiment's own value."""
        (name, of), own = measure, (f"{encoder}, {setting} {self.own(setting, encoder)}", measure[1])
        ordered = sorted(
            self.values[setting, encoder], key=lambda value: int(value) if setting in SYMBOLS else 0
        )
        known = {value: (f"{name}, {setting} {value}", split, encoder, of) for value in ordered}
        return {value: (find(checks, *one), find(checks, *one, own)) for value, one in known.items()}

    def tables(self, runs: Mapping[int, str]) -> Tables:
        """What is compared of some runs."""
        of_splits = ("split", "in", self.splits)
        divergences = [name.partition(", ")[2] for name, of in self.measures if of == OWN[0]]
        prop = (words.task_score(self._results.properties) or "").partition(" ")[0]
        asked: Mapping[str, list[tuple[str, str, Any]]] = {
            LOSSES: [of_splits, ("divergence", "in", divergences)],
            PREDICTIONS: [of_splits, ("property", "==", prop), ("predictor", "==", OWN[1])],
        }
        folders = [self._results.folder / run for run in runs.values()]
        lost, predicted = ([read(one / file, rows) for one in folders] for file, rows in asked.items())
        kept = ["id", "split", "run", "step", "task", "divergence", OWN[0]]
        return [table.select(kept) for table in lost], predicted


def checks(results: Results) -> Iterator[Check]:
    """Figures with every value, and paired differences from those with the experiment's own."""
    compared = Compared(results)
    for (setting, encoder), values in compared.values.items():
        tables = {value: compared.tables(runs) for value, runs in values.items()}
        counted = next(iter(results.models[encoder].values())).task.counted
        own = compared.own(setting, encoder)
        for value, (lost, predicted) in tables.items():
            figures = [*loss_figures(lost, counted), *property_figures(predicted)]
            rows = [record(figure, {"seeds": [*values[value]], "versus": None}) for figure in figures]
            if value != own:
                pair = {one: tables[one] for one in (value, own)}
                rows += comparisons({one: values[one] for one in pair}, pair)
            for row in rows:
                if row["kind"] == "ratio" or (row["name"], row["of"]) not in compared.measures:
                    continue
                versus = (f"{encoder}, {setting} {own}", row["of"]) if row["versus"] else None
                yield Check(name=f"{row['name']}, {setting} {value}", split=row["split"], encoder=encoder,
                            of=row["of"], versus=versus, seeds=tuple(row["seeds"]), interval=interval(row),
                            runs=row["n_runs"], snapshots=row["n_snapshots"],
                            definition=row["definition"], lower_is_better=row["lower_is_better"])  # fmt: skip


# --- in the report -----------------------------------------------------------------------------------


def text(setting: str, value: str) -> str:
    """A value for people."""
    if setting in SYMBOLS:
        return f"{SYMBOLS[setting]} = {value}"
    return ", then ".join(map(words.divergence_name, reversed(value.split(" after "))))


def title(measure: str) -> str:
    """A loss or score for people."""
    _, loss, divergence = measure.partition("emulation loss, ")
    return words.divergence_name(divergence) if loss else words.name(measure)


def section(results: Results, checks: Checks) -> dict[str, Any] | None:
    """What the report's template shows; None without ablations."""
    compared = Compared(results)
    if not compared.values:
        return None
    first, *others = compared.measures
    columns = [(first, split) for split in compared.splits]
    columns += [(one, compared.splits[0]) for one in others]
    groups = []
    for setting, encoder in compared.values:
        found = [compared.figures(checks, *column, setting, encoder) for column in columns]
        rows = [(text(setting, value), value == compared.own(setting, encoder), [of[value] for of in found])
                for value in found[0]]  # fmt: skip
        groups.append((TITLES[setting], encoder, rows))
    return {
        "head": [(title(name), split) for (name, _), split in columns],
        "groups": groups,
        "split": words.split_name(compared.splits[0], results.noun),
        "sentences": sentences(compared, checks),
        "encoders": list(dict.fromkeys(encoder for _, encoder in compared.values)),
        "chart": chart(compared, checks, results.encoders),
    }


def sentences(compared: Compared, checks: Checks) -> list[str]:
    """With which values the loss on the first split is lower or higher than with the experiment's own."""
    found: dict[str, list[str]] = {}
    for (setting, encoder), values in compared.values.items():
        if min(map(len, values.values())) < words.ENOUGH_SEEDS:
            return [f"With fewer than {words.ENOUGH_SEEDS} seeds, settings are not compared."]
        outcomes: dict[str, list[str]] = {"lower": [], "higher": [], "open": []}
        figures = compared.figures(checks, compared.measures[0], compared.splits[0], setting, encoder)
        for value, (_, gap) in figures.items():
            if gap is not None:
                outcome = "lower" if gap.high < 0 else "higher" if gap.low > 0 else "open"
                outcomes[outcome].append(text(setting, value))
        parts = [f"{outcome} with {words.listed(some, ', ')}" for outcome, some in outcomes.items() if some]
        own = text(setting, compared.own(setting, encoder))
        found.setdefault(f"Compared with {own}: {'; '.join(parts)}", []).append(words.name(encoder))
    return [f"{what} ({words.listed(who, ', ')})." for what, who in found.items()]


Point = tuple[int, float, Interval, bool]
"""A value, where it stands (beside those of other encoders), the loss, and whether it is the own value."""


def curves(compared: Compared, checks: Checks, setting: str, split: str) -> dict[str, list[Point]]:
    """Losses of each encoder against a setting."""
    encoders = [encoder for one, encoder in compared.values if one == setting]
    found = {}
    for place, encoder in enumerate(encoders):
        figures = compared.figures(checks, compared.measures[0], split, setting, encoder)
        aside, own = 1.02 ** (2 * place - len(encoders) + 1), compared.own(setting, encoder)
        found[encoder] = [(int(value), int(value) * aside, loss, value == own)
                          for value, (loss, _) in figures.items() if loss is not None]  # fmt: skip
    return found


def chart(compared: Compared, checks: Checks, encoders: Sequence[str]) -> charts.Chart | None:
    """Losses against number and length of probing sequences: a column a setting, a row a split."""
    settings = [one for one in SYMBOLS if any(setting == one for setting, _ in compared.values)]
    if not settings:
        return None
    titles = [split for split in compared.splits for _ in settings]
    figure = charts.canvas(
        len(compared.splits), len(settings), titles, height=220, narrowest=260, shared=False
    )
    highest = 0.0
    for row, split in enumerate(compared.splits, start=1):
        for column, setting in enumerate(settings, start=1):
            drawn, panel = curves(compared, checks, setting, split), {"row": row, "col": column}
            for encoder, points in drawn.items():
                colour = colours.encoder_colour(encoder, encoders)
                ends = np.array([(loss.mean, loss.low, loss.high) for _, _, loss, _ in points])
                highest = max(highest, float(np.nanmax(ends)))
                below, above = (np.nan_to_num(np.abs(end - ends[:, 0])).tolist() for end in ends.T[1:])
                figure.add_scatter(
                    x=[x for _, x, _, _ in points],
                    y=ends[:, 0].tolist(),
                    error_y={"array": above, "arrayminus": below, "width": 0, "thickness": 1.6},
                    mode="lines+markers",
                    line={"color": colour, "width": 2},
                    marker={
                        "size": 9,
                        "color": ["var(--paper)" if own else colour for *_, own in points],
                        "line": {"color": colour, "width": 2},
                    },
                    text=[
                        f"{words.name(encoder)}, {text(setting, str(value))}: {loss}"
                        for value, _, loss, _ in points
                    ],
                    hovertemplate="%{text}<extra></extra>",
                    **panel,
                )
            ticks = sorted({value for points in drawn.values() for value, *_ in points})
            ends = [np.log10(ticks[0]) - 0.06, np.log10(ticks[-1]) + 0.06]
            figure.update_xaxes(type="log", range=ends, tickvals=ticks, ticktext=[*map(str, ticks)],
                                title_text=TITLES[setting], **panel)  # fmt: skip
    figure.update_yaxes(range=[0, 1.08 * highest])
    figure.update_yaxes(title_text=title(compared.measures[0][0]), col=1)
    return charts.finished(figure)
