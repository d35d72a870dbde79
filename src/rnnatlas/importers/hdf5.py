"""Arrays of an HDF5 file by path; links out of the file are not followed."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import hdf5_texts
from rnnatlas.importers.hdf5_texts import Part
from rnnatlas.importers.layers import MOST_ENTRIES, needs, tensor

FREE = 2**26
"""Bytes that an array may have however small its file is."""
LONGEST = 15.0
"""Seconds for a look at all groups and attributes."""


@contextmanager
def opened(file: Any) -> Iterator[tuple[Any, dict[str, dict[str, str]]]]:
    """The root group of an HDF5 file (or `Part`) open for reading, and its texts: path → attribute → text.

    Damaged texts make libhdf5 go round for ever or crash, so another process reads them before.

    Raises:
        CheckpointError: It is none.
    """
    h5py = needs("h5py")
    texts = _texts(file)
    try:
        root = None if texts is None else h5py.File(file, "r")
    except (OSError, RuntimeError):
        root = None
    if root is None or texts is None:
        raise CheckpointError("expected an HDF5 file, found something else or a part of one")
    with root:
        yield root, texts


def _texts(file: Any) -> dict[str, dict[str, str]] | None:
    """The attributes that are texts, by path and name, read in another process; None where that fails."""
    start, length, given = 0, 0, {}
    if isinstance(file, BytesIO):
        given["input"] = file.getvalue()
    else:
        if isinstance(file, Part):
            file, start, length = file.whole
        else:
            length = os.fstat(file.fileno()).st_size
        given["stdin"] = file
        os.lseek(file.fileno(), 0, os.SEEK_SET)
    # -P: nothing is imported from the current folder
    command = [sys.executable, "-P", hdf5_texts.__file__, str(start), str(length)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LONGEST, **given)
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        return None


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
