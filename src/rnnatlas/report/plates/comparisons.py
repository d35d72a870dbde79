"""Losses and predictions of encoders side by side, beside controls, published numbers and costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnnatlas.evaluation.figures import loss_name
from rnnatlas.report import comparison, words
from rnnatlas.report.alike import comparable
from rnnatlas.report.claims import Records
from rnnatlas.report.experiment import Results
from rnnatlas.report.plates.base import (
    COLUMN,
    FAINT,
    INK,
    INTERVALS,
    LINE,
    PAGE,
    QUIET,
    Plate,
    colour,
    dot,
    legend,
    marker,
    names,
    panels,
    plain_ticks,
)
from rnnatlas.report.published import PUBLISHED
from rnnatlas.report.words import name


def losses(results: Results) -> Plate:
    """Emulation losses beside their controls."""
    which, divergence = loss_name(results.divergence), words.divergence_name(results.divergence)
    encoders, splits = results.encoders, results.splits
    figure, axes = panels(1, len(splits), PAGE, 0.75 + 0.26 * len(encoders), sharey=True, sharex=True)
    for ax, split in zip(axes[0], splits, strict=True):
        rows = comparison.loss_rows(results, which, split)
        for down, encoder in enumerate(encoders):
            own = rows.get(encoder, {})
            dot(ax, down, own.get("shuffled"), FAINT, quiet=True)
            dot(ax, down, own.get("zero"), QUIET, quiet=True)
            dot(ax, down - 0.26, own.get("fitted"), colour(encoder, encoders), hollow=True)
            dot(ax, down, own.get("conditioned"), colour(encoder, encoders))
        zero = rows.get("control", {}).get("zero")
        if zero is not None:
            ax.axvline(zero.mean, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
            if np.isfinite(zero.low):
                ax.axvspan(zero.low, zero.high, color=LINE, alpha=0.6, linewidth=0, zorder=0)
        ax.set(title=split, xlabel=divergence)
    axes[0, 0].set_xlim(left=0)
    names(axes[0], encoders)
    line = {"color": QUIET, "linestyle": (0, (4, 2)), "linewidth": 0.8}
    entries = {"the RNN’s own embedding": marker(INK), "another RNN’s": marker(FAINT, quiet=True)}
    if results.fitted:
        entries[name("fitted")] = marker(INK, hollow=True)
    legend(figure, {**entries, "unconditional": line})
    return Plate(
        "emulation-loss",
        figure,
        f"Emulation loss ({divergence}) by encoder and split: conditioned on each RNN’s own embedding, on "
        f"another RNN’s{', on one fitted to the RNN' if results.fitted else ''}, and unconditional. Lower is "
        f"better. {INTERVALS}.",
        f"kind figure, name “{which}”, of conditioned, shuffled and zero",
    )


def task(results: Results) -> Plate | None:
    """Prediction of the task beside the baselines."""
    score = words.task_score(results.properties)
    if score is None:
        return None
    encoders, splits = results.encoders, results.splits
    rows = {split: comparison.property_rows(results, score, split) for split in splits}
    baselines = list(dict.fromkeys(of for own in rows.values() for of in own.get("trivial", {})))
    supervised = any("supervised" in one for own in rows.values() for one in own.values())
    height = 0.8 + (0.25 if supervised else 0.19) * (len(encoders) + len(baselines))
    figure, axes = panels(1, len(splits), PAGE, height, sharey=True, sharex=True)
    for ax, split in zip(axes[0], splits, strict=True):
        for down, encoder in enumerate(encoders):
            own, hue = rows[split].get(encoder, {}), colour(encoder, encoders)
            dot(ax, down + 0.28, own.get("untrained"), FAINT, quiet=True)
            dot(ax, down, own.get("embedding"), hue)
            dot(ax, down - 0.28, own.get("supervised"), hue, hollow=True)
        for down, of in enumerate(baselines, start=len(encoders)):
            dot(ax, down, rows[split].get("trivial", {}).get(of), FAINT, quiet=True)
        if baselines:
            ax.axhline(len(encoders) - 0.5, color=LINE, linewidth=0.6)
        ax.set(title=split, xlabel=name(score))
    axes[0, 0].set_xlim(left=0)
    names(axes[0], encoders, baselines)
    entries = {"frozen embedding": marker(INK), "untrained encoder, baselines": marker(FAINT, quiet=True)}
    if supervised:
        entries["encoder trained end to end"] = marker(INK, hollow=True)
    legend(figure, entries)
    return Plate(
        "task-prediction",
        figure,
        f"Prediction of the {results.noun} ({name(score)}) from frozen embeddings"
        f"{', by encoders trained end to end' if supervised else ''} and from baselines. {INTERVALS}.",
        f"kind figure, name “{score}”",
    )


def published(results: Results) -> Plate | None:
    """Orders and ratios of losses, ours beside the published ones."""
    theirs, records = PUBLISHED.get(results.zoo.card["task"]["name"]), Records(results.table)
    if theirs is None:
        return None
    asked = (
        (f"emulation loss, {records.unseen}", records.loss, records.unseen, "conditioned", theirs.emulation),
        (f"{theirs.score}, OOD, frozen", theirs.score, "ood", "embedding", theirs.pretrained),
        (f"{theirs.score}, OOD, end to end", theirs.score, "ood", "supervised", theirs.supervised),
    )
    shown = []
    for title, score, split, of, values in asked:
        compared, _ = comparable(results.table, split)
        found = {one: records.figure(score, split, (one, of)) for one in values if one in compared}
        own = {one: interval for one, interval in found.items() if interval is not None}
        if len(own) > 1:
            shown.append((title, own, values))
    if not shown:
        return None
    encoders = [one for one in results.encoders if any(one in own for _, own, _ in shown)]
    height = 0.85 + 0.3 * len(encoders)
    figure, axes = panels(1, len(shown), PAGE if len(shown) > 1 else COLUMN, height, sharey=True)
    for ax, (title, own, values) in zip(axes[0], shown, strict=True):
        _ratios(ax, own, values, encoders, results.encoders)
        ax.set(title=title, xlabel="loss / geometric mean over encoders")
    names(axes[0], encoders)
    legend(figure, {"here": marker(INK), "published": {"color": QUIET, "marker": "x", "markersize": 4,
                                                        "linestyle": "none"}})  # fmt: skip
    return Plate(
        "published",
        figure,
        "Losses here (dots) and as published (crosses; Herrmann et al. 2024), each divided by its geometric "
        "mean over the encoders shown. At the right: ranks, here and published. The paper’s zoo and training "
        f"are larger, so losses themselves are not compared. {INTERVALS}, of the numerator alone.",
        "kind figure, of conditioned, embedding and supervised; published numbers are in report/published.py",
    )


def _ratios(
    ax: Any, own: Mapping[str, Any], values: Mapping[str, float], encoders: Sequence[str], all_: Sequence[str]
) -> None:
    here = {one: interval.mean for one, interval in own.items()}
    there = {one: values[one] for one in own}
    means = [float(np.exp(np.mean(np.log([*side.values()])))) for side in (here, there)]
    for one, interval in own.items():
        down, hue = encoders.index(one), colour(one, all_)
        scaled = type(interval)(
            *(v / means[0] for v in (interval.mean, interval.low, interval.high)), interval.n
        )
        dot(ax, down, scaled, hue)
        ax.plot([there[one] / means[1]], [down], "x", color=QUIET, markersize=4, zorder=4)
        ranks = [1 + sum(other < side[one] for other in side.values()) for side in (here, there)]
        ax.annotate(f"{ranks[0]} · {ranks[1]}", (1, down), (2, 0), xycoords=("axes fraction", "data"),
                    textcoords="offset points", va="center", fontsize=6, color=QUIET)  # fmt: skip
    ax.axvline(1, color=FAINT, linewidth=0.6, zorder=0)
    plain_ticks(ax, (0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10))


def costs(results: Results) -> Plate | None:
    """What encoders reach against what they cost."""
    shown = comparison.against_cost(results)
    if shown is None:
        return None
    operations = {encoder: spent["flops"] / 1e6 for encoder, spent in shown.costs.items()}
    figure, axes = panels(1, len(shown.panels), PAGE if len(shown.panels) > 1 else COLUMN, 2.3, sharex=True)
    for ax, (title, intervals) in zip(axes[0], shown.panels.items(), strict=True):
        for encoder, interval in intervals.items():
            _against_cost(ax, interval, operations[encoder], encoder, results.encoders)
        ax.set(title=f"{title}, {shown.split}", xlabel="million operations to embed an RNN")
        ax.set_ylim(bottom=0)
        ax.set_xlim(min(operations.values()) / 1.6, max(operations.values()) * 1.6)
        plain_ticks(ax, [digit * 10.0**power for power in range(-3, 5) for digit in (1, 3)])
    legend(figure, {name(one): marker(colour(one, results.encoders)) for one in operations}, columns=4)
    return Plate(
        "costs",
        figure,
        f"What encoders reach on {shown.split} against the operations it takes to embed one RNN. "
        f"{INTERVALS}.",
        "kind figure, and kind cost, name flops",
    )


def _against_cost(ax: Any, interval: Any, operations: float, encoder: str, encoders: Sequence[str]) -> None:
    hue = colour(encoder, encoders)
    if np.isfinite(interval.low):
        ax.plot([operations] * 2, [interval.low, interval.high], color=hue, linewidth=1.2)
    ax.plot([operations], [interval.mean], "o", color=hue, markersize=4)
