"""The angle by which an RNN's images are rotated (tiled-mnist), as one number and as a point on a circle."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas.properties.base import LOSS, Numbers, Property, Score
from rnnatlas.tasks.base import Task


def _scores(of: str) -> dict[str, Score]:
    return {
        "loss": Score(f"mean squared error of {of}", lower_is_better=True, bounds=LOSS),
        "degrees": Score(
            "error in degrees, the shorter way round", lower_is_better=True, bounds=(0.0, 180.0)
        ),
    }


class OfAngle(Numbers):
    """What both ways of predicting an angle share."""

    @classmethod
    def fit(cls, task: Task | None, snapshots: pa.Table) -> "Property | None":
        """Known where tasks have an angle."""
        known = task is not None and task.struct.get_field_index("angle") >= 0
        return cls() if known and snapshots.num_rows else None

    def degrees(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, " rnn"]:
        """Outputs as angles."""
        raise NotImplementedError

    def score(
        self, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Squared error, and error in degrees."""
        difference = (self.degrees(outputs) - self.degrees(target) + 180) % 360 - 180
        return {"loss": self.loss(outputs, target).numpy(), "degrees": difference.abs().numpy()}

    def as_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}


@dataclasses.dataclass(frozen=True)
class Angle(OfAngle):
    """The angle over 360 degrees, as the paper predicts it: 359° counts as far from 1°."""

    name: ClassVar[str] = "angle"
    scores: ClassVar[Mapping[str, Score]] = _scores("the angle over 360°, which is the paper's")

    @property
    def width(self) -> int:
        """One."""
        return 1

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """Angles as numbers from 0 to 1."""
        return torch.from_numpy(_angles(snapshots) / 360).float()[:, None]

    def degrees(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, " rnn"]:
        """Outputs as angles, those beyond a whole turn as its nearer end."""
        return 360 * outputs[:, 0].clamp(0, 1)

    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """Degrees with their 90 % split-conformal interval, cut to [0, 360]."""
        values, half_width = self.degrees(outputs).double(), 360 * half_width
        ends = [(values + sign * half_width).clamp(0, 360).tolist() for sign in (-1, 1)]
        return [
            {"value": round(value, 1), "low": round(low, 1), "high": round(high, 1)}
            for value, low, high in zip(values.tolist(), *ends, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Direction(OfAngle):
    """The angle as its sine and cosine, so that 359° lies beside 1°."""

    name: ClassVar[str] = "direction"
    scores: ClassVar[Mapping[str, Score]] = _scores("sine and cosine of the angle")

    @property
    def width(self) -> int:
        """Two."""
        return 2

    def target(self, task: Task | None, snapshots: pa.Table) -> Float[Tensor, "rnn target"]:
        """Sine and cosine."""
        assert task is not None, "where there is no task, this property is not known"
        return task.target(snapshots["task"].to_pylist())

    def degrees(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, " rnn"]:
        """Directions of the outputs as angles, from 0 to 360."""
        return torch.rad2deg(torch.atan2(outputs[:, 0], outputs[:, 1])) % 360

    def describe(self, outputs: Float[Tensor, "rnn target"], half_width: float) -> list[dict[str, Any]]:
        """Degrees, below 360, with a 90 % interval, whose ends may lie beyond 0 and 360.

        If sine and cosine are each at most h off, the point is at most √2 h from the true one, which lies
        on the unit circle, so its direction is at most asin(√2 h) off.
        """
        reach = math.sqrt(2) * half_width
        off = math.degrees(math.asin(reach)) if reach < 1 else 180.0
        values = [round(value, 1) % 360 for value in self.degrees(outputs).tolist()]
        return [
            {"value": value, "low": round(value - off, 1), "high": round(value + off, 1)} for value in values
        ]


@dataclasses.dataclass(frozen=True)
class UnseenDirection(Direction):
    """The same, by predictors that have seen no angle of those out of distribution.

    The paper lets half of these join the RNNs that predictors learn from, which then need not predict
    anything beyond the angles they know.
    """

    name: ClassVar[str] = "unseen_direction"
    scores: ClassVar[Mapping[str, Score]] = _scores("sine and cosine of the angle")
    ood_joins: ClassVar[bool] = False


def between(low: float, high: float) -> str:
    """An interval of angles for people, all of it on one circle.

    Example:
        >>> between(-10.0, 12.5), between(200.0, 310.0), between(-167.0, 193.0)
        ('350.0 to 12.5, by way of 0', '200.0 to 310.0', 'any angle')
    """
    if high - low > 359.9:  # both are rounded
        return "any angle"
    if low >= 0 and high <= 360:
        return f"{low:.1f} to {high:.1f}"
    return f"{low % 360:.1f} to {high % 360:.1f}, by way of 0"


def aligned(
    directions: Float[Tensor, "rnn 2"], target: Float[Tensor, "rnn 2"], known: Bool[Tensor, " rnn"]
) -> Float[Tensor, "rnn 2"]:
    """Directions, all turned and scaled alike such that those of known RNNs are nearest to the target.

    Two numbers are fitted, by least squares; turning the other way round is not among what they can do.
    """
    cosine_first = torch.view_as_complex(target.double().flip(1).contiguous())
    own = torch.view_as_complex(directions.double().contiguous())
    weight = (own[known].conj() * cosine_first[known]).sum() / own[known].abs().square().sum()
    return torch.view_as_real(own * weight).flip(1).float()


def _angles(snapshots: pa.Table) -> Float[np.ndarray, " rnn"]:
    return np.array([instance["angle"] for instance in snapshots["task"].to_pylist()], dtype=np.float64)
