"""An atlas: embedded RNNs on disk, and finding those nearest to one."""

import dataclasses
import difflib
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from rnnatlas.atlas import neighbours
from rnnatlas.atlas.layouts import place
from rnnatlas.atlas.map import write_map
from rnnatlas.atlas.untrained import BASIS, Basis
from rnnatlas.checked import Columns, Kind, read_json, read_table, unlike, write_table
from rnnatlas.errors import AtlasFormatError, SettingsError, UnknownName, reason
from rnnatlas.files import making, write_json
from rnnatlas.folders import ATLAS, mistaken
from rnnatlas.tables import flat, is_figures, is_number, is_struct, is_text, is_whole, rows_where

FORMAT = 1
CARD, ENTRIES, INDEX = "atlas.json", "entries.parquet", "neighbours.faiss"
_CARD, _ENTRIES = (
    Kind(holds, AtlasFormatError, "embed the RNNs again") for holds in ("what an atlas is", "an atlas's RNNs")
)
_PARTS = {
    "entries": int,
    **dict.fromkeys(("model", "encoder", "layout"), str),
    **dict.fromkeys(("run", "networks", "basis"), str | None),
    "layout_seed": int,
    "recall": float | int | None,
    **dict.fromkeys(("left_out", "sources"), list),
}
"""Types of what a card says."""


@dataclasses.dataclass(frozen=True, repr=False)
class Atlas:
    """Embedded RNNs, one row each.

    Args:
        card: Where the embeddings come from (run, encoder, seed), how the places were found, and what
            was left out.
        table: `id, source, spec, embedding, x, y, samples`, `ood_score` and `in_distribution` as
            `Model.likeness` gives them, and whatever is known of the RNNs: `label, task, run, step, split,
            metrics, predicted`; `rnns` where an entry may be a network of several RNNs.
        path: Its folder; None for one that was not read from disk.
        basis: What made embeddings of invariants, where no run did.
    """

    card: dict[str, Any]
    table: pa.Table
    path: Path | None = None
    basis: Basis | None = None

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return f"Atlas({len(self)} RNNs, embedded by {self.card.get('encoder', 'an encoder')})"

    @property
    def ids(self) -> list[str]:
        """Names of the entries."""
        return self.table["id"].to_pylist()

    @property
    def embeddings(self) -> Float[np.ndarray, "rnn embed"]:
        """One row an entry."""
        column = self.table["embedding"].combine_chunks()
        return column.flatten().to_numpy().reshape(len(self), column.type.list_size)

    @cached_property
    def _units(self) -> Float[np.ndarray, "rnn embed"]:
        return _unit(self.embeddings)

    # --- on disk -------------------------------------------------------------------------------
    @classmethod
    def open(cls, path: Path | str) -> "Atlas":
        """Reads an atlas.

        Raises:
            AtlasFormatError: There is none, it is damaged, or it is of another format version.
        """
        path = Path(path)
        if not (path / CARD).exists():
            raise AtlasFormatError(
                mistaken(path, ATLAS)
                or f"{path} is not an atlas: it has no {CARD}; "
                f"make one with: rnnatlas embed RUN PATH --out {path}"
            )
        card = read_json(path / CARD, _CARD)
        if not isinstance(card, dict) or card.get("format") != FORMAT:
            found = card.get("format") if isinstance(card, dict) else "something else"
            raise AtlasFormatError(
                f"{path} should be an atlas of format version {FORMAT}, found {found}; embed the RNNs again"
            )
        if "entries" not in card:
            raise AtlasFormatError(f"{path / CARD} should say how many entries it has; embed the RNNs again")
        for name, kinds in _PARTS.items():
            if name in card and not isinstance(card[name], kinds):
                raise AtlasFormatError(
                    f"{path / CARD} says of {name!r} what it should not ({card[name]!r:.40}); "
                    "embed the RNNs again"
                )
        table = read_table(path / ENTRIES, _ENTRIES, COLUMNS)
        if found := unlike(table.schema, {k: v for k, v in OPTIONAL.items() if k in table.column_names}):
            raise AtlasFormatError(f"{path / ENTRIES} is damaged ({found}); embed the RNNs again")
        table = table.combine_chunks()  # of which rows are taken at once
        if table.num_rows != card["entries"]:
            raise AtlasFormatError(
                f"{path} should hold {card['entries']} entries, found {table.num_rows}; embed the RNNs again"
            )
        return cls(card, table, path, Basis.load(path / BASIS) if card.get("basis") else None)

    def save(self, path: Path | str) -> None:
        """Writes the atlas to a new folder, which appears whole or not at all.

        A large one gets an index of its neighbours, too, where faiss is installed.

        Raises:
            OutputExists: `path` holds something already.
        """
        with making(path) as folder:
            write_table(folder / ENTRIES, self.table)
            card = {**self.card, "format": FORMAT, "entries": len(self), "recall": None}
            if len(self) > neighbours.EXACT and neighbours.installed():
                made = neighbours.build(self._units.astype(np.float32))
                if made is not None:
                    neighbours.write(made[0], folder / INDEX)
                    card |= {"recall": made[1], "neighbours": _digest(folder / INDEX)}
            if self.basis is not None:
                self.basis.save(folder / BASIS)
            write_json(folder / CARD, card)

    # --- finding -------------------------------------------------------------------------------
    def position(self, id: str) -> int:
        """Row of an entry.

        Raises:
            UnknownName: No entry is called so; the sentence names the nearest.
        """
        try:
            position = pc.index(self.table["id"], id).as_py()
        except UnicodeError:  # a name of the system's that is no text
            position = -1
        if position >= 0:
            return position
        ids = self.ids
        close = difflib.get_close_matches(id, ids, n=3, cutoff=0.5)
        hint = f"nearest are {', '.join(close)}" if close else f"they look like {', '.join(ids[:3])}"
        raise UnknownName(f"no entry of this atlas has the id {id!r:.200}; {hint}")

    def vector(self, id: str) -> Float[np.ndarray, " embed"]:
        """The embedding of an entry.

        Raises:
            UnknownName: No entry is called so.
        """
        return self.embeddings[self.position(id)]

    @cached_property
    def _index(self) -> Any:
        """The index of a large atlas; None where there is none or faiss is not installed."""
        if self.path is None or len(self) <= neighbours.EXACT or not self.card.get("recall"):
            return None
        known = neighbours.installed() and (self.path / INDEX).is_file()
        if known and self.card.get("neighbours", whole := _digest(self.path / INDEX)) != whole:
            return None  # damaged; without it a search is exact
        return neighbours.read(self.path / INDEX, len(self)) if known else None

    @property
    def exactness(self) -> str | None:
        """How a large atlas is searched, in a sentence; None for others."""
        if len(self) <= neighbours.EXACT:
            return None
        if self._index is not None:
            return (
                f"searched by an index, whose recall was {self.card['recall']:.3f} on {neighbours.QUERIES} "
                "queries when it was made"
            )
        return (
            f"searched exactly, all {len(self)} embeddings; for an index, which is faster, pip install "
            "rnnatlas[ann] and embed the RNNs again"
        )

    def search(
        self,
        query: Any,
        k: int = 10,
        where: str | None = None,
    ) -> pa.Table:
        """The entries nearest to one, or to the mean of several, by the cosine of their embeddings.

        The search is exact, but for atlases of more than 100 000 entries that were saved with an index.

        Args:
            query: The id of an entry, which is then left out itself, or an embedding (an array, a tensor or a
                list of numbers); or several of these, which stand for the mean of the embeddings, each of
                length one.
            k: How many, at most.
            where: SQL condition that the entries found must meet, e.g. `split = 'ood' AND step > 100`.

        Returns:
            Rows of the atlas with a column `similarity`, nearest first; ties in the atlas's order.

        Raises:
            UnknownName: No entry has that id, or the condition names a column that is not there.
            SettingsError: The query is empty, or none of these.

        Example:
            >>> import rnnatlas as ra
            >>> atlas = ra.Atlas.open("atlas")
            >>> near = atlas.search("run-00000-step-00040", k=3, where="split <> 'train'")
            >>> near.num_rows
            3
        """
        parts = list(query) if _is_several(query) else [query]
        asked = [self.position(one) for one in parts if isinstance(one, str)]
        vectors = [*self._units[asked], *(self._vector(one) for one in parts if not isinstance(one, str))]
        if not vectors:
            raise SettingsError("a search starts from one RNN or several, found none; give an id")
        unit = _unit(np.mean(vectors, axis=0))
        rows = None if where is None else rows_where(self.table, where)
        if rows is None and self._index is not None and k + len(asked) < neighbours.MOST:
            rows = np.sort(neighbours.candidates(self._index, unit, k + len(asked)))
        units = self._units if rows is None else self._units[rows]
        rows = np.arange(len(self)) if rows is None else rows
        similarity = units @ unit
        rounded = similarity.round(9)  # rounding noise is no difference
        rounded[np.isin(rows, asked)] = -np.inf
        found = min(k, len(rows) - int(np.isin(asked, rows).sum()))
        if found <= 0:
            return self._with_similarity(rows[:0], similarity[:0])
        likely = np.flatnonzero(rounded >= np.partition(rounded, -found)[-found])
        order = likely[np.argsort(-rounded[likely], kind="stable")][:found]
        return self._with_similarity(rows[order], similarity[order])

    def _vector(self, given: Any) -> Float[np.ndarray, " embed"]:
        """An embedding that was given, of length one."""
        size = self.embeddings.shape[1]
        try:
            held = given.detach().cpu() if hasattr(given, "detach") else given  # a tensor
            vector = np.asarray(held, dtype=np.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            found = f"{type(given).__name__} ({reason(error)})"
        else:
            if vector.shape == (size,) and np.isfinite(vector).all():
                return _unit(vector)
            found = f"one of shape {[*vector.shape]}" if vector.shape != (size,) else "one that is not finite"
        raise SettingsError(
            f"a search starts from ids and embeddings of {size} finite numbers, found {found}; give an id, "
            "or a row of what the run's `embed` gives"
        )

    def _with_similarity(self, rows: np.ndarray, similarity: np.ndarray) -> pa.Table:
        chosen = self.table.take(pa.array(rows, pa.int64()))
        return chosen.append_column("similarity", pa.array(similarity, pa.float64()))

    # --- looking -------------------------------------------------------------------------------
    def map(
        self,
        out: Path | str,
        color: str | None = None,
        layout: str | Sequence[str] | None = None,
        others: Sequence["Atlas"] = (),
        force: bool = False,
    ) -> None:
        """Writes the map as one HTML file.

        Args:
            out: The file.
            color: Column that colours the points at first; the task where known.
            layout: One or several, besides the atlas's own and PCA; readers can switch, the first is shown.
            others: Atlases of the same RNNs by other encoders, which readers can choose too.
            force: Replace a file that is there.

        Raises:
            OutputExists: The file is there already.
            UnknownName: No such column or layout.
            SettingsError: Another atlas lacks RNNs of this one, or a layout needs an extra.
        """
        layouts = [layout] if isinstance(layout, str) else layout or ()
        write_map(self, out, color, layouts, others, force)

    def to_pandas(self) -> Any:
        """All entries as a pandas data frame, structs spread out into columns such as `metrics.performance`.

        Raises:
            SettingsError: pandas is not installed.
        """
        try:
            return flat(self.table).to_pandas()
        except ImportError:
            raise SettingsError(
                "a data frame needs the package pandas, which is not installed; pip install pandas, or use "
                "atlas.table"
            ) from None

    def placed(self, layout: str, seed: int = 0) -> "Atlas":
        """The same atlas with places by another layout.

        Raises:
            UnknownName: No layout is called so.
            SettingsError: The layout needs an extra that is not installed.
        """
        if self.card.get("layout") == layout and self.card.get("layout_seed") == seed:
            return self
        table = with_places(self.table, place(layout, self.embeddings, seed))
        return Atlas({**self.card, "layout": layout, "layout_seed": seed}, table, self.path, self.basis)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_several(query: Any) -> bool:
    """Whether a query is a list of ids and embeddings, or a matrix of these, and not a single one."""
    if isinstance(query, str) or not hasattr(query, "__len__"):
        return False
    dimensions = getattr(query, "ndim", None)
    return dimensions != 1 and not (len(query) and all(isinstance(one, float | int) for one in query))


def _is_vectors(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) and kind.list_size > 0 and kind.value_type == pa.float32()


def _is_texts(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and is_text(kind.value_type)


COLUMNS: Columns = {
    "id": is_text,
    "embedding": _is_vectors,
    **dict.fromkeys("xy", pa.types.is_floating),
}
OPTIONAL: Columns = {
    **dict.fromkeys(("source", "spec", "label", "split", "notes"), is_text),
    **dict.fromkeys(("run", "step"), is_whole),
    **dict.fromkeys(("task", "labels", "predicted"), is_struct),
    "metrics": is_figures,
    **dict.fromkeys(("samples", "rnns"), _is_texts),
    "ood_score": is_number,
    "in_distribution": lambda kind: pa.types.is_boolean(kind) or pa.types.is_null(kind),
}
"""Columns that every atlas has, and the types of others that it may have."""


def _unit(vectors: Float[np.ndarray, "*rnn embed"]) -> Float[np.ndarray, "*rnn embed"]:
    """Of length one, in double precision; zeros stay zeros."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def with_places(table: pa.Table, places: Float[np.ndarray, "rnn 2"]) -> pa.Table:
    """The table with columns `x` and `y`, replaced or new."""
    for name, values in zip("xy", places.T, strict=True):
        column = pa.array(values.astype(np.float32))
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table
