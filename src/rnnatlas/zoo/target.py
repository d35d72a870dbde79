"""Where a zoo is written: a folder, or an object store by way of a folder of this machine."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from rnnatlas.errors import DataError, OutputExists, SettingsError, reason
from rnnatlas.files import check_free


def is_address(place: Path | str) -> bool:
    """Whether a zoo's place is an address such as s3://bucket/zoo and no folder."""
    return "://" in str(place)


def to_install(place: Path | str, error: ImportError) -> str:
    """What an address needs that is not installed, and how to install it."""
    if str(place).startswith("s3://"):
        return 'it needs s3fs, which is not installed; install it with: pip install "rnnatlas[s3]"'
    return reason(error)  # which says it for others


@dataclass(frozen=True)
class Target:
    """A zoo's place while it is written; every file appears there whole.

    Args:
        place: A folder, or an address that fsspec knows.
    """

    place: str

    @cached_property
    def folder(self) -> Path:
        """Where files are written on this machine; those of an object store only until they are sent."""
        if not is_address(self.place):
            return Path(self.place)
        digest = hashlib.sha256(self.place.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"rnnatlas-{digest}"

    @property
    def _store(self) -> tuple[Any, str]:
        try:
            return fsspec.core.url_to_fs(self.place)
        except ImportError as error:
            raise SettingsError(
                f"{self.place} cannot be written yet: {to_install(self.place, error)}"
            ) from None
        except ValueError as error:
            raise SettingsError(
                f"nothing can be written to {self.place} ({reason(error)}); give a folder, or an address "
                "such as s3://bucket/zoo"
            ) from None

    def check_free(self) -> None:
        """Makes sure that there is nothing yet.

        Raises:
            OutputExists: There is something.
        """
        if not is_address(self.place):
            check_free(self.folder)
        elif self.names():
            raise OutputExists(f"{self.place} exists already; choose another --out, or remove it first")

    def names(self) -> set[str]:
        """The files that are there, by their paths inside the zoo."""
        if not is_address(self.place):
            found = (path for path in self.folder.rglob("*") if path.is_file())
            return {path.relative_to(self.folder).as_posix() for path in found}
        store, root = self._store
        with reaching(self.place):
            store.invalidate_cache()
            return {str(path).removeprefix(f"{root}/") for path in store.find(root)}

    def file(self, name: str) -> "File":
        """One file of the zoo."""
        return File(self, name)


@dataclass(frozen=True)
class File:
    """A file of a zoo that is written: a job's output."""

    target: Target
    name: str

    @property
    def path(self) -> Path:
        """Where it is written on this machine."""
        return self.target.folder / self.name

    def exists(self) -> bool:
        """Whether it is where the zoo is."""
        if not is_address(self.target.place):
            return self.path.exists()
        store, root = self.target._store
        with reaching(self.target.place):
            store.invalidate_cache()
            return store.exists(f"{root}/{self.name}")

    def send(self) -> None:
        """Sends what was written to where the zoo is, if that is elsewhere."""
        if is_address(self.target.place):
            store, root = self.target._store
            with reaching(self.target.place):
                store.put_file(str(self.path), f"{root}/{self.name}")
            self.path.unlink()


@contextmanager
def reaching(place: Path | str) -> Iterator[None]:
    """Says in one sentence why an object store does not answer.

    Raises:
        DataError: It does not.
    """
    try:
        yield
    except Exception as error:
        if not is_address(place):
            raise
        raise DataError(
            f"{place} should be a place that can be read and written, but it answers: {reason(error)}; check "
            "the address, the network and your access to it"
        ) from None
