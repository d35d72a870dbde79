"""Jobs in processes on this machine."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from typing import Any

from rnnatlas.errors import RNNAtlasError
from rnnatlas.executors.base import Executor, Submit


class Local(Executor):
    """Processes on this machine (joblib's loky); a single worker is this process."""

    @contextmanager
    def pool(self, workers: int) -> Iterator[Submit]:
        """See `Executor.pool`; workers are stopped at once when the block ends, and when we are killed.

        Raises:
            RNNAtlasError: A worker was killed.
        """
        if workers == 1:
            yield _here
            return
        from joblib.externals.loky import ProcessPoolExecutor

        processes = ProcessPoolExecutor(workers, initializer=_end_with, initargs=(os.getpid(),))
        try:
            yield processes.submit
        except BrokenExecutor:
            raise RNNAtlasError(
                "a worker process was killed, often for lack of memory; what was finished is kept: use "
                "fewer --workers and run the same command again, with --resume where it has one"
            ) from None
        finally:
            processes.shutdown(wait=True, kill_workers=True)


def _here(work: Callable[..., bool], *arguments: Any) -> "Future[bool]":
    future: Future[bool] = Future()
    future.set_result(work(*arguments))
    return future


def _end_with(parent: int) -> None:
    """Lets this process, a worker, end soon after its parent was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
