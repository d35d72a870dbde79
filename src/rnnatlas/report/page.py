"""The report of an experiment: one HTML file with everything in it, computed from its folder."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from rnnatlas._version import __version__
from rnnatlas.atlas import colours
from rnnatlas.atlas.map import colour_columns, default_column
from rnnatlas.evaluation.features import DEFINITIONS
from rnnatlas.evaluation.figures import EMULATED, PARTS, find, loss_name
from rnnatlas.evaluation.roles import clusters
from rnnatlas.files import write_text
from rnnatlas.intervals import Interval, correlation
from rnnatlas.report import charts, claims, comparison, words
from rnnatlas.report.diagnostics import degrees_apart, examples, same_task
from rnnatlas.report.experiment import Experiment, Results
from rnnatlas.report.interview import interview
from rnnatlas.tasks.base import Task

SHOWN = 4
"""RNNs whose neighbours are shown."""

MAIN_SCORES = (
    "angle loss",
    "performance correlation within step",
    "generalisation_gap correlation within step",
    "step accuracy",
)
"""Scores whose tables are shown at once, after that of the task."""


def write_report(folder: Path | str) -> Path:
    """Writes report.html of the experiment in a folder, and results.parquet and results.json beside it.

    Args:
        folder: Holds experiment.json (see `Experiment`) and what that names.

    Returns:
        Path of the report.

    Raises:
        RunFormatError: There is no experiment, or one of its runs has not been evaluated.
    """
    from plotly.offline import get_plotlyjs

    from rnnatlas.atlas.pages import render

    folder = Path(folder)
    results = Results(folder, Experiment.load(folder))
    results.save()
    out = folder / "report.html"
    write_text(out, render("rnnatlas.report", "report.html", plotly=get_plotlyjs(), **contents(results)))
    return out


def contents(results: Results) -> dict[str, Any]:
    """Everything that the report's template shows."""
    headline = words.headline(results.splits)
    noun = results.noun
    made = {
        "losses": _loss_chart(results),
        "curves": charts.learning_curves(
            {encoder: results.histories(encoder) for encoder in results.encoders},
            results.divergence.replace("-", " "),
        ),
    }
    about = _about(results)
    counts = {own: (runs, tasks) for own, runs, _, tasks in about["splits"]}
    probing = interview(results, made)
    atlas = _atlas(results, made)
    if any(results.emulated.values()):
        made["emulated"] = charts.emulated(results.emulated)
    score = words.task_score(results.properties)
    if score is not None:
        made["task"] = _property_chart(results, score)
    loss_tables, property_tables = comparison.loss_tables(results), comparison.property_tables(results)
    return {
        "experiment": results.experiment,
        "about": about,
        "headline": headline and words.split_name(headline, noun),
        "headline_split": headline,
        "findings": _findings(results, headline) if headline else [],
        "ranking": _ranking(results, headline) if headline else [],
        "elsewhere": [
            (words.split_name(other, noun), *counts[other], _findings(results, other))
            for other in results.splits
            if other != headline
        ],
        "divergence": results.divergence.replace("-", " "),
        "seeds": max(len(own) for own in results.experiment.runs.values()),
        "loss_tables": _main_first(loss_tables, _main_losses(results)),
        "property_tables": _main_first(property_tables, [score, *MAIN_SCORES]),
        "task_score": score,
        "claims": claims.claims(results.table, about["task"]),
        "orders": claims.orders(results.table, about["task"]),
        "correlations": _correlations(results, headline) if headline else None,
        "probing": probing,
        "atlas": atlas,
        "writing": atlas is not None and any(one["entry"]["samples"] for one in atlas["examples"]),
        "definitions": {**EMULATED, **DEFINITIONS},
        "costs": comparison.costs(results),
        "name": words.name,
        "capital": words.capital,
        "colour": lambda encoder: colours.encoder_colour(encoder, results.encoders),
        "charts": made,
    }


# --- what was done ---------------------------------------------------------------------------------


def _about(results: Results) -> dict[str, Any]:
    zoo = results.zoo
    table = zoo.table
    spec = zoo.specs[0]
    tasks = {
        split: len(
            {
                str(task)
                for task, own in zip(table["task"].to_pylist(), table["split"].to_pylist(), strict=True)
                if own == split
            }
        )
        for split in ("train", *results.splits)
    }
    splits = np.asarray(table["split"].to_pylist())
    runs = table["run"].to_numpy()
    settings = next(iter(next(iter(results.models.values())).values())).settings
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%d %B %Y").lstrip("0"),
        "version": __version__,
        "torch": torch.__version__,
        "task": settings.task.name,
        "noun": results.noun,
        "reads": zoo.task.reads if zoo.task else Task.reads,
        "performs": zoo.task.performs if zoo.task else Task.performs,
        "spec": str(spec),
        "parameters": spec.parameters,
        "runs": len(np.unique(runs)),
        "snapshots": len(zoo),
        "steps": sorted(set(table["step"].to_pylist())),
        "zoo_seed": zoo.card["seed"],
        "splits": [
            (split, len(np.unique(runs[splits == split])), int((splits == split).sum()), tasks[split])
            for split in tasks
        ],
        "emulation": settings.emulation,
        "compared": sum(encoder != words.CUT for encoder in results.encoders),
        "encoders": [
            (
                words.name(encoder),
                sum(weight.numel() for weight in next(iter(own.values())).encoder.parameters()),
                sorted(own),
            )
            for encoder, own in results.models.items()
        ],
    }


# --- findings --------------------------------------------------------------------------------------


def _findings(results: Results, split: str) -> list[tuple[str, list[words.Finding]]]:
    """Findings under the question that they answer."""
    emulated = words.emulation(results.losses, results.divergence, split, _differences(results, split))
    score = words.task_score(results.properties)
    predicted = words.prediction(results.properties, split, score) if score else []
    return [("Does the embedding help to imitate the RNN?", emulated)] + (
        [(f"Does the frozen embedding tell which {results.noun} the RNN learned?", predicted)]
        if predicted
        else []
    )


def _ranking(results: Results, split: str) -> list[str]:
    if len(results.encoders) < 2:
        return []
    if min(map(len, results.experiment.runs.values())) < words.ENOUGH_SEEDS:
        return [f"Fewer than {words.ENOUGH_SEEDS} seeds: not ranked."]
    losses = {
        encoder: comparison.intervals(own, loss_name(results.divergence), split)["conditioned"]
        for encoder, own in results.losses.items()
    }
    sentences, score = words.ranking(losses, "emulation loss"), words.task_score(results.properties)
    told = {
        encoder: found["embedding"]
        for encoder, own in results.properties.items()
        if score and "embedding" in (found := find(own, score, split))
    }
    if score and told:
        lower = bool(next(iter(told.values())).lower_is_better)
        intervals = {encoder: figure.interval for encoder, figure in told.items()}
        sentences += words.ranking(intervals, words.name(score), lower)
    return sentences


def _differences(results: Results, split: str) -> dict[str, Interval]:
    """For each encoder its emulation loss less that of z = 0."""
    records, name = claims.Records(results.table), loss_name(results.divergence)
    found = {one: records.less(name, split, (one, "conditioned"), (one, "zero")) for one in results.encoders}
    return {one: less for one, less in found.items() if less is not None}


def _loss_chart(results: Results) -> charts.Chart:
    name = loss_name(results.divergence)
    return charts.dots(
        comparison.panels(results, comparison.loss_rows, name), results.divergence.replace("-", " ")
    )


def _property_chart(results: Results, score: str) -> charts.Chart:
    panels = comparison.panels(results, comparison.property_rows, score)
    return charts.dots(panels, words.name(score), start_at_zero=True)


def _main_losses(results: Results) -> list[str]:
    """The loss that was trained on, and what it is on each kind of rollout."""
    name = loss_name(results.divergence)
    kinds = [loss_name(results.divergence, part) for part in PARTS if part != "unmasked"]
    return [name, *kinds]


def _main_first(
    tables: Sequence[dict[str, Any]], main: Sequence[str | None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The tables that are shown at once, in the order of `main`, and the others."""
    found = {table["name"]: table for table in tables}
    return [found[name] for name in main if name in found], [t for t in tables if t["name"] not in main]


def _correlations(results: Results, split: str) -> dict[str, Any]:
    """Correlations of original and emulated performance within training steps, over all seeds."""
    found, runs, snapshots = {}, 0, 0
    for encoder, tables in results.emulated.items():
        chosen = [table.filter(pc.field("split") == split) for table in tables]
        if not chosen or chosen[0].num_rows == 0:
            continue
        steps, together = chosen[0]["step"].to_numpy(), clusters(chosen[0])
        for told, title in (("emulated", words.name(encoder)), ("zero", words.name("zero"))):
            if told in chosen[0].column_names and title not in found:  # z = 0 is the same beside all encoders
                x, y = (np.stack([own[name].to_numpy() for own in chosen]) for name in (told, "original"))
                found[title] = correlation(x, y, together, within=steps)
        runs, snapshots = len(chosen[0]["run"].unique()), len(steps)
    return {
        "split": words.split_name(split, results.noun),
        "intervals": found,
        "runs": runs,
        "snapshots": snapshots,
    }


# --- single RNNs -------------------------------------------------------------------------------------


def _atlas(results: Results, made: dict[str, charts.Chart]) -> dict[str, Any] | None:
    atlas = results.atlas
    if atlas is None:
        return None
    columns = {column["key"]: column for column in colour_columns(atlas.table)}
    shown = {
        default_column(
            [*columns.values()]
        ): f"coloured by {results.noun}: near {results.noun}s, near colours",
        "metrics.performance": "coloured by performance",
    }
    shown = {key: title for key, title in shown.items() if key in columns}
    made["map"] = charts.maps(atlas.table, [columns[key] for key in shown], list(shown.values()))
    apart = {split: degrees_apart(atlas, split) for split in results.splits}
    degrees = any(apart.values())
    held_out = apart if degrees else {split: same_task(atlas, split) for split in results.splits}
    return {
        "card": atlas.card,
        "entries": len(atlas),
        "examples": examples(atlas, SHOWN),
        "same": {split: found for split, found in held_out.items() if found},
        "degrees": degrees,
    }
