"""Choosing rows of an Arrow table with an SQL condition."""

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rnnatlas.errors import SettingsError, UnknownName, reason
from rnnatlas.registry import nearest

PRECEDENCE = ("metrics", "labels", "task", "predicted")
"""Of structs with a field of one name, the first is the one that the name alone means."""

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | \[[^\]]*\] | `[^`]*`               # a string; SQLite's other quotes
    | (?P<path>(?:[^\W\d]\w*|"(?:[^"]|"")*")(?:\.(?:[^\W\d]\w*|"(?:[^"]|"")*"))*)""",
    re.VERBOSE,
)
"""What a condition is made of, as far as it matters here: a name may be quoted, and have dots."""
_PART = re.compile(r'"((?:[^"]|"")*)"|(\w+)')

POSITION = '"position in the table"'
"""A column beside those of the table."""
STEPS, STEPS_A_ROW = 10_000_000, 1000
"""Instructions of SQLite that a condition may take: a fraction of a second, and more than it needs a row."""


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, or nothing."""
    return pa.types.is_string(kind) or pa.types.is_null(kind)


def is_whole(kind: pa.DataType) -> bool:
    """Whether a column holds whole numbers, or nothing."""
    return pa.types.is_integer(kind) or pa.types.is_null(kind)


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, or nothing."""
    return is_whole(kind) or pa.types.is_floating(kind)


def is_struct(kind: pa.DataType) -> bool:
    """Whether a column has fields, or holds nothing."""
    return pa.types.is_struct(kind) or pa.types.is_null(kind)


def is_figures(kind: pa.DataType) -> bool:
    """Whether a column has fields of numbers, or holds nothing."""
    return pa.types.is_null(kind) or (pa.types.is_struct(kind) and all(is_number(own.type) for own in kind))


def flat(table: pa.Table) -> pa.Table:
    """The table with its struct columns spread out: `metrics.accuracy` beside `step`."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def rows_where(table: pa.Table, condition: str) -> np.ndarray:
    """Positions of the rows for which an SQL condition holds, such as `step >= 1000 AND split = 'train'`.

    Fields of structs go by their full name (`metrics.accuracy > 0.9`) or by their last (`accuracy > 0.9`).
    That means a column of the table, if one is called so, else a field of `PRECEDENCE` in this order, else
    the first of the others. The condition is run by SQLite on an in-memory copy.

    Raises:
        UnknownName: The condition is not valid SQL or names a column that is not there.
        SettingsError: It would take too long.
    """
    table = flat(table)
    names = [name for name in table.column_names if not _is_bulk(table.schema.field(name).type)]
    short = _short(names)
    condition = _with_quoted_paths(condition, names, short)
    said = condition.replace('""', '"').lower()
    used = [name for name in names if name.rpartition(".")[2].lower() in said]
    view = ", ".join(
        ["*", *(f"{_quoted(short[last])} AS {_quoted(last)}" for last in short if short[last] in used)]
    )
    query = f"SELECT {POSITION} FROM (SELECT {view} FROM rows) WHERE ({condition}\n) ORDER BY {POSITION}"
    database = sqlite3.connect(":memory:")
    try:
        _fill(database, table, used)
        _limit(database, STEPS + STEPS_A_ROW * table.num_rows)
        found = np.array([position for (position,) in database.execute(query)], dtype=np.int64)
    except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
        raise _as_ours(error, condition, names, table) from None
    finally:
        database.close()
    if len(found) and not 0 <= found.min() <= found.max() < table.num_rows:
        raise UnknownName(
            f"the condition {condition!r} should be one condition of SQL, found several queries"
        )
    return found


def _short(names: Sequence[str]) -> dict[str, str]:
    """Last part of a field's name → its full name."""

    def rank(name: str) -> int:
        struct = name.partition(".")[0]
        return PRECEDENCE.index(struct) if struct in PRECEDENCE else len(PRECEDENCE)

    taken = {name.lower() for name in names}
    short = {}
    for name in sorted(names, key=rank):
        last = name.rpartition(".")[2]
        if last.lower() not in taken:
            taken.add(last.lower())
            short[last] = name
    return short


def _with_quoted_paths(condition: str, names: Sequence[str], short: Iterable[str]) -> str:
    """The condition with names that have dots in one pair of quotes each, as SQLite wants it.

    Raises:
        UnknownName: A name in double quotes is not known; SQLite would take it for a string.
    """
    known = {name.lower(): name for name in (*names, *short)}

    def replaced(token: re.Match[str]) -> str:
        path = token["path"]
        if path is None:
            return token[0]
        parts = [plain or quoted.replace('""', '"') for quoted, plain in _PART.findall(path)]
        name = ".".join(parts)
        if name.lower() in known:
            return _quoted(known[name.lower()]) if len(parts) > 1 or path[0] == '"' else path
        if len(parts) > 1 or path[0] == '"':
            raise UnknownName(_no_column(name, names, is_value=False))
        return path

    return _TOKEN.sub(replaced, condition)


def _fill(database: sqlite3.Connection, table: pa.Table, names: Sequence[str]) -> None:
    database.execute(f"CREATE TABLE rows ({', '.join([POSITION, *map(_quoted, names)])})")
    columns = [map(_scalar, table.column(name).to_pylist()) for name in names]
    database.executemany(
        f"INSERT INTO rows VALUES ({', '.join('?' * (len(names) + 1))})",
        zip(range(table.num_rows), *columns, strict=True),
    )


def _limit(database: sqlite3.Connection, steps: int) -> None:
    """Lets a query neither change anything, nor take more instructions, nor make long strings."""
    database.execute("PRAGMA query_only = 1")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
    database.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200)
    every = 1000
    left = iter(range(steps // every))
    database.set_progress_handler(lambda: next(left, None) is None, every)


def _as_ours(error: Exception, condition: str, names: Sequence[str], table: pa.Table) -> Exception:
    unknown = re.match(r"no such column: (.*)", str(error))
    if unknown:
        texts = [column for column in table.columns if pa.types.is_string(column.type)]
        is_value = any(pc.index(column, unknown[1]).as_py() >= 0 for column in texts)
        return UnknownName(_no_column(unknown[1], names, is_value))
    if "interrupted" in str(error):
        return SettingsError(
            f"the condition {condition!r} takes too long; it should be one on single rows, without "
            "queries in it"
        )
    return UnknownName(
        f"the condition {condition!r} should be one of SQL ({reason(error)}); it may use {', '.join(names)}"
    )


def _no_column(name: str, names: Sequence[str], is_value: bool) -> str:
    hint = nearest(name, names)
    if is_value or not hint.startswith("did you mean"):
        hint = "a string stands in single quotes"
    return f"no column is called {name!r} ({hint}); there are {', '.join(names)}"


def _is_bulk(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _scalar(value: Any) -> Any:
    """A value as SQLite keeps it."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, default=str)
    if isinstance(value, int):
        return value if abs(value) < 2**63 else float(value)
    return value if value is None or isinstance(value, (float, str)) else str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
