"""Snapshots by levels of performance (Herrmann et al. 2024, figure 5)."""

import numpy as np
from jaxtyping import Float, Int

LEVELS, NEAREST = 16, 15
"""Levels of performance, and snapshots nearest to each."""


def levels(performance: Float[np.ndarray, " rnn"]) -> Int[np.ndarray, " rnn"]:
    """Which of evenly spaced levels each snapshot stands for; −1 for none.

    Each level takes the snapshots nearest to it that no lower level took, so that those of all levels, asked
    again without the others, stand for the same levels.
    """
    found = np.full(len(performance), -1)
    for number, level in enumerate(np.linspace(performance.min(), performance.max(), LEVELS)):
        distance = np.where(found < 0, np.abs(performance - level), np.inf)
        nearest = np.argsort(distance, kind="stable")[:NEAREST]
        found[nearest[np.isfinite(distance[nearest])]] = number
    return found
