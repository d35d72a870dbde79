"""Reads msgpack; bytes stay where they are in the file, so arrays are not copied."""

import struct
from collections.abc import Callable
from typing import Any

MOST, DEEPEST = 2_000_000, 100
"""Entries of one document, and how deep they may lie within one another."""
_NUMBERS = {
    **{0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
    **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_SIZED = {
    **dict.fromkeys((0xC4, 0xC5, 0xC6), "bytes"),
    **dict.fromkeys((0xC7, 0xC8, 0xC9), "extension"),
    **dict.fromkeys((0xD9, 0xDA, 0xDB), "text"),
    **dict.fromkeys((0xDC, 0xDD), "list"),
    **dict.fromkeys((0xDE, 0xDF), "map"),
}
"""What is preceded by its size, by its first byte."""
_WIDTHS = {
    **{0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4},
    **{0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4},
}
"""Bytes of that size."""


def unpack(data: memoryview, extension: Callable[[int, memoryview], Any]) -> Any:
    """The object that msgpack describes.

    Args:
        data: All of it.
        extension: Makes something of a code and bytes, which are a view of `data`, as other bytes are.

    Raises:
        ValueError: It is no msgpack, or too much.
    """
    reader = _Reader(data, extension)
    try:
        found = reader.read(0)
    except (IndexError, struct.error, TypeError, UnicodeDecodeError, RecursionError):
        raise ValueError("no msgpack") from None
    if reader.at != len(data):
        raise ValueError("more than one object")
    return found


class _Reader:
    def __init__(self, data: memoryview, extension: Callable[[int, memoryview], Any]):
        self._data, self._extension, self._left = data, extension, MOST
        self.at = 0

    def read(self, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > DEEPEST:
            raise ValueError("too much")
        first = self._take(1)[0]
        if first < 0x80 or first >= 0xE0:
            return first if first < 0x80 else first - 0x100
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if form := _NUMBERS.get(first):
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        if first < 0xC0:
            kind, size = ("map", first & 0x0F) if first < 0x90 else ("list", first & 0x0F)
            kind, size = ("text", first & 0x1F) if first >= 0xA0 else (kind, size)
        elif 0xD4 <= first <= 0xD8:
            kind, size = "extension", 1 << (first - 0xD4)
        else:
            kind, size = _SIZED.get(first, ""), int.from_bytes(self._take(_WIDTHS.get(first, 0)), "big")
        return self._sized(kind, size, depth)

    def _sized(self, kind: str, size: int, depth: int) -> Any:
        if kind == "map":
            return {self.read(depth + 1): self.read(depth + 1) for _ in range(size)}
        if kind == "list":
            return [self.read(depth + 1) for _ in range(size)]
        if kind == "text":
            return bytes(self._take(size)).decode()
        if kind == "bytes":
            return self._take(size)
        if kind == "extension":
            code = self._take(1)[0]
            return self._extension(code, self._take(size))
        raise ValueError("no msgpack")

    def _take(self, size: int) -> memoryview:
        part = self._data[self.at : self.at + size]
        if len(part) != size:
            raise ValueError("cut off")
        self.at += size
        return part
