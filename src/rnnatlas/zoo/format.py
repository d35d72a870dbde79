"""A zoo on disk: a folder of Parquet shards that is also a Hugging Face dataset repository.

`zoo.json` says what the zoo holds, `README.md` tells `datasets` and people, and
`data/<spec>/part-00000.parquet` and so on hold the snapshots, one a row.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rnnatlas._version import __version__
from rnnatlas.errors import ZooFormatError, reason
from rnnatlas.files import replacing, write_json, write_text
from rnnatlas.rnn import RNNSpec
from rnnatlas.settings import to_yaml

VERSION = 1
DIVERGED = "diverged"
"""Health of a snapshot whose weights, rollouts or metrics are not finite; all others are "ok"."""
BULK = ("weights", "rollout_inputs", "rollout_outputs")
"""Columns of arrays, which are read when they are asked for."""


RECORDED = "recorded"
"""Name of the task of imported RNNs."""
AS_STATED = "metrics_as_stated"
"""Setting of a zoo whose metrics are those that its source states, and were not measured here."""


def shard_name(spec: RNNSpec, number: int) -> str:
    """Path of a shard inside its zoo."""
    return f"data/{spec.slug}/part-{number:05d}.parquet"


# --- shards --------------------------------------------------------------------------------------


def as_column(array: np.ndarray) -> pa.Array:
    """An array [row, …] as a column of nested lists of fixed size.

    Items are declared never to be null: reading is then about twice as fast.
    """
    column = pa.array(array.reshape(-1))
    for size in reversed(array.shape[1:]):
        kind = pa.list_(pa.field("item", column.type, nullable=False), size)
        column = pa.FixedSizeListArray.from_arrays(column, type=kind)
    return column


def column_shape(kind: pa.DataType) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of what a row of such a column holds."""
    shape = []
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    return tuple(shape), np.dtype(kind.to_pandas_dtype())


def write_shard(path: Path, table: pa.Table) -> None:
    """Writes a shard whole or not at all, with a checksum on every page."""
    text = [name for field in table.schema for name in _text(field)]
    with replacing(path) as partial:
        pq.write_table(
            table,
            partial,
            compression="zstd",
            use_dictionary=text,  # type: ignore[arg-type]
            # bytes of equal rank beside one another: floats compress better, and are read faster
            use_byte_stream_split=True,
            write_statistics=False,
            write_page_checksum=True,
            row_group_size=max(1, table.num_rows),
        )


def _text(field: pa.Field, above: str = "") -> list[str]:
    """Paths of the columns of text in a field."""
    if pa.types.is_struct(field.type):
        return [name for own in field.type for name in _text(own, f"{above}{field.name}.")]
    return [above + field.name] if pa.types.is_string(field.type) else []


class Shard:
    """A shard being read; what is wrong with it becomes one clear sentence.

    Args:
        zoo: Where the zoo is.
        name: Path of the shard inside it.
        spec: Architecture of its RNNs.

    Raises:
        ZooFormatError: The shard cannot be read or is not one of RNNs of `spec`.
    """

    def __init__(self, zoo: "Folder", name: str, spec: RNNSpec):
        self.zoo, self.name, self.spec = zoo, name, spec
        with self._file() as file:
            self.rows = file.metadata.num_rows
            self.schema = file.schema_arrow
        self._check()

    def _check(self) -> None:
        missing = [name for name in ("id", "run", "step", "weights") if name not in self.schema.names]
        if missing:
            raise ZooFormatError(
                f"shard {self.name} of zoo {self.zoo} lacks the column {missing[0]!r}; copy it again"
            )
        shape, dtype = column_shape(self.schema.field("weights").type)
        if (shape, dtype) != ((self.spec.parameters,), np.float32):
            raise ZooFormatError(
                f"shard {self.name} of zoo {self.zoo} should hold {self.spec.parameters} float32 weights "
                f"a row ({self.spec}), found {self.schema.field('weights').type}; copy it again"
            )

    def _file(self) -> pq.ParquetFile:
        with self._reading():
            return pq.ParquetFile(self.zoo.open(self.name), page_checksum_verification=True)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Some of the columns; a flipped bit in them does not go unnoticed."""
        with self._reading(), self._file() as file:
            return file.read(list(columns), use_threads=False)

    def read_array(self, column: str, into: np.ndarray) -> None:
        """Copies one array column to where its rows go."""
        values = self.read([column]).column(0)
        start = 0
        for chunk in values.chunks:
            flat: Any = chunk
            while pa.types.is_fixed_size_list(flat.type):
                flat = flat.flatten()
            into[start : start + len(chunk)] = flat.to_numpy(zero_copy_only=True).reshape(-1, *into.shape[1:])
            start += len(chunk)

    def _reading(self) -> "_Reading":
        return _Reading(self)


class _Reading:
    """Turns what pyarrow raises about a damaged file into a ZooFormatError."""

    def __init__(self, shard: Shard):
        self.shard = shard

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (OSError, pa.ArrowException)):
            raise ZooFormatError(
                f"shard {self.shard.name} of zoo {self.shard.zoo} is damaged ({reason(error)}); copy it "
                "again, or remove it and build the zoo again with --resume (an imported zoo: import it again)"
            ) from None


# --- the folder ----------------------------------------------------------------------------------


class Folder:
    """Where a zoo is: a path on this machine, or an address such as s3://… that fsspec knows.

    Raises:
        ZooFormatError: The kind of address is unknown, or needs a package that is not installed.
    """

    def __init__(self, path: Path | str):
        self.path = path
        try:
            if "://" in str(path):
                self._fs, self._root = fsspec.core.url_to_fs(str(path))
            else:  # where "~" and "::" are parts of names
                self._fs, self._root = fsspec.filesystem("file"), str(Path(path).absolute())
        except ImportError as error:  # says which package to install
            raise ZooFormatError(f"zoo {path} is at an address that cannot be opened yet: {error}") from None
        except ValueError as error:
            raise ZooFormatError(
                f"zoo {path} is at an address that cannot be opened ({error}); give a folder, or an address "
                "such as s3://bucket/zoo"
            ) from None

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether there is anything at all."""
        return self._fs.exists(self._root)

    def open(self, name: str) -> Any:
        """A file of the folder, for pyarrow: its path on this machine, or an open file elsewhere."""
        place = f"{self._root}/{name}"
        return place if self._fs.protocol[0] == "file" else self._fs.open(place, "rb")

    def read_text(self, name: str) -> str | None:
        """What a file says; None if there is none."""
        place = f"{self._root}/{name}"
        return self._fs.read_text(place, encoding="utf-8") if self._fs.exists(place) else None

    def shards(self, spec: RNNSpec) -> list[str]:
        """The names of a spec's shards, in order."""
        found = self._fs.glob(f"{self._root}/data/{spec.slug}/part-*.parquet")
        return sorted(f"data/{spec.slug}/{str(path).rpartition('/')[2]}" for path in found)


def read_card(folder: Folder) -> dict[str, Any]:
    """What `zoo.json` says.

    Raises:
        ZooFormatError: There is no zoo, or it is of another format version.
    """
    if not folder.exists():
        raise ZooFormatError(f"there is no zoo at {folder}; build one with `rnnatlas zoo build`")
    try:
        text = folder.read_text("zoo.json")
    except UnicodeDecodeError:
        text = ""  # damaged, as is said below
    if text is None:
        raise ZooFormatError(
            f"{folder} is not a zoo: it has no zoo.json; copy it whole, or choose another folder"
        )
    try:
        card = json.loads(text)
        version = card["format"]
    except (ValueError, KeyError, TypeError):
        raise ZooFormatError(f"zoo.json of {folder} is damaged; copy it again") from None
    if version != VERSION:
        raise ZooFormatError(
            f"zoo {folder} is of format version {version}, this rnnatlas {__version__} reads "
            f"version {VERSION}; install the version that wrote it ({card.get('rnnatlas', 'unknown')}), "
            "or build or import the zoo again"
        )
    missing = [key for key in ("task", "specs", "settings", "seed", "expected") if key not in card]
    if missing:
        raise ZooFormatError(f"zoo.json of {folder} lacks {', '.join(missing)}; copy it again")
    try:
        card["expected"] = {
            RNNSpec.from_slug(slug).slug: {part: int(counts[part]) for part in ("shards", "snapshots")}
            for slug, counts in card["expected"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ZooFormatError(f"zoo.json of {folder} is damaged in `expected`; copy it again") from None
    return card


def write_card(
    out: Path,
    *,
    task: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    seed: int | None,
    expected: Mapping[RNNSpec, tuple[int, int]],
    present: Mapping[RNNSpec, tuple[int, int]],
) -> None:
    """Writes `zoo.json` and, for `datasets` and people, `README.md`.

    Args:
        out: The zoo's folder.
        task: Name and settings of the task; None for imported RNNs.
        settings: How the zoo was made.
        seed: Of the whole zoo.
        expected: Shards and snapshots that the zoo holds once complete, by spec.
        present: Those that it holds now.
    """
    card = {
        "format": VERSION,
        "rnnatlas": __version__,
        "task": task,
        "specs": {spec.slug: spec.as_dict() for spec in expected},
        "settings": settings,
        "seed": seed,
        "expected": _counts(expected),
        "present": _counts(present),
    }
    write_json(out / "zoo.json", card)
    write_text(out / "README.md", _readme(card, list(expected)))


def _counts(counts: Mapping[RNNSpec, tuple[int, int]]) -> dict[str, dict[str, int]]:
    return {spec.slug: {"shards": shards, "snapshots": rows} for spec, (shards, rows) in counts.items()}


def _readme(card: Mapping[str, Any], specs: Sequence[RNNSpec]) -> str:
    configs = [
        {"config_name": spec.slug, "data_files": f"data/{spec.slug}/part-*.parquet", "default": number == 0}
        for number, spec in enumerate(specs)
    ]
    header = to_yaml({"tags": ["rnnatlas", "weight-space-learning"], "configs": configs})
    what = "imported from checkpoints"
    if card["task"]:
        recorded = card["task"]["name"] == RECORDED
        what = f"{what}, and run on inputs" if recorded else f"trained on the task {card['task']['name']}"
    counts = "\n".join(
        f"- {spec}: {card['expected'][spec.slug]['snapshots']} snapshots, {spec.parameters} parameters each"
        for spec in specs
    )
    remarks = card["settings"].get("remarks", [])
    said = "".join(f"- {remark}\n" for remark in remarks) + "\n" * bool(remarks)
    how = to_yaml({"task": card["task"], "seed": card["seed"], "zoo": card["settings"]})
    return (
        f"---\n{header}---\n\n# A zoo of RNNs\n\n"
        f"RNNs {what}, kept by rnnatlas {card['rnnatlas']}.\n\n{counts}\n\n{said}"
        "One row is one snapshot. `weights` holds its parameters in the order of torch's state_dict,\n"
        "α and initial states after a layer's others, the head last. Open it with\n"
        "`rnnatlas.Zoo.open(path)` or `datasets.load_dataset(path)`.\n\n"
        f"```yaml\n{how}```\n"
    )
