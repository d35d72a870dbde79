"""Arrays of an HDF5 file by path; links out of the file are not followed."""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from mmap import ACCESS_READ, mmap
from typing import Any

from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.layers import MOST_ENTRIES, needs, tensor

FREE = 2**26
"""Bytes that an array may have however small its file is."""


@contextmanager
def opened(file: Any) -> Iterator[Any]:
    """The root group of an HDF5 file that is open for reading.

    Raises:
        CheckpointError: It is none.
    """
    h5py = needs("h5py")
    try:
        root = None if _is_endless(file) else h5py.File(file, "r")
    except (OSError, RuntimeError):
        root = None
    if root is None:
        raise CheckpointError("expected an HDF5 file, found something else or a part of one")
    with root:
        yield root


def _is_endless(file: Any) -> bool:
    """Whether a heap of texts has a free part of no length, in which libhdf5 would go round for ever."""
    if not file.seek(0, os.SEEK_END):
        return False
    content = file.getvalue() if isinstance(file, BytesIO) else mmap(file.fileno(), 0, access=ACCESS_READ)
    start = content.find(b"GCOL")
    while start >= 0:
        place, end = start + 16, start + int.from_bytes(content[start + 8 : start + 16], "little")
        while place + 16 <= min(end, len(content)):
            index, _, _, size = struct.unpack_from("<HHIQ", content, place)
            if not index and not size:
                return True
            place += 16 + (size + 7) // 8 * 8 if index else size
        start = content.find(b"GCOL", start + 4)
    return False


def datasets(root: Any) -> dict[str, Any]:
    """Path → array that is still to be read."""
    h5py = needs("h5py")
    found = {}
    seen = 0

    def visit(path: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset):
            found[path] = item
        return True if seen > MOST_ENTRIES else None

    if root.visititems(visit):  # which follows neither soft nor external links
        raise CheckpointError(f"expected at most {MOST_ENTRIES} groups and arrays, found more")
    return found


def read(dataset: Any) -> Tensor:
    """The numbers of an array.

    Raises:
        CheckpointError: It holds fewer than its shape says, lies in another file, or is of another type.
    """
    name, size = dataset.name.lstrip("/"), math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if dataset.is_virtual or dataset.external:
        raise CheckpointError(f"expected numbers in {name}, found a link to another file; save them in one")
    if (size and not stored) or size > max(FREE, 100 * stored):
        raise CheckpointError(f"expected {size} bytes of numbers in {name}, found {stored}")
    return tensor(dataset[()], name)
