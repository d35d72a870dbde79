"""Is interaction worth it? 240 trainings, their table and picture (docs/decisions/0032-interaction.md).

    python benchmarks/interaction.py FOLDER [--seeds 5] [--workers 2] [--show OUT.png]

Goes on where it was stopped; with --show nothing is trained, and runs that are missing are left out.
"""

import argparse
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnnatlas import encoders, executors, tasks
from rnnatlas.evaluation.model import PREDICTORS
from rnnatlas.executors.base import Job
from rnnatlas.executors.claims import Beat
from rnnatlas.files import write_json
from rnnatlas.intervals import Interval, bootstrap, holm
from rnnatlas.report.plates import base
from rnnatlas.reproduce.jobs import RUNS, ZOO, evaluating, folder_of, training
from rnnatlas.reproduce.settings import LANGUAGES, resolve
from rnnatlas.settings import build
from rnnatlas.zoo import build as zoo
from rnnatlas.zoo.train import ZooSettings

ZOO_SEED, RATE = 62, 0.001
SEQUENCES, STEPS = (1, 2, 4, 8), (7, 14, 22)
READER = {"width": 64, "layers": 1, "logit_scale": 6.0}
INTERVIEW = {**READER, "step_embedding": True}
ARMS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "interactive": ("interactive", INTERVIEW, "interactive", "#d55e00"),
    "ablation": ("interactive", {**INTERVIEW, "interaction": False}, "no interaction", "#999999"),
    "yoked": ("interactive", {**INTERVIEW, "yoked": True}, "yoked", "#cc79a7"),
    "fixed": ("noninteractive", READER, "non-interactive", "#0072b2"),
}
"""Encoder, its settings, its name in figures and its colour."""
OTHERS = [arm for arm in ARMS if arm != "interactive"]
SPLITS = ("new-runs", "test", "ood")
TIMES = "seconds.json"


@dataclasses.dataclass(frozen=True)
class Timed:
    """A training that writes down the processor time that it took, where it was not stopped meanwhile."""

    work: Any

    def __call__(self, beat: Beat) -> None:
        """See the class."""
        fresh, before = not self.work.folder.exists(), time.process_time()
        self.work(beat)
        if fresh:
            write_json(self.work.folder / TIMES, {"seconds": time.process_time() - before})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--show", type=Path)
    chosen = parser.parse_args()
    if chosen.show is None:
        chosen.folder.mkdir(parents=True, exist_ok=True)
        settings = resolve("demo", {}, LANGUAGES)
        task = tasks.registry[LANGUAGES].from_settings(settings["task"])
        of_runs = build(ZooSettings, settings["zoo"], "zoo")
        zoo.build(task, of_runs, chosen.folder / ZOO, seed=ZOO_SEED, workers=chosen.workers, resume=True)
        grid = list(jobs(chosen.folder, chosen.seeds, settings))
        executors.make("local", chosen.workers).run(grid, chosen.folder)
    else:
        print("\n".join(shown(read(chosen.folder, chosen.seeds), chosen.show)))


def place(arm: str, sequences: int, steps: int) -> str:
    """Where an arm's runs of all seeds are."""
    return f"{RUNS}/{arm}.m{sequences}.l{steps}"


def jobs(folder: Path, seeds: int, settings: dict[str, Any]) -> Iterator[Job]:
    """Trainings and evaluations, seed after seed; those of a seed share one unconditional emulator."""
    resolved = {
        **settings,
        "experiment": {**settings["experiment"], "supervised": False, "learning_rates": {}},
    }
    resolved["emulation"] = {**settings["emulation"], "learning_rate": RATE}
    for seed in range(seeds):
        yield training(folder, encoders.CONTROL, seed, resolved, "cpu")
        for sequences, steps, arm in itertools.product(SEQUENCES, STEPS, ARMS):
            encoder, changes, _, _ = ARMS[arm]
            own = {**settings["encoders"].get(encoder, {}), **changes, "sequences": sequences, "steps": steps}
            one = {**resolved, "encoders": {encoder: own}}
            where = place(arm, sequences, steps)
            trained = training(folder, encoder, seed, one, "cpu", where=where)
            yield dataclasses.replace(trained, work=Timed(trained.work))
            yield evaluating(folder, encoder, seed, one, "cpu", 0, where=where)


# --- what was found ------------------------------------------------------------------------------------


def read(folder: Path, seeds: int) -> Any:
    """Loss and task accuracy of each run, of each snapshot of the untouched splits."""
    found: list[Any] = []
    for arm, sequences, steps, seed in itertools.product(ARMS, SEQUENCES, STEPS, range(seeds)):
        run = folder / folder_of(ARMS[arm][0], seed, place(arm, sequences, steps))
        if not (run / PREDICTORS).is_file():
            continue
        one: Any = pd.read_parquet(run / "losses.parquet")
        one = one[one.divergence == "total-variation"].set_index("id")
        frozen: Any = pd.read_parquet(run / "predictions.parquet")
        frozen = frozen[(frozen.property == "task") & (frozen.predictor == "embedding")].set_index("id")
        one = one[["run", "split", "task", "conditioned"]].join(frozen[["accuracy"]])
        spent = run / TIMES
        one["seconds"] = json.loads(spent.read_text())["seconds"] if spent.is_file() else np.nan
        found.append(one.assign(arm=arm, m=sequences, l=steps, seed=seed).reset_index())
    if not found:
        raise SystemExit(f"{folder} has no evaluated runs yet; leave --show out to train them")
    table: Any = pd.concat(found)
    return table[table.split.isin(SPLITS)]


def means(table: Any, value: str, split: str, arm: str, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over L [seed, snapshot], of the seeds that all arms have, and the language of each snapshot."""
    own = table[(table.split == split) & (table.m == m)].dropna(subset=[value])
    whole = own.groupby("seed")[["arm", "l"]].apply(lambda one: len(one.drop_duplicates()))
    own = own[own.seed.isin(whole.index[whole == len(ARMS) * len(STEPS)]) & (own.arm == arm)]
    found = own.groupby(["id", "task", "seed"])[value].mean().unstack("seed")
    return found.to_numpy().T, found.index.get_level_values("task").to_numpy().astype(str)


def shown(table: Any, picture: Path) -> list[str]:
    """The verdicts, the grid as tables, and the picture."""
    lines = ["| M | loss on new runs, interactive − | difference | p | corrected |", "|---|---|---|---|---|"]
    differences = {}
    for m in SEQUENCES:
        own, tasks = means(table, "conditioned", "new-runs", "interactive", m)
        for other in OTHERS if len(own) else ():
            beside, _ = means(table, "conditioned", "new-runs", other, m)
            differences[m, ARMS[other][2]] = bootstrap(own - beside, tasks)
    corrected = holm([found.p for found in differences.values()])
    for ((m, other), found), p in zip(differences.items(), corrected, strict=True):
        lines.append(f"| {m} | {other} | {found} | {found.p:.2g} | {p:.2g} |")
    for title, value in (("emulation loss", "conditioned"), ("task accuracy", "accuracy")):
        for split in SPLITS:
            lines += ["", f"| {title}, {split} | {' | '.join(f'M = {m}' for m in SEQUENCES)} |"]
            lines.append("|---" * (1 + len(SEQUENCES)) + "|")
            for arm, (_, _, name, _) in ARMS.items():
                cells = [str(_mean(*means(table, value, split, arm, m)) or "") for m in SEQUENCES]
                lines.append(f"| {name} | {' | '.join(cells)} |")
    cells = table.drop_duplicates(["arm", "m", "l", "seed"])
    spent = cells.groupby(["arm", "m", "l"]).seconds.median().unstack("arm")
    lines += ["", "Processor seconds of a training (median), by M and L:", "", spent.round(0).to_string()]
    with base.style():
        drawn(table).savefig(picture, dpi=200, metadata={"Description": "benchmarks/interaction.py"})
    return lines


def _mean(values: np.ndarray, tasks: np.ndarray) -> Interval | None:
    return bootstrap(values, tasks) if len(values) else None


def drawn(table: Any) -> Any:
    """Loss and task accuracy on new runs against queries M × L, and loss against seconds."""
    figure, panels = base.panels(1, 3, base.PAGE, 2.6)
    own = table[table.split == "new-runs"]
    for arm, (_, _, _, colour) in ARMS.items():
        cells = own[own.arm == arm].groupby(["m", "l"])
        queries = [math.prod(cell) for cell in cells.groups]
        for axes, x, value in zip(
            panels[0],
            (queries, queries, cells.seconds.median()),
            ("conditioned", "accuracy", "conditioned"),
            strict=True,
        ):
            axes.plot(x, cells[value].mean(), "o", color=colour, markersize=3.5, alpha=0.9)
    titles: Sequence[tuple[str, str]] = (
        ("emulation loss", "responses read, M × L"),
        ("task accuracy", "responses read, M × L"),
        ("emulation loss", "processor seconds of training"),
    )
    for axes, (title, below) in zip(panels[0], titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel(below)
    for axes in panels[0, :2]:
        base.plain_ticks(axes, [7, 14, 28, 56, 112, 176])
    base.legend(
        figure,
        {name: {"color": colour, "marker": "o", "linestyle": ""} for _, _, name, colour in ARMS.values()},
    )
    return figure


if __name__ == "__main__":
    main()
