"""Figures for print: their look, and writing them as PDF and PNG."""

import contextlib
import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnatlas.atlas import colours
from rnnatlas.files import replacing, write_text
from rnnatlas.intervals import Interval
from rnnatlas.report.words import name

FOLDER = "figures"
"""Where they are in an experiment's folder."""

COLUMN, PAGE = 3.25, 6.75
"""Width in inches of one column of a page, and of two."""

INTERVALS = "Bars: 95 % intervals over RNNs, or tasks that were held out, and seeds"

INK, QUIET, LINE, FAINT = "#1f2328", "#656c76", "#e3e1dc", "#b0b7bf"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": QUIET,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "xtick.major.size": 2,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # letters stay letters
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
}


@dataclasses.dataclass(frozen=True)
class Plate:
    """A figure.

    Attributes:
        name: Of its files.
        figure: As matplotlib has it.
        caption: What it shows.
        rows: Which rows of results.parquet its numbers are, or what else they are made of.
    """

    name: str
    figure: Any
    caption: str
    rows: str


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The house style, whatever the user's own settings, which stay as they are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(folder: Path, plates: Sequence[Plate], about: str) -> None:
    """Writes each plate as PDF and PNG, and a page that says what they show.

    Args:
        folder: Where to; made where missing.
        plates: The figures, drawn in `style`.
        about: What they were made by, for people.
    """
    folder.mkdir(exist_ok=True)
    for plate in plates:
        plate.figure.draw_without_rendering()
        plate.figure.set_layout_engine("none")  # laid out once
        told = {"pdf": {"Title": plate.caption, "Subject": about, "CreationDate": None},
                "png": {"Title": plate.name, "Description": f"{plate.caption} {about}"}}  # fmt: skip
        for kind, metadata in told.items():
            with replacing(folder / f"{plate.name}.{kind}") as partial:
                plate.figure.savefig(partial, format=kind, metadata=metadata)
    lines = [f"# Figures\n\n{about}\n"]
    lines += [
        f"## {plate.name}\n\n![{plate.name}]({plate.name}.png)\n\n{plate.caption}\n\nNumbers: {plate.rows}.\n"
        for plate in plates
    ]
    write_text(folder / "README.md", "\n".join(lines))


# --- parts of figures --------------------------------------------------------------------------------


def panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Any, np.ndarray]:
    """An empty figure and its panels [row, column]; `height` is that of the whole."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def names(row: np.ndarray, encoders: Sequence[str], others: Sequence[str] = ()) -> None:
    """Writes the names of rows beside the first of some panels, encoders first."""
    labels = [textwrap.fill(name(one), 24 if one in encoders else 50) for one in (*encoders, *others)]
    row[0].set_yticks(range(len(labels)), labels)
    for axes in row:
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")


def plain_ticks(axes: Any, values: Sequence[int | float]) -> None:
    """Those of the values that lie on a logarithmic x axis, as decimals."""
    axes.set_xscale("log")
    axes.minorticks_off()
    low, high = axes.get_xlim()
    axes.set_xticks(
        ticks := [tick for tick in values if low <= tick <= high], [f"{tick:g}" for tick in ticks]
    )
    axes.set_xlim(low, high)


def dot(
    axes: Any,
    down: int | float,
    interval: Interval | None,
    colour: str,
    *,
    hollow: bool = False,
    quiet: bool = False,
) -> None:
    """An interval as a dot with a whisker, `down` rows from the top; what is off the axis, as an arrow."""
    if interval is None or not np.isfinite(interval.mean):
        return
    width = 0.8 if quiet else 1.3
    if np.isfinite(interval.low):
        axes.plot([interval.low, interval.high], [down, down], color=colour, linewidth=width,
                  solid_capstyle="butt", zorder=2)  # fmt: skip
    axes.plot([interval.mean], [down], "D" if quiet else "o", markersize=2.4 if quiet else 4.2, color=colour,
              markerfacecolor="white" if hollow else colour, markeredgewidth=1.0, zorder=3)  # fmt: skip


def off_the_axis(axes: Any, down: int | float, interval: Interval | None, colour: str) -> None:
    """An arrow at the left end for a figure that lies beyond it."""
    low, _ = axes.get_xlim()
    if interval is not None and interval.mean < low:
        axes.plot([low], [down], "<", markersize=4, color=colour, clip_on=False, zorder=3)
        axes.annotate(f"{interval.mean:.1f}".replace("-", "−"), (low, down), (5, 1.5),
                      textcoords="offset points", va="bottom", fontsize=5.5, color=colour)  # fmt: skip


def legend(figure: Any, entries: Mapping[str, Mapping[str, Any]], columns: int | None = None) -> None:
    """A legend below all panels: name → how matplotlib draws its line; in one row, or in some columns."""
    from matplotlib.lines import Line2D

    width = 50 if columns is None else 26
    handles = [Line2D([], [], label=textwrap.fill(label, width), **how) for label, how in entries.items()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns or len(handles),
        handlelength=1.4,
        columnspacing=1.6,
        handletextpad=0.5,
    )


def marker(colour: str, *, hollow: bool = False, quiet: bool = False) -> dict[str, Any]:
    """How a legend shows what `dot` draws."""
    return {"color": colour, "marker": "D" if quiet else "o", "markersize": 2.4 if quiet else 4.2,
            "markerfacecolor": "white" if hollow else colour, "linewidth": 0.8 if quiet else 1.3}  # fmt: skip


def colour(encoder: str, encoders: Sequence[str]) -> str:
    """An encoder's colour among those of an experiment."""
    return colours.encoder_colour(encoder, encoders)
