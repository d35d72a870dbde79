"""Where units of work run; each unit is done once, in any order, and says how far it is."""

import os
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from rnnatlas.errors import RNNAtlasError, SettingsError

Work = Callable[[Any, Callable[[int], None]], None]
"""Does a unit and commits its result; calls back with the number of updates made since the last call."""


class Executor(ABC):
    """Runs units of work, some of them at the same time.

    Args:
        workers: Units at a time; None for as many as there are processors.

    Raises:
        SettingsError: `workers` is less than one.
    """

    def __init__(self, workers: int | None = None):
        if workers is not None and workers < 1:
            raise SettingsError(f"workers should be 1 or more, found {workers}")
        import joblib

        self.workers = workers or joblib.cpu_count()

    @abstractmethod
    def run(self, work: Work, units: Sequence[Any], heartbeats: "Heartbeats") -> Generator[int, None, None]:
        """Does the units; yields the position of each as it is done. What a unit raises ends it all."""


class Local(Executor):
    """Processes on this machine (joblib's loky), one thread each; a single worker is this process."""

    def run(self, work: Work, units: Sequence[Any], heartbeats: "Heartbeats") -> Generator[int, None, None]:
        """See `Executor.run`; workers are stopped at once when the caller stops.

        Raises:
            RNNAtlasError: A worker was killed.
        """
        if min(self.workers, len(units)) <= 1:
            for number, unit in enumerate(units):
                yield _do(work, unit, number, heartbeats, parent=None)
            return
        import joblib
        from joblib.externals.loky import get_reusable_executor

        jobs = [
            joblib.delayed(_do)(work, unit, number, heartbeats, os.getpid())
            for number, unit in enumerate(units)
        ]
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            parallel = joblib.Parallel(n_jobs=min(self.workers, len(units)), return_as="generator_unordered")
            try:
                for number in parallel(jobs):
                    yield cast(int, number)
            except BrokenExecutor:
                raise RNNAtlasError(
                    "a worker process was killed, often for lack of memory; what was finished is kept: use "
                    "fewer --workers and run the same command again, with --resume where it has one"
                ) from None
            finally:
                get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _do(work: Work, unit: Any, number: int, heartbeats: "Heartbeats", parent: int | None) -> int:
    """One unit, in whichever process; a worker whose parent was killed stops at its next beat."""
    beat = heartbeats.of(number)

    def alive(updates: int) -> None:
        if parent is not None and os.getppid() != parent:
            os._exit(1)
        beat(updates)

    work(unit, alive)
    return number


class Heartbeats:
    """How far units are, told through small files, so that it works between machines too.

    Args:
        folder: Where the files go; one that all workers can reach.
    """

    INTERVAL = 0.25
    """Seconds between two writes of a unit."""

    def __init__(self, folder: Path):
        self.folder = folder

    def of(self, number: int) -> Callable[[int], None]:
        """What the unit of that number calls with each number of updates it has made."""
        done, written = 0, 0.0
        path = self.folder / str(number)

        def beat(updates: int) -> None:
            nonlocal done, written
            done += updates
            if time.monotonic() - written > self.INTERVAL:
                written = time.monotonic()
                _overwrite(path, str(done))

        return beat

    def total(self) -> int:
        """Updates that all units have told of."""
        total = 0
        for path in self.folder.glob("[0-9]*"):
            try:
                total += int(path.read_text() or 0)
            except (OSError, ValueError):  # just being written
                continue
        return total


def _overwrite(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError:  # a full disk is for the unit itself to report
        return


def run_all(
    executor: Executor, work: Work, units: Sequence[Any], updates: int, title: str, rate: str | None
) -> None:
    """Does all units, with a progress bar on stderr that moves inside units too.

    Args:
        executor: Where they run.
        work: What does a unit.
        units: What is to be done.
        updates: Updates that all units make together.
        title: What the bar says is being done.
        rate: What the bar calls updates per second; None for no bar.
    """
    with tempfile.TemporaryDirectory(prefix="rnnatlas-") as folder:
        beats = Heartbeats(Path(folder))
        with _bar(beats, updates, title, rate), closing(executor.run(work, units, beats)) as done:
            for _ in done:
                pass


@contextmanager
def _bar(beats: Heartbeats, updates: int, title: str, rate: str | None) -> Iterator[None]:
    """A bar that reads the heartbeats."""
    if rate is None or not updates:
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    stop = threading.Event()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task(title, total=updates, rate="")

        def show(done: int) -> None:
            elapsed = bar.tasks[0].elapsed or 1
            bar.update(shown, completed=done, rate=f"{done / elapsed:,.0f} {rate}")

        def watch() -> None:
            while not stop.wait(Heartbeats.INTERVAL):
                show(beats.total())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            show(updates)
        finally:
            stop.set()
            watcher.join()
