"""Opens a zoo of the paper's size, reads it and trains on it: seconds and memory.

    python benchmarks/paper_size_zoo.py --json paper_size_zoo.json

Writes 9000 snapshots of 2×32 LSTMs with 100 rollouts each to a temporary folder (0.7 GB); weights and
rollouts are random numbers. Memory is the peak resident set of a process that does only that part.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.emulation.training import train
from rnnatlas.settings import as_dict
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.format import as_column, shard_name, write_card, write_shard
from rnnatlas.zoo.splits import assign
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.train import ZooSettings

TASK, SETTINGS = FormalLanguages(), ZooSettings()
SPEC = SETTINGS.spec(TASK)


def write(out: Path) -> None:
    instances = [TASK.instance(run, 0) for run in range(SETTINGS.runs)]
    splits = assign(TASK, instances, 0, SETTINGS.split)
    shards = SETTINGS.runs // SETTINGS.runs_per_shard
    for number in range(shards):
        first = number * SETTINGS.runs_per_shard
        runs = range(first, first + SETTINGS.runs_per_shard)
        write_shard(out / shard_name(SPEC, number), shard(runs, instances, splits))
    held = {SPEC: (shards, SETTINGS.runs * len(SETTINGS.snapshots))}
    task = {"name": TASK.name, "settings": as_dict(TASK.settings)}
    write_card(out, task=task, settings=as_dict(SETTINGS), seed=0, expected=held, present=held)


def shard(runs: range, instances: list, splits: list[str]) -> pa.Table:
    stream, steps = np.random.default_rng(runs.start), SETTINGS.snapshots
    rows = [(run, step) for run in runs for step in steps]
    count = len(rows)
    logits = stream.standard_normal(
        (count, SETTINGS.rollouts, TASK.time, TASK.interface.output.size), dtype=np.float32
    )
    outputs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    stored = stream.integers(
        0, TASK.interface.output.size, (count, SETTINGS.rollouts, TASK.settings.length), dtype=np.uint8
    )
    metrics = [pa.array(stream.random(count), pa.float32()) for _ in range(3)]
    return pa.table(
        {
            "id": [f"run-{run:05d}-step-{step:05d}" for run, step in rows],
            "run": pa.array([run for run, _ in rows], pa.int32()),
            "step": pa.array([step for _, step in rows], pa.int32()),
            "task": pa.array([instances[run] for run, _ in rows], TASK.struct),
            "split": [splits[run] for run, _ in rows],
            "seed": pa.array([0] * count, pa.int64()),
            "health": ["ok"] * count,
            "metrics": pa.StructArray.from_arrays(metrics, ["performance", "finished", "loss"]),
            "weights": as_column(stream.standard_normal((count, SPEC.parameters), dtype=np.float32) * 0.2),
            "rollout_inputs": as_column(stored),
            "rollout_outputs": as_column(outputs.astype(np.float16)),
        }
    )


def opening(path: Path) -> None:
    Zoo.open(path)


def reading(path: Path) -> None:
    zoo = Zoo.open(path)
    rows = np.arange(len(zoo))
    zoo.population(rows)
    zoo.rollouts(rows)


def training(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = EmulationSettings(steps=4, validate_every=4)
        train(Zoo.open(path), "statistics", Path(folder) / "run", settings=settings, progress=False)


PARTS = {"opening": opening, "reading everything": reading, "opening and 4 training steps": training}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--part", nargs=2, metavar=("PART", "ZOO"), help="what a subprocess does")
    given = parser.parse_args()
    if given.part:
        start = time.perf_counter()
        PARTS[given.part[0]](Path(given.part[1]))
        seconds = time.perf_counter() - start
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zoo"
        write(path)
        size = sum(file.stat().st_size for file in path.rglob("*.parquet")) / 2**20
        print(f"{SETTINGS.runs * len(SETTINGS.snapshots)} snapshots of {SPEC}, {size:.0f} MiB on disk")
        figures = {}
        for part in PARTS:
            command = [sys.executable, __file__, "--part", part, str(path)]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds, memory = map(float, shown.split()[-2:])
            figures[part] = {"seconds": seconds, "peak_mib": memory}
            print(f"{part:30} {seconds:6.2f} s {memory:6.0f} MiB")
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
