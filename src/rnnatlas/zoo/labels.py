"""What somebody knows of their own networks: a table with a row each, and which row is whose."""

import csv
import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rnnatlas.errors import DataError, UnknownName, reason
from rnnatlas.files import check_regular
from rnnatlas.registry import nearest

NAMING = ("file", "path", "id", "name", "filename", "checkpoint", "network")
"""Names of columns that may say which file a row is about."""
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Labels:
    """A row of labels for each of some networks.

    Args:
        table: A column a label, a row a network; nulls where a network has no row.
        remarks: What did not fit, a sentence each.
    """

    table: pa.Table
    remarks: Sequence[str] = ()

    def column(self, name: str) -> list[str | None]:
        """A label of each network as text.

        Raises:
            UnknownName: There is no such column.
        """
        if name not in self.table.column_names:
            raise UnknownName(
                f"labels have no column {name!r} to group by; {nearest(name, self.table.column_names)}"
            )
        return [None if value is None else str(value) for value in self.table[name].to_pylist()]


def read(given: Any) -> pa.Table:
    """Labels from a CSV or Parquet file, an Arrow table, a data frame, or a mapping of lists.

    Numbers that are not known (NaN) become nulls.

    Raises:
        DataError: They cannot be read, are empty, have columns without names or of one name, or infinite
            numbers.
    """
    name = str(given) if isinstance(given, (str, Path)) else "the labels"
    try:
        table = _table(given)
    except (OSError, ValueError, TypeError, AttributeError, csv.Error, pa.ArrowException) as error:
        raise DataError(
            f"labels should be a table with a header, as a .csv or .parquet file, but {name} cannot be read "
            f"({reason(error)})"
        ) from None
    if not table.num_rows or not table.num_columns:
        raise DataError(f"{name} should hold a row for each network, found none")
    names = [column or "index" for column in table.column_names]  # pandas writes its index without a name
    if len(set(names)) < len(names):
        twice = next(column for column in names if names.count(column) > 1)
        raise DataError(f"columns of {name} should have names of their own, found {twice!r} twice")
    columns = [_plain(table[place], column, name) for place, column in enumerate(names)]
    return pa.table(columns, names=names)


def _table(given: Any) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, Mapping):
        return pa.table({str(key): pa.array(list(values)) for key, values in given.items()})
    if not isinstance(given, (str, Path)):
        return pa.Table.from_pandas(given, preserve_index=False)
    path = Path(given)
    check_regular(path)
    if path.suffix == ".parquet":
        return pq.read_table(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    mark = max(",;\t", key=first.count)
    header = next(csv.reader([first], delimiter=mark), [])
    as_text = {column: pa.string() for column in header if column.strip().lower() in NAMING}
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=mark),
        convert_options=pyarrow.csv.ConvertOptions(column_types=as_text, strings_can_be_null=True),
    )


def _plain(column: pa.ChunkedArray, label: str, name: str) -> pa.Array:
    """A column as whole numbers, numbers or text."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        values = column.cast(pa.float64())
        numbers = values.to_numpy(zero_copy_only=False)
        if np.isinf(numbers).any():
            raise DataError(
                f"the label {label!r} of {name} should be finite, found an infinite number; mend it"
            )
        return pa.array(numbers, from_pandas=True)
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    if pa.types.is_boolean(kind):
        texts = [text and text.lower() for text in texts]
    return pa.array(texts, pa.string())


# --- whose ---------------------------------------------------------------------------------------------


def in_order(table: pa.Table, count: int) -> Labels:
    """Labels of networks in memory: row i is about the i-th.

    Raises:
        DataError: There are more or fewer rows.
    """
    if table.num_rows != count:
        raise DataError(f"labels should have a row for each of the {count} networks, found {table.num_rows}")
    return Labels(table)


def of_files(
    table: pa.Table, files: Sequence[str], ids: Sequence[str], runs: Sequence[int], roots: Sequence[str] = ()
) -> Labels:
    """Labels of RNNs in files, whose row names a file by its path, the end of it, or that without suffix.

    A row that names a folder, or but one checkpoint of a run, is about the whole run.

    Args:
        table: The labels.
        files: Of each RNN, its file.
        ids: Of each RNN, its id: the file and the place inside.
        runs: Of each RNN, its run.
        roots: Folders that paths may be relative to; such a path goes before ends of others.

    Raises:
        DataError: No column names the files, or a row names several networks or two rows name one.
    """
    known: dict[str, set[int]] = defaultdict(set)
    for row, (file, id) in enumerate(zip(files, ids, strict=True)):
        for name in {*_names(file), *_names(id), _normal(Path(file).resolve())}:
            known[name].add(row)
    known.update(_relative(files, roots))
    column = _naming(table, known)
    rows: list[int | None] = [None] * len(files)
    lost = []
    for number, value in enumerate(table[column].to_pylist()):
        found = known.get(_normal(value), set()) if value is not None else set()
        lost += [] if found else [str(value)]
        _check_one(value, found, runs, files)
        for row in found:
            if rows[row] is not None:
                raise DataError(f"two rows of the labels are about {ids[row]}; leave one")
            rows[row] = number
    said: dict[int, set[int]] = defaultdict(set)  # what one checkpoint of a run is labelled as, all are
    for run, row in zip(runs, rows, strict=True):
        said[run] |= set() if row is None else {row}
    rows = [
        next(iter(said[run])) if len(said[run]) == 1 else row for run, row in zip(runs, rows, strict=True)
    ]
    remarks = [f"{len(lost)} rows of the labels are about no RNN here: {_some(lost)}"] if lost else []
    without = [id for id, row in zip(ids, rows, strict=True) if row is None]
    remarks += [f"{len(without)} RNNs have no labels: {_some(without)}"] if without else []
    return Labels(table.take(pa.array(rows, pa.int64())), remarks)


def _check_one(value: Any, rows: set[int], runs: Sequence[int], files: Sequence[str]) -> None:
    named = sorted({files[row] for row in rows})
    if len(named) > 1 and len({runs[row] for row in rows}) > 1:
        raise DataError(
            f"the label row of {value} fits {len(named)} files ({_some(named)}); name each by a longer path"
        )


def _relative(files: Sequence[str], roots: Sequence[str]) -> dict[str, set[int]]:
    """RNNs by the path of their file relative to a folder."""
    found: dict[str, set[int]] = defaultdict(set)
    for root in map(PurePosixPath, map(_normal, roots)):
        for row, file in enumerate(map(PurePosixPath, map(_normal, files))):
            if file.is_relative_to(root):
                relative = file.relative_to(root)
                for name in {str(relative), str(relative.with_suffix(""))}:
                    found[name].add(row)
    return found


def _naming(table: pa.Table, known: Mapping[str, set[int]]) -> str:
    """The column that names the most files."""

    def fits(column: str) -> int:
        return sum(value is not None and _normal(value) in known for value in table[column].to_pylist())

    named = [column for column in table.column_names if column.strip().lower() in NAMING]
    best = max(named, key=fits, default=None)
    if best is None or not fits(best):
        what = f"a column that names the files of RNNs ({', '.join(NAMING[:4])})"
        found = (
            f"none of {', '.join(table.column_names)}"
            if best is None
            else f"{best!r} with {_of(table, best)}"
        )
        raise DataError(f"labels should have {what}, found {found}; files are named by path, name or stem")
    return best


def _of(table: pa.Table, column: str) -> str:
    return _some([str(value) for value in table[column].to_pylist()])


def _names(file: str) -> set[str]:
    """What may name a file: the whole path, each end of it, that without suffix, and each folder above."""
    path = PurePosixPath(_normal(file))
    ends = {"/".join(parts) for parts in _ends(path.parts)}
    stems = {"/".join(parts) for parts in _ends(path.with_suffix("").parts)} if path.suffix else set()
    folders = {"/".join(end) for parent in path.parents for end in _ends(parent.parts)}
    return (ends | stems | folders | {str(path)}) - {""}


def _ends(parts: Sequence[str]) -> list[Sequence[str]]:
    return [parts[start:] for start in range(len(parts))]


def _normal(value: Any) -> str:
    return str(PurePosixPath(str(value).strip().replace("\\", "/"))).removesuffix("/")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
