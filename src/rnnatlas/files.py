"""Writing that either happens whole or not at all."""

import contextlib
import glob
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rnnatlas.errors import OutputExists

_LOCK = threading.Lock()


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place, on disk, when the block succeeds.

    Whatever ends the block early (an error, a full disk, Ctrl-C) leaves `path` as it was and nothing
    else behind; a process that is killed leaves at most a hidden temporary file.
    """
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o666 & ~_umask())
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


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
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            yield partial
            for written in partial.rglob("*"):
                _sync(written)
            partial.chmod(0o777 & ~_umask())
            if old:
                path.rename(partial.with_suffix(".old"))
            partial.replace(path)
            shutil.rmtree(partial.with_suffix(".old"), ignore_errors=True)
            _sync(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


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
    return path


def check_free(path: Path) -> None:
    """Makes sure that something can be put at `path`.

    Raises:
        OutputExists: `path` is there already and is not an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
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
