"""An atlas: embedded RNNs on disk, and finding those nearest to one."""

import dataclasses
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from rnnatlas.atlas.layouts import place
from rnnatlas.atlas.map import write_map
from rnnatlas.errors import AtlasFormatError, SettingsError, UnknownName, reason
from rnnatlas.files import making, write_json
from rnnatlas.tables import flat, rows_where

FORMAT = 1
CARD, ENTRIES = "atlas.json", "entries.parquet"


@dataclasses.dataclass(frozen=True, repr=False)
class Atlas:
    """Embedded RNNs, one row each.

    Args:
        card: Where the embeddings come from (run, encoder, seed), how the places were found, and what
            was left out.
        table: `id, source, spec, embedding, x, y, samples`, `ood_score` and `in_distribution` as
            `Model.likeness` gives them, and whatever is known of the RNNs: `label, task, run, step, split,
            metrics, predicted`.
    """

    card: dict[str, Any]
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        encoder = self.card.get("encoder", "an encoder")
        return f"Atlas({len(self)} RNNs, embedded by {encoder}; {', '.join(self.table.column_names)})"

    @property
    def ids(self) -> list[str]:
        """Names of the entries."""
        return self.table["id"].to_pylist()

    @property
    def embeddings(self) -> Float[np.ndarray, "rnn embed"]:
        """One row an entry."""
        column = self.table["embedding"].combine_chunks()
        return column.flatten().to_numpy().reshape(len(self), column.type.list_size)

    # --- on disk -------------------------------------------------------------------------------
    @classmethod
    def open(cls, path: Path | str) -> "Atlas":
        """Reads an atlas.

        Raises:
            AtlasFormatError: There is none, it is damaged, or it is of another format version.
        """
        path = Path(path)
        try:
            card = json.loads((path / CARD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AtlasFormatError(
                f"{path} is not an atlas: it has no {CARD}; "
                f"make one with: rnnatlas embed RUN PATH --out {path}"
            ) from None
        except (ValueError, OSError) as error:
            raise AtlasFormatError(
                f"{path / CARD} cannot be read ({reason(error)}); embed the RNNs again"
            ) from None
        if not isinstance(card, dict) or card.get("format") != FORMAT:
            found = card.get("format") if isinstance(card, dict) else "something else"
            raise AtlasFormatError(
                f"{path} should be an atlas of format version {FORMAT}, found {found}; embed the RNNs again"
            )
        if "entries" not in card:
            raise AtlasFormatError(f"{path / CARD} should say how many entries it has; embed the RNNs again")
        try:
            table = pq.read_table(path / ENTRIES)
        except (pa.ArrowException, OSError) as error:
            raise AtlasFormatError(
                f"{path / ENTRIES} cannot be read ({reason(error)}); embed the RNNs again"
            ) from None
        if table.num_rows != card["entries"]:
            raise AtlasFormatError(
                f"{path} should hold {card['entries']} entries, found {table.num_rows}; embed the RNNs again"
            )
        return cls(card, table)

    def save(self, path: Path | str) -> None:
        """Writes the atlas to a new folder, which appears whole or not at all.

        Raises:
            OutputExists: `path` holds something already.
        """
        with making(path) as folder:
            pq.write_table(self.table, folder / ENTRIES, compression="zstd")
            write_json(folder / CARD, {**self.card, "format": FORMAT, "entries": len(self)})

    # --- finding -------------------------------------------------------------------------------
    def position(self, id: str) -> int:
        """Row of an entry.

        Raises:
            UnknownName: No entry is called so; the sentence names the nearest.
        """
        ids = self.ids
        if id in ids:
            return ids.index(id)
        close = difflib.get_close_matches(id, ids, n=3, cutoff=0.5)
        hint = f"nearest are {', '.join(close)}" if close else f"they look like {', '.join(ids[:3])}"
        raise UnknownName(f"no entry of this atlas has the id {id!r}; {hint}")

    def vector(self, id: str) -> Float[np.ndarray, " embed"]:
        """The embedding of an entry.

        Raises:
            UnknownName: No entry is called so.
        """
        return self.embeddings[self.position(id)]

    def search(
        self, query: str | Float[np.ndarray, " embed"], k: int = 10, where: str | None = None
    ) -> pa.Table:
        """The entries nearest to one by the cosine of their embeddings, exactly.

        Args:
            query: The id of an entry, which is then left out itself, or an embedding.
            k: How many, at most.
            where: SQL condition that the entries found must meet, e.g. `split = 'ood' AND step > 100`.

        Returns:
            Rows of the atlas with a column `similarity`, nearest first; ties in the atlas's order.

        Raises:
            UnknownName: No entry has that id, or the condition names a column that is not there.

        Example:
            >>> import rnnatlas as ra
            >>> atlas = ra.Atlas.open("atlas")
            >>> near = atlas.search("run-00000-step-00040", k=3, where="split <> 'train'")
            >>> near.num_rows
            3
        """
        rows = np.arange(len(self)) if where is None else rows_where(self.table, where)
        vector = query
        if isinstance(query, str):
            itself = self.position(query)
            vector = self.embeddings[itself]
            rows = rows[rows != itself]
        similarity = _unit(self.embeddings[rows]) @ _unit(np.asarray(vector))
        order = np.argsort(-similarity.round(9), kind="stable")[:k]  # rounding noise is no difference
        return self._with_similarity(rows[order], similarity[order])

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
        return Atlas({**self.card, "layout": layout, "layout_seed": seed}, table)


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
