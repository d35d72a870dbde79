"""Prints the attributes of an HDF5 file that are texts, as JSON: path → name → text.

A program of its own, which imports nothing of this package, since damaged files crash it or keep it for ever.
The file is its standard input, from a place that its arguments give.
"""

import io
import json
import sys
from typing import Any

MEMORY = 2**30
"""Bytes that it may take."""


class Part(io.RawIOBase):
    """A part of an open file as a file of its own, which is not copied."""

    def __init__(self, file: Any, start: int, length: int):
        self._file, self._start, self._length, self._at = file, start, length, 0

    @property
    def whole(self) -> tuple[Any, int, int]:
        """The file, where the part begins in it, and its length."""
        return self._file, self._start, self._length

    @property
    def place(self) -> int:
        """Where the next byte is read, in the whole file."""
        return self._start + self._at

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Goes on elsewhere."""
        self._at = max(0, offset + (0, self._at, self._length)[whence])
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Some bytes, of which no more are asked for than there are."""
        left = max(0, self._length - self._at)
        self._file.seek(self._start + self._at)
        found = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(found)
        return found

    def readinto(self, buffer: Any, /) -> int:
        """Fills a buffer as far as the part goes."""
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._at)
        count = self._file.readinto(view[: max(0, self._length - self._at)])
        self._at += count
        return count


def main() -> None:
    """See above."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError):  # not on every system
        pass
    import h5py

    file = sys.stdin.buffer
    start, length = map(int, sys.argv[1:])
    held: Any = Part(file, start, length) if file.seekable() else io.BytesIO(file.read())
    texts: dict[str, dict[str, str]] = {}

    def visit(path: str, item: Any) -> None:
        found = {name: item.attrs[name] for name in item.attrs}
        decoded = {name: text.decode() if isinstance(text, bytes) else text for name, text in found.items()}
        texts[path] = {name: text for name, text in decoded.items() if isinstance(text, str)}

    with h5py.File(held, "r") as root:
        visit("", root)
        root.visititems(visit)
    print(json.dumps(texts))


if __name__ == "__main__":
    main()
