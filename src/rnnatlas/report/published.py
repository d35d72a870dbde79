"""Published figures, to compare ours with and for nothing else (Herrmann et al. 2024, 15 seeds)."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What was found on one zoo, by the encoders' names here; all losses.

    Attributes:
        emulation: On validation.
        supervised: Of a predictor trained together with the encoder, on the OOD test half.
        pretrained: Of a predictor that reads frozen embeddings, on the same.
        score: Our figure beside these two. Of angles it is the error of sine and cosine in degrees: the
            paper's, of the angle over 360°, counts 359° as far from 1°.
    """

    emulation: Mapping[str, float]
    supervised: Mapping[str, float]
    pretrained: Mapping[str, float]
    score: str


NAMES = ("statistics", "flat", "transformer", "dws", "noninteractive", "interactive")
MECHANISTIC, PROBING = NAMES[:4], NAMES[4:]


def _table(*values: float) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True))


PUBLISHED = {
    "formal-languages": Published(
        emulation=_table(0.051, 0.045, 0.043, 0.046, 0.023, 0.015),
        supervised=_table(0.33, 0.37, 0.35, 0.37, 0.29, 0.29),
        pretrained=_table(0.39, 0.39, 0.37, 0.40, 0.26, 0.18),
        score="task calibrated loss",
    ),
    "tiled-mnist": Published(
        emulation=_table(0.039, 0.024, 0.067, 0.024, 0.017, 0.017),
        supervised=_table(0.244, 0.147, 0.164, 0.191, 0.108, 0.349),
        pretrained=_table(0.245, 0.191, 0.222, 0.237, 0.166, 0.160),
        score="direction degrees",
    ),
}
"""By the task's name."""
