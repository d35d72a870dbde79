"""Learning curves, seeds and permutations."""

import numpy as np

from rnnatlas.intervals import Interval
from rnnatlas.report import stability, words
from rnnatlas.report.checks import EVERY, Checks, find
from rnnatlas.report.claims import Records
from rnnatlas.report.experiment import Results
from rnnatlas.report.plates.base import (
    COLUMN,
    FAINT,
    INTERVALS,
    Plate,
    colour,
    dot,
    legend,
    names,
    panels,
)
from rnnatlas.report.words import name

FLOOR = 1e-8
"""Distances that are shown at least."""


def curves(results: Results) -> Plate | None:
    """Validation loss of all encoders during training."""
    found = {one: stability.curves_of(results.histories(one)) for one in results.encoders}
    known = {one: curve for one, curve in found.items() if curve is not None}
    if not known:
        return None
    figure, axes = panels(1, 1, COLUMN, 2.0 + 0.09 * len(known))
    ax = axes[0, 0]
    highest = 0.0
    for encoder, (steps, values) in known.items():
        hue = colour(encoder, results.encoders)
        for own in values:
            ax.plot(steps, own, color=hue, linewidth=0.5, alpha=0.5)
        ax.plot(steps, values.mean(axis=0), color=hue, linewidth=1.4)
        highest = max(highest, float(np.quantile(values, 0.9)))
    ax.set(xlabel="training step", ylabel=f"{words.divergence_name(results.divergence)}, validation")
    ax.set_ylim(0, 1.2 * highest or 1)
    legend(figure, {name(one): {"color": colour(one, results.encoders)} for one in known}, columns=2)
    return Plate(
        "learning-curves",
        figure,
        f"Learning curves: {words.divergence_name(results.divergence)} on the validation split. Thick: mean "
        "over seeds; thin: single seeds.",
        "history.csv of each run",
    )


def seeds(results: Results, checks: Checks) -> Plate:
    """How much seeds differ, and how far embeddings move when hidden units are permuted."""
    split, encoders = Records(results.table).unseen, results.encoders
    losses_ = stability.final_losses(results).get(split, {})
    figure, axes = panels(1, 2, COLUMN + 1.2, 0.75 + 0.25 * len(encoders), sharey=True)
    final, moved = axes[0]
    for down, encoder in enumerate(encoders):
        hue = colour(encoder, encoders)
        own = losses_.get(encoder, np.array([]))
        final.plot(own, np.full(len(own), down), "|", color=hue, markersize=8, markeredgewidth=1.3)
        interval = find(checks, stability.MOVED, EVERY, encoder, "embedding")
        if interval is not None:  # equal embeddings have no place on a logarithmic axis
            mean, low, high = (max(end, FLOOR) for end in (interval.mean, interval.low, interval.high))
            dot(moved, down, Interval(mean, low, high, interval.n), hue)
    final.set(title=f"final loss of each seed, {split}", xlabel=words.divergence_name(results.divergence))
    final.set_xlim(left=0)
    moved.set(
        title="moved when units are permuted", xlabel="distance / distance between RNNs", xlim=(5e-9, 3)
    )
    moved.set_xscale("log")
    moved.set_xticks([1e-8, 1e-6, 1e-4, 1e-2, 1])
    moved.minorticks_off()
    moved.axvline(1, color=FAINT, linewidth=0.7, linestyle=(0, (1, 1.5)))
    names(axes[0], encoders)
    return Plate(
        "stability",
        figure,
        f"Left: mean emulation loss on {split} of each seed. Right: how far an embedding moves when hidden "
        "units are permuted, which leaves the RNN’s outputs as they are; 1 is the mean distance between two "
        f"RNNs. {INTERVALS}.",
        f"losses.parquet of each run; kind check, names “{stability.SD}” and “{stability.MOVED}”",
    )
