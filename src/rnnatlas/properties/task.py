"""Which task instance an RNN was trained on."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rnnatlas.properties.base import LOSS, Classes, Property, Score, conformal_set
from rnnatlas.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class TaskProperty(Classes):
    """The numbers that name the task instance, each as a one-hot vector (three-hot for languages).

    Args:
        values: Field of the task's struct → its values in the order of its one-hot vector; None for a
            value that no snapshot has.
    """

    values: Mapping[str, list[Any]]

    name: ClassVar[str] = "task"
    scores: ClassVar[Mapping[str, Score]] = {
        "loss": Score(
            "binary cross-entropy, mean over the one-hot entries", lower_is_better=True, bounds=LOSS
        ),
        "accuracy": Score("share of the numbers that define the task whose most probable value is right"),
        "all_right": Score("share of RNNs for which every number is right"),
    }

    @classmethod
    def fit(cls, task: Task | None, snapshots: pa.Table) -> "Property | None":
        """The fields of the task and their values, as the target's one-hot vector orders them."""
        if task is None or snapshots.num_rows == 0 or not _is_discrete(task):
            return None
        instances = _distinct(snapshots)
        fields = list(instances[0])
        groups = task.target(instances).unflatten(1, (len(fields), -1))
        values: dict[str, list[Any]] = {field: [None] * groups.shape[2] for field in fields}
        for instance, positions in zip(instances, groups.argmax(2).tolist(), strict=True):
            for field, position in zip(fields, positions, strict=True):
                values[field][position] = instance[field]
        return cls(values)

    @property
    def width(self) -> int:
        """Entries of all one-hot vectors."""
        return sum(map(len, self.values.values()))

    @property
    def parts(self) -> list[str]:
        """The numbers that name the task."""
        return list(self.values)

    def probabilities(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn part value"]:
        """The sigmoids, scaled to sum to one for each number."""
        return self._groups(functional.logsigmoid(outputs)).softmax(2)

    def logits(self, probabilities: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn target"]:
        """See `Classes.logits`."""
        return probabilities.logit()

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """One-hot vectors side by side."""
        assert task is not None, "fit gives no property where there is no task"
        return task.target(snapshots["task"].to_pylist()).float()

    def loss(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> Float[Tensor, " rnn"]:
        """Binary cross-entropy."""
        return functional.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(1)

    def score(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Loss, and which numbers are right."""
        right = self._groups(outputs).argmax(2) == self._groups(target).argmax(2)
        return {
            "loss": self.loss(outputs, target).numpy(),
            "accuracy": right.float().mean(1).numpy(),
            "all_right": right.all(1).float().numpy(),
        }

    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """The most probable values, the probability of each that a snapshot has, and the sets of values.

        That all values are in the sets of their fields has the probability claimed.
        """
        seen = torch.tensor([[value is not None for value in own] for own in self.values.values()])
        outputs = outputs.masked_fill(~seen.flatten(), -math.inf)
        best = self._groups(outputs).argmax(2)
        return [
            self._describe(*rnn, half_width)
            for rnn in zip(self.probabilities(outputs).tolist(), best.tolist(), strict=True)
        ]

    def _describe(
        self, probabilities: list[list[float]], places: list[int], half_width: float
    ) -> dict[str, Any]:
        tables, sets, best = {}, {}, {}
        for (field, values), row, place in zip(self.values.items(), probabilities, places, strict=True):
            seen = [(value, own) for value, own in zip(values, row, strict=True) if value is not None]
            tables[field] = {str(value): round(own, 4) for value, own in seen}
            known, shares = zip(*seen, strict=True)
            sets[field] = conformal_set(known, shares, half_width)
            best[field] = values[place]
        return {"value": best, "probabilities": tables, "set": sets}

    def _groups(self, flat: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn field value"]:
        return flat.unflatten(1, (len(self.values), -1))

    def as_dict(self) -> dict[str, Any]:
        """The values by field."""
        return {"values": dict(self.values)}


def _is_discrete(task: Task) -> bool:
    """Whether instances are named by whole numbers, as languages are, not by an angle."""
    return all(pa.types.is_integer(field.type) for field in task.struct)


def _distinct(snapshots: pa.Table) -> list[dict[str, Any]]:
    instances = {tuple(instance.items()): instance for instance in snapshots["task"].to_pylist()}
    return list(instances.values())
