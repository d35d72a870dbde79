"""The room's figures, as text for the terminal and drawn by matplotlib."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnatlas.files import replacing

COLOURS = {
    "interactive": "#d55e00",
    "fixed, optimal list": "#0072b2",
    "fixed, greedy": "#56b4e9",
    "random": "#999999",
}
FORMATS = ("png", "pdf")


def bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """Numbers of queries as bars of their logarithms, a line each."""
    lines = []
    for row in rows:
        for kind in ("interactive", "fixed"):
            low, high = row[f"{kind}_lower"], row[f"{kind}_upper"]
            lines.append(
                f"{row['tokens']} letters  {kind:<11}  {'█' * (1 + round(3 * math.log2(high)))} "
                f"{between(low, high)}"
            )
    return "\n".join(lines)


def between(low: int, high: int) -> str:
    """What is known exactly as one number, else as "10–12"."""
    return str(low) if low == high else f"{low}–{high}"


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws queries against letters and, of a zoo, accuracy against queries; gives the files."""
    parts = {"queries": _counts, **({"accuracy": _accuracy} if "zoo" in document else {})}
    return [path for name, part in parts.items() for path in _saved(part, document, folder / name)]


def _saved(part: Any, document: Mapping[str, Any], path: Path) -> list[Path]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    panel = figure.subplots()
    part(panel, document)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)
    files = [path.with_suffix(f".{kind}") for kind in FORMATS]
    for file, kind in zip(files, FORMATS):
        with replacing(file) as partial:
            figure.savefig(partial, format=kind, dpi=200)
    return files


def _counts(panel: Any, document: Mapping[str, Any]) -> None:
    styles = {"prefixes, long": "-", "prefixes, any": "--", "whole strings": ":"}
    for query, style in styles.items():
        rows = [row for row in document["languages"] if row["query"] == query]
        tokens = [row["tokens"] for row in rows]
        for kind, colour in (
            ("interactive", COLOURS["interactive"]),
            ("fixed", COLOURS["fixed, optimal list"]),
        ):
            low, high = ([row[f"{kind}_{end}"] for row in rows] for end in ("lower", "upper"))
            panel.plot(tokens, high, style, marker="o", markersize=3, color=colour, label=f"{kind}: {query}")
            panel.fill_between(tokens, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.set(yscale="log", xlabel="letters of the alphabet", ylabel="queries, worst case")
    panel.set_xticks(sorted({row["tokens"] for row in document["languages"]}))
    panel.yaxis.set_major_formatter("{x:g}")


def _accuracy(panel: Any, document: Mapping[str, Any]) -> None:
    for name, curve in document["zoo"]["curves"].items():
        colour = COLOURS.get(name)
        queries = np.arange(1, len(curve["accuracy"]) + 1)
        panel.plot(queries, curve["accuracy"], color=colour, label=name)
        if "ideal" in curve:
            panel.plot(queries, curve["ideal"], ":", color=colour, linewidth=1)
    panel.set(xscale="log", ylim=(0, 1.02), xlabel="queries", ylabel="languages named rightly")
    panel.xaxis.set_major_formatter("{x:g}")
