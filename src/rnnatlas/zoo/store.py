"""The zoo as Python sees it: a table of snapshots, their weights and their rollouts."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from rnnatlas import tasks
from rnnatlas.errors import RNNSpecMismatch, UnknownName, ZooFormatError, lacking, reason
from rnnatlas.rnn import Mixed, Population, RNNSpec
from rnnatlas.tables import rows_where
from rnnatlas.tasks.base import Rollouts, Task
from rnnatlas.zoo.format import (
    AGAIN,
    BULK,
    DIVERGED,
    RECORDED,
    Folder,
    Shard,
    column_shape,
    made_from,
    read_card,
)
from rnnatlas.zoo.memory import finite, room, rows_of
from rnnatlas.zoo.splits import SPLITS

Rows = pa.Table | Sequence[int] | np.ndarray
"""Snapshots: their positions in a zoo, or a table from `Zoo.snapshots`."""


class Zoo:
    """Snapshots of many RNNs on disk, read as they are needed.

    Opening reads the small columns only. Weights and rollouts are read a shard at a time, when rows of
    it are first asked for, into one array a spec, which lies in a file where memory is short.

    Args:
        path: The zoo's folder.
        card: What its zoo.json says.
        shards: Its shards.
    """

    def __init__(self, path: Path | str, card: dict[str, Any], shards: Sequence[Shard]):
        self.path = path
        self.card = card
        self.specs = [RNNSpec.from_slug(slug) for slug in card["specs"]]
        self._shards = list(shards)
        self.table = _table(self._shards)
        self._spec_of_row = np.repeat(
            [self.specs.index(shard.spec) for shard in shards], [shard.rows for shard in shards]
        ).astype(np.int64)
        self._columns: dict[tuple[RNNSpec, str], _Column] = {}

    @classmethod
    def open(cls, path: Path | str) -> "Zoo":
        """Opens a zoo: a folder, or an address that fsspec knows (s3://…, hf://user/name).

        Raises:
            ZooFormatError: It is missing, incomplete, damaged or of another format version.

        Example:
            >>> import rnnatlas as ra
            >>> zoo = ra.Zoo.open("zoo")
            >>> zoo
            Zoo('zoo': 40 snapshots of LSTM 4→4→4)
            >>> trained = zoo.snapshots(split="train", where="step >= 40")
            >>> len(zoo.population(trained)) == trained.num_rows
            True
        """
        folder = Folder(path)
        card = read_card(folder)
        shards: list[Shard] = []
        for slug, expected in card["expected"].items():
            spec = RNNSpec.from_slug(slug)
            names = folder.shards(spec)
            if len(names) < expected["shards"]:
                raise ZooFormatError(
                    f"zoo {path} should hold {expected['shards']} shards of {spec}, found {len(names)}; "
                    + ("finish it with `rnnatlas zoo build --resume`" if _built(card) else "import it again")
                    + ", or copy it whole"
                )
            shards += [Shard(folder, name, spec) for name in names]
        _check_alike(path, shards)
        _check_own(path, card, shards)
        try:
            zoo = cls(path, card, shards)
            zoo.table.validate(full=True)
        except (pa.ArrowException, UnicodeError) as error:
            if advice := lacking(error):
                raise ZooFormatError(f"zoo {path} cannot be read ({reason(error)}); {advice}") from None
            raise ZooFormatError(f"columns of zoo {path} are damaged ({reason(error)}); {AGAIN}") from None
        rows = sum(expected["snapshots"] for expected in card["expected"].values())
        if len(zoo) != rows:
            raise ZooFormatError(f"zoo {path} should hold {rows} snapshots, found {len(zoo)}; copy it again")
        for name in ("id", "run", "step"):
            if zoo.table[name].null_count:
                raise ZooFormatError(f"snapshots of zoo {path} lack their {name}; copy it again")
        if len(zoo.table["id"].unique()) < rows:
            raise ZooFormatError(
                f"zoo {path} holds snapshots twice, perhaps since a shard was copied over another; {AGAIN}"
            )
        return zoo

    @classmethod
    def from_modules(
        cls,
        modules: Sequence[nn.Module | tuple[nn.Module, nn.Linear]],
        out: Path | str,
        inputs: Any = None,
        labels: Any = None,
        **options: Any,
    ) -> "Zoo":
        """Makes a zoo of torch modules, of any architectures, with what they do on inputs.

        Args:
            modules: As `Mixed.from_modules` takes them.
            out: The zoo's folder, which should not exist yet.
            inputs: An array or tensor [trial, time, channel] of numbers or [trial, time] of tokens; a mapping
                that has it as `inputs` and may have `mask` [trial, time] and `targets`; or a file of these.
            labels: What is known of the modules, in their order: a mapping of lists, a data frame, an Arrow
                table, or a file.
            options: As `rnnatlas.zoo.recording.RecordSettings` has them: group, signal, rollouts, seed.

        Raises:
            RNNSpecMismatch: A module cannot be read.
            DataError: Inputs or labels cannot be used.
            OutputExists: `out` holds something.

        Example:
            >>> import rnnatlas as ra, torch
            >>> nets = [(torch.nn.GRU(3, 8), torch.nn.Linear(8, 2)) for _ in range(6)]
            >>> labels = {"lesion": ["none", "left", "right"] * 2}
            >>> ra.Zoo.from_modules(nets, "mine", inputs=torch.randn(20, 15, 3), labels=labels)
            Zoo('mine': 6 snapshots of GRU 3→8→2)
        """
        from rnnatlas.zoo.keep import keep_modules

        keep_modules(modules, Path(out), inputs, labels, **options)
        return cls.open(out)

    @property
    def shards(self) -> Sequence[Shard]:
        """Its files, in the order of the table."""
        return self._shards

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return f"Zoo({str(self.path)!r}: {len(self)} snapshots of {', '.join(map(str, self.specs))})"

    @cached_property
    def task(self) -> Task | None:
        """What its RNNs were trained on; None for imported ones."""
        card = self.card["task"]
        if card is None:
            return None
        task = tasks.registry[card["name"]].from_settings(card["settings"])
        task.attach(Folder(self.path).open)
        kind, names = self.table.schema.field("task").type, {own.name for own in task.struct}
        known = pa.types.is_struct(kind) and not self.table["task"].null_count
        if not known or {own.name for own in kind} != names:
            raise ZooFormatError(
                f"zoo {self.path} should hold what RNNs learned as {task.struct}, found {kind}; copy it again"
            )
        return task

    @property
    def identity(self) -> str:
        """Short digest of all that a zoo is made from (task, settings, seed), wherever it lies."""
        return made_from(self.card["task"], self.card["settings"], self.card["seed"])

    # --- choosing ----------------------------------------------------------------------------

    def snapshots(
        self, split: str | None = None, where: str | None = None, diverged: bool = False
    ) -> pa.Table:
        """Snapshots, with a column `row` that says where they are in the zoo.

        Args:
            split: "train", "new-runs", "validation", "test" or "ood", which a zoo may lack; None for all.
            where: A further SQL condition, such as "step >= 1000 AND performance > 0.5";
                `tables.rows_where` says what names mean.
            diverged: Whether to keep those whose training diverged.

        Raises:
            UnknownName: No split is called so, or the condition is not valid or names an unknown column.
            SettingsError: The condition would take too long.
        """
        present = self.table["split"].unique().to_pylist()
        if split not in (None, *SPLITS, *present):
            listed = ", ".join(filter(None, present)) or "none, since its RNNs were imported"
            raise UnknownName(f"no split is called {split!r}; those of this zoo are {listed}")
        table = self.table.append_column("row", pa.array(np.arange(len(self))))
        keep = np.ones(len(self), dtype=bool)
        if split is not None:
            keep &= np.asarray(table["split"].to_numpy(zero_copy_only=False) == split)
        if not diverged:
            keep &= np.asarray(table["health"].to_numpy(zero_copy_only=False) != DIVERGED)
        table = table.filter(pa.array(keep))
        return table if where is None else table.take(pa.array(rows_where(table, where)))

    # --- weights and rollouts ----------------------------------------------------------------

    def population(self, rows: Rows) -> Population | Mixed:
        """The RNNs of the snapshots given, in that order: a population, or `Mixed` of several architectures.

        Raises:
            RNNSpecMismatch: There is no snapshot among them.
            ZooFormatError: A weight is not finite, or a shard is damaged.
        """
        groups = self.groups(rows)
        if not groups:
            raise RNNSpecMismatch("expected at least one snapshot, found none; choose others")
        return (
            groups[0][1] if len(groups) == 1 else Mixed([(index.tolist(), group) for index, group in groups])
        )

    def groups(self, rows: Rows) -> list[tuple[np.ndarray, Population]]:
        """The RNNs of the snapshots given, one population a spec, each with positions among `rows`."""
        interface = self.task.interface if self.task is not None else None
        return [
            (positions, Population.unflatten(spec, torch.from_numpy(vectors), interface))
            for positions, spec, vectors in self.weights(rows)
        ]

    def weights(self, rows: Rows) -> list[tuple[np.ndarray, RNNSpec, np.ndarray]]:
        """The same, but weights as flat vectors; errors as `population`."""
        index = self._index(rows)
        found = []
        for number, spec in enumerate(self.specs):
            positions = np.flatnonzero(self._spec_of_row[index] == number)
            if len(positions):
                vectors = self._take(index[positions], spec, "weights")
                self._check_finite(index[positions], vectors)
                found.append((positions, spec, vectors))
        return found

    def rollouts(self, rows: Rows) -> Rollouts:
        """The stored rollouts of the snapshots given; of none, arrays of no rows.

        Raises:
            ZooFormatError: The zoo holds none (imported RNNs), or a shard is damaged.
        """
        return Rollouts(inputs=self.rollout_inputs(rows), outputs=self._rollouts(rows, "rollout_outputs"))

    def rollout_inputs(self, rows: Rows) -> np.ndarray:
        """The stored inputs of rollouts alone, which leaves outputs unread; errors as `rollouts`."""
        return self._rollouts(rows, "rollout_inputs")

    def _rollouts(self, rows: Rows, column: str) -> np.ndarray:
        """An array column of the snapshots given, of whichever architecture."""
        index = self._index(rows)
        whole = None
        for number, spec in enumerate(self.specs):
            positions = np.flatnonzero(self._spec_of_row[index] == number)
            if len(positions) or (whole is None and spec == self.specs[-1]):  # of no rows, an empty array
                values = self._take(index[positions], spec, column)
                if len(positions) == len(index):
                    return values
                whole = room((len(index), *values.shape[1:]), values.dtype) if whole is None else whole
                whole[positions] = values
        assert whole is not None, "a zoo has at least one architecture"
        return whole

    def forget(self) -> None:
        """Lets go of weights and rollouts that were read; they are read again where they are asked for."""
        self._columns.clear()

    def finite(self, rows: Rows) -> np.ndarray:
        """Which of the snapshots given have finite weights throughout."""
        index = self._index(rows)
        finite = np.ones(len(index), dtype=bool)
        for number, spec in enumerate(self.specs):
            positions = np.flatnonzero(self._spec_of_row[index] == number)
            if len(positions):
                finite[positions] = np.isfinite(self._take(index[positions], spec, "weights")).all(axis=1)
        return finite

    def _index(self, rows: Rows) -> np.ndarray:
        chosen = rows.column("row").to_numpy() if isinstance(rows, pa.Table) else rows  # type: ignore[union-attr]
        array = np.asarray(chosen).reshape(-1)
        if len(array) and array.dtype.kind not in "iu":
            raise IndexError(
                f"rows of this zoo are whole numbers from 0 to {len(self) - 1}, found {array.dtype} such as "
                f"{array[0]}; give positions, of a mask np.flatnonzero(mask)"
            )
        index = array.astype(np.int64)
        if len(index) and not (index.min() >= 0 and index.max() < len(self)):
            raise IndexError(
                f"rows of this zoo go from 0 to {len(self) - 1}, found {index.min()} to {index.max()}"
            )
        return index

    def _take(self, index: np.ndarray, spec: RNNSpec, name: str) -> np.ndarray:
        if (spec, name) not in self._columns:
            self._columns[spec, name] = _Column(self.path, self._shards, spec, name)
        return self._columns[spec, name].take(index)

    def _check_finite(self, index: np.ndarray, vectors: np.ndarray) -> None:
        right = finite(vectors)
        if not right.all():
            bad = self.table["id"][int(index[np.flatnonzero(~right)[0]])]
            raise ZooFormatError(
                f"{int((~right).sum())} of the snapshots asked for have weights that are not finite (NaN or "
                f"infinite), the first is {bad}; leave them out, as snapshots() does with those that diverged"
            )


def _built(card: Mapping[str, Any]) -> bool:
    return card["task"] is not None and "paths" not in card["settings"] and card["task"]["name"] != RECORDED


class _Column:
    """One array column of one spec, for all of the zoo's shards; each shard is read when first needed."""

    def __init__(self, zoo: Path | str, shards: Iterable[Shard], spec: RNNSpec, name: str):
        self.name = name
        starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self.shards = [
            (shard, start) for shard, start in zip(shards, starts, strict=False) if shard.spec == spec
        ]
        if name not in self.shards[0][0].schema.names:
            raise ZooFormatError(f"zoo {zoo} holds no {name} of {spec}; imported RNNs have no rollouts")
        shape, dtype = column_shape(self.shards[0][0].schema.field(name).type)
        # where each of the zoo's rows is in the array: memory is only claimed as shards fill it
        self.place = np.full(starts[-1], -1)
        self.shard_of_row = np.full(starts[-1], -1)
        filled = 0
        for number, (shard, start) in enumerate(self.shards):
            self.place[start : start + shard.rows] = np.arange(filled, filled + shard.rows)
            self.shard_of_row[start : start + shard.rows] = number
            filled += shard.rows
        self.values = room((filled, *shape), dtype)
        self.read = np.zeros(len(self.shards), dtype=bool)

    def take(self, index: np.ndarray) -> np.ndarray:
        """A copy of the rows at the zoo's positions given."""
        for number in np.unique(self.shard_of_row[index]):
            if not self.read[number]:
                shard, start = self.shards[number]
                first = self.place[start]
                shard.read_array(self.name, self.values[first : first + shard.rows])
                self.read[number] = True
        return rows_of(self.values, self.place[index])


def _table(shards: Sequence[Shard]) -> pa.Table:
    """The small columns of all shards, with the columns that every zoo's table has."""
    tables = []
    for shard in shards:
        table = shard.read([name for name in shard.schema.names if name not in BULK])
        tables.append(table.append_column("spec", pa.array([shard.spec.slug] * shard.rows, pa.string())))
    table = pa.concat_tables(tables, promote_options="default")
    for name in ("task", "split", "seed", "health", "metrics"):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows))
    return table


def _check_own(path: Path | str, card: Mapping[str, Any], shards: Sequence[Shard]) -> None:
    """Makes sure that shards which know of what zoo they are (older ones do not) are of this one."""
    expected = card.get("shards_of")
    if expected is not None and _built(card):
        made = made_from(card["task"], card["settings"], card["seed"])
        if made != expected:
            raise ZooFormatError(
                f"zoo.json of {path} is not as it was written, since its task, settings or seed are others "
                "than those that its shards were made with; copy it again"
            )
    for shard in shards:
        shard.check_of(expected)


def _check_alike(path: Path | str, shards: Sequence[Shard]) -> None:
    first: dict[RNNSpec, Shard] = {}
    for shard in shards:
        other = first.setdefault(shard.spec, shard)
        if not shard.schema.equals(other.schema):
            differ = sorted(set(map(str, shard.schema)) ^ set(map(str, other.schema))) or [
                "the order of columns"
            ]
            raise ZooFormatError(
                f"all shards of zoo {path} should have the same columns, but {shard.name} "
                f"differs from {other.name} in {differ[0]}; copy the zoo again, or build or import it again"
            )
