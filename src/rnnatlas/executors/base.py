"""Jobs, which need one another, and what runs them: each is done once, as soon as those that it needs are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from rnnatlas.errors import SettingsError
from rnnatlas.executors.claims import Beat, claimed, file_of, tidy, updates_done
from rnnatlas.executors.progress import bar


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
    output: Path
    needs: tuple[str, ...] = ()
    updates: int = 0

    @property
    def done(self) -> bool:
        """Whether the result stands."""
        return self.output.exists()


Submit = Callable[..., "Future[bool]"]
"""Has a function called with arguments, somewhere, some time."""


class Executor(ABC):
    """Runs jobs, some of them at the same time.

    Args:
        workers: Jobs at a time; None for as many as there are processors.
        threads: Of each job, on processors, however many others run beside it.

    Raises:
        SettingsError: `workers` or `threads` is less than one.
    """

    def __init__(self, workers: int | None = None, threads: int = 1):
        for name, value in (("workers", workers), ("threads", threads)):
            if value is not None and value < 1:
                raise SettingsError(f"{name} should be 1 or more, found {value}")
        import joblib

        self.workers, self.threads = workers or joblib.cpu_count(), threads

    @abstractmethod
    def pool(self, workers: int) -> AbstractContextManager[Submit]:
        """So many workers, for the block; what they are at is given up when it ends."""

    def run(self, jobs: Sequence[Job], folder: Path, title: str = "", rate: str | None = None) -> None:
        """Does the jobs that are not done, those that come first in the list first where there is a choice.

        What a job raises ends it all; what is finished stays, and no job starts that needs what is not. Two
        commands may do the same jobs at the same time: each job is done by one of them.

        Args:
            jobs: What is to be done.
            folder: A folder that all workers can reach, for small hidden files while jobs run.
            title: What the progress bar says is being done.
            rate: What the bar calls updates a second; None for no bar.

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

        workers = min(self.workers, len(left))
        try:
            if not left:
                return
            with bar(title, sum(job.updates for job in left), rate, made), self.pool(workers) as submit:

                def start(job: Job, patient: bool) -> "Future[bool]":
                    return submit(do, job, file_of(folder, job.name), self.threads, patient)

                for name in _in_order(graph, named, workers, start):
                    finished.add(name)
        finally:
            tidy(folder)


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
) -> Iterator[str]:
    """Starts at most `workers` jobs at a time; yields the name of each when it is done.

    A job that another command is at comes last, and then is waited for.
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
        for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
            name = running.pop(future)
            if future.result():
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
            with limited(threads):
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
