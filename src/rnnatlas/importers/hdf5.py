"""Arrays of an HDF5 file by path; links out of the file are not followed."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
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
        root = h5py.File(file, "r")
    except (OSError, RuntimeError):
        raise CheckpointError("expected an HDF5 file, found something else or a part of one") from None
    with root:
        yield root


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
