"""Properties that are one number."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.properties.base import LOSS, Numbers, Property, Score
from rnnatlas.tasks.base import Task


class Metric(Numbers):
    """A metric that the zoo keeps, under the property's own name."""

    bounds: ClassVar[tuple[float, float]]
    scores: ClassVar[Mapping[str, Score]] = {
        "loss": Score("mean squared error", lower_is_better=True, bounds=LOSS)
    }

    @classmethod
    def fit(cls, task: Task | None, snapshots: pa.Table) -> "Property | None":
        """Known where every snapshot has the metric."""
        known = _metric(snapshots, cls.name)
        return cls() if known is not None and np.isfinite(known).all() and len(known) else None

    @property
    def width(self) -> int:
        """One."""
        return 1

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """The metric."""
        values = _metric(snapshots, self.name)
        assert values is not None, "fit gives no property where there is no such metric"
        return torch.from_numpy(values.astype(np.float32))[:, None]

    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """The number with its 90 % split-conformal interval, cut to the metric's bounds.

        Ends are None where nothing bounds them.
        """
        values = outputs[:, 0].double()
        ends = [(values + sign * half_width).clamp(*self.bounds).tolist() for sign in (-1, 1)]
        return [
            {"value": round(value, 4), "low": _finite(low), "high": _finite(high)}
            for value, low, high in zip(values.clamp(*self.bounds).tolist(), *ends, strict=True)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}


@dataclasses.dataclass(frozen=True)
class Performance(Metric):
    """How well the RNN does its task."""

    name: ClassVar[str] = "performance"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class GeneralisationGap(Metric):
    """Validation loss less training loss, in nats, where the task tells training from validation data."""

    name: ClassVar[str] = "generalisation_gap"
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _metric(snapshots: pa.Table, name: str) -> np.ndarray | None:
    kind = snapshots.schema.field("metrics").type if "metrics" in snapshots.column_names else None
    if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
        return None
    rows = snapshots["metrics"].to_pylist()
    values = [row[name] if row and row[name] is not None else np.nan for row in rows]
    return np.array(values, dtype=np.float64)
