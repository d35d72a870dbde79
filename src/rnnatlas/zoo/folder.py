"""Where a zoo is read: a folder of this machine, or an address that fsspec knows."""

import re
from pathlib import Path
from typing import Any

import fsspec

from rnnatlas import hub
from rnnatlas.errors import ZooFormatError
from rnnatlas.files import check_regular
from rnnatlas.rnn import RNNSpec
from rnnatlas.zoo.target import reaching, to_install

_SHARD = re.compile(r"part-.*\.parquet", re.DOTALL)


class Folder:
    """Where a zoo is: a path on this machine, or an address such as s3://… that fsspec knows.

    Raises:
        ZooFormatError: The kind of address is unknown, or needs a package that is not installed.
    """

    def __init__(self, path: Path | str):
        self.path = path
        try:
            if "://" in str(path):
                place = hub.of_datasets(str(path)) if hub.is_address(path) else str(path)
                self._fs, self._root = fsspec.core.url_to_fs(place)
            else:  # where "~" and "::" are parts of names
                self._fs, self._root = fsspec.filesystem("file"), str(Path(path).absolute())
        except ImportError as error:
            raise ZooFormatError(
                f"zoo {path} is at an address that cannot be opened yet: {to_install(path, error)}"
            ) from None
        except ValueError as error:
            raise ZooFormatError(
                f"zoo {path} is at an address that cannot be opened ({error}); give a folder, or an address "
                "such as s3://bucket/zoo"
            ) from None

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether there is anything at all."""
        with reaching(self.path):
            self._fs.invalidate_cache()  # others may have written since
            return self._fs.exists(self._root)

    def open(self, name: str) -> Any:
        """A file of the folder, for pyarrow: its path on this machine, or an open file elsewhere."""
        place = self._place(name)
        return self._fs.open(place, "rb") if self.remote else place

    def open_binary(self, name: str) -> Any:
        """A file of the folder, open to be read."""
        return self._fs.open(self._place(name), "rb")

    def _place(self, name: str) -> str:
        """Where a file is that is to be read.

        Raises:
            ValueError: It is a pipe or a device.
        """
        place = f"{self._root}/{name}"
        if not self.remote:
            check_regular(place)
        return place

    def set_aside(self, name: str) -> str:
        """Moves a file to the folder `damaged` within, where nothing looks for it; its new name."""
        new, number = f"damaged/{name}", 1
        while self._fs.exists(f"{self._root}/{new}"):
            new, number = f"damaged/{name}.{number}", number + 1
        self._fs.makedirs(f"{self._root}/{new}".rpartition("/")[0], exist_ok=True)
        self._fs.mv(f"{self._root}/{name}", f"{self._root}/{new}")
        return new

    @property
    def remote(self) -> bool:
        """Whether it is elsewhere than on this machine's file systems."""
        return "file" not in (self._fs.protocol, self._fs.protocol[0])

    def read_text(self, name: str) -> str | None:
        """What a file says; None if there is none."""
        place = self._place(name)
        return self._fs.read_text(place, encoding="utf-8") if self._fs.exists(place) else None

    def shards(self, spec: RNNSpec) -> list[str]:
        """The names of a spec's shards, in order."""
        place = f"data/{spec.slug}"
        try:
            found = self._fs.ls(
                f"{self._root}/{place}", detail=False
            )  # no pattern, which names may look like
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [str(path).rstrip("/").rpartition("/")[2] for path in found]
        return sorted(f"{place}/{name}" for name in names if _SHARD.fullmatch(name))
