"""Encoders on RNNs of architectures that they were not trained on: one table over several zoos and seeds.

    python benchmarks/zero_shot.py EXPERIMENT ZOO [ZOO …] [--encoders responses,interactive] [--workers 2]

Evaluates each run of an experiment's encoders on each of the other zoos, unless that is done, and prints task
accuracy and emulation loss of RNNs with known and with OOD tasks, by architecture. Intervals are over tasks
and training seeds. Predictors are the experiment's; nothing is fitted to the other zoos.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnnatlas import executors
from rnnatlas.evaluation.evaluate import FIGURES, LOSSES, PREDICTIONS, evaluate, other_folder
from rnnatlas.evaluation.features import FIXED_INPUTS
from rnnatlas.executors.base import Job
from rnnatlas.executors.claims import Beat
from rnnatlas.intervals import bootstrap
from rnnatlas.report.experiment import Experiment
from rnnatlas.report.words import name
from rnnatlas.rnn import RNNSpec
from rnnatlas.zoo.store import Zoo

GROUPS = ("known", "ood")
ALL = "all others"


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """Evaluates a run on another zoo than its own."""

    run: Path
    zoo: Path

    def __call__(self, beat: Beat) -> None:
        """Fills a folder of the run's."""
        evaluate(self.run, Zoo.open(self.zoo), device="cpu")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("zoos", type=Path, nargs="+")
    parser.add_argument("--encoders")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    experiment = Experiment.load(chosen.experiment)
    encoders = chosen.encoders.split(",") if chosen.encoders else list(experiment.runs)
    runs = {
        encoder: [chosen.experiment / run for run in experiment.runs[encoder].values()]
        for encoder in encoders
    }
    zoos = [Zoo.open(zoo) for zoo in chosen.zoos]
    jobs = [
        Job(
            name=f"{run.name} on {zoo.identity}",
            work=Elsewhere(run.resolve(), Path(str(zoo.path)).resolve()),
            output=other_folder(run, zoo) / FIGURES,
        )
        for own in runs.values()
        for run in own
        for zoo in zoos
    ]
    executors.make("local", chosen.workers).run(jobs, chosen.experiment)
    own = Zoo.open(chosen.experiment / experiment.zoo)
    trained = {str(spec) for spec in own.specs}
    print("\n".join(shown({encoder: read(runs[encoder], zoos) for encoder in encoders}, trained)))


def read(runs: Sequence[Path], zoos: Sequence[Zoo]) -> Any:
    """Task accuracy by what predictors read, and emulation losses, of each snapshot and seed."""
    found: list[Any] = []
    for zoo in zoos:
        named = {slug: str(RNNSpec.from_slug(slug)) for slug in zoo.table["spec"].unique().to_pylist()}
        slugs = dict(zip(zoo.table["id"].to_pylist(), zoo.table["spec"].to_pylist()))
        specs = {one: named[slug] for one, slug in slugs.items()}
        for seed, run in enumerate(runs):
            folder = other_folder(run, zoo)
            frozen: Any = pd.read_parquet(folder / PREDICTIONS)
            frozen = frozen[frozen.property == "task"][["id", "split", "task", "predictor", "accuracy"]]
            frozen = frozen.rename(columns={"predictor": "of", "accuracy": "value"}).assign(what="task")
            lost: Any = pd.read_parquet(folder / LOSSES)
            lost = lost[lost.divergence == lost.divergence.iloc[0]]
            for of in ("conditioned", "zero"):
                one = lost[["id", "split", "task"]].assign(of=of, value=lost[of], what="loss")
                found.append(one.assign(seed=seed, zoo=zoo.identity, spec=one.id.map(specs)))
            found.append(frozen.assign(seed=seed, zoo=zoo.identity, spec=frozen.id.map(specs)))
    return pd.concat(found)


def shown(tables: dict[str, Any], trained: set[str]) -> Iterator[str]:
    """A row an architecture, and one of all that no encoder was trained on."""
    first = next(iter(tables.values()))
    specs = sorted(first.spec.unique(), key=lambda spec: (spec not in trained, spec))
    for group in GROUPS:
        for what in ("task", "loss"):
            of = "embedding" if what == "task" else "conditioned"
            extra = "best fixed inputs" if what == "task" else "unconditional (z = 0)"
            yield f"| {group}, {what} | {' | '.join(map(name, tables))} | {extra} |"
            yield "|---" * (len(tables) + 2) + "|"
            for spec in [*specs, ALL]:
                rows = [
                    table[
                        (table.split == group)
                        & (table.what == what)
                        & (~table.spec.isin(trained) if spec == ALL else table.spec == spec)
                    ]
                    for table in tables.values()
                ]
                beside = (
                    max((_figure(rows[0], kind) for kind in FIXED_INPUTS), key=lambda one: one[0])[1]
                    if what == "task"
                    else _figure(rows[0], "zero")[1]
                )
                cells = [_figure(one, of)[1] for one in rows]
                mark = " (trained on)" if spec in trained else ""
                yield f"| {spec}{mark} | {' | '.join(cells)} | {beside} |"
            yield ""


def _figure(rows: Any, of: str) -> tuple[float, str]:
    """Mean and interval of what was read or conditioned on, over tasks and seeds."""
    own = rows[rows.of == of]
    if own.empty:
        return -np.inf, ""
    found = own.pivot(index=["zoo", "id", "task"], columns="seed", values="value").dropna()
    tasks = found.index.get_level_values("task").to_numpy().astype(str)
    bounds = (0.0, np.inf if of in ("conditioned", "zero") else 1.0)
    interval = bootstrap(found.to_numpy().T, tasks, bounds=bounds)
    return interval.mean, str(interval)


if __name__ == "__main__":
    main()
