"""Jobs, which need one another, and what runs them: each is done once, as soon as those that it needs are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rnnatlas import devices
from rnnatlas.errors import RNNAtlasError, SettingsError, heard_threads
from rnnatlas.executors.claims import Beat, claimed, file_of, tidy, updates_done
from rnnatlas.executors.progress import bar
from rnnatlas.registry import own_parts_answer
from rnnatlas.settings import at_least_one, build, settings


@runtime_checkable
class Output(Protocol):
    """Where a result is put: a path, or a place in an object store."""

    def exists(self) -> bool:
        """Whether it is there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work that leaves one result.

    Attributes:
        name: Its own among the jobs of a folder.
        work: Does it and commits the result; a picklable callable, called with what it calls in turn with
            the number of updates made since the last call.
        output: The result: the job is done when it stands there, and is not done again.
        needs: Names of the jobs that have to be done before.
        updates: How many it makes, for the progress bar.
    """

    name: str
    work: Callable[[Beat], None]
    output: Output
    needs: tuple[str, ...] = ()
    updates: int = 0

    @property
    def done(self) -> bool:
        """Whether the result stands."""
        return self.output.exists()


Submit = Callable[..., "Future[bool]"]
"""Has a function called with arguments, somewhere, some time."""


Ended = Callable[[str, Exception | None], None]
"""Called with the name of a job that has come to its end, and with what it raised where it failed."""


class Executor(ABC):
    """Runs jobs, some of them at the same time.

    Args:
        workers: Jobs at a time; None for as many as suit.
        threads: Of each job, on processors, however many others run beside it.
        options: What differs from the default `Settings` of this kind of executor.

    Raises:
        SettingsError: `workers` or `threads` is less than one, or there are no such options.
    """

    @settings
    class Settings:
        """What can be chosen of every executor.

        Args:
            threads: Of each job, where it is to have others than a command gives it.
        """

        threads: int | None = None

        def __post_init__(self) -> None:
            at_least_one(self, "threads")

    def __init__(
        self, workers: int | None = None, threads: int = 1, options: Mapping[str, Any] | None = None
    ):
        for name, value in (("workers", workers), ("threads", threads)):
            if value is not None and value < 1:
                raise SettingsError(f"{name} should be 1 or more, found {value}")
        self.settings: Any = build(self.Settings, options or {}, "executor")
        self.asked, self.threads = workers, self.settings.threads or threads

    @property
    def workers(self) -> int:
        """Jobs at a time."""
        import joblib

        return self.asked or joblib.cpu_count()

    def choose(self, device: str) -> str:
        """Where jobs compute, "cpu" or "cuda"; a GPU, where each job is to have one, is asked for.

        Args:
            device: "cpu", "cuda" or "auto".

        Raises:
            SettingsError: There is no such device.
        """
        return devices.choose(device)

    @abstractmethod
    def pool(self, workers: int, folder: Path) -> AbstractContextManager[Submit]:
        """So many workers, for the block; what they are at is given up when it ends.

        Args:
            workers: Jobs at a time.
            folder: What all workers share.
        """

    def explained(self, error: Exception) -> Exception:
        """What to raise for what a worker ended with."""
        return error

    def again(self, error: Exception) -> int:
        """How often a job that ended so is tried again, however often others are."""
        return 0

    def run(
        self,
        jobs: Sequence[Job],
        folder: Path,
        title: str = "",
        rate: str | None = None,
        *,
        retries: int = 0,
        ended: Ended | None = None,
    ) -> None:
        """Does the jobs that are not done, those that come first in the list first where there is a choice.

        What a job raises ends it all, unless `ended` is there to be told; what is finished stays, and no job
        starts that needs what is not. Two commands may do the same jobs at the same time: each job is done by
        one of them.

        Args:
            jobs: What is to be done.
            folder: A folder that all workers can reach, for small hidden files while jobs run.
            title: What the progress bar says is being done.
            rate: What the bar calls updates a second; None for no bar.
            retries: How often a job that failed is tried again.
            ended: Called for each job that is done, and for each that failed or needs one that did, which
                then end nothing but themselves.

        Raises:
            SettingsError: Two jobs have one name, or jobs need one another in a circle, or one that there
                is not.
        """
        graph, named = _graph(jobs), {job.name: job for job in jobs}
        left = [job for job in jobs if not job.done]
        files = {job.name: file_of(folder, job.name) for job in left}
        finished: set[str] = set()

        def made() -> int:
            return sum(job.updates if job.name in finished else updates_done(files[job.name]) for job in left)

        try:
            if not left:
                return
            workers, tries = min(self.workers, len(left)), dict.fromkeys(files, 0)
            shown = bar(title, sum(job.updates for job in left), rate, made)
            with shown, self.pool(workers, folder) as submit:

                def start(job: Job, patient: bool) -> "Future[bool]":
                    return submit(do, job, file_of(folder, job.name), self.threads, patient)

                def again(name: str, error: Exception) -> bool:
                    tries[name] += 1
                    if tries[name] <= max(retries, self.again(error)):
                        return True
                    if ended is None:
                        raise self.explained(error) from None
                    ended(name, self.explained(error))
                    return False

                for name in _in_order(graph, named, workers, start, again):
                    finished.add(name)
                    if ended is not None:
                        ended(name, None)
            _say_what_waits(left, finished, tries, ended)
        finally:
            tidy(folder)


def _say_what_waits(
    left: Sequence[Job], finished: set[str], tries: Mapping[str, int], ended: Ended | None
) -> None:
    """Tells of the jobs that could not begin, since they need some that failed."""
    for job in left:
        if ended is not None and job.name not in finished and not tries[job.name]:
            missing = next((name for name in job.needs if name in tries and name not in finished), None)
            ended(job.name, RNNAtlasError(f"it needs {missing!r}, which failed"))


def _graph(jobs: Sequence[Job]) -> "TopologicalSorter[str]":
    needs = {job.name: job.needs for job in jobs}
    if len(needs) < len(jobs):
        names = [job.name for job in jobs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"every job should have a name of its own, found {twice!r} twice")
    for job in jobs:
        for name in job.needs:
            if name not in needs:
                raise SettingsError(f"job {job.name!r} needs {name!r}, which is none of the jobs")
    graph = TopologicalSorter(needs)
    try:
        graph.prepare()
    except CycleError as error:
        circle = " needs ".join(map(repr, reversed(error.args[1])))
        raise SettingsError(f"jobs should not need one another in a circle, found {circle}") from None
    return graph


def _in_order(
    graph: "TopologicalSorter[str]",
    named: Mapping[str, Job],
    workers: int,
    start: Callable[[Job, bool], "Future[bool]"],
    again: Callable[[str, Exception], bool],
) -> Iterator[str]:
    """Starts at most `workers` jobs at a time; yields the name of each when it is done.

    A job that another command is at comes last, and then is waited for. One that failed is tried again if
    `again` says so.
    """
    place = {name: number for number, name in enumerate(named)}
    ready: list[str] = []
    put_off: set[str] = set()
    running: dict[Future[bool], str] = {}
    while graph.is_active():
        while names := graph.get_ready():  # again, since what is done lets others begin
            for name in names:
                if named[name].done:
                    graph.done(name)
                else:
                    ready.append(name)
        ready.sort(key=lambda name: (name in put_off, place[name]))
        while ready and len(running) < workers:
            name = ready.pop(0)
            running[start(named[name], name in put_off)] = name
        if not (running or ready):  # what is left needs what failed
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            try:
                done = future.result()
            except Exception as error:
                if again(name, error):
                    ready.append(name)
                continue
            if done:
                graph.done(name)
                yield name
            else:
                put_off.add(name)
                ready.append(name)


def do(job: Job, file: Path, threads: int, patient: bool) -> bool:
    """Does one job, in whichever process.

    Args:
        job: The job.
        file: Its file, see `claims`.
        threads: How many it has.
        patient: Whether to wait for another command that is at it.

    Returns:
        Whether the job is done; if not, another command is at it.
    """
    with claimed(file, patient) as beat:
        if beat is None:
            return False
        if not job.done:  # else another command has done it meanwhile
            with limited(threads), heard_threads(), own_parts_answer():
                job.work(beat)
            assert job.done, f"{job.name} left no {job.output}"
    return True


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """So many threads for torch, numpy and scipy within the block: sums depend on how many share them."""
    import scipy.linalg  # noqa: F401, so that its library is there to be limited
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)
