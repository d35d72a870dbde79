"""What torch writes: zips and older files, whole or as parts of others; tensors are mapped, not loaded."""

import io
import mmap
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.pickles import DTYPES, Array, Name, Storage, Stored, Unpickler

MOST_INFLATED = 1 << 28
"""Bytes of a compressed member of a zip; torch itself does not compress."""
MOST_RESIDENT = 1 << 25
"""Bytes of a mapped file that are kept in memory while it is read once from end to end."""
MOST_DENSE = 1 << 24
"""Numbers of a sparse tensor that is made dense."""
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Document:
    """The object that a file holds, as `pickles` reads it.

    Args:
        root: The object.
        quantised: Whether there are quantised tensors in it.
        code: The program that lies beside it, of TorchScript; None for none.
    """

    def __init__(self, root: Any, quantised: bool = False, code: str | None = None):
        self.root = root
        self.quantised = quantised
        self.code = code


def read_path(path: Path) -> Document:
    """The document of a file of torch.

    Raises:
        CheckpointError: It is damaged, or something else.
    """
    return read(mapped(path))


def mapped(path: Path) -> memoryview:
    """The bytes of a file, which are read from it when they are used.

    Raises:
        CheckpointError: There are none.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise not_torch()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def read(data: memoryview, nested: bool = False) -> Document:
    """The document of a file's bytes; `nested` if they are already part of another."""
    try:
        if bytes(data[:2]) == b"PK":
            return _read_zip(data)
        return _read_stream(data, nested)
    except (CheckpointError, MemoryError, OSError):
        raise
    except Exception:  # whatever a damaged file makes the reader stumble over
        raise not_torch() from None


def not_torch() -> CheckpointError:
    """What to say of a file that nothing can be made of."""
    return CheckpointError(
        "expected a file of torch.save(model.state_dict(), …), found something else or a part of one"
    )


class _Bytes(io.BufferedIOBase):
    """A file of bytes that are not copied; however much is asked for, no more than is there is taken."""

    def __init__(self, data: memoryview):
        self._data, self._at, self._read = data, 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at, len(self._data))[whence])
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        end = len(self._data) if size is None or size < 0 else min(len(self._data), self._at + size)
        part = bytes(self._data[self._at : end])
        self._at += len(part)
        self._read += len(part)
        if self._read > MOST_RESIDENT and isinstance(self._data.obj, mmap.mmap):
            self._data.obj.madvise(mmap.MADV_DONTNEED)  # it is read from the file again where it is used
            self._read = 0
        return part

    def readline(self, size: int | None = -1, /) -> bytes:
        start, line = self._at, b""
        while b"\n" not in line and (part := self.read(256)):
            line += part
        line = line[: line.find(b"\n") + 1] or line
        self._at = start + len(line)
        return line


# --- zips ------------------------------------------------------------------------------------------


def members(data: memoryview) -> dict[str, memoryview]:
    """The members of a zip, by name; those that are stored as they are are not copied.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        return _members(data)
    except CheckpointError:
        raise
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        struct.error,
        zlib.error,
    ):
        raise not_torch() from None


def _members(data: memoryview) -> dict[str, memoryview]:
    found: dict[str, memoryview] = {}
    with zipfile.ZipFile(cast("Any", _Bytes(data))) as archive:
        packed = sum(info.file_size for info in archive.infolist() if info.compress_type)
        if packed > MOST_INFLATED:
            raise CheckpointError("its zip is compressed and would be too large; save it again")
        if bad := archive.testzip():
            raise CheckpointError(
                f"its part {bad!r} is damaged (checksum), or was never written; save it again"
            )
        for info in archive.infolist():
            if info.compress_type:
                found[info.filename] = memoryview(bytearray(archive.read(info)))
            else:
                names = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
                start = info.header_offset + 30 + sum(names)
                found[info.filename] = data[start : start + info.file_size]
    return found


def _read_zip(data: memoryview) -> Document:
    parts = members(data)
    name = next((name for name in parts if name == "data.pkl" or name.endswith("/data.pkl")), None)
    if name is None:
        raise not_torch()
    folder = name.removesuffix("data.pkl")
    order = bytes(parts.get(f"{folder}byteorder", b"little"))
    if order.decode(errors="replace") != sys.byteorder:
        raise CheckpointError(f"its numbers are in {order[:10]!r} byte order; save it again on this machine")

    def storage(id: Any) -> Any:
        found = _storage(id)
        found.data = parts.get(f"{folder}data/{found.key}")
        return found

    unpickler = Unpickler(storage, _embedded)
    root = unpickler.load(io.BytesIO(parts[name]))
    files = [part for part in parts if part.startswith(f"{folder}code/") and part.endswith(".py")]
    program = f"{folder}constants.pkl" in parts
    code = "\n".join(bytes(parts[file]).decode(errors="replace") for file in files) if program else None
    return Document(root, unpickler.quantised, code)


# --- older files, and pickles ------------------------------------------------------------------------


def _read_stream(data: memoryview, nested: bool) -> Document:
    """What torch wrote before 1.6, and still writes of storages in other pickles; or any pickle."""
    storages: dict[str, Storage] = {}

    def storage(id: Any) -> Any:
        if isinstance(id, tuple) and id and id[0] == "module":
            return id[1]
        found = storages.setdefault(str(id[2])[:100], _storage(id))
        view = id[5] if len(id) > 5 else None
        if not view:
            return found
        part = Storage(found.dtype, found.key, view[2])  # a view of an older torch: begins later
        views.append((part, found, view[1]))
        return part

    views: list[tuple[Storage, Storage, int]] = []
    unpickler = Unpickler(storage, _not_embedded if nested else _embedded)
    file = _Bytes(data)
    root = unpickler.load(file)
    if root != _MAGIC:
        return Document(root, unpickler.quantised)
    if unpickler.load(file) != _PROTOCOL or not unpickler.load(file)["little_endian"]:
        raise not_torch()
    root = unpickler.load(file)
    keys = unpickler.load(file)
    at = file.tell()
    for key in keys:
        [length] = struct.unpack("<q", data[at : at + 8])
        found = storages[str(key)[:100]]
        size = length * found.dtype.itemsize
        if not 0 <= size <= len(data) - at - 8 or length != found.length:
            raise not_torch()
        found.data = data[at + 8 : at + 8 + size]
        at += 8 + size
    for part, found, start in views:
        width = found.dtype.itemsize
        if found.data is not None and 0 <= start <= start + part.length <= found.length:
            part.data = found.data[start * width : (start + part.length) * width]
    return Document(root, unpickler.quantised)


def _storage(id: Any) -> Storage:
    kind, name, key, _, length = id[:5]
    if kind != "storage" or not isinstance(name, Name) or not isinstance(length, int):
        raise not_torch()
    return Storage(DTYPES[name.text.rpartition(".")[2]], str(key), length)


def _embedded(data: bytes) -> Any:
    return read(memoryview(bytearray(data)), nested=True).root


def _not_embedded(data: bytes) -> Any:
    raise not_torch()


# --- tensors ---------------------------------------------------------------------------------------


def as_tensor(stored: Stored | Array) -> Tensor | str:
    """The tensor that a pickle describes, without a copy of its numbers; or what is odd about it."""
    try:
        if isinstance(stored, Array):
            return _of_array(stored)
        if stored.sparse:
            return _of_sparse(*stored.sparse)
        return stored.oddity or _of_storage(stored)
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError):
        return "a tensor whose shape does not fit its numbers"


def _of_storage(stored: Stored) -> Tensor | str:
    storage, size, stride, offset = stored.storage, stored.size, stored.stride, stored.offset
    if storage is None or storage.data is None or stored.dtype is None:
        return "a tensor without its numbers"
    if not all(isinstance(n, int) and n >= 0 for n in (*size, *stride, offset)) or len(size) != len(stride):
        return "a tensor of no shape"
    if 0 in size:
        return torch.empty(*size, dtype=stored.dtype)
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if (last + 1) * stored.dtype.itemsize > len(storage.data):
        return "fewer numbers than its shape has"
    numbers = torch.frombuffer(
        storage.data, dtype=stored.dtype, count=len(storage.data) // stored.dtype.itemsize
    )
    found = numbers.as_strided(tuple(size), tuple(stride), offset)
    if stored.negated and found.numel() > numbers.numel():
        return "an expanded tensor"
    return -found if stored.negated else found


def _of_array(array: Array) -> Tensor | str:
    data = array.data.encode("latin-1") if isinstance(array.data, str) else array.data  # str from Python 2
    if array.dtype is None or not isinstance(data, (bytes, bytearray)):
        return "an array of other than numbers"
    flat = np.frombuffer(data, np.dtype(array.dtype))
    shaped = flat.reshape(array.shape, order="F" if array.fortran else "C")
    return torch.from_numpy(shaped.astype(shaped.dtype.newbyteorder("=")))


def _of_sparse(layout: Any, *data: Any) -> Tensor | str:
    *indices, values, size = data[: 3 if layout == "torch.sparse_coo" else 4]
    parts = [as_tensor(part) for part in (*indices, values)]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    count = 1
    for length in size:
        count *= length
    if len(tensors) < len(parts) or not 0 <= count <= MOST_DENSE:
        return "a sparse tensor"
    if layout == "torch.sparse_coo":
        places, numbers = tensors
        return torch.sparse_coo_tensor(places, numbers, tuple(size), check_invariants=True).to_dense()
    if layout in ("torch.sparse_csr", "torch.sparse_csc"):
        kind = torch.sparse_csr if layout.endswith("csr") else torch.sparse_csc
        crow, column, numbers = tensors
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls these a beta
            made = torch.sparse_compressed_tensor(
                crow, column, numbers, tuple(size), layout=kind, check_invariants=True
            )
            return made.to_dense()
    return "a sparse tensor"
