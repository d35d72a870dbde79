"""The report's figures, as plotly draws them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas.atlas import colours
from rnnatlas.intervals import Interval
from rnnatlas.report.words import name

FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
INK, QUIET, LINE = "#1f2328", "#656c76", "#e3e1dc"
AXIS: dict[str, Any] = {
    "gridcolor": LINE,
    "zeroline": False,
    "linecolor": LINE,
    "ticks": "",
    "title": {"font": {"size": 12.5, "color": QUIET}, "standoff": 8},
    "tickfont": {"size": 12, "color": QUIET},
    "automargin": True,
}

ABREAST = 4
"""Panels side by side at most, so that their titles stay apart."""

Chart = dict[str, Any]
"""A figure as plotly.js takes it: `data` and `layout`."""

Rows = Mapping[str, Mapping[str, Interval]]
"""Rows of a dot plot: for each encoder, whose figure it is → the interval."""


def canvas(rows: int = 1, columns: int = 1, titles: Sequence[str] = (), **options: Any) -> Any:
    """An empty plotly figure of several panels in the report's style."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows, columns, subplot_titles=list(titles) or None, **options)
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 12.5, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 34 if titles else 10, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.08, "x": 0, "font": {"size": 12.5}},
        hoverlabel={"font": {"family": FONT}},
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    figure.update_xaxes(AXIS)
    figure.update_yaxes(AXIS)
    return figure


def small_panels(titles: Sequence[str]) -> tuple[Any, list[dict[str, int]]]:
    """An empty figure of alike panels, at most `ABREAST` side by side; and where each panel is."""
    rows, columns = math.ceil(len(titles) / ABREAST), min(len(titles), ABREAST)
    spacing = {"horizontal_spacing": 0.03, "vertical_spacing": 0.3 / rows}
    figure = canvas(rows, columns, titles, shared_yaxes=True, **spacing)
    places = [{"row": number // columns + 1, "col": number % columns + 1} for number in range(len(titles))]
    return figure, places


def finished(figure: Any, height: int) -> Chart:
    """A figure as the report's page draws it."""
    import json

    figure.update_layout(height=height)
    return json.loads(figure.to_json())


def dots(panels: Mapping[str, Rows], axis: str, start_at_zero: bool = False) -> Chart:
    """Intervals as dots with whiskers: a panel a split, a group of rows an encoder.

    Args:
        panels: Title of a panel → its rows; all panels have the same.
        axis: What the dots measure.
        start_at_zero: Whether the axis includes zero.
    """
    figure = canvas(1, len(panels), list(panels), shared_yaxes=True, horizontal_spacing=0.035)
    first = next(iter(panels.values()))
    places, ticks, encoders = _places(first)
    for column, rows in enumerate(panels.values(), start=1):
        for kind in dict.fromkeys(of for row in rows.values() for of in row):
            for encoder in encoders if kind in ("conditioned", "embedding") else [None]:
                points = [
                    (places[own, kind], row[kind])
                    for own, row in rows.items()
                    if kind in row and encoder in (None, own) and np.isfinite(row[kind].mean)
                ]
                _whiskers(
                    figure, points, _colour(kind, encoder, encoders), column, strong=encoder is not None
                )
    figure.update_xaxes(title_text=axis, range=_range(panels.values(), start_at_zero))
    figure.update_yaxes(
        showgrid=False,
        tickvals=list(ticks),
        ticktext=list(ticks.values()),
        range=[max(ticks) + 0.7, min(ticks) - 0.7],
    )
    figure.update_layout(showlegend=False)
    return finished(figure, 90 + 25 * len(ticks) + 8 * len(encoders))


def _places(rows: Rows) -> tuple[dict[tuple[str, str], float], dict[float, str], list[str]]:
    places, ticks, height = {}, {}, 0.0
    for encoder, row in rows.items():
        for kind in row:
            places[encoder, kind] = height
            own = kind in ("conditioned", "embedding")
            ticks[height] = f"<b>{name(encoder)}</b>" if own else name(kind)
            height += 1
        height += 0.6
    return places, ticks, list(rows)


def _colour(kind: str, encoder: str | None, encoders: Sequence[str]) -> str:
    if encoder is not None:
        return colours.encoder_colour(encoder, encoders)
    return colours.CONTROLS.get(kind, "#b0b7bf")


def _range(panels: Iterable[Rows], start_at_zero: bool) -> list[float]:
    ends = [
        end
        for rows in panels
        for row in rows.values()
        for interval in row.values()
        for end in (interval.mean, interval.low, interval.high)
        if np.isfinite(end)
    ]
    low, high = (0.0 if start_at_zero else min(ends)), max(ends)
    pad = 0.05 * (high - low or 1)
    return [low - pad, high + pad]


def _whiskers(
    figure: Any, points: Sequence[tuple[float, Interval]], colour: str, column: int, strong: bool
) -> None:
    where = {"row": 1, "col": column}
    lines: dict[str, list[float | None]] = {"x": [], "y": []}
    for place, interval in points:
        if np.isfinite(interval.low):
            lines["x"] += [interval.low, interval.high, None]
            lines["y"] += [place, place, None]
    line = {"color": colour, "width": 2.6 if strong else 1.8}
    figure.add_scatter(**lines, mode="lines", line=line, hoverinfo="skip", **where)
    figure.add_scatter(
        x=[interval.mean for _, interval in points],
        y=[place for place, _ in points],
        mode="markers",
        marker={"color": colour, "size": 10 if strong else 7.5},
        text=[str(interval) for _, interval in points],
        hovertemplate="%{text}<extra></extra>",
        **where,
    )


def learning_curves(histories: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]], axis: str) -> Chart:
    """Training and validation loss of every seed, a panel an encoder."""
    figure, places = small_panels([name(key) for key in histories])
    highest = 0.0
    for place, (encoder, seeds) in zip(places, histories.items(), strict=True):
        colour = colours.encoder_colour(encoder, list(histories))
        for seed, history in seeds.items():
            for curve, label, line in (
                ("train_loss", "training", {"color": "#b0b7bf", "width": 1.2}),
                ("validation_loss", "validation", {"color": colour, "width": 2}),
            ):
                if curve not in history:
                    continue
                known = np.isfinite(history[curve])
                highest = max(highest, np.quantile(history[curve][known], 0.9) if known.any() else 0)
                figure.add_scatter(
                    x=history["step"][known].tolist(),
                    y=history[curve][known].tolist(),
                    mode="lines",
                    line=line,
                    name=label,
                    hovertemplate=f"{label}, seed {seed}: %{{y:.3f}} at step %{{x}}<extra></extra>",
                    **place,
                )
    figure.update_xaxes(title_text="training step", rangemode="tozero")
    figure.update_yaxes(title_text=axis, col=1)
    figure.update_yaxes(range=[0, 1.15 * highest] if highest else None)
    figure.update_layout(showlegend=False)
    return finished(figure, 290 * places[-1]["row"])


def emulated(tables: Mapping[str, Sequence[pa.Table]]) -> Chart:
    """Original against emulated performance, a panel an encoder, a point an RNN and seed."""
    shown = {encoder: own for encoder, own in tables.items() if own}
    figure, places = small_panels([name(encoder) for encoder in shown])
    for place, (encoder, own) in zip(places, shown.items(), strict=True):
        figure.add_scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": QUIET, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            **place,
        )
        for table in own:
            figure.add_scatter(
                x=table["original"].to_pylist(),
                y=table["emulated"].to_pylist(),
                mode="markers",
                marker={"color": colours.encoder_colour(encoder, list(shown)), "size": 5.5, "opacity": 0.45},
                text=table["id"].to_pylist(),
                hovertemplate="%{text}: original %{x:.2f}, emulated %{y:.2f}<extra></extra>",
                **place,
            )
    figure.update_xaxes(title_text="performance of the RNN", range=[-0.03, 1.03])
    figure.update_yaxes(title_text="performance of its emulation", col=1)
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_layout(showlegend=False)
    return finished(figure, 330 * places[-1]["row"])


def maps(table: pa.Table, columns: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> Chart:
    """The embedding map, once for each way to colour it; `columns` as `colour_columns` gives them."""
    scales = any(column["kind"] == "number" for column in columns[:-1])
    figure = canvas(1, len(columns), titles, horizontal_spacing=0.09 if scales else 0.02)
    count = table.num_rows
    size = 3.5 if count > 3000 else 5 if count > 800 else 6.5
    for place, column in enumerate(columns, start=1):
        number = column["kind"] == "number"
        marker: dict[str, Any] = {"size": size, "opacity": 0.85, "line": {"width": 0}}
        if number:
            marker |= {
                "color": column["values"],
                "colorscale": _scale(colours.CYCLIC if column["cyclic"] else colours.SEQUENTIAL),
                "showscale": True,
                "colorbar": {
                    "x": figure.get_subplot(1, place).xaxis.domain[1],
                    "thickness": 9,
                    "len": 0.6,
                    "outlinewidth": 0,
                    "tickfont": {"color": QUIET},
                },
            }
            if column["cyclic"]:
                marker |= {"cmin": 0, "cmax": 360}
                marker["colorbar"] |= {"tickvals": list(range(0, 361, 90)), "ticksuffix": "°"}
        else:
            marker["color"] = [
                "#9aa0a6" if code is None else column["colors"][code] for code in column["values"]
            ]
        figure.add_scatter(
            x=table["x"].to_pylist(),
            y=table["y"].to_pylist(),
            mode="markers",
            marker=marker,
            text=table["label"].to_pylist() if "label" in table.column_names else table["id"].to_pylist(),
            hovertemplate="%{text}<extra></extra>",
            row=1,
            col=place,
        )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    for place in range(1, len(columns) + 1):
        figure.update_yaxes(scaleanchor=f"x{place if place > 1 else ''}", row=1, col=place)
    figure.update_layout(showlegend=False)
    return finished(figure, 430)


def _scale(stops: Sequence[str]) -> list[list[Any]]:
    return [[place / (len(stops) - 1), colour] for place, colour in enumerate(stops)]
