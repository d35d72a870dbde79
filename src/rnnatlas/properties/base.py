"""What a property of an RNN is: a target, a loss, scores, and how a prediction reads."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas.tasks.base import Task

LABEL = "labels."
"""What names of properties start with that are labels of imported networks (`labels`)."""
LOSS = (0.0, float("inf"))
"""Bounds of a loss."""
ROUNDING = 1e-6
"""By how much more the probability of a value in a conformal set may lack of 1, for rounding."""


@dataclasses.dataclass(frozen=True)
class Score:
    """What a figure is.

    Args:
        definition: In one line.
        lower_is_better: Whether a good predictor's is low, as a loss is; None where neither is good.
        bounds: What it cannot leave: a share's without it.
    """

    definition: str
    lower_is_better: bool | None = False
    bounds: tuple[float, float] = (0.0, 1.0)


class Property(ABC):
    """Something to be predicted from an embedding.

    An instance knows the possible values (languages' m's, training steps), found by `fit`; `as_dict`
    and the constructor carry them to disk and back.
    """

    name: ClassVar[str]
    scores: ClassVar[Mapping[str, Score]]
    """The figures that `score` gives, by name."""
    ood_joins: ClassVar[bool] = True
    """Whether predictors learn from half of the OOD tasks, too; else from none, and all are held out."""

    @classmethod
    @abstractmethod
    def fit(cls, task: Task | None, snapshots: pa.Table) -> "Property | None":
        """The property as it varies over these snapshots; None where they do not have it."""

    def known(self, snapshots: pa.Table) -> Bool[np.ndarray, " rnn"]:
        """Of which snapshots the property is known; their targets alone count."""
        return np.ones(snapshots.num_rows, dtype=bool)

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers that a predictor gives out for one RNN."""

    @abstractmethod
    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """What is to be predicted; anything finite where it is not known."""

    @abstractmethod
    def loss(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> Float[Tensor, " rnn"]:
        """What a predictor is trained to make small, for each RNN."""

    @abstractmethod
    def score(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """The figures named in `scores`, for each RNN; their means over RNNs are reported."""

    def as_number(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Predicted and true number of a property whose values have one though classes are predicted.

        Returns:
            `expected`, the mean under the predicted probabilities, and `actual`; nothing of other properties.
        """
        return {}

    @abstractmethod
    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """Predictions as plain values: `value`, and its uncertainty.

        Args:
            outputs: A predictor's, over its temperature.
            half_width: Half of the width of a number's 90 % interval; of classes, what the probability of a
                value in the 90 % set may lack of 1. Infinite where it is not known.
        """

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """The constructor's arguments as JSON can hold them."""


class Classes(Property):
    """A property of one part or several, each of which has one of some values; outputs are logits."""

    @property
    @abstractmethod
    def parts(self) -> list[str]:
        """Names of the parts."""

    @abstractmethod
    def probabilities(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn part value"]:
        """The probability of each value of each part."""

    @abstractmethod
    def logits(self, probabilities: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn target"]:
        """Outputs that give these probabilities, all between 0 and 1."""


class OneOf(Classes):
    """A property of one part: which of some values it has."""

    @property
    @abstractmethod
    def classes(self) -> Sequence[Any]:
        """The values, in the order of the outputs."""

    @property
    def width(self) -> int:
        """One number a value."""
        return len(self.classes)

    def probabilities(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn part value"]:
        """The softmax."""
        return outputs.softmax(1)[:, None]

    def logits(self, probabilities: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn target"]:
        """See `Classes.logits`."""
        return probabilities.log()

    def loss(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> Float[Tensor, " rnn"]:
        """Cross-entropy."""
        return -(outputs.log_softmax(1) * target).sum(1)

    def score(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Loss, and whether the most probable value is right."""
        right = outputs.argmax(1) == target.argmax(1)
        return {"loss": self.loss(outputs, target).numpy(), "accuracy": right.float().numpy()}

    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """The most probable value, the probability of each, and the conformal set of values."""
        return [
            {
                "value": self.classes[int(np.argmax(row))],
                "probabilities": {
                    str(value): round(share, 4) for value, share in zip(self.classes, row, strict=True)
                },
                "set": conformal_set(self.classes, row, half_width),
            }
            for (row,) in self.probabilities(outputs).tolist()
        ]


class Numbers(Property):
    """A property of one number or several, predicted with the least squared error."""

    def loss(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> Float[Tensor, " rnn"]:
        """Squared error."""
        return (outputs - target).square().mean(1)

    def score(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """The loss; correlations are of whole splits."""
        return {"loss": self.loss(outputs, target).numpy()}


def conformal_set(
    values: Sequence[Any], probabilities: Sequence[float], half_width: float
) -> list[Any] | None:
    """Values whose probability lacks no more of 1, and the most probable one; None where it is not known."""
    if not math.isfinite(half_width):
        return None
    best = max(probabilities)
    both = zip(values, probabilities, strict=True)
    return [value for value, own in both if own == best or 1 - own <= half_width + ROUNDING]


def one_hot(values: Sequence[Any], classes: Sequence[Any]) -> Float[Tensor, "rnn class"]:
    """Values as one-hot vectors over classes; zeros for others."""
    places = {value: place for place, value in enumerate(classes)}
    rows = torch.zeros(len(values), len(classes))
    for row, value in enumerate(values):
        if value in places:
            rows[row, places[value]] = 1
    return rows
