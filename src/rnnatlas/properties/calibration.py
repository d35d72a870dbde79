"""How sure predictions are: temperatures for classes, split-conformal intervals for numbers.

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
"""Those of `statements` that rest on the RNNs that set how sure predictions are."""

COVERAGE = 0.9
"""Share of RNNs whose number should lie within its interval."""

LEAST = 1e-6
"""Least probability, which keeps losses finite."""

COLDEST, HOTTEST = 1 / 20, 20.0
"""Bounds of a temperature, which is not determined where all guesses are right."""


@dataclasses.dataclass(frozen=True)
class Sureness:
    """What turns a predictor's outputs into statements of how sure they are.

    Attributes:
        temperature: What logits of classes are divided by; 1 for numbers.
        half_width: Half of a number's interval; infinite for classes.
    """

    temperature: float = 1.0
    half_width: float = math.inf


def calibrate(
    prop: Property, outputs: Float[Tensor, "rnn target"], target: Float[Tensor, "rnn target"]
) -> Sureness:
    """How sure a predictor may be, from its outputs for RNNs kept for this."""
    if isinstance(prop, Classes):
        return Sureness(temperature=_temperature(prop, outputs, target))
    return Sureness(half_width=half_width(outputs - target))


def _temperature(prop: Classes, outputs: Tensor, target: Tensor) -> float:
    """The temperature under which the right values are most probable (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    if not len(outputs):
        return 1.0
    right = target.view(len(target), len(prop.parts), -1).double()

    def surprise(log_temperature: float) -> float:
        shares = prop.shares(outputs.double() / math.exp(log_temperature))
        return -(right * shares.clamp_min(1e-300).log()).sum(2).mean().item()

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    found: Any = minimize_scalar(surprise, bounds=bounds, method="bounded")
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
    sure: Sureness,
) -> dict[str, np.ndarray]:
    """What was claimed of each RNN and whether it held.

    Returns:
        For classes `confidence` [rnn, part], the probability of the value predicted, `right` [rnn, part],
        whether it was, and `calibrated_loss` [rnn], the loss of these probabilities; for numbers `covered`
        [rnn], whether the interval held the number, and `half_width` [rnn].
    """
    if isinstance(prop, Classes):
        shares = prop.shares(outputs / sure.temperature)
        chosen = outputs.view(shares.shape).argmax(2)  # shares of bold outputs may be equal by rounding
        right = target.view(shares.shape).argmax(2) == chosen
        loss = prop.loss(prop.logits(shares.flatten(1).clamp(LEAST, 1 - LEAST)), target)
        return {
            "confidence": shares.gather(2, chosen.unsqueeze(2)).squeeze(2).numpy(),
            "right": right.numpy(),
            "calibrated_loss": loss.double().numpy(),
        }
    inside = (outputs - target).abs().amax(1) <= sure.half_width
    return {
        "covered": inside.double().numpy(),
        "half_width": np.full(len(outputs), sure.half_width),
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
