"""Writing that either happens whole or not at all."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnnatlas.errors import OutputExists


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place, on disk, when the block succeeds.

    Whatever ends the block early (an error, a full disk, Ctrl-C) leaves `path` as it was and nothing
    else behind; a process that is killed leaves at most a hidden temporary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def making(path: Path | str) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its place when the block succeeds.

    What ends the block early leaves nothing; a process that is killed leaves at most a hidden folder.

    Raises:
        OutputExists: `path` is there already and is not an empty folder.
    """
    path = Path(path).resolve()
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield partial
        for written in partial.rglob("*"):
            _sync(written)
        partial.chmod(0o755)
        partial.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
