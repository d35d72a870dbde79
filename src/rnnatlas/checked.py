"""Parquet and safetensors files that know whether they are as they were written: no flipped bit stays unseen.

A Parquet file carries digests of all its other bytes between its pages and its footer, where no reader looks.
A safetensors file has that of its tensors and metadata, as `sha256` among the latter. Files without, which
older versions wrote, are read all the same.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from rnnatlas.errors import RNNAtlasError, UnknownName, lacking, reason
from rnnatlas.files import check_regular, replacing

_SEAL = b"rnnatlas sha256 "
_TAIL = 8  # bytes at the end of a Parquet file: how long the footer is, and PAR1
_SHA = "sha256"

FAULTS = (
    *(OSError, MemoryError, pa.ArrowException, SafetensorError),
    *(ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError),
)
"""What is raised while a file is read that is damaged, holds something else, or cannot be got at."""

PLUGIN = "name the module of a part of your own with --plugin, or import it"
"""What to do where a file names a part that no registry holds."""

Columns = Mapping[str, Callable[[pa.DataType], bool]]
"""Columns that a table should have, each with what says whether its type is right."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a kind of file is for, and what to say where one cannot be read.

    Args:
        holds: What it should hold.
        error: What is raised.
        advice: What to do where it is damaged.
    """

    holds: str
    error: type[RNNAtlasError]
    advice: str

    @contextmanager
    def reading(self, path: Path | str) -> Iterator[None]:
        """Turns what is raised while such a file is read into one sentence.

        It is called damaged only where its content is at fault, and not where permission, threads or memory
        are lacking.
        """
        try:
            check_regular(path)
            yield
        except self.error:
            raise
        except UnknownName as error:
            raise UnknownName(f"{path} names a part that is not there: {error}; {PLUGIN}") from None
        except FAULTS as error:
            advice = lacking(error)
            what = "is damaged" if advice is None else "cannot be read"
            raise self.error(
                f"{path} should hold {self.holds}, but {what} ({reason(error)}); {advice or self.advice}"
            ) from None


def write_table(path: Path | str, table: pa.Table, **options: Any) -> None:
    """Writes a Parquet file whole or not at all, with a checksum on every page and a seal on it all.

    Args:
        path: The file.
        table: What it is to hold.
        options: Of `pyarrow.parquet.write_table`.
    """
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True, **options)
        with partial.open("r+b") as file:
            start, footer = _footer(file)
            pages = _of_pages(file, start)
            file.seek(start)
            file.write(_SEAL + pages + hashlib.sha256(pages + footer).digest() + footer)


def check_seal(file: BinaryIO, whole: bool = True) -> bool:
    """Makes sure that a Parquet file is as it was written.

    Args:
        file: The file.
        whole: Whether all of it is looked at; else all but its pages, which have checksums of their own.

    Returns:
        Whether it has a seal; older versions wrote none.

    Raises:
        ValueError: It is not.
    """
    start, footer = _footer(file)
    end = start - len(_SEAL) - 2 * hashlib.sha256().digest_size
    if end < 0:
        return False
    file.seek(end)
    seal = file.read(start - end)
    if not seal.startswith(_SEAL):
        return False
    seal = seal.removeprefix(_SEAL)
    pages, both = seal[: len(seal) // 2], seal[len(seal) // 2 :]
    if hashlib.sha256(pages + footer).digest() != both or (whole and _of_pages(file, end) != pages):
        raise ValueError("its checksum does not fit its content")
    return True


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer of a Parquet file begins, and all bytes from there."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    length = int.from_bytes(file.read(4), "little")
    start = max(0, size - _TAIL - length)
    file.seek(start)
    return start, file.read()


def _of_pages(file: BinaryIO, end: int) -> bytes:
    """Digest of the first bytes of a file."""
    sha = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(end - file.tell(), 1 << 20)):
        sha.update(block)
    return sha.digest()


def read_table(
    path: Path | str, kind: Kind, columns: Columns, filters: list[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Reads a Parquet file of ours.

    Args:
        path: The file.
        kind: What it is.
        columns: Those that it should have, beside others; none of their values is missing.
        filters: Of `pyarrow.parquet.read_table`.

    Raises:
        RNNAtlasError: It cannot be read, or holds something else; of the kind's own class.
    """
    with kind.reading(path):
        with Path(path).open("rb") as file:
            check_seal(file)
        # without threads, since there may be none
        table = pq.read_table(path, use_threads=False, pre_buffer=False, filters=filters)
        if found := unlike(table.schema, columns):
            raise ValueError(found)
        table.validate(full=True)  # texts that are none, lists that begin where there is nothing
        for name in columns:
            if table[name].null_count:
                raise ValueError(f"the column {name!r} lacks values")
    return table


def unlike(schema: pa.Schema, columns: Columns) -> str | None:
    """Which column a table lacks or has of another type; None where there is none."""
    for name, right in columns.items():
        if schema.names.count(name) != 1:
            return f"it should have one column {name!r}, found {schema.names.count(name)}"
        if not right(schema.field(name).type):
            return f"the column {name!r} is of the type {str(schema.field(name).type)[:80]}"
    return None


def read_json(path: Path | str, kind: Kind) -> Any:
    """What a JSON file of ours says; all its numbers are finite.

    Raises:
        RNNAtlasError: It cannot be read; of the kind's own class.
    """
    with kind.reading(path):
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"a number in it is {constant}")


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = {}) -> None:
    """Writes a safetensors file whole or not at all, with a checksum."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = save(whole, {**metadata, _SHA: _of_tensors(whole, metadata)})
    with replacing(path) as partial:
        partial.write_bytes(_in_order(content))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata by name; the library puts them into an order that it draws."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of eight
    return len(text).to_bytes(8, "little") + text + content[start:]


def load_tensors(path: Path | str, kind: Kind) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file of ours, and its metadata.

    Raises:
        RNNAtlasError: It cannot be read; of the kind's own class.
    """
    with kind.reading(path):
        Path(path).open("rb").close()  # whose error says what is lacking
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = dict(file.metadata() or {})
        digest = metadata.pop(_SHA, None)
        if digest is not None and digest != _of_tensors(tensors, metadata):
            raise ValueError("its checksum does not fit its content")
    return tensors, metadata


def _of_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    sha = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.reshape(-1).view(uint8).numpy().tobytes())
    return sha.hexdigest()
