"""Mending predictions for RNNs of another architecture, with a few of them whose properties are known.

What is predicted of RNNs of an architecture that a zoo lacks goes along with what is true, but is shifted and
stretched. An offset and a slope mend that (docs/decisions/0028-readouts.md).
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rnnatlas.errors import DataError
from rnnatlas.properties.base import LABEL, Classes, OneOf, Property, one_hot
from rnnatlas.properties.calibration import Calibration, half_width, nonconformity
from rnnatlas.properties.labels import LabelNumber
from rnnatlas.properties.predictors import Predictor, PredictorSettings
from rnnatlas.properties.scalar import Metric
from rnnatlas.properties.task import TaskProperty

FEWEST = 3
"""RNNs of an architecture from which predictions of it are recalibrated."""
SLOPE_SD = 0.5
"""How far the slope is expected to be from 1."""
BIAS_SD = 2.0
"""How far biases of classes, and the logarithm of the temperature, are expected to be from 0."""


class Affine(nn.Module):
    """Outputs × slope + offset.

    Args:
        slope: Of all outputs.
        offset: Of each.
    """

    slope: Tensor
    offset: Tensor

    def __init__(self, slope: float, offset: Float[Tensor, " target"]):
        super().__init__()
        self.register_buffer("slope", torch.tensor(slope))
        self.register_buffer("offset", offset.float())

    def forward(self, outputs: Float[Tensor, "rnn target"]) -> Float[Tensor, "rnn target"]:
        """See above."""
        return self.slope * outputs + self.offset


@dataclasses.dataclass(frozen=True)
class Recalibrated:
    """A predictor that some RNNs have mended.

    Attributes:
        predictor: What it became.
        before: Mean loss on these RNNs of the predictor as it was.
        after: The same of what it became, each RNN predicted with the others alone.
    """

    predictor: Predictor
    before: float
    after: float


def recalibrate(
    prop: Property,
    predictor: Predictor,
    features: Float[Tensor, "rnn feature"],
    target: Float[Tensor, "rnn target"],
) -> Recalibrated:
    """Mends a predictor for RNNs like some whose property is known, as far as an offset and a slope go.

    Numbers get a slope and an offset by least squares, classes a temperature and a bias each; all are drawn
    to what they were, the more so the fewer or the noisier the RNNs. Where that predicts each RNN, with the
    others alone, no better than before, the predictor stays as it was. Intervals and sets are conformal, from
    the errors of these predictions (jackknife); they need nine RNNs.

    Args:
        prop: What is predicted.
        predictor: As other RNNs made it.
        features: Of the RNNs, what it reads.
        target: `prop.target` of them.
    """
    outputs = predictor(features) / predictor.temperature
    rows = torch.arange(len(outputs))
    each = [
        _affine(prop, outputs[rows != row], target[rows != row])(outputs[row : row + 1])
        for row in range(len(outputs))
    ]
    mended = torch.cat(each)
    before, after = (prop.loss(found, target).mean().item() for found in (outputs, mended))
    layers = nn.Sequential(predictor, Affine(1 / predictor.temperature.item(), torch.zeros(prop.width)))
    if after < before:
        layers.append(_affine(prop, outputs, target))
    else:
        mended, after = outputs, before
    found = Predictor(features.shape[1], prop.width, PredictorSettings(), layers)
    found.calibration = Calibration(1.0, half_width(nonconformity(prop, mended, target)))
    return Recalibrated(found.eval().requires_grad_(False), before, after)


def _affine(prop: Property, outputs: Tensor, target: Tensor) -> Affine:
    if isinstance(prop, Classes):
        return _logits(prop, outputs.double(), target.double())
    slope, offset = _line(outputs.double().numpy(), target.double().numpy())
    return Affine(slope, torch.from_numpy(offset))


def _line(
    outputs: Float[np.ndarray, "rnn target"], target: Float[np.ndarray, "rnn target"]
) -> tuple[float, Float[np.ndarray, " target"]]:
    """Slope and offset by least squares, with a prior on the slope that weighs as the noise found says."""
    centred = outputs - outputs.mean(0)
    error = target - target.mean(0) - centred  # of the slope 1
    size, along = np.square(centred).sum(), (centred * error).sum()
    slope = along / size if size > 1e-12 else 0.0
    free = max(1, len(outputs) - 2) * outputs.shape[1]
    for _ in range(20):
        noise = np.square(error - slope * centred).sum() / free
        slope = along / (size + noise / SLOPE_SD**2 + 1e-12)
    return float(1 + slope), target.mean(0) - (1 + slope) * outputs.mean(0)


def _logits(prop: Classes, outputs: Tensor, target: Tensor) -> Affine:
    """Temperature and biases of the largest posterior probability."""
    from scipy.optimize import minimize

    right = target.view(len(target), len(prop.parts), -1)

    def cost(free: np.ndarray) -> tuple[float, np.ndarray]:
        own = torch.from_numpy(free).requires_grad_()
        with torch.enable_grad():
            probabilities = prop.probabilities(own[0].exp() * outputs + own[1:])
            value = -(right * probabilities.clamp_min(1e-300).log()).sum()
            value = value + own.square().sum() / (2 * BIAS_SD**2)
            (gradient,) = torch.autograd.grad(value, own)
        return value.item(), gradient.numpy()

    found: Any = minimize(cost, np.zeros(1 + prop.width), jac=True, method="L-BFGS-B")
    return Affine(math.exp(found.x[0]), torch.from_numpy(found.x[1:]))


# --- what is known of RNNs -------------------------------------------------------------------------


def known(
    prop: Property, table: pa.Table, name: str
) -> tuple[Bool[np.ndarray, " rnn"], Float[Tensor, "rnn target"]] | None:
    """Of which RNNs a table of labels says a property, and what; None where it has no such column.

    A label goes by its name or in full (`labels.lesion`), so do the numbers of a task (`b`, `task.b`) and
    metrics. A value that no RNN of the zoo has is not known.

    Args:
        prop: The property.
        table: A row an RNN; nulls where nothing is known.
        name: Where the table comes from, for errors.

    Raises:
        DataError: A column of numbers holds something else.
    """
    parts = prop.parts if isinstance(prop, Classes) else [prop.name.removeprefix(LABEL)]
    found = [_column(part, table) for part in parts]
    columns = [column for column in found if column is not None]
    if len(columns) < len(parts) or not isinstance(prop, (TaskProperty, OneOf, Metric, LabelNumber)):
        return None
    if isinstance(prop, (TaskProperty, OneOf)):
        classes = prop.values.values() if isinstance(prop, TaskProperty) else [prop.classes]
        one_hots = [
            one_hot([_text(value) for value in table[column].to_pylist()], list(map(_text, own)))
            for column, own in zip(columns, classes, strict=True)
        ]
        there = torch.stack([part.sum(1) for part in one_hots]).amin(0) > 0
        return there.numpy(), torch.cat(one_hots, 1)
    values = _numbers(table[columns[0]], columns[0], name)
    there = np.isfinite(values)
    values = np.where(there, values, 0.0)
    if isinstance(prop, LabelNumber):
        values = (values - prop.mean) / prop.scale
    return there, torch.from_numpy(values).float()[:, None]


def _column(part: str, table: pa.Table) -> str | None:
    names = (prefix + part for prefix in ("", "metrics.", "task.", LABEL))
    return next((name for name in names if name in table.column_names), None)


def _text(value: Any) -> str | None:
    """A value as it is compared: 100.0 is 100; None stays so and is none of the classes."""
    whole = isinstance(value, float) and value.is_integer()
    return None if value is None else str(int(value) if whole else value)


def _numbers(column: pa.ChunkedArray, title: str, name: str) -> Float[np.ndarray, " rnn"]:
    """NaN where nothing is known."""
    if not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
        found = next((value for value in column.to_pylist() if value is not None), None)
        if found is not None:
            raise DataError(f"the column {title!r} of {name} should hold numbers, found {found!r}; mend it")
    return np.array([np.nan if value is None else value for value in column.to_pylist()], dtype=np.float64)
