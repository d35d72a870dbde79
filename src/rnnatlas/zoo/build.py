"""Building a zoo: which runs form a unit, who does it, what is kept and how it goes on after a stop."""

import dataclasses
import errno
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnatlas import devices, executors
from rnnatlas.errors import OutputExists, RNNAtlasError, SettingsError
from rnnatlas.executors.base import Executor, Job
from rnnatlas.executors.claims import Beat
from rnnatlas.files import sweep
from rnnatlas.rnn import RNNSpec
from rnnatlas.settings import as_dict
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.folder import Folder
from rnnatlas.zoo.format import read_card, shard_name, write_card, write_shard
from rnnatlas.zoo.splits import assign
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.target import File, Target
from rnnatlas.zoo.train import Chunk, ZooSettings, snapshots_table

Counts = Mapping[RNNSpec, tuple[int, int]]
"""Files and snapshots by architecture."""

ON_A_GPU = 1000
"""RNNs that a GPU trains side by side; of the paper's, they and their metrics take a few GB."""


def build(
    task: Task,
    settings: ZooSettings,
    out: Path | str,
    *,
    seed: int = 0,
    executor: str = "local",
    workers: int | None = None,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Zoo:
    """Trains a zoo's RNNs and keeps their snapshots.

    `settings.runs_per_shard` runs become one file, whole or not at all, so a build that is stopped loses no
    more than the files under way.

    Args:
        task: What the RNNs are trained to do.
        settings: How many RNNs, and how they are trained.
        out: The zoo's folder, or an address such as s3://bucket/zoo, which should not exist yet.
        seed: With a run's number, decides everything random about the run.
        executor: Where jobs run: a name of `rnnatlas.executors.registry`.
        workers: Jobs at a time; None for as many as there are processors. A GPU of this machine is one
            process's.
        device: "cpu", "cuda" or "auto", which is a GPU where there is one. A GPU trains `ON_A_GPU` RNNs side
            by side, whichever files they go to.
        options: Settings of the executor.
        resume: Go on with a build that was stopped, leaving what is there as it is.
        progress: Show a progress bar on stderr.

    Raises:
        OutputExists: `out` holds something and `resume` is not set.
        SettingsError: `resume` is set, but `out` was begun with other settings; or `device` is "cuda" and
            there is none, or what is asked for besides is for processors; or runs should be held out of tasks
            that each have but one.
        DataError: RNNs are missing, and so are the task's data, or they are damaged.
        RNNAtlasError: The disk is full.
    """
    target = Target(str(out))
    if executor == "local":
        device = choose_device(device, workers)
        workers = 1 if device == "cuda" else workers
    runner: Executor = executors.make(executor, workers, options=options)
    device = runner.choose(device)
    chunks = _chunks(task, settings, seed)
    card: dict[str, Any] = {
        "task": {"name": task.name, "settings": as_dict(task.settings)},
        "settings": as_dict(settings),
        "seed": seed,
        "expected": _counts(chunks),
        "shards_of": next(iter(chunks.values())).zoo,
    }
    folder, rate = target.folder, "RNN-steps/s" if progress else None
    with _clear_about_full_disks(folder):
        _check(target, card, resume)
        jobs = _jobs(target, chunks, settings, device)
        if jobs:
            task.prepare(progress=progress)
        _tidy(folder)
        _write_card(target, card, chunks)
        runner.run(jobs, folder, "training RNNs", rate)
        while jobs := _jobs(target, chunks, settings, device):  # of files that another build left to this one
            runner.run(jobs, folder, "training RNNs", rate)
        _write_card(target, card, chunks)
    return Zoo.open(out)


def _chunks(task: Task, settings: ZooSettings, seed: int) -> dict[str, Chunk]:
    """Which runs, all of one architecture, become which file."""
    instances = [task.instance(run, seed) for run in range(settings.runs)]
    splits = assign(task, instances, seed, settings.split)
    by_spec: dict[RNNSpec, list[int]] = {}
    for run in range(settings.runs):
        by_spec.setdefault(settings.spec(task, run, seed), []).append(run)
    chunks = {}
    for spec, every in by_spec.items():
        for number, first in enumerate(range(0, len(every), settings.runs_per_shard)):
            runs = every[first : first + settings.runs_per_shard]
            chunks[shard_name(spec, number)] = Chunk(
                task, settings, seed, runs, [splits[run] for run in runs]
            )
    return chunks


def _counts(chunks: Mapping[str, Chunk], there: Callable[[str], bool] = lambda name: True) -> Counts:
    """Files and snapshots of each architecture, of the files that are there."""
    counts: dict[RNNSpec, tuple[int, int]] = {}
    for name, chunk in chunks.items():
        files, rows = counts.get(chunk.spec, (0, 0))
        added = len(chunk.runs) * len(chunk.settings.snapshots)
        counts[chunk.spec] = (files + 1, rows + added) if there(name) else (files, rows)
    return counts


def _check(target: Target, card: Mapping[str, Any], resume: bool) -> None:
    """Makes sure that there is nothing at `out`, or what is to be resumed."""
    out = target.place
    if not resume or not target.file("zoo.json").exists():
        try:
            target.check_free()
        except OutputExists:
            raise OutputExists(
                f"{out} exists already; choose another --out, or go on with a zoo begun there with --resume"
            ) from None
        return
    begun = read_card(Folder(out))
    for part in ("task", "seed", "settings"):
        if begun[part] != card[part]:
            raise SettingsError(
                f"{out} was begun with another {part} ({_difference(begun[part], card[part])}); resume it "
                "with the same, or choose another --out"
            )


def _tidy(out: Path) -> None:
    """Removes what processes left that were killed while they wrote; another build may be writing now."""
    for folder in (out, *(out / "data").glob("*/")):
        sweep(folder)


def _difference(begun: Any, now: Any) -> str:
    if isinstance(begun, dict) and isinstance(now, dict):
        key = next(key for key in {**begun, **now} if begun.get(key) != now.get(key))
        return f"{key}: {_difference(begun.get(key), now.get(key))}"
    return f"{begun} then, {now} now"


def _write_card(target: Target, card: Mapping[str, Any], chunks: Mapping[str, Chunk]) -> None:
    write_card(target.folder, **card, present=_counts(chunks, target.names().__contains__))
    for name in ("README.md", "zoo.json"):
        target.file(name).send()


def choose_device(asked: str, workers: int | None) -> str:
    """Where to train on this machine, "cpu" or "cuda".

    Args:
        asked: "cpu", "cuda" or "auto".
        workers: As `build` takes it.

    Raises:
        SettingsError: There is no such device, or it does not suit the workers.
    """
    device = devices.choose(asked)
    suits = workers in (None, 1)
    if asked == "cuda" and not suits:
        raise SettingsError(
            f"a GPU trains in one process of this machine, found --workers {workers}; leave it out, or use "
            "--device cpu"
        )
    return device if suits else "cpu"


def _jobs(target: Target, chunks: Mapping[str, Chunk], settings: ZooSettings, device: str) -> list[Job]:
    """What is missing; a GPU trains the runs of several files side by side, the last of which ends a job."""
    there = target.names()
    files = [(target.file(name), chunk) for name, chunk in chunks.items() if name not in there]
    size = max(1, ON_A_GPU // settings.runs_per_shard) if device == "cuda" else 1
    alike = [list(group) for _, group in itertools.groupby(files, lambda file: file[0].path.parent)]
    parts = [group[first : first + size] for group in alike for first in range(0, len(group), size)]
    return [
        Job(
            name=part[-1][0].name,
            work=_Train(part, device),
            output=part[-1][0],
            updates=settings.steps * sum(len(chunk.runs) for _, chunk in part),
        )
        for part in parts
    ]


@dataclasses.dataclass(frozen=True)
class _Train:
    """Trains the runs of some files side by side, on a device."""

    files: Sequence[tuple[File, Chunk]]
    device: str

    def __call__(self, beat: Beat) -> None:
        chunks = [chunk for _, chunk in self.files]
        together = dataclasses.replace(
            chunks[0],
            runs=[run for chunk in chunks for run in chunk.runs],
            splits=[split for chunk in chunks for split in chunk.splits],
        )
        table, start = snapshots_table(together, beat, self.device), 0
        for file, chunk in self.files:
            rows = len(chunk.runs) * len(chunk.settings.snapshots)
            write_shard(file.path, table.slice(start, rows), chunk.zoo)
            file.send()
            start += rows


@contextmanager
def _clear_about_full_disks(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RNNAtlasError(
                f"the disk that holds {out} is full; finished parts of the zoo are safe: free some space "
                "and go on with --resume"
            ) from None
        if error.errno == errno.EFBIG:
            raise RNNAtlasError(
                f"a file of the zoo may not become as big as it would be in {out}; finished parts are safe; "
                "raise the limit (ulimit -f), or write to another file system, and go on with --resume"
            ) from None
        raise
