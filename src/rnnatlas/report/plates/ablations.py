"""Losses against the number and length of probing sequences, and by the divergence trained on."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnatlas.report.ablations import SYMBOLS, TITLES, Compared, curves, text, title
from rnnatlas.report.checks import Checks
from rnnatlas.report.experiment import Results
from rnnatlas.report.plates.base import INTERVALS, PAGE, Plate, colour, dot, legend, marker, panels
from rnnatlas.report.words import name


def losses(results: Results, checks: Checks) -> Plate | None:
    """A panel a setting."""
    compared = Compared(results)
    settings = [one for one in TITLES if any(one == setting for setting, _ in compared.values)]
    if not settings:
        return None
    which, split = compared.measures[0][0], compared.splits[0]
    encoders = dict.fromkeys(encoder for _, encoder in compared.values)
    figure, axes = panels(1, len(settings), PAGE, 2.1)
    for ax, setting in zip(axes[0], settings, strict=True):
        if setting in SYMBOLS:
            _curves(ax, compared, checks, setting, results.encoders)
            ax.set(xlabel=TITLES[setting], ylabel=title(which))
        else:
            _divergences(ax, compared, checks, results.encoders)
            ax.set(title=TITLES[setting], xlabel=title(which))
    legend(figure, {name(encoder): marker(colour(encoder, results.encoders)) for encoder in encoders})
    return Plate(
        "ablations",
        figure,
        f"Emulation loss ({title(which)}) on {split} with one setting changed. Hollow: the experiment’s own. "
        f"{INTERVALS}.",
        f"kind check, names “{which}, {settings[0]} …” and so on",
    )


def _curves(ax: Any, compared: Compared, checks: Checks, setting: str, encoders: Sequence[str]) -> None:
    ticks = set()
    for encoder, points in curves(compared, checks, setting, compared.splits[0]).items():
        hue = colour(encoder, encoders)
        ax.plot([x for _, x, _, _ in points], [loss.mean for _, _, loss, _ in points], color=hue)
        for value, x, loss, own in points:
            if np.isfinite(loss.low):
                ax.plot([x] * 2, [loss.low, loss.high], color=hue, linewidth=1.3)
            ax.plot([x], [loss.mean], "o", markersize=4.2, color=hue, markerfacecolor="white" if own else hue)
            ticks.add(value)
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(sorted(ticks), [*map(str, sorted(ticks))])
    ax.set_ylim(bottom=0)


def _divergences(ax: Any, compared: Compared, checks: Checks, encoders: Sequence[str]) -> None:
    asked = compared.measures[0], compared.splits[0], "divergence"
    shown = [encoder for setting, encoder in compared.values if setting == "divergence"]
    figures = {encoder: compared.figures(checks, *asked, encoder) for encoder in shown}
    rows = list(dict.fromkeys(value for found in figures.values() for value in found))
    for place, (encoder, found) in enumerate(figures.items()):
        for value, (loss, _) in found.items():
            down = rows.index(value) + 0.3 * (place - (len(shown) - 1) / 2)
            dot(
                ax, down, loss, colour(encoder, encoders), hollow=value == compared.own("divergence", encoder)
            )
    ax.set_yticks(range(len(rows)), [textwrap.fill(text("divergence", value), 18) for value in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xlim(left=0)
