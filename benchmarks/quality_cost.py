"""Quality of encoders against what they cost on several zoos: a picture, and tables as Markdown.

    python benchmarks/quality_cost.py OUT.png TITLE=FOLDER:SPLIT [TITLE=FOLDER:SPLIT …]

FOLDER is what `rnnatlas reproduce` wrote, or any folder with an experiment.json of evaluated runs; SPLIT
is the split to show of it. Losses in the picture are divided by those of the unconditional emulator, so that
zoos can be compared.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rnnatlas import encoders
from rnnatlas.evaluation import results
from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.intervals import Interval
from rnnatlas.report import words
from rnnatlas.report.claims import Records
from rnnatlas.report.experiment import Experiment, Results
from rnnatlas.report.plates import base

TASKS = (*words.TASK_SCORES, "labels.rule accuracy")
OTHERS = {
    "task loss": ("task loss", "direction loss", "labels.rule loss"),
    "calibration error of the task": ("task calibration error", "labels.rule calibration error"),
    "step accuracy": ("step accuracy",),
    "performance within a step": (
        "performance correlation within step",
        "labels.accuracy correlation within step",
    ),
}


class Shown:
    """One zoo's records, of one split."""

    def __init__(self, asked: str):
        self.title, place = asked.split("=", 1)
        path, _, self.split = place.rpartition(":")
        folder = Path(path)
        if not (folder / results.PARQUET).is_file():
            results.write(folder, Results(folder, Experiment.load(folder)).table)
        table = results.read(folder)
        self.records, self.costs = Records(table), results.costs(table)

    def __call__(self, names: str | Sequence[str], encoder: str, of: str) -> Interval | None:
        found = [names] if isinstance(names, str) else names
        figures = (self.records.figure(name, self.split, (encoder, of)) for name in found)
        return next((figure for figure in figures if figure is not None), None)

    def of_others(self, names: Sequence[str], of: str) -> Interval | None:
        """A figure without an encoder: of the first that has it."""
        return next((found for encoder in self.costs if (found := self(names, encoder, of))), None)

    def relative(self, encoder: str) -> Interval | None:
        """Loss over that of the unconditional emulator."""
        loss, zero = (
            self(self.records.loss, encoder, "conditioned"),
            self.of_others([self.records.loss], "zero"),
        )
        if loss is None or zero is None:
            return None
        return Interval(loss.mean / zero.mean, loss.low / zero.mean, loss.high / zero.mean, loss.n)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("zoos", nargs="+", metavar="TITLE=FOLDER:SPLIT")
    chosen = parser.parse_args()
    zoos = [Shown(zoo) for zoo in chosen.zoos]
    order = list(dict.fromkeys(encoder for zoo in zoos for encoder in ranked(zoo)))
    with base.style():
        figure = drawn(zoos, order)
        figure.savefig(chosen.out, metadata={"Description": "benchmarks/quality_cost.py"}, dpi=200)
    print("\n".join(table(zoos, order)))


def ranked(zoo: Shown) -> list[str]:
    """Encoders, the lowest loss first."""
    losses = {encoder: zoo(zoo.records.loss, encoder, "conditioned") for encoder in zoo.costs}
    known = {encoder: loss.mean for encoder, loss in losses.items() if loss is not None}
    return sorted(known, key=known.__getitem__)


def drawn(zoos: Sequence[Shown], order: Sequence[str]):
    """A panel a zoo."""
    columns = min(len(zoos), 2)
    rows = -(-len(zoos) // columns)
    figure, panels = base.panels(rows, columns, base.PAGE, 2.3 * rows + 0.7, sharex=True, sharey=True)
    for axes in panels.flat[len(zoos) :]:
        axes.set_visible(False)
    for zoo, axes in zip(zoos, panels.flat, strict=False):
        for encoder in order:
            loss = zoo.relative(encoder) if encoder in zoo.costs else None
            if loss is None:
                continue
            own, cost = look(encoder, order), zoo.costs[encoder]["flops"] / 1e6
            axes.plot([cost] * 2, [max(loss.low, 0), loss.high], color=own["color"], linewidth=1.2, zorder=2)
            axes.plot([cost], [loss.mean], **own, zorder=3)
        axes.axhline(1, color=base.FAINT, linestyle="--", linewidth=0.8)
        axes.set_title(zoo.title)
        axes.set_ylim(0, 1.4)
    for axes in panels.flat[: len(zoos)]:
        base.plain_ticks(axes, [0.001, 0.01, 0.1, 1, 10, 100])
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("million operations to embed an RNN; squares read weights alone")
    for row in panels:
        row[0].set_ylabel("emulation loss / unconditional")
    base.legend(figure, {words.name(one): {**look(one, order), "linestyle": ""} for one in order}, columns=4)
    return figure


def look(encoder: str, order: Sequence[str]) -> Mapping[str, object]:
    """How matplotlib draws an encoder: squares where it reads weights alone."""
    weights = encoder != "hybrid" and getattr(encoders.find(encoder), "reads_weights", False)
    return {"color": base.colour(encoder, order), "marker": "s" if weights else "o", "markersize": 4.5}


def table(zoos: Sequence[Shown], order: Sequence[str]) -> list[str]:
    """Loss and task of all encoders and baselines, then what else their embeddings predict."""
    lines: list[str] = []
    titles = [title for zoo in zoos for title in (f"loss, {zoo.title}", f"task, {zoo.title}")]
    lines += [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for encoder in order:
        cells = [
            cell(zoo(names, encoder, of))
            for zoo in zoos
            for names, of in ((zoo.records.loss, "conditioned"), (TASKS, "embedding"))
        ]
        lines.append(f"| {words.name(encoder)} | {' | '.join(cells)} |")
    for of in ("zero", *TRIVIAL):
        cells = [cell(zoo.of_others(names, of)) for zoo in zoos for names in ([zoo.records.loss], TASKS)]
        if any(cells):
            lines.append(f"| {words.name(of)}, no encoder | {' | '.join(cells)} |")
    for title, names in OTHERS.items():
        lines += [
            "",
            f"| {title} | {' | '.join(zoo.title for zoo in zoos)} |",
            "|---" * (1 + len(zoos)) + "|",
        ]
        for encoder in order:
            cells = [cell(zoo(names, encoder, "embedding")) for zoo in zoos]
            lines.append(f"| {words.name(encoder)} | {' | '.join(cells)} |")
        for of in TRIVIAL:
            cells = [cell(zoo.of_others(names, of)) for zoo in zoos]
            if any(cells):
                lines.append(f"| {words.name(of)}, no encoder | {' | '.join(cells)} |")
    return lines


def cell(interval: Interval | None) -> str:
    """As docs/results writes figures: .031 (.023–.039)."""
    return "" if interval is None else re.sub(r"(?<!\d)0\.", ".", str(interval))


if __name__ == "__main__":
    main()
