"""Writing that either happens whole or not at all."""

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rnnatlas.errors import OutputExists

PARTIAL = ".partial"
ABANDONED = 600
"""Seconds after which what a killed process left is removed: machines may not see one another's locks."""
_PARTIAL = re.compile(rf"\..+\.[a-z0-9_]{{8}}\{PARTIAL}", re.DOTALL)
_LOCK = threading.Lock()


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place, on disk, when the block succeeds.

    Whatever ends the block early (an error, a full disk, Ctrl-C) leaves `path` as it was and nothing
    else behind; a process that is killed leaves at most a hidden temporary file, which is in nobody's way.
    """
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        with _held(Path(name), descriptor) as partial:
            yield partial
            partial.chmod(0o666 & ~_umask())
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)


@contextlib.contextmanager
def making(path: Path | str, replaces: Collection[str] = ()) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its place when the block succeeds.

    What ends the block early leaves nothing; a process that is killed leaves at most a hidden folder.

    Args:
        path: The folder.
        replaces: A folder may be there that holds files of these names and nothing else; it is replaced.

    Raises:
        OutputExists: `path` is there already and is neither an empty folder nor such a one.
    """
    path = Path(path).resolve()
    old = bool(replaces) and path.is_dir() and {file.name for file in path.iterdir()} <= {*replaces}
    if not old:
        check_free(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        name = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        with _held(Path(name), os.open(name, os.O_RDONLY)) as partial:
            yield partial
            for written in (*partial.rglob("*"), partial):
                _sync(written)
            partial.chmod(0o777 & ~_umask())
            if not (old and _exchange(partial, path)):  # after which the old one is the temporary one
                _put(partial, path, old)
            _sync(path.parent)


def _put(partial: Path, path: Path, old: bool) -> None:
    """Moves a folder to where nothing should be, but perhaps an old one."""
    aside = partial.with_suffix(".old")
    if old:
        path.rename(aside)
    elif path.is_dir():
        sweep(path, age=0)
    try:
        partial.replace(path)
    except OSError:
        check_free(path)  # another command may have been faster
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Lets two folders change places at once; whether the system can."""
    at, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    return rename(at, os.fsencode(one), at, os.fsencode(other), exchange) == 0


@contextlib.contextmanager
def _held(partial: Path, descriptor: int) -> Iterator[Path]:
    """Keeps something temporary from being swept while the block runs; removes it after that."""
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield partial
    finally:
        _remove(partial)
        os.close(descriptor)


def is_partial(path: Path) -> bool:
    """Whether it is something temporary that a process of ours left, or still writes."""
    return _PARTIAL.fullmatch(path.name) is not None


def sweep(folder: Path, name: str | None = None, age: int = ABANDONED) -> None:
    """Removes what killed processes left in a folder; another process may be writing there now.

    Args:
        folder: The folder; what is deeper stays.
        name: What they were about to write; None for anything.
        age: Seconds since they last did.
    """
    for partial in folder.glob(f".{glob.escape(name) if name else '*'}.*{PARTIAL}"):
        with contextlib.suppress(OSError):  # it is gone, or not ours
            if is_partial(partial) and time.time() - partial.stat().st_mtime >= age and _left(partial):
                _remove(partial)


def _left(partial: Path) -> bool:
    """Whether no process holds it, as far as the file system knows."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return True


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Lets errors name `path` where they name a temporary file beside it, which nobody knows of."""
    try:
        yield
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else path
        hidden = [
            part for part in (named, *named.parents) if part.match(f".{glob.escape(path.name)}.*.partial")
        ]
        if hidden:
            error.filename = str(path / named.relative_to(hidden[0]))
        raise


def _umask() -> int:
    """The permissions that the process keeps from others in what it writes."""
    with _LOCK:  # it can only be read by setting it, here to what keeps most
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path | str, document: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def new_folder(path: Path | str) -> Path:
    """Makes an output folder.

    Raises:
        OutputExists: `path` is there already and is not an empty folder.
    """
    path = Path(path)
    check_free(path)
    path.mkdir(parents=True, exist_ok=True)
    sweep(path)
    return path


def check_free(path: Path) -> None:
    """Makes sure that something can be put at `path`.

    Raises:
        OutputExists: `path` is there already and is not a folder that is empty but for what killed processes
            left.
    """
    if path.exists() and not (path.is_dir() and all(map(is_partial, path.iterdir()))):
        raise OutputExists(f"{path} exists already; choose another --out, or remove it first")


def check_regular(path: Path | str) -> None:
    """Makes sure that reading something comes to an end.

    Raises:
        ValueError: It is a pipe or a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("it is a pipe or a device, not a file")


def read_bytes(path: Path | str, most: int) -> bytes:
    """What a file holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a pipe or a device, or holds more than `most` bytes.
    """
    check_regular(path)
    with Path(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it holds more than {most} bytes")
    return content
