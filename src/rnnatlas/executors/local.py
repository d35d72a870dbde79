"""Jobs in processes on this machine."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnatlas.executors.base import Executor, Submit
from rnnatlas.executors.calls import killed


class Local(Executor):
    """Processes on this machine (joblib's loky); a single worker is this process."""

    @contextmanager
    def pool(self, workers: int, folder: Path) -> Iterator[Submit]:
        """See `Executor.pool`; workers are stopped at once when the block ends, and when we are killed."""
        if workers == 1:
            yield _here
            return
        from joblib.externals.loky import ProcessPoolExecutor

        def fresh() -> ProcessPoolExecutor:
            return ProcessPoolExecutor(1, initializer=_end_with, initargs=(os.getpid(),))

        pools = [fresh() for _ in range(workers)]  # one a worker: one that is killed takes no other along
        last: list[Future[bool] | None] = [None] * workers

        def submit(work: Callable[..., bool], *arguments: Any) -> "Future[bool]":
            free = next(number for number, future in enumerate(last) if future is None or future.done())
            try:
                future = pools[free].submit(work, *arguments)
            except BrokenExecutor:  # its worker was killed
                pools[free].shutdown(wait=True, kill_workers=True)
                pools[free] = fresh()
                future = pools[free].submit(work, *arguments)
            last[free] = future
            return future

        try:
            yield submit
        finally:
            for pool in pools:
                pool.shutdown(wait=True, kill_workers=True)

    def explained(self, error: Exception) -> Exception:
        """See `Executor.explained`."""
        return killed("a worker process was killed") if isinstance(error, BrokenExecutor) else error


def _here(work: Callable[..., bool], *arguments: Any) -> "Future[bool]":
    future: Future[bool] = Future()
    try:
        future.set_result(work(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


def _end_with(parent: int) -> None:
    """Lets this process, a worker, end soon after its parent was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
