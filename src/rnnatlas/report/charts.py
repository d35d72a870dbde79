"""The report's figures, as plotly draws them; templates/report.js lays out their panels."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas.atlas import colours
from rnnatlas.intervals import Interval
from rnnatlas.report.words import name

FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
INK, QUIET, LINE, FAINT = "var(--ink)", "var(--quiet)", "var(--line)", "var(--faint)"
"""Colours that the page's style sheet sets, light or dark; the page puts them in."""

AXIS: dict[str, Any] = {
    "gridcolor": LINE,
    "zeroline": False,
    "linecolor": LINE,
    "ticks": "",
    "title": {"font": {"size": 12.5, "color": QUIET}, "standoff": 8},
    "tickfont": {"size": 12, "color": QUIET},
}
SCALES = {
    "sequential": (colours.SEQUENTIAL, colours.DARK),
    "cyclic": (colours.CYCLIC, colours.CYCLIC_DARK),
    "diverging": (
        ("#8c510a", "#dfb77a", "#f7f5f0", "#7fc4b8", "#0b5d57"),
        ("#e0a458", "#7a5220", "#22262b", "#1f6f66", "#6fd1bd"),
    ),
    "heat": (("#f7f5f0", "#9ad2bd", "#2b8f7d", "#0b3d4f"), ("#22262b", "#1f6f66", "#4fb59b", "#d8f3e6")),
}
"""Colour scales on a light and on a dark page."""

OF_THE_ENCODER = ("conditioned", "embedding", "supervised")
"""Figures in the encoder's colour; the first two stand for the encoder itself."""

Chart = dict[str, Any]
"""A figure as plotly.js takes it, `data` and `layout`; how its panels are arranged is in `layout.meta`."""

Rows = Mapping[str, Mapping[str, Interval]]
"""Rows of a dot plot: for each encoder, whose figure it is → the interval."""


def canvas(
    rows: int,
    columns: int,
    titles: Sequence[str],
    *,
    height: int,
    narrowest: int,
    shared: bool = True,
    **arranged: Any,
) -> Any:
    """An empty plotly figure of panels in the report's style.

    Args:
        rows: Rows of panels.
        columns: Columns of panels; a page too narrow for all shows some below the others.
        titles: Of the panels, row by row; of some rows, or none.
        height: Of a panel, in pixels.
        narrowest: Least width of a panel.
        shared: Whether panels of a row have one y axis, and those of a column one x axis.
        arranged: `most`, columns side by side at most; `square`, whether panels are no higher than wide;
            `side`, whether the colour bar stands beside all panels, not beside its own.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(rows, columns, shared_xaxes=shared and rows > 1, shared_yaxes=shared)
    size = {"rows": rows, "columns": columns, "height": height, "narrowest": narrowest}
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 12.5, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=False,
        hoverlabel={"font": {"family": FONT}},
        meta={"titles": escaped(titles), **size, **arranged},
    )
    figure.update_xaxes(AXIS)
    figure.update_yaxes(AXIS)
    return figure


def small_panels(titles: Sequence[str], height: int) -> Any:
    """An empty figure of alike panels in one row, which the page breaks into several."""
    return canvas(1, len(titles), titles, height=height, narrowest=205, most=4)


def finished(figure: Any) -> Chart:
    """A figure as the report's page draws it."""
    import json

    return json.loads(figure.to_json())


def scale(which: str) -> list[list[Any]]:
    """One of `SCALES`, in the page's colours."""
    last = len(SCALES[which][0]) - 1
    return [[place / last, f"var(--{which}-{place})"] for place in range(last + 1)]


def escaped(texts: Iterable[Any]) -> list[str]:
    """Texts that figures show as they are, not as HTML."""
    return [html.escape(str(text), quote=False) for text in texts]


# --- intervals ---------------------------------------------------------------------------------------


def dots(panels: Mapping[str, Rows], axis: str, start_at_zero: bool = False) -> Chart:
    """Intervals as dots with whiskers: a panel a split, a group of rows an encoder.

    Args:
        panels: Title of a panel → its rows; some may lack some.
        axis: What the dots measure.
        start_at_zero: Whether the axis includes zero.
    """
    whole: dict[str, dict[str, Interval]] = {}
    for rows in panels.values():
        for encoder, intervals in rows.items():
            whole.setdefault(encoder, {}).update(intervals)
    places, ticks = _places(whole)
    figure = canvas(1, len(panels), list(panels), height=30 + 25 * len(ticks), narrowest=165)
    for column, rows in enumerate(panels.values(), start=1):
        for encoder, intervals in rows.items():
            for of, interval in intervals.items():
                if np.isfinite(interval.mean):
                    colour = _colour(of, encoder, list(rows))
                    _whisker(figure, column, places[encoder, of], interval, colour, of)
    figure.update_xaxes(title_text=axis, range=_range(panels.values(), start_at_zero))
    figure.update_yaxes(
        showgrid=False,
        tickvals=list(ticks),
        ticktext=list(ticks.values()),
        range=[max(ticks) + 0.7, min(ticks) - 0.7],
    )
    return finished(figure)


def _places(rows: Rows) -> tuple[dict[tuple[str, str], float], dict[float, str]]:
    """How far down each row stands, and what is written beside it."""
    places, ticks, down = {}, {}, 0.0
    for encoder, intervals in rows.items():
        for of in intervals:
            places[encoder, of] = down
            [title] = escaped([name(encoder if of in OF_THE_ENCODER[:2] else of)])
            ticks[down] = f"<b>{title}</b>" if of in OF_THE_ENCODER[:2] else title
            down += 1
        down += 0.6
    return places, ticks


def _colour(of: str, encoder: str, groups: Sequence[str]) -> str:
    if of in OF_THE_ENCODER:
        return colours.encoder_colour(encoder, groups)
    return colours.control_colour(of)


def _range(panels: Iterable[Rows], start_at_zero: bool) -> list[float]:
    ends = [
        end
        for rows in panels
        for intervals in rows.values()
        for interval in intervals.values()
        for end in (interval.mean, interval.low, interval.high)
        if np.isfinite(end)
    ]
    low, high = (0.0 if start_at_zero else min(ends)), max(ends)
    pad = 0.05 * (high - low or 1)
    return [low - pad, high + pad]


def _whisker(figure: Any, column: int, down: float, interval: Interval, colour: str, of: str) -> None:
    strong = of in OF_THE_ENCODER
    if np.isfinite(interval.low):
        figure.add_scatter(
            x=[interval.low, interval.high],
            y=[down, down],
            mode="lines",
            line={"color": colour, "width": 2.6 if strong else 1.8},
            hoverinfo="skip",
            row=1,
            col=column,
        )
    hollow = of == OF_THE_ENCODER[2]
    figure.add_scatter(
        x=[interval.mean],
        y=[down],
        mode="markers",
        marker={
            "color": "var(--paper)" if hollow else colour,
            "size": 9 if strong else 7.5,
            "line": {"color": colour, "width": 2 if hollow else 0},
        },
        text=[str(interval)],
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=column,
    )


def against_cost(
    panels: Mapping[str, Mapping[str, Interval]], costs: Mapping[str, Mapping[str, float]]
) -> Chart:
    """Figures of encoders against the operations it takes to embed an RNN, a panel a figure.

    Args:
        panels: What a panel's figure is → the interval of each encoder.
        costs: What each encoder costs, as `evaluation.results.costs` says it.
    """
    figure = canvas(len(panels), 1, list(panels), height=230, narrowest=300, shared=False)
    everyone, operations = list(costs), [spent["flops"] / 1e6 for spent in costs.values()]
    for row, intervals in enumerate(panels.values(), start=1):
        by_cost = sorted(intervals.items(), key=lambda item: costs[item[0]]["flops"])
        for place, (encoder, interval) in enumerate(by_cost):
            low, high = (end if np.isfinite(end) else interval.mean for end in (interval.low, interval.high))
            spent = costs[encoder]
            figure.add_scatter(
                x=[spent["flops"] / 1e6],
                y=[interval.mean],
                error_y={
                    "array": [high - interval.mean],
                    "arrayminus": [interval.mean - low],
                    "width": 0,
                    "thickness": 2,
                },
                mode="markers+text",
                marker={"color": colours.encoder_colour(encoder, everyone), "size": 9},
                text=escaped([f"  {name(encoder)}"]),
                textposition=("top right", "bottom right")[place % 2],  # neighbours keep clear of each other
                textfont={"size": 11, "color": INK},
                hovertemplate=f"%{{text}}: {interval}; {spent['milliseconds']:.2g} ms an RNN<extra></extra>",
                row=row,
                col=1,
            )
        highest = max((one.high if np.isfinite(one.high) else one.mean) for one in intervals.values())
        figure.update_yaxes(range=[0, 1.15 * highest], row=row, col=1)
    ends = [np.log10(min(operations)) - 0.2, np.log10(max(operations)) + 0.5]
    ticks = [one * 10**power for power in range(-3, 5) for one in (1, 3)]
    figure.update_xaxes(type="log", range=ends, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_xaxes(title_text="million operations an RNN", row=len(panels), col=1)
    return finished(figure)


# --- curves and points -------------------------------------------------------------------------------


def learning_curves(histories: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]], axis: str) -> Chart:
    """Training and validation loss of every seed, a panel an encoder."""
    figure = small_panels([name(encoder) for encoder in histories], height=210)
    highest = 0.0
    for column, (encoder, seeds) in enumerate(histories.items(), start=1):
        colour = colours.encoder_colour(encoder, list(histories))
        for seed, history in seeds.items():
            for curve, label, line in (
                ("train_loss", "training", {"color": FAINT, "width": 1.2}),
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
                    row=1,
                    col=column,
                )
    figure.update_xaxes(title_text="training step", rangemode="tozero", nticks=5)
    figure.update_yaxes(title_text=axis, col=1)
    figure.update_yaxes(range=[0, 1.15 * highest] if highest else None)
    return finished(figure)


def emulated(tables: Mapping[str, Sequence[pa.Table]]) -> Chart:
    """Original against emulated performance, a panel an encoder, a point an RNN and seed."""
    shown = {encoder: of_seeds for encoder, of_seeds in tables.items() if of_seeds}
    figure = small_panels([name(encoder) for encoder in shown], height=230)
    for column, (encoder, of_seeds) in enumerate(shown.items(), start=1):
        figure.add_scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": QUIET, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            row=1,
            col=column,
        )
        for table in of_seeds:
            figure.add_scatter(
                x=table["original"].to_pylist(),
                y=table["emulated"].to_pylist(),
                mode="markers",
                marker={"color": colours.encoder_colour(encoder, list(shown)), "size": 5.5, "opacity": 0.45},
                text=escaped(table["id"].to_pylist()),
                hovertemplate="%{text}: original %{x:.2f}, emulated %{y:.2f}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="performance of the RNN", range=[-0.03, 1.03])
    figure.update_yaxes(title_text="performance of its emulation", col=1)
    figure.update_yaxes(range=[-0.03, 1.03])
    return finished(figure)


# --- maps --------------------------------------------------------------------------------------------


def maps(table: pa.Table, columns: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> Chart:
    """The embedding map, once for each way to colour it; `columns` as `colour_columns` gives them."""
    figure = canvas(1, len(columns), titles, height=400, narrowest=290, shared=False, square=True)
    count = table.num_rows
    size = 3.5 if count > 3000 else 5 if count > 800 else 6.5
    labels = escaped(table["label" if "label" in table.column_names else "id"].to_pylist())
    for place, column in enumerate(columns, start=1):
        figure.add_scatter(
            x=table["x"].to_pylist(),
            y=table["y"].to_pylist(),
            mode="markers",
            marker={"size": size, "opacity": 0.85, "line": {"width": 0}, **_colouring(column)},
            text=labels,
            hovertemplate="%{text}<extra></extra>",
            row=1,
            col=place,
        )
        figure.update_yaxes(scaleanchor=f"x{place if place > 1 else ''}", row=1, col=place)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finished(figure)


def _colouring(column: Mapping[str, Any]) -> dict[str, Any]:
    """How the markers of a map are coloured: by a scale with a bar, or by categories."""
    if column["kind"] == "category":
        chosen = column["colors"]
        return {"color": [FAINT if code is None else chosen[code] for code in column["values"]]}
    cyclic = column["cyclic"]
    bar = {"thickness": 9, "outlinewidth": 0, "tickfont": {"color": QUIET}}
    marker = {
        "color": [np.nan if value is None else value for value in column["values"]],
        "colorscale": scale("cyclic" if cyclic else "sequential"),
        "showscale": True,
        "colorbar": bar,
    }
    if cyclic:
        marker |= {"cmin": 0, "cmax": 360}
        bar |= {"tickvals": list(range(0, 361, 90)), "ticksuffix": "°"}
    elif column["kind"] == "ordered":
        codes = list(range(len(column["categories"])))
        bar |= {"tickvals": codes, "ticktext": escaped(column["categories"])}
    return marker
