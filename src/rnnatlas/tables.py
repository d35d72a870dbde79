"""Choosing rows of an Arrow table with an SQL condition."""

import json
import re
import sqlite3
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas.errors import UnknownName
from rnnatlas.registry import nearest

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)\"""")
"""A string of SQL, or a quoted identifier with the name in it."""

POSITION = '"position in the table"'
"""A column beside those of the table."""


def flat(table: pa.Table) -> pa.Table:
    """The table with its struct columns spread out: `metrics.accuracy` beside `step`."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def rows_where(table: pa.Table, condition: str) -> np.ndarray:
    """Positions of the rows for which an SQL condition holds, such as `step >= 1000 AND split = 'train'`.

    Fields of structs go by their full name (`"metrics.accuracy" > 0.9`) or, where only one field has
    it, by their last (`accuracy > 0.9`). The condition is run by SQLite on an in-memory copy.

    Raises:
        UnknownName: The condition is not valid SQL or names a column that is not there.
    """
    table = flat(table)
    names = [name for name in table.column_names if not _is_bulk(table.schema.field(name).type)]
    short = [name.rpartition(".")[2] for name in names]
    aliases = {
        last: name
        for name, last in zip(names, short, strict=True)
        if name != last and short.count(last) == 1 and last not in names
    }
    _check_quoted(condition, [*names, *aliases])
    database = sqlite3.connect(":memory:")
    try:
        database.execute(f"CREATE TABLE rows ({POSITION}, {', '.join(map(_quoted, names))})")
        columns = [map(_scalar, table.column(name).to_pylist()) for name in names]
        database.executemany(
            f"INSERT INTO rows VALUES ({', '.join('?' * (len(names) + 1))})",
            zip(range(table.num_rows), *columns, strict=True),
        )
        view = ", ".join(["*", *(f"{_quoted(name)} AS {_quoted(last)}" for last, name in aliases.items())])
        query = f"SELECT {POSITION} FROM (SELECT {view} FROM rows) WHERE {condition} ORDER BY {POSITION}"
        database.execute("PRAGMA query_only = 1")
        return np.array([position for (position,) in database.execute(query)], dtype=np.int64)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise UnknownName(
            f"cannot use the condition {condition!r} ({error}); it may use {', '.join(names)}"
        ) from None
    finally:
        database.close()


def _check_quoted(condition: str, known: list[str]) -> None:
    """Refuses unknown names in double quotes, which SQLite would take for strings."""
    for match in _QUOTED.finditer(condition):
        name = match[1] and match[1].replace('""', '"')
        if name is not None and name.lower() not in map(str.lower, known):
            raise UnknownName(
                f"no column is called {name!r}; {nearest(name, known)} (a string stands in single quotes)"
            )


def _is_bulk(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
