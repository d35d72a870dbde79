"""Arrays that need not fit into memory."""

import contextlib
import math
import os
import tempfile
from pathlib import Path

import numpy as np

SHARE = 0.5
"""Of the memory that is free: larger arrays are kept in a file."""

CHUNK = 4096
"""Rows that are copied at a time."""


def free() -> int:
    """Bytes of memory that are free, as far as the system says."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array to be filled: in memory, or, if it would take much of what is free, in a nameless file.

    Of a file the system keeps in memory what is in use and what there is room for. It lies in the folder for
    temporary files (TMPDIR), and is gone with the array.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= SHARE * free():
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="rnnatlas-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def rows_of(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A copy of some rows of an array."""
    taken = room((len(index), *values.shape[1:]), values.dtype)
    for start in range(0, len(index), CHUNK):
        taken[start : start + CHUNK] = values[index[start : start + CHUNK]]
    return taken


def finite(vectors: np.ndarray) -> np.ndarray:
    """Which rows are finite throughout."""
    parts = [
        np.isfinite(vectors[start : start + CHUNK]).all(axis=1) for start in range(0, len(vectors), CHUNK)
    ]
    return np.concatenate([np.empty(0, bool), *parts])
