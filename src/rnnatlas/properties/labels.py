"""What labels of imported networks say, one property a label: `labels.NAME`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas.properties.base import LABEL, LOSS, Numbers, OneOf, Property, Score, one_hot
from rnnatlas.tasks.base import Task


def fit(task: Task | None, snapshots: pa.Table) -> dict[str, Property]:
    """A property for each label that can be predicted, by name.

    Labels of numbers that vary become numbers. Others become classes: those with two values or more, but no
    more than half as many as there are runs, as names of networks have. A label that runs are grouped by is
    not predicted as classes, since no predictor would know those of groups held out.
    """
    kind = snapshots.schema.field("labels").type if "labels" in snapshots.column_names else None
    if kind is None or not pa.types.is_struct(kind):
        return {}
    group = getattr(task.settings, "group", None) if task is not None else None
    runs = len(snapshots["run"].unique())
    found: dict[str, Property] = {}
    for field in kind:
        values = [value for value in label(snapshots, field.name) if value is not None]
        prop: Property | None = None
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            prop = LabelNumber.of(field.name, values)
        elif field.name != group:
            classes = sorted(set(map(str, values)))
            prop = LabelClass(field.name, classes) if 2 <= len(classes) <= runs / 2 else None
        if prop is not None:
            found[LABEL + field.name] = prop
    return found


def label(snapshots: pa.Table, name: str) -> list[Any]:
    """A label of some snapshots; None where it is not known."""
    rows = snapshots["labels"].to_pylist() if "labels" in snapshots.column_names else []
    return [None if row is None else row[name] for row in rows]


@dataclasses.dataclass(frozen=True)
class Label(Property):
    """A label, as a property of its name with a prefix.

    Args:
        label: Which.
    """

    label: str

    @classmethod
    def fit(cls, task: Task | None, snapshots: pa.Table) -> "Property | None":
        """None: `fit` of this module makes one for each label."""
        return None

    @property
    def name(self) -> str:  # type: ignore[override]
        """With its prefix."""
        return LABEL + self.label


@dataclasses.dataclass(frozen=True)
class LabelNumber(Label, Numbers):
    """A label that is a number, predicted in its standard deviations from its mean.

    Args:
        label: Which.
        mean: Of the snapshots.
        scale: Standard deviation.
    """

    mean: float
    scale: float

    scores: ClassVar[Mapping[str, Score]] = {
        "loss": Score(
            "mean squared error over the label's variance: 1 of the mean", lower_is_better=True, bounds=LOSS
        )
    }

    @classmethod
    def of(cls, label: str, values: Sequence[float | int]) -> "LabelNumber | None":
        """The label with these values; None where they are all alike."""
        scale = float(np.std(values)) if values else 0.0
        known = scale > 0 and math.isfinite(scale)
        return cls(label, float(np.mean(values)), scale) if known else None

    @property
    def width(self) -> int:
        """One."""
        return 1

    def known(self, snapshots: pa.Table) -> Bool[np.ndarray, " rnn"]:
        """Where there is a number."""
        return np.array([value is not None for value in label(snapshots, self.label)], dtype=bool)

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """Standardised; 0 where it is not known."""
        values = [self.mean if value is None else value for value in label(snapshots, self.label)]
        return torch.tensor([(value - self.mean) / self.scale for value in values])[:, None]

    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """The number in its own unit, with its 90 % split-conformal interval; ends are None where unknown."""
        values = self.mean + self.scale * outputs[:, 0].double()
        reach = self.scale * half_width
        known = math.isfinite(reach)
        return [
            {
                "value": _rounded(value),
                "low": _rounded(value - reach) if known else None,
                "high": _rounded(value + reach) if known else None,
            }
            for value in values.tolist()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Label, mean and scale."""
        return dataclasses.asdict(self)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


@dataclasses.dataclass(frozen=True)
class LabelClass(Label, OneOf):
    """A label that is no number, predicted as one of its values.

    Args:
        label: Which.
        values: Its values as text, in order.
    """

    values: list[str]

    scores: ClassVar[Mapping[str, Score]] = {
        "loss": Score("cross-entropy in nats", lower_is_better=True, bounds=LOSS),
        "accuracy": Score("share of snapshots whose most probable value is right"),
    }

    @property
    def classes(self) -> list[str]:
        """The values."""
        return self.values

    @property
    def parts(self) -> list[str]:
        """One."""
        return [self.label]

    def known(self, snapshots: pa.Table) -> Bool[np.ndarray, " rnn"]:
        """Where the label has one of the values."""
        return np.array([str(value) in self.values for value in label(snapshots, self.label)], dtype=bool)

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """One-hot; zeros where it is not known."""
        return one_hot([str(value) for value in label(snapshots, self.label)], self.values)

    def as_dict(self) -> dict[str, Any]:
        """Label and values."""
        return {"label": self.label, "values": list(self.values)}
