"""Calibration of predictions: temperatures for classes, split-conformal intervals for numbers.

Both rest on the validation split, which chose checkpoints but trained neither encoders nor predictors. Its
tasks are unknown to predictors, so what is claimed of known tasks is claimed too cautiously; figures say by
how much.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rnnatlas.properties.base import Classes, Property

CLAIMS = ("confidence", "calibrated_loss", "covered", "half_width")
"""Those of `statements` that rest on the RNNs that calibrate predictions."""

COVERAGE = 0.9
"""Share of RNNs whose number should lie within its interval."""

LEAST = 1e-6
"""Least probability, which keeps losses finite."""

COLDEST, HOTTEST = 1 / 20, 20.0
"""Bounds of a temperature, which is not determined where all guesses are right."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What turns a predictor's outputs into probabilities and intervals.

    Attributes:
        temperature: What logits of classes are divided by; 1 for numbers.
        half_width: Half of a number's interval; infinite for classes.
    """

    temperature: float = 1.0
    half_width: float = math.inf


def calibrate(
    prop: Property, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
) -> Calibration:
    """The calibration of a predictor, from its outputs for RNNs kept for this."""
    if isinstance(prop, Classes):
        return Calibration(temperature=_temperature(prop, outputs, target))
    return Calibration(half_width=half_width(outputs - target))


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


def half_width(residuals: Float[Tensor, "rnn target"], coverage: float = COVERAGE) -> float:
    """Split-conformal half-width: the quantile of |residual| with its finite-sample correction.

    Infinite where there are too few residuals to promise the coverage. The promise holds for RNNs
    exchangeable with these; snapshots of one run are not independent, so it is approximate.
    """
    sizes = residuals.abs().amax(1).sort().values
    rank = math.ceil((len(sizes) + 1) * coverage)
    return sizes[rank - 1].item() if rank <= len(sizes) else math.inf


def statements(
    prop: Property,
    outputs: Float[Tensor, "rnn target"],
    target: Float[Tensor, "rnn target"],
    calibration: Calibration,
) -> dict[str, np.ndarray]:
    """What was claimed of each RNN and whether it held.

    Returns:
        For classes `confidence` [rnn, part], the probability of the value predicted, `right` [rnn, part],
        whether it was, and `calibrated_loss` [rnn], the loss of these probabilities; for numbers `covered`
        [rnn], whether the interval held the number, and `half_width` [rnn].
    """
    if isinstance(prop, Classes):
        probabilities = prop.probabilities(outputs / calibration.temperature)
        chosen = outputs.view(probabilities.shape).argmax(2)  # bold ones may be equal by rounding
        right = target.view(probabilities.shape).argmax(2) == chosen
        loss = prop.loss(prop.logits(probabilities.flatten(1).clamp(LEAST, 1 - LEAST)), target)
        return {
            "confidence": probabilities.gather(2, chosen.unsqueeze(2)).squeeze(2).numpy(),
            "right": right.numpy(),
            "calibrated_loss": loss.double().numpy(),
        }
    inside = (outputs - target).abs().amax(1) <= calibration.half_width
    return {
        "covered": inside.double().numpy(),
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
