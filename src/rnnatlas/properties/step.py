"""How long an RNN was trained."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas.properties.base import LOSS, Classes, Property, Score, one_hot
from rnnatlas.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class TrainingStep(Classes):
    """The number of updates at the snapshot, as one class for each step that the zoo has.

    Args:
        steps: The steps, ascending.
    """

    steps: list[int]

    name: ClassVar[str] = "step"
    scores: ClassVar[Mapping[str, Score]] = {
        "loss": Score("cross-entropy in nats", lower_is_better=True, bounds=LOSS),
        "accuracy": Score("share of snapshots whose most probable step is right"),
    }

    @classmethod
    def fit(cls, task: Task | None, snapshots: pa.Table) -> "Property | None":
        """The steps of these snapshots; None where they are all of one step."""
        steps = sorted({step for step in snapshots["step"].to_pylist() if step is not None and step >= 0})
        few = (
            2 * len(steps) <= snapshots.num_rows
        )  # where each snapshot has a step of its own, none is a class
        return cls(steps) if len(steps) > 1 and few else None

    @property
    def width(self) -> int:
        """One number a step."""
        return len(self.steps)

    @property
    def parts(self) -> list[str]:
        """One."""
        return ["step"]

    def probabilities(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn part value"]:
        """The softmax."""
        return outputs.softmax(1)[:, None]

    def logits(self, probabilities: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn target"]:
        """See `Classes.logits`."""
        return probabilities.log()

    def known(self, snapshots: pa.Table) -> Bool[np.ndarray, " rnn"]:
        """Where the step is one of these."""
        return np.isin(snapshots["step"].to_numpy(), self.steps)

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """One-hot; zeros where the step is not known."""
        return one_hot(snapshots["step"].to_pylist(), self.steps)

    def loss(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> Float[Tensor, " rnn"]:
        """Cross-entropy."""
        return -(outputs.log_softmax(1) * target).sum(1)

    def score(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Loss, and whether the step is right."""
        right = outputs.argmax(1) == target.argmax(1)
        return {"loss": self.loss(outputs, target).numpy(), "accuracy": right.float().numpy()}

    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """The most probable step and the probability of each."""
        return [
            {
                "value": self.steps[int(np.argmax(row))],
                "probabilities": {
                    str(step): round(share, 4) for step, share in zip(self.steps, row, strict=True)
                },
            }
            for (row,) in self.probabilities(outputs).tolist()
        ]

    def as_dict(self) -> dict[str, Any]:
        """The steps."""
        return {"steps": list(self.steps)}
