"""Who does which job and how far it is: one small file a job, in the folder that all who work there share.

A process holds a job's file (`flock`) while it does the job, and writes into it. The system frees what a
process held that was killed, wherever it ran, so what it leaves behind does no harm.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

Beat = Callable[[int], None]
"""What a job calls with the number of updates made since the last call."""

FOLDER = ".jobs"
"""Where the files are, within the folder that jobs write to."""

INTERVAL = 0.25
"""Seconds between two writes of how far a job is."""


def file_of(folder: Path, name: str) -> Path:
    """The file of the job called `name`."""
    return folder / FOLDER / quote(name, safe="")


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[Beat | None]:
    """Holds a job's file for the block.

    Args:
        path: The file.
        wait: Whether to wait where another process holds it.

    Yields:
        What writes into it how far the job is; None where another process holds it.
    """
    file = _locked(path, wait)
    if file is None:
        yield None
        return
    with file:
        try:
            yield _writer(file)
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, wait: bool) -> TextIO | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
        except FileNotFoundError:  # another command has just removed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # a file system without locks, where work may be done twice, which does no harm
            return file
        except BaseException:
            file.close()
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # who held it has removed it


def _writer(file: TextIO) -> Beat:
    done, written = 0, 0.0

    def beat(updates: int) -> None:
        nonlocal done, written
        done += updates
        if time.monotonic() - written > INTERVAL:
            written = time.monotonic()
            with suppress(OSError):  # a full disk is for the job itself to report
                os.pwrite(file.fileno(), f"{done:20}".encode(), 0)

    beat(0)
    return beat


def updates_done(path: Path) -> int:
    """Updates that are done by a job's file; 0 where there is none."""
    try:
        return int(path.read_text() or 0)
    except (OSError, ValueError):  # nobody is at it, or it is just being written
        return 0


def tidy(folder: Path) -> None:
    """Removes the files of jobs that nobody holds, which killed processes left, and their folder if empty."""
    for path in (folder / FOLDER).glob("*"):
        with suppress(OSError), claimed(path, wait=False):
            pass
    with suppress(OSError):
        (folder / FOLDER).rmdir()
