"""The report of an experiment: one HTML file with everything in it, computed from result files."""

import datetime
import html
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

import rnnatlas
from rnnatlas.atlas import charts, claims, colours, comparison, words
from rnnatlas.atlas.diagnostics import examples, question_differences, same_task
from rnnatlas.atlas.experiment import Experiment, Results
from rnnatlas.atlas.map import colour_columns
from rnnatlas.encoders.probing import ProbingEncoder
from rnnatlas.files import write_text
from rnnatlas.intervals import Interval, correlation, difference
from rnnatlas.properties.evaluate import LOSSES
from rnnatlas.properties.features import DEFINITIONS
from rnnatlas.properties.figures import EMULATED

SHOWN = 4
"""RNNs in the figures that look at single ones."""


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
    write_text(out, render("report.html", plotly=get_plotlyjs(), **contents(results)))
    return out


def contents(results: Results) -> dict[str, Any]:
    """Everything that the report's template shows."""
    headline = words.headline(results.splits)
    made = {
        "losses": _loss_chart(results),
        "curves": charts.learning_curves(
            {encoder: results.histories(encoder) for encoder in results.encoders},
            results.divergence.replace("-", " "),
        ),
    }
    about = _about(results)
    tasks = {own: count for own, _, _, count in about["splits"]}
    probing = _probing(results, made)
    atlas = _atlas(results, made)
    if any(results.emulated.values()):
        made["emulated"] = charts.emulated(results.emulated)
    _property_chart(results, made)
    return {
        "experiment": results.experiment,
        "about": about,
        "headline": headline and words.SPLITS[headline],
        "findings": _findings(results, headline) if headline else [],
        "ranking": _ranking(results, headline) if headline else [],
        "elsewhere": [
            (words.SPLITS.get(other, other), tasks[other], _findings(results, other))
            for other in results.splits
            if other != headline
        ],
        "divergence": results.divergence.replace("-", " "),
        "seeds": max(len(own) for own in results.experiment.runs.values()),
        "loss_tables": comparison.loss_tables(results),
        "property_tables": comparison.property_tables(results),
        "claims": claims.claims(results.table, about["task"]),
        "orders": claims.orders(results.table, about["task"]),
        "correlations": _correlations(results, headline) if headline else None,
        "probing": probing,
        "atlas": atlas,
        "definitions": {**EMULATED, **DEFINITIONS},
        "name": words.name,
        "capital": words.capital,
        "colour": lambda encoder: colours.encoder_colour(encoder, results.encoders),
        "splits": words.SPLITS,
        "charts": made,
    }


# --- what was done ---------------------------------------------------------------------------------


def _about(results: Results) -> dict[str, Any]:
    zoo = results.zoo
    table = zoo.table
    spec = zoo.specs[0]
    languages = {
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
        "version": rnnatlas.__version__,
        "torch": torch.__version__,
        "task": settings.task.name,
        "spec": str(spec),
        "parameters": spec.parameters,
        "runs": len(np.unique(runs)),
        "snapshots": len(zoo),
        "steps": sorted(set(table["step"].to_pylist())),
        "zoo_seed": zoo.card["seed"],
        "splits": [
            (split, len(np.unique(runs[splits == split])), int((splits == split).sum()), languages[split])
            for split in languages
        ],
        "emulation": settings.emulation,
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
    predicted = words.prediction(results.properties, split)
    return [("Does the embedding help to imitate the RNN?", emulated)] + (
        [("Does the frozen embedding tell which language the RNN learned?", predicted)] if predicted else []
    )


def _ranking(results: Results, split: str) -> list[str]:
    if len(results.encoders) < 2:
        return []
    if min(map(len, results.experiment.runs.values())) < words.ENOUGH_SEEDS:
        return ["Fewer than three seeds: not ranked."]
    losses = {
        encoder: comparison.intervals(own, f"emulation loss, {results.divergence}", split)["own"]
        for encoder, own in results.losses.items()
    }
    accuracy = {
        encoder: found["embedding"]
        for encoder, own in results.properties.items()
        if "embedding" in (found := comparison.intervals(own, "task accuracy", split))
    }
    return words.ranking(losses, "emulation loss") + words.ranking(
        accuracy, "task accuracy", lower_is_better=False
    )


def _differences(results: Results, split: str) -> dict[str, Interval]:
    found = {}
    for encoder in results.encoders:
        tables = results.tables(encoder, LOSSES)
        keys = zip(*(tables[0][key].to_pylist() for key in ("divergence", "split")), strict=True)
        rows = np.array([key == (results.divergence, split) for key in keys])
        own, zero = (np.stack([table[told].to_numpy()[rows] for table in tables]) for told in ("own", "zero"))
        found[encoder] = difference(own, zero, tables[0]["run"].to_numpy()[rows])
    return found


def _loss_chart(results: Results) -> charts.Chart:
    name = f"emulation loss, {results.divergence}"
    return charts.dots(
        comparison.panels(results, comparison.loss_rows, name), results.divergence.replace("-", " ")
    )


def _property_chart(results: Results, made: dict[str, charts.Chart]) -> None:
    if comparison.intervals(next(iter(results.properties.values())), "task accuracy", results.splits[0]):
        panels = comparison.panels(results, comparison.property_rows, "task accuracy")
        made["task"] = charts.dots(panels, "share of m’s right", start_at_zero=True)


def _correlations(results: Results, split: str) -> dict[str, Any]:
    """Correlations of original and emulated performance within training steps, over all seeds."""
    found, snapshots = {}, 0
    for encoder, tables in results.emulated.items():
        chosen = [table.filter(pc.field("split") == split) for table in tables]
        if not chosen or chosen[0].num_rows == 0:
            continue
        x, y = (np.stack([own[name].to_numpy() for own in chosen]) for name in ("emulated", "original"))
        runs, steps = (chosen[0][name].to_numpy() for name in ("run", "step"))
        found[words.name(encoder)] = correlation(x, y, runs, within=steps)
        snapshots = len(runs)
    return {"split": words.SPLITS[split], "intervals": found, "snapshots": snapshots}


# --- single RNNs -------------------------------------------------------------------------------------


def _probing(results: Results, made: dict[str, charts.Chart]) -> dict[str, Any] | None:
    """Questions and answers of the interactive encoder, for a few RNNs that do well."""
    own = results.models.get("interactive")
    if own is None:
        return None
    split = words.headline(results.splits) or results.splits[0]
    table = results.zoo.snapshots(split=split)
    if table.num_rows < 2:
        return None
    performance = [metrics["performance"] for metrics in table["metrics"].to_pylist()]
    table = table.take(np.argsort([-value for value in performance], kind="stable"))
    population = results.zoo.population(table)
    differ, task = {}, results.zoo.task
    for seed, model in own.items():
        assert isinstance(model.encoder, ProbingEncoder)
        differ[seed] = question_differences(model.encoder.probe(population))
    seed = next(iter(own))
    labels = (
        [task.label(instance) for instance in table["task"].to_pylist()] if task else table["id"].to_pylist()
    )
    chosen = [labels.index(label) for label in dict.fromkeys(labels)][:SHOWN]
    encoder: Any = own[seed].encoder
    asked = encoder.probe(population.select(chosen))
    sequence = int(differ[seed].mean(1).argmax())
    letters = [*getattr(task, "letters", ""), "BOS", "EOS"]
    names = (
        letters if len(letters) == population.spec.input else [str(i) for i in range(population.spec.input)]
    )
    titles = [html.escape(labels[i]) for i in chosen]
    made["probing"] = charts.probing(asked, sequence, titles, names, names)
    return {
        "split": words.SPLITS[split],
        "shown": len(chosen),
        "seed": seed,
        "sequence": sequence + 1,
        "sequences": asked.inputs.shape[1],
        "rnns": min(len(population), 128),
        "differences": [(seed, values.mean().item(), values.max().item()) for seed, values in differ.items()],
    }


def _atlas(results: Results, made: dict[str, charts.Chart]) -> dict[str, Any] | None:
    atlas = results.atlas
    if atlas is None:
        return None
    columns = {column["key"]: column for column in colour_columns(atlas.table)}
    shown = {
        "label": "coloured by language: near m’s, near colours",
        "metrics.performance": "coloured by performance",
    }
    shown = {key: title for key, title in shown.items() if key in columns}
    made["map"] = charts.maps(atlas.table, [columns[key] for key in shown], list(shown.values()))
    held_out = {split: same_task(atlas, split) for split in results.splits}
    return {
        "card": atlas.card,
        "entries": len(atlas),
        "examples": examples(atlas, SHOWN),
        "same": {split: shares for split, shares in held_out.items() if shares},
    }
