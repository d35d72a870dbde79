"""A zoo on disk: a folder of Parquet shards that is also a Hugging Face dataset repository.

`zoo.json` says what the zoo holds, `README.md` tells `datasets` and people, and
`data/<spec>/part-00000.parquet` and so on hold the snapshots, one a row.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rnnatlas import seeds, tables
from rnnatlas._version import __version__
from rnnatlas.checked import FAULTS, Columns, check_seal, unlike, write_table
from rnnatlas.errors import RNNAtlasError, ZooFormatError, lacking, reason
from rnnatlas.files import write_json, write_text
from rnnatlas.folders import ZOO, mistaken
from rnnatlas.rnn import RNNSpec
from rnnatlas.settings import to_yaml
from rnnatlas.zoo.folder import Folder

VERSION = 1
DIVERGED = "diverged"
"""Health of a snapshot whose weights, rollouts or metrics are not finite; all others are "ok"."""
LAYERS = 10_000
"""An RNN in a zoo has fewer."""
BULK = ("weights", "rollout_inputs", "rollout_outputs")
"""Columns of arrays, which are read when they are asked for."""


def _is_metrics(kind: pa.DataType) -> bool:
    """Whether a column holds figures, performance among them, or nothing."""
    known = tables.is_figures(kind)
    return known and (pa.types.is_null(kind) or "performance" in {field.name for field in kind})


COLUMNS: Columns = {
    "id": tables.is_text,
    "run": tables.is_whole,
    "step": tables.is_whole,
    "weights": pa.types.is_fixed_size_list,
}
OPTIONAL: Columns = {
    **dict.fromkeys(("split", "health", "notes", "source", "role"), tables.is_text),
    **dict.fromkeys(("labels", "task"), tables.is_struct),
    "metrics": _is_metrics,
    "seed": tables.is_whole,
    **dict.fromkeys(BULK, pa.types.is_fixed_size_list),
}
"""Columns that every shard has, and the types of others that it may have; those of nulls have none."""

AGAIN = (
    "copy it again, or set it aside (rnnatlas zoo verify ZOO --full --set-aside) and build the zoo again "
    "with --resume, which makes it alone; import an imported zoo again"
)
"""What to do about a damaged shard."""
_OWN = b"rnnatlas"

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


def write_shard(path: Path, table: pa.Table, zoo: str | None = None) -> None:
    """Writes a shard whole or not at all, with checksums.

    Args:
        path: Where it is in the zoo's folder.
        table: Its rows.
        zoo: What `made_from` or the like says of the zoo; the shard then knows which one it is, and of what.
    """
    if zoo is not None:
        own = json.dumps({"zoo": zoo, "shard": "/".join(path.parts[-3:])})
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _OWN: own.encode()})
    text = [name for field in table.schema for name in _text(field)]
    write_table(
        path,
        table,
        use_dictionary=text,
        # bytes of equal rank beside one another: floats compress better, and are read faster
        use_byte_stream_split=True,
        write_statistics=False,
        row_group_size=max(1, table.num_rows),
    )


def made_from(task: Any, settings: Mapping[str, Any], seed: int | None) -> str:
    """Short digest of all that a zoo is made from."""
    own = {name: value for name, value in settings.items() if name != "remarks"}
    return hashlib.sha256(json.dumps([task, own, seed], sort_keys=True).encode()).hexdigest()[:16]


def _text(field: pa.Field, above: str = "") -> list[str]:
    """Paths of the columns of text in a field."""
    if pa.types.is_struct(field.type):
        return [name for own in field.type for name in _text(own, f"{above}{field.name}.")]
    return [above + field.name] if pa.types.is_string(field.type) else []


class ShardDamaged(ZooFormatError):
    """A shard that is not as it was written, or not one of its zoo."""


class Shard:
    """A shard being read; what is wrong with it becomes one clear sentence.

    Args:
        zoo: Where the zoo is.
        name: Path of the shard inside it.
        spec: Architecture of its RNNs.

    Raises:
        ZooFormatError: The shard cannot be read; `ShardDamaged` where it is at fault itself.
    """

    def __init__(self, zoo: "Folder", name: str, spec: RNNSpec):
        self.zoo, self.name, self.spec = zoo, name, spec
        with self._reading():
            if not zoo.remote:
                with zoo.open_binary(name) as file:
                    check_seal(file, whole=False)
            with self._file() as file:
                self.rows = file.metadata.num_rows
                self.schema = file.schema_arrow
            self._check()

    def _check(self) -> None:
        own = self.own
        if own is not None and own.get("shard") != self.name:
            raise ShardDamaged(
                f"shard {self.name} of zoo {self.zoo} is another one, {own.get('shard')!r:.80}; {AGAIN}"
            )
        optional = {name: right for name, right in OPTIONAL.items() if name in self.schema.names}
        if found := unlike(self.schema, {**COLUMNS, **optional}):
            raise ShardDamaged(f"shard {self.name} of zoo {self.zoo} is damaged ({found}); {AGAIN}")
        shape, dtype = column_shape(self.schema.field("weights").type)
        if (shape, dtype) != ((self.spec.parameters,), np.float32):
            raise ShardDamaged(
                f"shard {self.name} of zoo {self.zoo} should hold {self.spec.parameters} float32 weights "
                f"a row ({self.spec}), found {self.schema.field('weights').type}; {AGAIN}"
            )

    @property
    def own(self) -> dict[str, Any] | None:
        """What the shard says of itself: its name, and the zoo that it is of; None if older than that."""
        text = (self.schema.metadata or {}).get(_OWN)
        with self._reading():
            own = None if text is None else json.loads(text)
            if own is not None and not isinstance(own, dict):
                raise ValueError(f"it calls itself {own!r:.40}")
        return own

    def _file(self) -> pq.ParquetFile:
        with self._reading():
            # of a file on this machine without threads ahead, since there may be none
            far = self.zoo.remote
            return pq.ParquetFile(self.zoo.open(self.name), page_checksum_verification=True, pre_buffer=far)

    def check_of(self, zoo: str | None) -> None:
        """Makes sure that it is a shard of a zoo, where both say so; those of older versions do not.

        Raises:
            ShardDamaged: It is not.
        """
        own = self.own
        if own is not None and zoo is not None and own.get("zoo") != zoo:
            raise ShardDamaged(f"shard {self.name} of zoo {self.zoo} is that of another zoo; {AGAIN}")

    def check(self) -> None:
        """Reads all of it, and makes sure that it is as it was written.

        Raises:
            ZooFormatError: It is not.
        """
        with self._reading(), self.zoo.open_binary(self.name) as file:
            check_seal(file)
        self.read(self.schema.names)

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
            with self._reading():
                numbers = flat.to_numpy(zero_copy_only=True).reshape(len(chunk), *into.shape[1:])
            into[start : start + len(chunk)] = numbers
            start += len(chunk)

    def _reading(self) -> "_Reading":
        return _Reading(self)


class _Reading:
    """Turns what is raised while a shard is read into a ZooFormatError, which calls damaged what is so."""

    def __init__(self, shard: Shard):
        self.shard = shard

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, RNNAtlasError) or not isinstance(error, FAULTS):
            return
        shard = f"shard {self.shard.name} of zoo {self.shard.zoo}"
        if advice := lacking(error):
            raise ZooFormatError(f"{shard} cannot be read ({reason(error)}); {advice}") from None
        raise ShardDamaged(f"{shard} is damaged ({reason(error)}); {AGAIN}") from None


# --- the card ------------------------------------------------------------------------------------


def read_card(folder: Folder) -> dict[str, Any]:
    """What `zoo.json` says.

    Raises:
        ZooFormatError: There is no zoo, or it is of another format version.
    """
    if not folder.exists():
        raise ZooFormatError(f"there is no zoo at {folder}; build one with `rnnatlas zoo build`")
    try:
        text = folder.read_text("zoo.json")
    except ValueError:  # not UTF-8, or a pipe
        text = ""  # damaged, as is said below
    if text is None:
        raise ZooFormatError(
            mistaken(str(folder), ZOO)
            or f"{folder} is not a zoo: it has no zoo.json; copy it whole, or choose another folder"
        )
    try:
        card = json.loads(text)
        version = card["format"]
        known = str(card.setdefault("rnnatlas", "unknown"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ZooFormatError(f"zoo.json of {folder} is damaged; copy it again") from None
    if version != VERSION:
        raise ZooFormatError(
            f"zoo {folder} is of format version {version!r:.40}, this rnnatlas {__version__} reads "
            f"version {VERSION}; install the version that wrote it ({known:.40}), or build or import the zoo "
            "again"
        )
    missing = [key for key in ("task", "specs", "settings", "seed", "expected") if key not in card]
    if missing:
        raise ZooFormatError(f"zoo.json of {folder} lacks {', '.join(missing)}; copy it again")
    if part := _odd_part(card):
        raise ZooFormatError(f"zoo.json of {folder} is damaged in `{part}`; copy it again")
    return card


def _odd_part(card: Mapping[str, Any]) -> str | None:
    """The part of a zoo's card that is not what `write_card` writes; None where there is none."""
    task, settings, seed = card["task"], card["settings"], card["seed"]
    named = isinstance(task, dict) and isinstance(task.get("name"), str)
    if task is not None and not (named and isinstance(task.get("settings"), dict)):
        return "task"
    remarks = settings.get("remarks", []) if isinstance(settings, dict) else None
    if not isinstance(remarks, list) or not all(isinstance(remark, str) for remark in remarks):
        return "settings"
    if not (seed is None or _is_count(seed, below=seeds.END)):
        return "seed"
    if not isinstance(card["specs"], dict) or not isinstance(card["expected"], dict):
        return "specs"
    for slug, counts in card["expected"].items():
        right = isinstance(counts, dict) and all(
            _is_count(counts.get(part)) for part in ("shards", "snapshots")
        )
        if not right or not counts["shards"] or not _is_slug(slug):
            return "expected"
    if not card["expected"] or card["expected"].keys() != card["specs"].keys():
        return "specs"
    return None if isinstance(card.get("shards_of", ""), str) else "shards_of"


def _is_count(value: Any, below: int = 2**40) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _is_slug(slug: str) -> bool:
    """Whether it is an architecture, of a size that there may be."""
    if any(len(number) > 6 for number in re.findall(r"\d+", slug)):
        return False
    try:
        spec = RNNSpec.from_slug(slug)
        return spec.slug == slug and spec.layers < LAYERS
    except RNNAtlasError:
        return False


def write_card(
    out: Path,
    *,
    task: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    seed: int | None,
    expected: Mapping[RNNSpec, tuple[int, int]],
    present: Mapping[RNNSpec, tuple[int, int]],
    shards_of: str | None = None,
) -> None:
    """Writes `zoo.json` and, for `datasets` and people, `README.md`.

    Args:
        out: The zoo's folder.
        task: Name and settings of the task; None for imported RNNs.
        settings: How the zoo was made.
        seed: Of the whole zoo.
        expected: Shards and snapshots that the zoo holds once complete, by spec.
        present: Those that it holds now.
        shards_of: What its shards call the zoo that they are of; see `write_shard`.
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
    card |= {} if shards_of is None else {"shards_of": shards_of}
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
