"""From figures of single snapshots to figures of splits, with intervals over runs and seeds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from rnnatlas import properties
from rnnatlas.emulation.divergence import ALL
from rnnatlas.evaluation.features import DEFINITIONS
from rnnatlas.evaluation.roles import CALIBRATED_ON, HELD_OUT, KNOWN, clusters
from rnnatlas.intervals import Interval, bootstrap, correlation, explained, ranks
from rnnatlas.properties.angle import UnseenDirection
from rnnatlas.properties.base import LOSS, Score
from rnnatlas.properties.calibration import calibration_gaps

EMULATED = {
    "conditioned": "an emulator conditioned on each RNN's own embedding",
    "shuffled": "an emulator conditioned on the embedding of another RNN of the same split, of another task "
    "where tasks were held out, chosen at random",
    "zero": "an unconditional emulator, which was trained with zeros for embeddings",
    "fitted": "the same emulator, conditioned on an embedding fitted to each RNN by gradient steps on other "
    "rollouts of it: about the least that any encoder could reach with this emulator",
}
"""Columns of losses: what emulators are conditioned on."""

PARTS = {
    "unmasked": ALL,
    "rotated": "all positions of images rotated by the RNN's own angle",
    "silent": "positions outside of the response period, where nothing was asked of RNNs",
    "unrotated": "all positions of unrotated images, of a set that all RNNs share",
}
"""Positions that losses are means over besides those that the task's mask leaves, by name."""

CORRELATIONS = {
    "correlation": Score("Pearson correlation of prediction and target", bounds=(-1.0, 1.0)),
    "correlation_within_step": Score(
        "Pearson correlation of prediction and target, each training step's mean subtracted from both",
        bounds=(-1.0, 1.0),
    ),
    "rank_correlation_within_step": Score(
        "Spearman's correlation of prediction and target within training steps: Pearson's of ranks among the "
        "RNNs of each step, pooled",
        bounds=(-1.0, 1.0),
    ),
}
EXPLAINED = Score(
    "R²: share of the variance of log(1 + step) that its mean under the predicted probabilities explains; 0 "
    "where the mean is predicted of all",
    bounds=(-math.inf, 1.0),
)

LATE = 1000
"""Training steps of RNNs that have learned something, in zoos of the paper's size."""

CLAIMED = ("confidence", "right")

CALIBRATION = Score(
    "expected calibration error: difference of confidence and share right, ten bins of confidence, weighted "
    "by what is in them; confidence is the probability of the value predicted, its temperature set on "
    f"{CALIBRATED_ON}; of each seed by itself; without an interval, since chance can raise it only",
    lower_is_better=True,
)
OVERCONFIDENCE = Score(
    "mean confidence less the share right; 0 is right, less is too cautious",
    lower_is_better=None,
    bounds=(-1.0, 1.0),
)
CLAIMED_OF_EACH = {
    "calibrated_loss": Score(
        "the loss of the probabilities under the temperature, that is without what boldness costs",
        lower_is_better=True,
        bounds=LOSS,
    ),
    "covered": Score(
        "share of RNNs in whose 90 % interval the number lies, or in whose sets all values "
        f"(split-conformal, set on {CALIBRATED_ON}); it should be .9",
        lower_is_better=None,
    ),
    "half_width": Score(
        "half of the width of the 90 % interval, in the unit of the numbers predicted: whole turns for "
        "angles, none for sines and cosines",
        lower_is_better=True,
        bounds=LOSS,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of one split.

    Attributes:
        name: What is measured: "emulation loss", "task accuracy".
        split: On which split.
        of: Whose figure it is: what the emulator was conditioned on, or what the predictor read.
        interval: The figure with its 95 % interval over RNNs, or over tasks where these were held out, and
            over seeds where there are several.
        runs: RNNs that it rests on.
        snapshots: Snapshots that it rests on.
        definition: What it means, in words.
        lower_is_better: Whether it should be low, as a loss; None where neither is good.
    """

    name: str
    split: str
    of: str
    interval: Interval
    runs: int
    snapshots: int
    definition: str
    lower_is_better: bool | None


def loss_name(divergence: str, part: str = "") -> str:
    """What figures of a divergence are called, over those positions that count or another part of them."""
    return f"emulation loss, {divergence}{part and f', {part}'}"


def is_loss(name: str) -> bool:
    """Whether figures of that name are losses of emulation, not scores of properties."""
    return name.startswith("emulation loss")


def score_name(prop: str, score: str) -> str:
    """What figures of a property's score are called."""
    return f"{prop} {score.replace('_', ' ')}"


def loss_figures(tables: Sequence[pa.Table], counted: str = ALL) -> list[Figure]:
    """Mean losses for each split, kind of emulator, and over which positions.

    Args:
        tables: One a seed, of the same snapshots.
        counted: What the task's mask leaves, in words.
    """
    figures = []
    for divergence in dict.fromkeys(tables[0]["divergence"].to_pylist()):
        own = [
            table.filter(pa.array([own == divergence for own in table["divergence"].to_pylist()]))
            for table in tables
        ]
        for column in own[0].column_names:
            kind, _, part = column.partition("_")
            if kind in EMULATED:
                name = loss_name(divergence, part)
                what = PARTS.get(part, f"positions of the kind {part!r}") if part else counted
                definition = f"mean over snapshots of the mean {divergence} over {what}, of {EMULATED[kind]}"
                figures += _means(own, column, name=name, of=kind, definition=definition)
    return figures


def _means(tables: Sequence[pa.Table], column: str, **about: str) -> list[Figure]:
    runs, together = tables[0]["run"].to_numpy(), clusters(tables[0])
    return [
        Figure(
            split=split,
            interval=bootstrap(
                np.stack([table[column].to_numpy()[rows] for table in tables]), together[rows], bounds=LOSS
            ),
            runs=len(np.unique(runs[rows])),
            snapshots=len(rows),
            lower_is_better=True,
            **about,
        )
        for split, rows in _splits(tables[0])
    ]


def property_figures(tables: Sequence[pa.Table]) -> list[Figure]:
    """Scores of every predictor of every property on every split.

    Args:
        tables: Predictions, one table a seed, of the same snapshots.
    """
    figures = []
    first = tables[0]
    kinds = list(zip(first["property"].to_pylist(), first["predictor"].to_pylist(), strict=True))
    codes = {kind: code for code, kind in enumerate(dict.fromkeys(kinds))}
    membership = np.array([codes[kind] for kind in kinds])
    for (name, predictor), code in codes.items():
        chosen = pa.array(np.flatnonzero(membership == code))
        own = [table.take(chosen) for table in tables]
        for split, rows in _splits(own[0]):
            parts = [table.take(pa.array(rows)) for table in own]
            figures += _scores(name, predictor, split, parts)
            if name == UnseenDirection.name:
                for when, late in _trained(parts[0]).items():
                    own_parts = [table.take(pa.array(late)) for table in parts]
                    figures += _scores(name, predictor, split, own_parts, when)
    return figures


def _scores(
    name: str, predictor: str, split: str, tables: Sequence[pa.Table], when: str = ""
) -> list[Figure]:
    """Figures of one predictor, of all snapshots or, as `when` says, of some."""
    kind = properties.kind(name, of_classes=_known(tables, "parts"))
    together = clusters(tables[0])
    found: dict[str, tuple[Interval, Score]] = {}
    for name_of, score in kind.scores.items():
        values = np.stack([table[name_of].to_numpy() for table in tables])
        found[name_of] = bootstrap(values, together, bounds=score.bounds), score
    if len(tables[0]["target"][0]) == 1:
        x, y = (
            np.stack([_numbers(table[column]) for table in tables]) for column in ("prediction", "target")
        )
        steps = tables[0]["step"].to_numpy()
        ranked = ranks(x, steps), ranks(y, steps)
        pairs = ((x, y, None), (x, y, steps), (*ranked, steps))
        for (name_of, score), (a, b, within) in zip(CORRELATIONS.items(), pairs, strict=True):
            found[name_of] = correlation(a, b, together, within), score
    if _known(tables, "expected"):
        a, b = (np.stack([table[column].to_numpy() for table in tables]) for column in ("expected", "actual"))
        found["R² of log step"] = explained(a, b, together), EXPLAINED
    found |= _claims(tables, together)
    return [
        Figure(
            name=", ".join(filter(None, (score_name(name, name_of), when))),
            split=split,
            of=predictor,
            interval=interval,
            runs=len(tables[0]["run"].unique()),
            snapshots=tables[0].num_rows,
            definition=f"{score.definition}{when and f', of snapshots {when}'}, of a predictor that reads "
            f"{DEFINITIONS[predictor]}",
            lower_is_better=score.lower_is_better,
        )
        for name_of, (interval, score) in found.items()
    ]


def _trained(table: pa.Table) -> dict[str, np.ndarray]:
    """Rows of snapshots that have been trained for long, in words: of untrained RNNs no task can be known."""
    steps = table["step"].to_numpy()
    late = {"at the last step": steps == steps.max(), "from step 1000 on": steps >= LATE}
    return {when: np.flatnonzero(rows) for when, rows in late.items() if rows.any() and not rows.all()}


def _claims(tables: Sequence[pa.Table], together: np.ndarray) -> dict[str, tuple[Interval, Score]]:
    """How far what was claimed of held-out RNNs held, and each part of a task by itself."""
    found: dict[str, tuple[Interval, Score]] = {}
    for name, score in CLAIMED_OF_EACH.items():
        if _known(tables, name):
            values = np.stack([table[name].to_numpy() for table in tables])
            values = np.where(np.isfinite(values), values, np.nan)  # too few RNNs to set a width
            found[name] = bootstrap(values, together, bounds=score.bounds), score
    if _known(tables, "confidence"):
        confidence, right = (np.stack([_lists(table[name]) for table in tables]) for name in CLAIMED)
        gaps = calibration_gaps(confidence, right)
        error = float(np.abs(gaps.mean(axis=2)).sum(axis=0).mean())
        found["calibration error"] = Interval(error, math.nan, math.nan, len(set(together))), CALIBRATION
        over = bootstrap(-gaps.sum(axis=0), together, bounds=OVERCONFIDENCE.bounds)
        found["overconfidence"] = over, OVERCONFIDENCE
    if _known(tables, "right"):
        parts = tables[0]["parts"][0].as_py()
        right = np.stack([_lists(table["right"]) for table in tables])
        for place, part in enumerate(parts if len(parts) > 1 else []):
            score = Score(f"share of RNNs whose {part} is predicted right")
            found[f"accuracy, {part}"] = bootstrap(right[..., place], together, bounds=score.bounds), score
    return found


def _known(tables: Sequence[pa.Table], name: str) -> bool:
    return name in tables[0].column_names and tables[0][name].null_count == 0


def _lists(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=np.float64)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return column.combine_chunks().flatten().to_numpy()


def _splits(table: pa.Table) -> list[tuple[str, np.ndarray]]:
    splits = np.asarray(table["split"].to_pylist())
    known = [split for split in (KNOWN, *HELD_OUT) if split in splits]
    return [(split, np.flatnonzero(splits == split)) for split in known]


def find(figures: Sequence[Figure], name: str, split: str) -> Mapping[str, Figure]:
    """The figures of one name and split, by whose they are."""
    return {figure.of: figure for figure in figures if (figure.name, figure.split) == (name, split)}
