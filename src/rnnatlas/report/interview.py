"""The report's section on interactive probing: what it asks a few RNNs, and what they answer."""

import html
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
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
"""Probing sequences that are shown as images, those whose questions differ most."""

ENOUGH = 128
"""RNNs, drawn at random, whose questions are compared with one another."""


def interview(results: Results, made: MutableMapping[str, charts.Chart]) -> dict[str, Any] | None:
    """Questions and answers of the interactive encoder, for a few RNNs that do well.

    Args:
        results: The experiment's.
        made: Where charts are put: `probing`, and `pictures` where what RNNs read are images.

    Returns:
        What the template says of them; None where there is no interactive encoder or no two RNNs.
    """
    own, task = results.models.get("interactive"), results.zoo.task
    if own is None or task is None:
        return None
    split = words.headline(results.splits) or results.splits[0]
    table = results.zoo.snapshots(split=split)
    if table.num_rows < 2:
        return None
    encoders: dict[int, Any] = {seed: model.encoder for seed, model in own.items()}
    assert all(isinstance(encoder, ProbingEncoder) for encoder in encoders.values())
    some = seeds.stream(0, "interview").permutation(table.num_rows)[:ENOUGH]
    population = results.zoo.population(table.take(some))
    differ = {
        seed: input_differences(encoder.probe(population), task.interface.input)
        for seed, encoder in encoders.items()
    }
    seed = next(iter(own))
    performance = [metrics["performance"] for metrics in table["metrics"].to_pylist()]
    table = table.take(np.argsort([-value for value in performance], kind="stable"))
    labels = [task.label(instance) for instance in table["task"].to_pylist()]
    chosen = [labels.index(label) for label in dict.fromkeys(labels)][:SHOWN]
    asked = encoders[seed].probe(results.zoo.population(table.take(chosen)))
    order = differ[seed].mean(1).argsort(descending=True, stable=True).tolist()
    made.update(_charts(task, asked, order, [html.escape(labels[i]) for i in chosen]))
    return {
        "split": words.split_name(split, task.noun),
        "shown": len(chosen),
        "seed": seed,
        "sequence": order[0] + 1,
        "pictured": min(PICTURED, len(order)),
        "sequences": asked.inputs.shape[1],
        "tokens": isinstance(task.interface.input, Tokens),
        "differences": [(seed, values.mean().item(), values.max().item()) for seed, values in differ.items()],
    }


def _charts(
    task: Task, asked: Probing, order: Sequence[int], titles: Sequence[str]
) -> dict[str, charts.Chart]:
    letters = [*getattr(task, "letters", ""), "BOS", "EOS"]
    inputs, outputs = asked.inputs[:, order[0]], asked.outputs[:, order[0]]

    def names(count: int) -> list[str]:
        return letters if len(letters) == count else [str(i) for i in range(count)]

    answer = {"answer": (outputs, names(outputs.shape[-1]))}
    shown = list(order[:PICTURED])
    images = task.picture(asked.inputs[:, shown])
    if images is None:
        question = {"question": (inputs, names(inputs.shape[-1]))}
        return {"probing": token_chart(question | answer, titles)}
    share, best = asked.outputs[:, shown, -1].max(-1)
    said = [
        [f"{name} ({100 * own:.0f} %)" for name, own in zip(*rnn, strict=True)]
        for rnn in zip(best.tolist(), share.tolist(), strict=True)
    ]
    return {"pictures": picture_chart(images, titles, said), "probing": token_chart(answer, titles)}


def token_chart(
    shown: Mapping[str, tuple[Float[Tensor, "rnn time token"], Sequence[str]]], titles: Sequence[str]
) -> charts.Chart:
    """Questions, answers or both, a column an RNN: the probability of each token at each step.

    Args:
        shown: What is shown in a row of the figure → probabilities, and names of the tokens.
        titles: Names of the RNNs.
    """
    count, rows = len(titles), len(shown)
    figure = charts.canvas(rows, count, [*titles, *[""] * (count * (rows - 1))], shared_xaxes=True,
                            shared_yaxes=True, horizontal_spacing=0.02, vertical_spacing=0.07)  # fmt: skip
    for row, (values, tokens) in enumerate(shown.values(), start=1):
        for column in range(count):
            figure.add_heatmap(
                z=values[column].T.tolist(),
                x=list(range(1, values.shape[1] + 1)),
                y=list(tokens),
                zmin=0,
                zmax=1,
                colorscale=[[0, "#f7f5f0"], [0.35, "#9ad2bd"], [0.7, "#2b8f7d"], [1, "#0b3d4f"]],
                showscale=row == 1 and column == count - 1,
                colorbar={
                    "thickness": 9,
                    "len": 0.5 if rows > 1 else 0.9,
                    "y": 0.76 if rows > 1 else 0.5,
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
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(title_text="probing step", row=rows)
    figure.update_yaxes(showgrid=False, autorange="reversed")
    for row, title in enumerate(shown, start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    return charts.finished(figure, 330 if rows > 1 else 270)


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
    figure = charts.canvas(len(rows), count, titles, horizontal_spacing=0.012, vertical_spacing=0.06)
    for row, name_of in enumerate(rows, start=1):
        for column in range(1, count + 1):
            place = {"row": row, "col": column}
            figure.add_heatmap(
                z=images[row - 1, column - 1].tolist(),
                zmin=0,
                zmax=1,
                colorscale="Greys_r",
                showscale=False,
                hovertemplate="%{z:.2f}<extra></extra>",
                **place,
            )
            anchor = (row - 1) * count + column
            scale = {"scaleanchor": f"x{anchor if anchor > 1 else ''}", "constrain": "domain"}
            figure.update_yaxes(autorange="reversed", showticklabels=False, showgrid=False, **scale, **place)
            figure.update_xaxes(showticklabels=False, showgrid=False, constrain="domain", **place)
        figure.update_yaxes(title_text=name_of, row=row, col=1)
    figure.update_annotations(font={"size": 11.5, "color": charts.QUIET})
    return charts.finished(figure, 40 + 140 * len(rows))
