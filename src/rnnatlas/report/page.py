"""The report of an experiment: one HTML file with everything in it, computed from its folder."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from rnnatlas._version import __version__
from rnnatlas.atlas import colours
from rnnatlas.atlas.columns import colour_columns, default_column
from rnnatlas.atlas.map import LAYOUTS
from rnnatlas.evaluation.features import DEFINITIONS
from rnnatlas.evaluation.figures import EMULATED, PARTS, loss_name
from rnnatlas.files import write_text
from rnnatlas.report import (
    ablations,
    charts,
    claims,
    comparison,
    evenness,
    findings,
    neighbourhoods,
    performance,
    plates,
    stability,
    words,
)
from rnnatlas.report.check_tables import all_checks, tables
from rnnatlas.report.checks import Checks, as_table
from rnnatlas.report.diagnostics import examples
from rnnatlas.report.experiment import Experiment, Results
from rnnatlas.report.interview import interview
from rnnatlas.report.published import PUBLISHED
from rnnatlas.tasks.base import Task

SHOWN = 4
"""RNNs whose neighbours are shown."""

MAIN_SCORES = (
    "angle loss",
    "performance correlation within step",
    "generalisation_gap correlation within step",
    "step accuracy",
    "step R² of log step",
)
"""Scores whose tables are shown at once, after that of the task."""

FILES = ("results.parquet", "results.json", "experiment.json")
"""What the report links to, where the experiment's folder has it, besides the map."""


def write_report(folder: Path | str, prints: bool = True) -> Path:
    """Writes report.html of the experiment in a folder, and results.parquet and results.json beside it.

    Args:
        folder: Holds experiment.json (see `Experiment`) and what that names.
        prints: Whether to draw the figures for print, too, in the folder `figures`.

    Returns:
        Path of the report.

    Raises:
        RunFormatError: There is no experiment, or one of its runs has not been evaluated.
    """
    from plotly.offline import get_plotlyjs

    from rnnatlas.atlas.pages import render

    folder = Path(folder)
    results = Results(folder, Experiment.load(folder))
    checks, raw_map = all_checks(results), neighbourhoods.map_of_raw_weights(results)
    results.save(as_table(checks))
    drawn = plates.write(results, checks, raw_map) if prints else []
    out = folder / "report.html"
    shown = contents(results, checks, raw_map, drawn)
    write_text(out, render("rnnatlas.report", "report.html", plotly=get_plotlyjs(), **shown))
    return out


def contents(
    results: Results,
    checks: Checks = (),
    raw_map: pa.Table | None = None,
    printed: Sequence[plates.Plate] = (),
) -> dict[str, Any]:
    """Everything that the report's template shows.

    Args:
        results: The experiment's.
        checks: Figures that only the report has.
        raw_map: Entries of the atlas placed by their raw weights.
        printed: Figures for print.
    """
    headline = words.headline(results.splits)
    about = _about(results)
    drawn = _charts(results)
    probing = interview(results, drawn)
    atlas = _atlas(results, drawn, raw_map)
    ablated = ablations.section(results, checks)
    if ablated is not None and ablated["chart"] is not None:
        drawn["ablations"] = ablated["chart"]
    score = words.task_score(results.properties)
    return {
        "experiment": results.experiment,
        "files": _files(results),
        "about": about,
        "headline": headline and words.split_name(headline, results.noun),
        "headline_split": headline,
        "summary": findings.summary(results, headline) if headline else [],
        "summary_table": findings.table(results, headline) if headline else None,
        "findings": findings.of_split(results, headline) if headline else [],
        "ranking": findings.ranking(results, headline) if headline else [],
        "elsewhere": _elsewhere(results, headline, about),
        "divergence": words.divergence_name(results.divergence),
        "seeds": max(len(runs) for runs in results.experiment.runs.values()),
        "loss_tables": _main_first(comparison.loss_tables(results), _main_losses(results)),
        "property_tables": _main_first(comparison.property_tables(results), [score, *MAIN_SCORES]),
        "task_score": score,
        "claims": _claims(results, checks, about["task"]),
        "trained_from": results.trained_from,
        "fitted": results.fitted,
        "checks": tables(results, checks),
        "plates": printed,
        "published_tasks": list(PUBLISHED),
        "orders": claims.orders(results.table, about["task"]),
        "correlations": findings.correlations(results, headline) if headline else None,
        "probing": probing,
        "ablations": ablated,
        "atlas": atlas,
        "writing": atlas is not None and any(shown["entry"]["samples"] for shown in atlas["examples"]),
        "definitions": _definitions(results),
        "costs": comparison.costs(results),
        "name": words.name,
        "capital": words.capital,
        "colour": lambda encoder: colours.encoder_colour(encoder, results.encoders),
        "charts": drawn,
        "scales": charts.SCALES,
    }


def _claims(results: Results, checks: Checks, task: str) -> list[claims.Claim]:
    """The paper's claims on losses and tasks, of all snapshots and of trained ones, and those of `checks`."""
    found = claims.claims(results.table, task)
    if found and results.trained is not None:
        found = claims.beside(found, claims.claims(results.trained, task))
    unseen = claims.Records(results.table).unseen
    for part in (performance, neighbourhoods, evenness, stability):
        found += part.claims(checks, task, unseen)
    return found


def _files(results: Results) -> list[str]:
    """Files beside the report that it links to."""
    named = [results.experiment.map, *FILES]
    return [name for name in named if name and (results.folder / name).is_file()]


def _definitions(results: Results) -> list[dict[str, str]]:
    """What the emulators are conditioned on, and what the predictors read, of those that have figures."""
    groups = [*results.losses.values(), *results.properties.values()]
    shown = {figure.of for figures in groups for figure in figures}
    return [{key: text for key, text in all_.items() if key in shown} for all_ in (EMULATED, DEFINITIONS)]


def _elsewhere(
    results: Results, headline: str | None, about: dict[str, Any]
) -> list[tuple[str, int, int, list[tuple[str, list[words.Finding]]], list[str]]]:
    """Name, RNNs, tasks, findings and who has no RNN of each split that is not the headline."""
    counts = {split: (runs, tasks) for split, runs, _, tasks in about["splits"]}
    return [
        (
            words.split_name(split, results.noun),
            *counts[split],
            findings.of_split(results, split),
            findings.absent(results, split),
        )
        for split in results.splits
        if split != headline
    ]


# --- what was done ---------------------------------------------------------------------------------


def _about(results: Results) -> dict[str, Any]:
    zoo = results.zoo
    runs = zoo.table["run"].to_numpy()
    settings = next(iter(next(iter(results.models.values())).values())).settings
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%d %B %Y").lstrip("0"),
        "version": __version__,
        "torch": torch.__version__,
        "task": settings.task.name,
        "noun": results.noun,
        "reads": zoo.task.reads if zoo.task else Task.reads,
        "performs": zoo.task.performs if zoo.task else Task.performs,
        "architectures": _architectures(results),
        "runs": len(np.unique(runs)),
        "snapshots": len(zoo),
        "steps": sorted(set(zoo.table["step"].to_pylist())),
        "zoo_seed": zoo.card["seed"],
        "splits": _splits(results),
        "emulation": settings.emulation,
        "compared": sum(encoder != words.NO_INTERACTION for encoder in results.encoders),
        "encoders": [
            (
                words.name(encoder),
                sum(weight.numel() for weight in next(iter(models.values())).encoder.parameters()),
                sorted(models),
            )
            for encoder, models in results.models.items()
        ],
    }


def _architectures(results: Results) -> list[tuple[str, int, int, int]]:
    """Each architecture of the zoo with its parameters, RNNs and snapshots."""
    slugs = np.asarray(results.zoo.table["spec"].to_pylist())
    runs = results.zoo.table["run"].to_numpy()
    return [
        (str(spec), spec.parameters, len(np.unique(runs[of_spec])), int(of_spec.sum()))
        for spec in results.zoo.specs
        if (of_spec := slugs == spec.slug).any()
    ]


def _splits(results: Results) -> list[tuple[str, int, int, int]]:
    """Each split with its RNNs, snapshots and tasks."""
    table = results.zoo.table
    splits, runs = np.asarray(table["split"].to_pylist()), table["run"].to_numpy()
    tasks = np.asarray([str(task) for task in table["task"].to_pylist()])
    return [
        (split, len(np.unique(runs[rows])), int(rows.sum()), len(np.unique(tasks[rows])))
        for split in ("train", *results.splits)
        for rows in [splits == split]
    ]


# --- figures and tables ------------------------------------------------------------------------------


def _charts(results: Results) -> dict[str, charts.Chart]:
    """The charts of losses and predictions, by name."""
    divergence = words.divergence_name(results.divergence)
    losses = comparison.panels(results, comparison.loss_rows, loss_name(results.divergence))
    histories = {encoder: results.histories(encoder) for encoder in results.encoders}
    drawn = {
        "losses": charts.dots(losses, divergence),
        "curves": charts.learning_curves(histories, divergence),
    }
    if any(results.emulated.values()):
        drawn["emulated"] = charts.emulated(results.emulated)
    score = words.task_score(results.properties)
    if (shown := comparison.against_cost(results)) is not None:
        drawn["costs"] = charts.against_cost(shown.panels, shown.costs)
    if score is not None:
        scores = comparison.panels(results, comparison.property_rows, score)
        drawn["task"] = charts.dots(scores, words.name(score), start_at_zero=True)
    return drawn


def _main_losses(results: Results) -> list[str]:
    """The loss that was trained on, and what it is on each kind of rollout."""
    name = loss_name(results.divergence)
    kinds = [loss_name(results.divergence, part) for part in PARTS]
    return [name, *kinds]


def _main_first(
    tables: Sequence[dict[str, Any]], main: Sequence[str | None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The tables that are shown at once, in the order of `main`, and the others."""
    named = {table["name"]: table for table in tables}
    return [named[name] for name in main if name in named], [t for t in tables if t["name"] not in main]


# --- single RNNs -------------------------------------------------------------------------------------


def _atlas(
    results: Results, drawn: dict[str, charts.Chart], raw_map: pa.Table | None
) -> dict[str, Any] | None:
    """The maps, drawn, and what the template says of it and of neighbours."""
    atlas = results.atlas
    if atlas is None:
        return None
    columns = {column["key"]: column for column in colour_columns(atlas.table)}
    architectures = _legend(columns.get("spec"))
    titles = {
        default_column([*columns.values()]): f"by {results.noun}",
        "metrics.performance": "by performance",
    }
    if len(architectures) > 1:
        titles["spec"] = "by architecture"
    titles = {key: title for key, title in titles.items() if key in columns}
    drawn["map"] = charts.maps(atlas.table, [columns[key] for key in titles], list(titles.values()))
    if raw_map is not None:
        raw = {column["key"]: column for column in colour_columns(raw_map)}
        drawn["raw_map"] = charts.maps(raw_map, [raw[key] for key in titles], list(titles.values()))
    return {
        "card": atlas.card,
        "layout": LAYOUTS[atlas.card["layout"]],
        "entries": len(atlas),
        "architectures": architectures if len(architectures) > 1 else [],
        "examples": examples(atlas, SHOWN),
    }


def _legend(column: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Colour and name of each category of a column."""
    return [] if column is None else list(zip(column["colors"], column["categories"], strict=True))
