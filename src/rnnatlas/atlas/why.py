"""Why RNNs lie near one another: which properties they share, and where they respond otherwise."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from rnnatlas.atlas.index import Atlas
from rnnatlas.atlas.sources import read_files
from rnnatlas.atlas.untrained import Untrained
from rnnatlas.errors import RNNAtlasError
from rnnatlas.evaluation.model import Model
from rnnatlas.rnn import RNNSpec, System, Tokens, run
from rnnatlas.rnn.leaks import parse_cell
from rnnatlas.tables import flat
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.store import Zoo

ALIKE = 0.1
"""Numbers agree that differ by less than so many of their standard deviations over the atlas."""
OTHERS = ("id", "run", "source", "network", "role", "rnns", "x", "y", "embedding", "samples", "notes")
OTHERS += ("ood_score", "similarity")
"""Columns that are no property of an RNN."""


@dataclasses.dataclass(frozen=True)
class Why:
    """How an RNN compares with the one that was asked about.

    Attributes:
        agree: Properties that both have alike, with their value.
        differ: Properties that differ: of the RNN asked about, and of the one found.
        distance: Mean distance of their responses over shared inputs: total variation of tokens'
            probabilities, or mean absolute difference of numbers; None where it is not known.
        most: Where they differ most; where that is not known, why.
    """

    agree: dict[str, Any]
    differ: dict[str, tuple[Any, Any]]
    distance: float | None
    most: str


def explain(
    atlas: Atlas, asked: str | pa.Table, found: pa.Table, model: Model | Untrained, cell: str | None = None
) -> list[Why]:
    """How each of some entries, as `Atlas.search` finds them, compares with one that was asked about.

    Responses are those to the inputs that the run keeps of training RNNs' rollouts, so the run has to be
    evaluated, and the zoos and files that the RNNs came from have to be where they were.

    Args:
        atlas: The atlas.
        asked: Id of the entry; or the one row of another atlas, as for a file.
        found: The others.
        model: The run that made the atlas, or what stands in its place.
        cell: The cell that was given to read the file of the one that was asked about.

    Raises:
        UnknownName: No entry is called so.
    """
    own = atlas.table.slice(atlas.position(asked), 1) if isinstance(asked, str) else asked
    together = pa.concat_tables([own, found], promote_options="permissive")
    one, *others = flat(together).to_pylist()
    given = atlas.card.get("cell")
    sds = _standard_deviations(atlas)
    responses = _Responses(model, given if isinstance(asked, str) else cell, given)
    return [Why(*_properties(one, other, sds), *responses.compare(one, other)) for other in others]


def _standard_deviations(atlas: Atlas) -> dict[str, float]:
    """Of each column of numbers that are not whole."""
    table = flat(atlas.table)
    floats = [
        field.name
        for field in table.schema
        if pa.types.is_floating(field.type) and table[field.name].null_count < table.num_rows
    ]
    return {name: float(np.nanstd(table[name].to_numpy().astype(float))) for name in floats}


def _properties(
    asked: Mapping[str, Any], other: Mapping[str, Any], sds: Mapping[str, float]
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    agree, differ = {}, {}
    for name, value in asked.items():
        found = other[name]
        in_label = name.startswith("task.") and asked.get("label") is not None
        unknown = None in (value, found) or (name == "step" and -1 in (value, found))  # -1: imported
        if name in OTHERS or in_label or unknown:
            continue
        same = abs(value - found) < ALIKE * sds[name] if name in sds else value == found
        if same:
            agree[name] = found
        else:
            differ[name] = (value, found)
    return agree, differ


class _Responses:
    """Responses of entries to the inputs that a run keeps; each zoo is opened once.

    Files are read with the cells that were given for the one that was asked about, and for the others.
    """

    def __init__(self, model: Model | Untrained, *cells: str | None):
        self.model, self.cells = model, cells
        self.zoos: dict[str, Zoo] = {}

    def compare(self, asked: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float | None, str]:
        """Mean distance of two entries' responses, and where it is greatest."""
        if isinstance(self.model, Untrained):
            return None, "not known: the atlas is of weights, and no RNN was run"
        reference = self.model.reference
        if reference is None:
            return None, f"not known: {self.model.without_reference}"
        task, shown = self.model.task, reference.shown
        try:
            a, b = (
                task.interface.output.interpret(run(self._rnn(entry, cell), reference.inputs)[0])[0]
                for entry, cell in zip((asked, other), self.cells, strict=True)
            )
        except (RNNAtlasError, OSError, LookupError) as error:
            return None, f"not known: {error}"
        tokens = isinstance(task.interface.output, Tokens)
        a, b = (part.exp() if tokens else part for part in (a, b))
        gaps = (a - b).abs()
        each = (gaps.sum(-1) / 2 if tokens else gaps.amax(-1)).flatten()[shown]
        place = int(shown[each.argmax()])
        sequence, step = divmod(place, a.shape[1])
        output = int(gaps[sequence, step].argmax())
        values = [part[sequence, step, output].item() for part in (a, b)]
        before = reference.inputs[sequence, : step + 1]
        return each.mean().item(), _sentence(task, sequence, before, output, values)

    def _rnn(self, entry: Mapping[str, Any], given: str | None) -> System:
        """The RNN of an entry, from where it was embedded from.

        Raises:
            LookupError: It is not there any more.
        """
        id, source = entry["id"], entry["source"]
        if len(entry.get("rnns") or ()) > 1:
            raise LookupError(f"{id} is a network of several RNNs; embed with --separate to compare these")
        if source == "memory":
            raise LookupError("RNNs in memory are not kept")
        if "://" in source or (Path(source) / "zoo.json").is_file():
            zoo = self.zoos.setdefault(source, Zoo.open(source))
            rows = zoo.table["id"].to_pylist()
            parts = id.split("/")  # ids of several zoos begin with the zoo's name
            names = ["/".join(parts[i:]) for i in range(len(parts))]
            known = [rows.index(name) for name in names if name in rows]
            if not known:
                raise LookupError(f"{source} does not hold {id} any more")
            return zoo.population(known[:1])
        spec = RNNSpec.from_slug(entry["spec"])
        own = spec.cell if len(spec.gates) == 1 else None
        cell = given if parse_cell(given)[0] == own else own  # with α, where it was given
        files = read_files([source], self.model, cell)
        for position, name in enumerate(files.ids):
            if name == id and files.rnns[position].spec == spec:
                return files.select([position]).population()
        raise LookupError(f"{source} does not hold {id} any more")


def _sentence(
    task: Task, sequence: int, before: Float[Tensor, "time input"], output: int, values: Sequence[float]
) -> str:
    """What two RNNs give out at the position where they differ most."""
    reads, gives = task.interface.input, task.interface.output
    letters = getattr(task, "letters", None)
    names = [*letters, "^", "⏎"] if letters else []
    if isinstance(reads, Tokens) and len(names) == reads.size:
        where = f"after {''.join(names[token] for token in before.argmax(1).tolist())}"
    else:
        where = f"sequence {sequence + 1}, step {len(before)}"
    if isinstance(gives, Tokens):
        name = names[output] if len(names) == gives.size else f"token {output}"
        return f"{where}: {name} with {values[0]:.0%} against {values[1]:.0%}"
    return f"{where}: output {output + 1} is {values[0]:.3g} against {values[1]:.3g}"
