"""Figures that only a report has: of maps, of emulated performance, of evenness and of stability."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from rnnatlas.devices import choose
from rnnatlas.evaluation.figures import Figure
from rnnatlas.evaluation.model import Model
from rnnatlas.evaluation.results import SCHEMA, record
from rnnatlas.intervals import Interval
from rnnatlas.report.claims import Verdict
from rnnatlas.report.words import ENOUGH_SEEDS
from rnnatlas.rnn import System

KIND = "check"
"""What they are called in results.parquet."""

SEEDS = 3
"""Trainings of each encoder whose embeddings are looked at."""

EVERY = "all held-out"
"""All held-out splits together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check(Figure):
    """A figure of one encoder.

    Attributes:
        encoder: Its label.
        seeds: Of the trainings that it rests on.
        versus: For paired differences the other side: an encoder, and whose figure of it.
    """

    encoder: str
    seeds: tuple[int, ...]
    versus: tuple[str, str] | None = None


Checks = Sequence[Check]


def as_table(checks: Iterable[Check]) -> pa.Table:
    """Rows as `rnnatlas.evaluation.results` has them."""
    rows: list[dict[str, Any]] = []
    for check in checks:
        versus, versus_of = check.versus or (None, None)
        about = {"encoder": check.encoder, "seeds": list(check.seeds)}
        rows.append({**record(check, about), "kind": KIND, "versus": versus, "versus_of": versus_of})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def find(
    checks: Checks, name: str, split: str, encoder: str, of: str, versus: tuple[str, str] | None = None
) -> Interval | None:
    """One figure with its interval; None where there is none."""
    asked = (name, split, encoder, of, versus)
    known = (c.interval for c in checks if (c.name, c.split, c.encoder, c.of, c.versus) == asked)
    return next(known, None)


def verdict(differences: Sequence[Interval], seeds: int) -> Verdict:
    """Whether all paired differences lie above 0; "open" where an interval includes 0 or seeds are few."""
    if seeds < ENOUGH_SEEDS or not differences:
        return "open"
    if any(difference.high < 0 for difference in differences):
        return "not reproduced"
    return "reproduced" if all(difference.low > 0 for difference in differences) else "open"


def some(models: Mapping[int, Model]) -> dict[int, Model]:
    """Those of the first `SEEDS` seeds."""
    return dict(list(models.items())[:SEEDS])


def embedded(model: Model, *systems: System) -> list[Tensor]:
    """What a model makes of some RNNs, on a GPU where there is one, which it leaves again."""
    model.to(choose("auto"))
    found = [model.embed(system).cpu() for system in systems]
    model.to("cpu")
    return found


def counted(table: pa.Table) -> dict[str, Any]:
    """RNNs and snapshots that figures of a table's rows rest on."""
    return {"runs": len(table["run"].unique()), "snapshots": table.num_rows}


def bare(value: float, count: int) -> Interval:
    """A figure without an interval."""
    return Interval(float(value), np.nan, np.nan, count)
