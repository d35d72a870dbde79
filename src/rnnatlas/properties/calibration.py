"""Calibration of predictions: temperatures and conformal sets for classes, conformal intervals for numbers.

Both rest on the validation split, which chose checkpoints but trained neither encoders nor predictors. Its
tasks are unknown to predictors, so what is claimed of known tasks is claimed too cautiously; figures say by
how much.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rnnatlas.properties.base import ROUNDING, Classes, Property

CLAIMS = ("confidence", "calibrated_loss", "covered", "half_width")
"""Those of `statements` that rest on the RNNs that calibrate predictions."""

COVERAGE = 0.9
"""Share of RNNs whose number should lie within its interval, or whose class in its set."""

LEAST = 1e-6
"""Least probability, which keeps losses finite."""

COLDEST, HOTTEST = 1 / 20, 20.0
"""Bounds of a temperature, which is not determined where all guesses are right."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What turns a predictor's outputs into probabilities and intervals.

    Attributes:
        temperature: What logits of classes are divided by; 1 for numbers.
        half_width: Half of a number's interval; for classes, what the probability of a value in the set may
            lack of 1. Infinite where too few RNNs are known.
    """

    temperature: float = 1.0
    half_width: float = math.inf


def calibrate(
    prop: Property,
    outputs: Float[Tensor, "rnn target"],
    target: Float[Tensor, "rnn target"],
    together: Sequence[Shaped[np.ndarray, " rnn"]] = (),
) -> Calibration:
    """The calibration of a predictor, from its outputs for RNNs kept for this.

    Args:
        prop: What is predicted.
        outputs: The predictor's.
        target: `prop.target` of the RNNs.
        together: Groups of the RNNs, from large to small, as `Roles.together`. Intervals hold for RNNs of
            other groups, of the largest kind of which there are enough; if of none, then of RNNs like these.
    """
    temperature = _temperature(prop, outputs, target) if isinstance(prop, Classes) else 1.0
    misfits = nonconformity(prop, outputs / temperature, target)
    widths = (half_width(misfits, groups=groups) for groups in (*together, None))
    return Calibration(temperature, next(filter(math.isfinite, widths), math.inf))


def nonconformity(
    prop: Property, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
) -> Float[Tensor, "rnn part"]:
    """How far a prediction is off: its error, or what the probability of the right values lacks of 1."""
    if not isinstance(prop, Classes):
        return outputs - target
    probabilities = prop.probabilities(outputs)
    return 1 - (probabilities * target.view(probabilities.shape)).sum(2)


def _temperature(prop: Classes, outputs: Tensor, target: Tensor) -> float:
    """The temperature under which the right values are most probable (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    if not len(outputs):
        return 1.0
    right = target.view(len(target), len(prop.parts), -1).double()

    def cross_entropy(log_temperature: float) -> float:
        probabilities = prop.probabilities(outputs.double() / math.exp(log_temperature))
        return -(right * probabilities.clamp_min(1e-300).log()).sum(2).mean().item()

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    found: Any = minimize_scalar(cross_entropy, bounds=bounds, method="bounded")
    return math.exp(found.x)


def half_width(
    residuals: Float[Tensor, "rnn target"],
    coverage: float = COVERAGE,
    groups: Shaped[np.ndarray, " rnn"] | None = None,
) -> float:
    """Split-conformal half-width: the quantile of |residual| with its finite-sample correction.

    Infinite where there are too few residuals to promise the coverage. RNNs of one group are not independent,
    so each group counts as one residual, its RNNs for a share of it each: the promise holds for an RNN of a
    group exchangeable with these (Lee, Barber & Willett 2023, hierarchical conformal prediction).
    """
    sizes, order = residuals.abs().amax(1).sort()
    if not len(sizes):
        return math.inf
    _, member, count = np.unique(
        np.arange(len(sizes)) if groups is None else groups, return_inverse=True, return_counts=True
    )
    shares = torch.from_numpy(1 / count[member])[order]
    enough = shares.cumsum(0).round(decimals=9) >= (len(count) + 1) * coverage
    return sizes[enough].amin().item() if enough.any() else math.inf


def statements(
    prop: Property,
    outputs: Float[Tensor, "rnn target"],
    target: Float[Tensor, "rnn target"],
    calibration: Calibration,
) -> dict[str, np.ndarray]:
    """What was claimed of each RNN and whether it held.

    Returns:
        For classes `confidence` [rnn, part], the probability of the value predicted, `right` [rnn, part],
        whether it was, and `calibrated_loss` [rnn], the loss of these probabilities; for numbers `half_width`
        [rnn]; for both `covered` [rnn], whether the interval or the sets held the right values.
    """
    misfits = nonconformity(prop, outputs / calibration.temperature, target).abs().amax(1)
    slack = ROUNDING if isinstance(prop, Classes) else 0.0
    covered = (misfits <= calibration.half_width + slack).double().numpy()
    if isinstance(prop, Classes):
        probabilities = prop.probabilities(outputs / calibration.temperature)
        chosen = outputs.view(probabilities.shape).argmax(2)  # bold ones may be equal by rounding
        right = target.view(probabilities.shape).argmax(2) == chosen
        loss = prop.loss(prop.logits(probabilities.flatten(1).clamp(LEAST, 1 - LEAST)), target)
        return {
            "confidence": probabilities.gather(2, chosen.unsqueeze(2)).squeeze(2).numpy(),
            "right": right.numpy(),
            "calibrated_loss": loss.double().numpy(),
            "covered": covered,
        }
    return {
        "covered": covered,
        "half_width": np.full(len(outputs), calibration.half_width),
    }


def calibration_gaps(
    confidence: Float[np.ndarray, "*batch part"], right: Shaped[np.ndarray, "*batch part"], bins: int = 10
) -> Float[np.ndarray, "bin *batch"]:
    """For each bin of confidence, how much more often the predictor was right than it said, per RNN.

    The expected calibration error (Naeini et al. 2015) is the sum over bins of the absolute mean.
    """
    place: Int[np.ndarray, "*batch part"] = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = right - confidence
    return np.stack([np.where(place == one, gaps, 0.0).mean(axis=-1) for one in range(bins)])
