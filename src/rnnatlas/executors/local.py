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
            return ProcessPoolExecutor(workers, initializer=_end_with, initargs=(os.getpid(),))

        pools = [fresh()]

        def submit(work: Callable[..., bool], *arguments: Any) -> "Future[bool]":
            try:
                return pools[-1].submit(work, *arguments)
            except BrokenExecutor:  # one of its workers was killed
                pools[-1].shutdown(wait=True, kill_workers=True)
                pools.append(fresh())
                return pools[-1].submit(work, *arguments)

        try:
            yield submit
        finally:
            pools[-1].shutdown(wait=True, kill_workers=True)

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
