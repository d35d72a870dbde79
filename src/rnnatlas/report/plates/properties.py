"""How well emulations perform, and how evenly properties are predicted."""

import numpy as np

from rnnatlas.evaluation.levels import LEVELS, NEAREST
from rnnatlas.report import evenness, performance
from rnnatlas.report.checks import EVERY, Checks, find
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
    off_the_axis,
    panels,
)
from rnnatlas.report.words import name


def emulated(results: Results, checks: Checks) -> Plate | None:
    """Original against emulated performance, by level."""
    shown = {encoder: tables for encoder, tables in results.emulated.items() if tables}
    if not shown:
        return None
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    width = PAGE if columns > 2 else COLUMN
    figure, axes = panels(
        rows, columns, width, 0.35 + rows * (width / columns + 0.1), sharex=True, sharey=True
    )
    for ax, (encoder, tables) in zip(axes.flat, shown.items(), strict=False):
        hue = colour(encoder, results.encoders)
        ax.plot([0, 1], [0, 1], color=FAINT, linewidth=0.7, linestyle=(0, (1, 1.5)))
        for table in tables:
            x, y = (table[column].to_numpy() for column in ("original", "emulated"))
            ax.scatter(x, y, s=2.5, color=hue, alpha=0.25, linewidths=0, rasterized=True)
        levels = performance.by_level(tables)
        if "zero" in tables[0].column_names:
            zeros = performance.by_level(tables, "zero")
            ax.plot([level.original for level in zeros], [level.emulated for level in zeros], color=QUIET,
                    linewidth=0.8, linestyle=(0, (4, 2)))  # fmt: skip
        ax.errorbar([level.original for level in levels], [level.emulated for level in levels],
                    yerr=np.transpose([level.spread for level in levels]), fmt="o", markersize=2.6, color=hue,
                    elinewidth=0.8)  # fmt: skip
        share = find(checks, performance.SHARE, EVERY, encoder, "conditioned")
        ax.set_title(name(encoder) if len(name(encoder)) < 26 else name(encoder).replace(", ", ",\n"))
        if share is not None:
            ax.text(
                0.04,
                0.93,
                f"originals > {performance.BEST}: {100 * share.mean:.0f} %",
                transform=ax.transAxes,
                fontsize=6,
                color=QUIET,
            )
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    figure.supxlabel("performance of the RNN", fontsize=7, color=QUIET)
    figure.supylabel("of its emulation", fontsize=7, color=QUIET)
    return Plate(
        "emulated-performance",
        figure,
        f"Performance of held-out RNNs and of their emulations, at {LEVELS} evenly spaced levels with the "
        f"{NEAREST} nearest RNNs each: mean over RNNs and seeds with the central 80 %, and single RNNs. "
        "Dotted: both equal. Dashed: the unconditional emulator. Numbers in the panels: performance of "
        f"emulations of RNNs better than {performance.BEST}, as a share of that of these RNNs.",
        f"emulated.parquet of each run; kind check, name “{performance.SHARE}”, split “{EVERY}”",
    )


def properties(results: Results, checks: Checks) -> Plate | None:
    """Skill in every property and the lowest of them, on unseen tasks and OOD, frozen and supervised."""
    props = evenness.properties(checks)
    known = {check.split for check in checks if check.name == evenness.WORST}
    splits = [split for split in (Records(results.table).unseen, "ood") if split in known]
    if not props or not splits:
        return None
    figures = [*((evenness.skill(prop), prop.replace("_", " ")) for prop in props)]
    figures.append((evenness.WORST, "lowest without task"))
    encoders = results.encoders
    height = 0.6 + len(splits) * (0.3 + 0.24 * len(encoders))
    figure, axes = panels(len(splits), len(figures), PAGE, height, sharey=True, sharex=True)
    supervised = any(check.of == "supervised" for check in checks)
    for row, split in zip(axes, splits, strict=True):
        for ax, (which, title) in zip(row, figures, strict=True):
            for down, encoder in enumerate(encoders):
                own, whole = (find(checks, which, split, encoder, of) for of in evenness.TRAINED)
                dot(ax, down - 0.14 * (whole is not None), own, colour(encoder, encoders))
                dot(ax, down + 0.2, whole, colour(encoder, encoders), hollow=True)
            ax.axvline(0, color=FAINT, linewidth=0.6, zorder=1)
            ax.set_title(f"{title}, {split}" if ax is row[0] else title)
            ax.set_xlim(-0.5, 1.05)
            for down, encoder in enumerate(encoders):
                off_the_axis(
                    ax, down, find(checks, which, split, encoder, "embedding"), colour(encoder, encoders)
                )
        names(row, encoders)
    for ax in axes[-1]:
        ax.set_xlabel("skill")
    if supervised:
        legend(
            figure, {"frozen embedding": marker(INK), "encoder trained end to end": marker(INK, hollow=True)}
        )
    return Plate(
        "properties",
        figure,
        f"Prediction of all properties. Skill: {evenness.DEFINITION}. Last column: the lowest of the skills "
        f"but that of the {results.noun}; the encoder whose lowest is highest is the most even. Arrows: "
        f"beyond the axis. {INTERVALS}.",
        f"kind check, names “{evenness.SKILL}, …” and “{evenness.WORST}”",
    )
