"""The report's section on interactive probing: the probing inputs of a few RNNs, and their responses."""

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
from rnnatlas.rnn import Tokens
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
    letters = [*getattr(task, "letters", ""), "BOS", "EOS"]
    inputs, outputs = probing.inputs[:, order[0]], probing.outputs[:, order[0]]

    def names(count: int) -> list[str]:
        return letters if len(letters) == count else [str(i) for i in range(count)]

    responses = {"response": (outputs, names(outputs.shape[-1]))}
    pictured = list(order[:PICTURED])
    images = task.picture(probing.inputs[:, pictured])
    if images is None:
        shown = {"probing input": (inputs, names(inputs.shape[-1]))}
        return {"probing": token_chart(shown | responses, titles)}
    probabilities, classes = probing.outputs[:, pictured, -1].max(-1)
    captions = [
        [f"{digit} ({100 * probability:.0f} %)" for digit, probability in zip(*of_rnn, strict=True)]
        for of_rnn in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]
    pictures = picture_chart(images, titles, captions)
    return {"pictures": pictures, "probing": token_chart(responses, titles)}


def token_chart(
    shown: Mapping[str, tuple[Float[Tensor, "rnn time token"], Sequence[str]]], titles: Sequence[str]
) -> charts.Chart:
    """Probing inputs, responses or both, a column an RNN: the probability of each token at each step.

    Args:
        shown: What is shown in a row of the figure → probabilities, and names of the tokens.
        titles: Names of the RNNs.
    """
    count, rows = len(titles), len(shown)
    tokens = max(len(names) for _, names in shown.values())
    figure = charts.canvas(rows, count, titles, height=30 + 18 * tokens, narrowest=170, side=True)
    for row, (title, (values, names)) in enumerate(shown.items(), start=1):
        for column in range(count):
            figure.add_heatmap(
                z=values[column].T.tolist(),
                x=list(range(1, values.shape[1] + 1)),
                y=list(names),
                zmin=0,
                zmax=1,
                colorscale=charts.scale("heat"),
                showscale=row == 1 and column == count - 1,
                colorbar={
                    "thickness": 9,
                    "outlinewidth": 0,
                    "tickvals": [0, 0.5, 1],
                    "tickfont": {"color": charts.QUIET},
                },
                hovertemplate="%{y} at step %{x}: %{z:.2f}<extra></extra>",
                xgap=1,
                ygap=1,
                row=row,
                col=column + 1,
            )
        figure.update_yaxes(title_text=title, row=row, col=1)
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
