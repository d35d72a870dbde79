"""Weak scaling of zoo building on Ray, what a job costs besides its work, and what large zoos would cost.

    python benchmarks/scaling_out.py --json docs/results/scaling-out.json --page docs/clusters.md

Two workers of a Ray cluster build a zoo of twice as many RNNs as each of two independent processes builds;
efficiency is the time of the latter over that of the former. Contenders take turns. Starting a cluster, with
imports of its workers, is measured by itself: it comes once. Overhead is the time of jobs that do nothing.
From training, files, embedding and atlas of one zoo follows what 1 million and 100 million RNNs would cost,
if all grew in proportion. Needs rnnatlas[ray,slurm] and a machine without other work.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnnatlas import executors, settings, tasks
from rnnatlas.executors.base import Job
from rnnatlas.zoo.build import build
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.train import ZooSettings

TASK = "formal-languages"
LARGE = (10**6, 10**8)
"""RNNs that costs are extrapolated to; of each, all snapshots that the preset keeps."""

ALONE = """
import sys, time
from pathlib import Path
from benchmarks.scaling_out import zoo_of
ready, go = Path(sys.argv[1] + ".ready"), Path(sys.argv[2])
import rnnatlas.zoo.train, rnnatlas.tasks.formal_languages
ready.touch()
while not go.exists():
    time.sleep(0.001)
start = time.time()
zoo_of(sys.argv[3], int(sys.argv[4]), sys.argv[1], seed=int(sys.argv[5]), workers=1)
print(time.time() - start)
"""


@dataclasses.dataclass(frozen=True)
class Nothing:
    """A job that does nothing but leave its output."""

    path: Path

    def __call__(self, beat: Callable[[int], None]) -> None:
        """Leaves it."""
        self.path.touch()


def zoo_of(preset: str, runs: int, out: str, seed: int = 0, **options: Any) -> Zoo:
    """A zoo of so many runs, on the CPU."""
    values = settings.preset(preset, TASK)
    task = tasks.registry[TASK].from_settings(values["task"])
    chosen = settings.build(ZooSettings, {**values["zoo"], "runs": runs}, "zoo")
    return build(task, chosen, out, seed=seed, device="cpu", **options)


def independent(preset: str, runs: int, folder: Path) -> float:
    """Seconds until the later one of two processes has built its zoo."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    go, outs = folder / "go", [str(folder / name) for name in ("one", "two")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, out, str(go), preset, str(runs), str(number)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number, out in enumerate(outs)
    ]
    while not all(Path(f"{out}.ready").exists() for out in outs):
        time.sleep(0.01)
    go.touch()
    return max(float(process.communicate()[0]) for process in processes)


def on_ray(preset: str, runs: int, folder: Path) -> float:
    """Seconds in which two workers, who are there, build a zoo of twice as many runs."""
    start = time.perf_counter()
    zoo_of(preset, 2 * runs, str(folder / "zoo"), executor="ray", workers=2, options=RAY)
    return time.perf_counter() - start


RAY = {"address": "local", "dashboard": False}
OVERHEAD = {"local": ({}, 200), "ray": (RAY, 200), "slurm": ({"cluster": "local"}, 4)}
"""Executors with their options, and how many jobs their overhead is measured by."""


def overhead(name: str) -> dict[str, float]:
    """Seconds to have two workers ready, and seconds a job of two at a time, of jobs that do nothing."""
    options, count = OVERHEAD[name]
    with tempfile.TemporaryDirectory() as place:
        folder, took = Path(place), []
        executor = executors.make(name, 2, 1, options)
        for first, jobs in (("warm", 2), ("job", count)):
            start = time.perf_counter()
            names = [f"{first}{number}" for number in range(jobs)]
            executor.run(
                [Job(name=own, work=Nothing(folder / own), output=folder / own) for own in names], folder
            )
            took.append(time.perf_counter() - start)
        return {"start": took[0], "job": took[1] / count}


def costs(preset: str, runs: int, folder: Path) -> dict[str, float]:
    """Seconds of one core and bytes of an RNN's snapshots: training, files, embedding, atlas."""
    from rnnatlas.atlas.embed import embed
    from rnnatlas.emulation.training import resolve, train
    from rnnatlas.evaluation.model import load
    from rnnatlas.executors.base import limited

    start = time.perf_counter()
    zoo = zoo_of(preset, runs, str(folder / "zoo"), workers=1)
    training = time.perf_counter() - start
    files = sum(path.stat().st_size for path in (folder / "zoo").rglob("*.parquet"))
    few = {"emulation": {"steps": 2, "validate_every": 2}}
    train(zoo, "responses", folder / "run", progress=False, **resolve(zoo, "responses", preset, few))
    model, rows = load(folder / "run"), zoo.snapshots()
    with limited(1):
        rnns = zoo.population(rows)
        model.embed(rnns.select(list(range(min(64, len(rnns))))))
        start = time.perf_counter()
        model.embed(rnns)
        embedding = time.perf_counter() - start
    embed(model, zoo, layout="pca").save(folder / "atlas")
    atlas = sum(path.stat().st_size for path in (folder / "atlas").rglob("*") if path.is_file())
    share = len(zoo) / runs  # snapshots of an RNN
    return {
        "snapshots": share,
        "training_seconds": training / runs,
        "bytes": files / runs,
        "embedding_seconds": embedding / rows.num_rows * share,
        "atlas_bytes": atlas / rows.num_rows * share,
    }


def extrapolated(found: dict[str, float]) -> list[dict[str, float]]:
    """What so many RNNs cost, in proportion: core-hours, terabytes, gigabytes."""
    return [
        {
            "rnns": count,
            "training core-hours": found["training_seconds"] * count / 3600,
            "zoo TB": found["bytes"] * count / 1e12,
            "embedding core-hours": found["embedding_seconds"] * count / 3600,
            "atlas GB": found["atlas_bytes"] * count / 1e9,
        }
        for count in LARGE
    ]


MARKS = ("<!-- measured -->\n", "<!-- until here -->\n")
"""Between these the page has what was measured."""


def write_page(path: Path, document: dict[str, Any]) -> None:
    """Puts the figures between the marks of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    seconds = {name: statistics.median(own) for name, own in document["seconds"].items()}
    lines = [
        f"{2 * document['runs']} RNNs of the preset `{document['preset']}` on two cores, medians of "
        f"{len(document['seconds']['Ray'])}; load of the machine before: {document['load_before']:.2f}.\n",
        "| | |\n|---|---|",
        f"| two independent processes | {seconds['two processes']:.1f} s |",
        f"| two workers of a Ray cluster | {seconds['Ray']:.1f} s |",
        f"| weak-scaling efficiency | {document['efficiency']:.0%} |\n",
        "| executor | until two workers are ready | a job, besides its work |\n|---|---|---|",
    ]
    for name, own in document["overhead"].items():
        called = "slurm, without Slurm (a process a job)" if name == "slurm" else name
        lines.append(f"| {called} | {own['start']:.1f} s | {own['job'] * 1e3:.1f} ms |")
    rows = document["extrapolated"]
    lines += ["\nIn proportion to what these RNNs took:\n"]
    lines += [f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}"]
    lines += [f"| {' | '.join(f'{value:,.3g}' for value in row.values())} |" for row in rows]
    after = rest.partition(MARKS[1])[2]
    path.write_text(before + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + after, encoding="utf-8")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--runs", type=int, default=384, help="RNNs of each independent process")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    overheads = {name: overhead(name) for name in OVERHEAD}  # Ray's workers are warm from here on
    times: dict[str, list[float]] = {"two processes": [], "Ray": []}
    for _ in range(chosen.repeats):
        for name, measure in (("two processes", independent), ("Ray", on_ray)):
            with tempfile.TemporaryDirectory() as place:
                times[name].append(measure(chosen.preset, chosen.runs, Path(place)))
    with tempfile.TemporaryDirectory() as place:
        found = costs(chosen.preset, chosen.runs, Path(place))
    seconds = {name: statistics.median(own) for name, own in times.items()}
    document = {
        "preset": chosen.preset,
        "runs": chosen.runs,
        "load_before": load,
        "seconds": times,
        "efficiency": seconds["two processes"] / seconds["Ray"],
        "overhead": overheads,
        "of an RNN": found,
        "extrapolated": extrapolated(found),
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(document, indent=2) + "\n")
    if chosen.page:
        write_page(chosen.page, document)
    print(f"two processes {seconds['two processes']:.1f} s, Ray {seconds['Ray']:.1f} s, ", end="")
    print(f"efficiency {document['efficiency']:.0%}; load before {load:.2f}")
    for name, own in overheads.items():
        print(f"{name}: {own['start']:.2f} s to start, {own['job'] * 1e3:.1f} ms a job")
    for row in document["extrapolated"]:
        print(", ".join(f"{name} {value:,.4g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
