"""How long an RNN was trained."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas.properties.base import LOSS, OneOf, Property, Score, one_hot
from rnnatlas.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class TrainingStep(OneOf):
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
    def classes(self) -> list[int]:
        """The steps."""
        return self.steps

    @property
    def parts(self) -> list[str]:
        """One."""
        return ["step"]

    def known(self, snapshots: pa.Table) -> Bool[np.ndarray, " rnn"]:
        """Where the step is one of these."""
        return np.isin(snapshots["step"].to_numpy(), self.steps)

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """One-hot; zeros where the step is not known."""
        return one_hot(snapshots["step"].to_pylist(), self.steps)

    def as_number(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Logarithms of one plus the step."""
        logs = torch.tensor(self.steps, dtype=torch.float64).log1p()
        expected = self.probabilities(outputs.double())[:, 0] @ logs
        return {"expected": expected.numpy(), "actual": (target.double() @ logs).numpy()}

    def as_dict(self) -> dict[str, Any]:
        """The steps."""
        return {"steps": list(self.steps)}
