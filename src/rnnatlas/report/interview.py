"""The report's section on interactive probing: the probing inputs of a few RNNs, and their responses."""

import dataclasses
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from rnnatlas import seeds
from rnnatlas.encoders.probing import Probing, ProbingEncoder
from rnnatlas.report import charts, words
from rnnatlas.report.diagnostics import input_differences
from rnnatlas.report.experiment import Results
from rnnatlas.rnn import Signal, Tokens, Values
from rnnatlas.tasks.base import Task

SHOWN = 4
"""RNNs that are looked at."""

PICTURED = 8
"""Probing sequences that are shown as images, those whose inputs differ most between RNNs."""

ENOUGH = 128
"""RNNs, drawn at random, whose probing inputs are compared with one another."""


def interview(results: Results, drawn: MutableMapping[str, charts.Chart]) -> dict[str, Any] | None:
    """Probing inputs and responses of the interactive encoder, for a few RNNs that perform well.

    Args:
        results: The experiment's.
        drawn: Where charts are put: `probing`, and `pictures` where what RNNs read are images.

    Returns:
        What the template says of them; None where there is no interactive encoder or no two RNNs.
    """
    models, task = results.models.get("interactive"), results.zoo.task
    if models is None or task is None:
        return None
    split = words.headline(results.splits) or results.splits[0]
    table = results.zoo.snapshots(split=split)
    if table.num_rows < 2:
        return None
    encoders: dict[int, Any] = {seed: model.encoder for seed, model in models.items()}
    assert all(isinstance(encoder, ProbingEncoder) for encoder in encoders.values())
    some = seeds.stream(0, "interview").permutation(table.num_rows)[:ENOUGH]
    compared = results.zoo.population(table.take(some))
    differences = {
        seed: input_differences(encoder.probe(compared), task.interface.input)
        for seed, encoder in encoders.items()
    }
    seed = next(iter(models))
    chosen, labels = _best_of_each(table, task)
    probing = encoders[seed].probe(results.zoo.population(chosen))
    order = differences[seed].mean(1).argsort(descending=True, stable=True).tolist()
    drawn.update(_charts(task, probing, order, labels))
    return {
        "split": words.split_name(split, task.noun),
        "shown": len(labels),
        "seed": seed,
        "sequence": order[0] + 1,
        "pictured": min(PICTURED, len(order)),
        "sequences": probing.inputs.shape[1],
        "tokens": isinstance(task.interface.input, Tokens),
        "bounded": not isinstance(task.interface.input, Values) or task.interface.input.bounded,
        "inputs": what(task.interface.input),
        "responses": what(task.interface.output),
        "differences": [
            (seed, values.mean().item(), values.max().item()) for seed, values in differences.items()
        ],
    }


def _best_of_each(table: pa.Table, task: Task) -> tuple[pa.Table, list[str]]:
    """The snapshot that performs best on its task, of a few tasks, and names of these."""
    performance = [metrics["performance"] for metrics in table["metrics"].to_pylist()]
    table = table.take(np.argsort([-value for value in performance], kind="stable"))
    labels = [task.label(instance) for instance in table["task"].to_pylist()]
    distinct = list(dict.fromkeys(labels))[:SHOWN]
    return table.take([labels.index(label) for label in distinct]), distinct


def _charts(
    task: Task, probing: Probing, order: Sequence[int], titles: Sequence[str]
) -> dict[str, charts.Chart]:
    reads, gives = task.interface.input, task.interface.output
    inputs, outputs = probing.inputs[:, order[0]], probing.outputs[:, order[0]]
    responses = {"response": Shown(outputs, channels(task, gives, task.output_names), gives)}
    pictured = list(order[:PICTURED])
    images = task.picture(probing.inputs[:, pictured])
    if images is None:
        shown = {"probing input": Shown(inputs, channels(task, reads, task.input_names), reads)}
        return {"probing": signal_chart(shown | responses, titles)}
    probabilities, classes = probing.outputs[:, pictured, -1].max(-1)
    captions = [
        [f"{digit} ({100 * probability:.0f} %)" for digit, probability in zip(*of_rnn, strict=True)]
        for of_rnn in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]
    pictures = picture_chart(images, titles, captions)
    return {"pictures": pictures, "probing": signal_chart(responses, titles)}


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a row of the figure shows: tokens' probabilities or numbers, names of them, and which they are."""

    values: Float[Tensor, "rnn time channel"]
    names: Sequence[str]
    signal: Signal

    @property
    def scale(self) -> tuple[str, list[float]]:
        """Name of the colour scale, and what its ends and middle mean."""
        if isinstance(self.signal, Tokens):
            return "heat", [0.0, 0.5, 1.0]
        if self.signal.low is not None and self.signal.high is not None:
            low, high = float(self.signal.low), float(self.signal.high)
            return "heat", [low, (low + high) / 2, high]
        most = float(f"{self.values.abs().max().item():.2g}") or 1.0
        return "diverging", [-most, 0.0, most]


def channels(task: Task, signal: Signal, own: Sequence[str]) -> list[str]:
    """Names of tokens or of numbers; those that have none are numbered."""
    letters = getattr(task, "letters", None)
    named = [*own] if isinstance(signal, Values) else [*letters, "BOS", "EOS"] if letters else []
    return named if len(named) == signal.size else [str(i) for i in range(signal.size)]


def what(signal: Signal) -> str:
    """What a signal's heat map shows, for the caption."""
    if isinstance(signal, Tokens):
        return "the probability of each token"
    return (
        "each number within its range" if signal.bounded else "each number, with 0 in the middle of the scale"
    )


def signal_chart(shown: Mapping[str, Shown], titles: Sequence[str]) -> charts.Chart:
    """Probing inputs, responses or both, a column an RNN: each token's probability or number at each step.

    Args:
        shown: Title of a row of the figure → what it shows.
        titles: Names of the RNNs.
    """
    count, rows = len(titles), len(shown)
    most = max(len(row.names) for row in shown.values())
    first = next(iter(shown.values())).scale
    alike = all(row.scale == first for row in shown.values())
    figure = charts.canvas(rows, count, titles, height=max(75, 30 + 18 * most), narrowest=170, side=True)
    for place, (title, row) in enumerate(shown.items(), start=1):
        scale, ticks = row.scale
        for column in range(count):
            figure.add_heatmap(
                z=row.values[column].T.tolist(),
                x=list(range(1, row.values.shape[1] + 1)),
                y=charts.escaped(row.names),
                zmin=ticks[0],
                zmax=ticks[-1],
                colorscale=charts.scale(scale),
                showscale=column == count - 1 and (place == 1 or not alike),
                colorbar={
                    "thickness": 9,
                    "outlinewidth": 0,
                    "tickvals": ticks,
                    "tickfont": {"color": charts.QUIET},
                },
                hovertemplate="%{y} at step %{x}: %{z:.2f}<extra></extra>",
                xgap=1,
                ygap=1,
                row=place,
                col=column + 1,
            )
        figure.update_yaxes(title_text=title, row=place, col=1)
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(title_text="probing step", row=rows)
    figure.update_yaxes(showgrid=False, autorange="reversed")
    return charts.finished(figure)


def picture_chart(
    images: Float[Tensor, "rnn probe height width"], rows: Sequence[str], captions: Sequence[Sequence[str]]
) -> charts.Chart:
    """Probing inputs that are images, a row an RNN and a column a probing sequence; what is NaN stays empty.

    Args:
        images: Black 0, white 1.
        rows: Names of the RNNs.
        captions: What stands above each image.
    """
    count = images.shape[1]
    titles = [caption for row in captions for caption in row]
    size = {"height": 120, "narrowest": 70, "square": True}
    figure = charts.canvas(len(rows), count, titles, shared=False, **size)
    for row, rnn in enumerate(charts.escaped(rows), start=1):
        for column in range(1, count + 1):
            figure.add_heatmap(
                z=images[row - 1, column - 1].tolist(),
                zmin=0,
                zmax=1,
                colorscale="Greys_r",
                showscale=False,
                hovertemplate="%{z:.2f}<extra></extra>",
                row=row,
                col=column,
            )
            anchor = (row - 1) * count + column
            scale = {"scaleanchor": f"x{anchor if anchor > 1 else ''}", "constrain": "domain"}
            figure.update_yaxes(autorange="reversed", showticklabels=False, row=row, col=column, **scale)
        figure.update_yaxes(title_text=rnn, row=row, col=1)
    figure.update_xaxes(showticklabels=False, showgrid=False, constrain="domain")
    figure.update_yaxes(showgrid=False)
    return charts.finished(figure)
