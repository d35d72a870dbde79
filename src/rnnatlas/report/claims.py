"""Which published findings an experiment reproduces, in sentences computed from its results alone."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.evaluation.figures import is_loss
from rnnatlas.evaluation.results import interval
from rnnatlas.intervals import COVERAGE, Interval
from rnnatlas.report.alike import alike, comparable
from rnnatlas.report.published import MECHANISTIC, PROBING, PUBLISHED, Published
from rnnatlas.report.words import ENOUGH_SEEDS, NO_INTERACTION, listed, name

Verdict = Literal["reproduced", "not reproduced", "open"]

DISTINCT = 0.01
"""Published losses of supervised and pre-trained encoders that differ by less are no finding."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, and whether it held.

    Attributes:
        text: The claim.
        verdict: "open" where intervals include 0, or seeds are too few.
        evidence: The figures.
        published: Whether it is a finding of the paper; else it is a control that the paper lacks.
        trained: The same of trained snapshots alone, where there are others.
    """

    text: str
    verdict: Verdict
    evidence: str
    published: bool = True
    trained: "Claim | None" = None


Side = tuple[str, str]
"""An encoder, and whose figure of it."""


class Records:
    """An experiment's results by what they are of.

    Args:
        table: As `rnnatlas.evaluation.results` has it.
    """

    def __init__(self, table: pa.Table):
        self._intervals: dict[tuple[Any, ...], Interval] = {}
        self.seeds: dict[str, int] = {}
        for row in table.to_pylist():
            if row["kind"] != "cost":
                keys = ("kind", "name", "split", "encoder", "of", "versus", "versus_of")
                self._intervals[tuple(row[key] for key in keys)] = interval(row)
                self.seeds[row["encoder"]] = len(row["seeds"])
        self.loss = next((key[1] for key in self._intervals if is_loss(key[1])), "")
        splits = {key[2] for key in self._intervals}
        self.unseen = "test" if "test" in splits else "validation"
        """Of unseen tasks of the known kind; validation chose the checkpoints."""

    def figure(self, name: str, split: str, side: Side) -> Interval | None:
        """A figure."""
        return self._intervals.get(("figure", name, split, *side, None, None))

    def difference(self, name: str, split: str, a: Side, b: Side) -> Interval | None:
        """The paired difference a − b."""
        stored = self._intervals.get(("difference", name, split, *a, *b))
        turned = self._intervals.get(("difference", name, split, *b, *a))
        if stored is None and turned is not None:
            return Interval(-turned.mean, -turned.high, -turned.low, turned.n, turned.p)
        return stored

    def ratio(self, name: str, split: str, a: Side, b: Side) -> Interval | None:
        """The paired ratio a : b."""
        stored = self._intervals.get(("ratio", name, split, *a, *b))
        turned = self._intervals.get(("ratio", name, split, *b, *a))
        if stored is None and turned is not None:
            return Interval(1 / turned.mean, 1 / turned.high, 1 / turned.low, turned.n)
        return stored


def claims(table: pa.Table, task: str) -> list[Claim]:
    """Published findings about losses that the encoders at hand can show, and two controls.

    Args:
        table: An experiment's results.
        task: Name of the zoo's task; there are none for tasks that the paper does not have.
    """
    records, published = Records(table), PUBLISHED.get(task)
    if published is None:
        return []
    candidates = [*_emulation(records, published), *_task(records, published)]
    return [claim for claim in candidates if claim is not None]


def beside(found: Sequence[Claim], trained: Sequence[Claim]) -> list[Claim]:
    """Claims, each with the same one of trained snapshots alone."""
    late = {claim.text: claim for claim in trained}
    return [dataclasses.replace(claim, trained=late.get(claim.text)) for claim in found]


def _emulation(records: Records, published: Published) -> Iterable[Claim | None]:
    lower = functools.partial(_lower, records, records.loss, records.unseen)
    mechanistic, probing = (
        [(encoder, "conditioned") for encoder in group] for group in (MECHANISTIC, PROBING)
    )
    yield lower(
        "emulation of unseen tasks is better with {a} than with {b}",
        [(a, b) for a in probing for b in mechanistic],
    )
    yield lower(
        "emulation of unseen tasks is better with {a} than with {b}",
        [(("interactive", "conditioned"), ("noninteractive", "conditioned"))],
        published=published.emulation["interactive"] < published.emulation["noninteractive"],
    )
    yield lower(
        "emulation of unseen tasks is better with {a} than with its no-interaction ablation",
        [(("interactive", "conditioned"), (NO_INTERACTION, "conditioned"))],
        published=False,
    )


def _task(records: Records, published: Published) -> Iterable[Claim | None]:
    lower = functools.partial(_lower, records, published.score, "ood")
    frozen, whole = "embedding", "supervised"
    gaps = {
        encoder: published.pretrained[encoder] - published.supervised[encoder]
        for encoder in published.pretrained
    }
    for text, (better, worse), chosen in (
        ("better than", (frozen, whole), [encoder for encoder, gap in gaps.items() if gap < -DISTINCT]),
        ("less well than", (whole, frozen), [encoder for encoder, gap in gaps.items() if gap > DISTINCT]),
    ):
        yield lower(
            f"frozen embeddings predict unseen tasks {text} encoders trained end to end, for {{a}}",
            [((encoder, better), (encoder, worse)) for encoder in chosen],
        )
    yield lower(
        "frozen embeddings of {a} predict unseen tasks better than those of {b}",
        [((a, frozen), (b, frozen)) for a in PROBING for b in MECHANISTIC],
    )
    yield _baselines(records, published, lower)


def _baselines(records: Records, published: Published, lower: Callable[..., Claim | None]) -> Claim | None:
    """That the probing encoder with the lower loss on validation beats every baseline."""
    raw = published.score.replace("calibrated ", "")  # validation set the temperatures
    figures = {encoder: records.figure(raw, "validation", (encoder, "embedding")) for encoder in PROBING}
    known = {encoder: figure.mean for encoder, figure in figures.items() if figure is not None}
    if not known:
        return None
    best = min(known, key=lambda encoder: known[encoder])
    return lower(
        "frozen embeddings of {a}, the probing encoder with the lower loss on validation, predict unseen "
        "tasks better than every baseline: {b}",
        [((best, "embedding"), (best, of)) for of in (*TRIVIAL, "untrained")],
        published=False,
    )


def _lower(
    records: Records,
    score: str,
    split: str,
    text: str,
    pairs: Sequence[tuple[Side, Side]],
    published: bool = True,
) -> Claim | None:
    """The claim that the first of each pair is lower; None where no pair is known."""
    candidates = {pair: records.difference(score, split, *pair) for pair in pairs}
    differences = {pair: interval for pair, interval in candidates.items() if interval is not None}
    if not differences:
        return None
    a_names = listed(list(dict.fromkeys(name(a) for (a, _), _ in differences)), ", ")
    b_names = listed(list(dict.fromkeys(_side(b, a) for a, b in differences)), ", ")
    few = min(records.seeds[side[0]] for pair in differences for side in pair) < ENOUGH_SEEDS
    verdict = "open" if few else _verdict(differences.values())
    (a, b), highest = max(differences.items(), key=lambda item: item[1].high)
    below = sum(difference.high < 0 for difference in differences.values())
    evidence = f"{name(score)} on {split}: {_side(a, b)} minus {_side(b, a)} is {highest}"
    if len(differences) > 1:
        evidence += (
            f", the highest of {len(differences)} paired differences; the intervals of {below} lie below 0"
        )
    against = [interval.p for interval in differences.values() if interval.mean > 0]
    if len(differences) > 1 and against:
        p = min(1.0, min(against) * len(differences))
        evidence += f"; against the claim p = {p:.2g}, corrected for {len(differences)} comparisons"
    if few:
        evidence += f"; fewer than {ENOUGH_SEEDS} seeds"
    return Claim(text.format(a=a_names, b=b_names), verdict, evidence, published)


def _verdict(differences: Iterable[Interval]) -> Verdict:
    """All have to lie below 0, which needs no correction; that any lies above 0 needs one (Bonferroni's)."""
    differences = list(differences)
    level = (1 - COVERAGE) / len(differences)
    if any(difference.mean > 0 and difference.p < level for difference in differences):
        return "not reproduced"
    return "reproduced" if all(difference.high < 0 for difference in differences) else "open"


def _side(side: Side, other: Side) -> str:
    """One side of a comparison for people; the encoder alone, unless both sides are of it."""
    if side[0] != other[0]:
        return name(side[0])
    return f"{name(side[0])}, {name(side[1])}" if side[1] in ("embedding", "supervised") else name(side[1])


# --- order and ratio -----------------------------------------------------------------------------------


def orders(table: pa.Table, task: str) -> list[str]:
    """How our order of encoders agrees with the published one, and how far the best lies ahead.

    There is none of fewer seeds than rank encoders.
    """
    records, published = Records(table), PUBLISHED.get(task)
    if published is None or min(records.seeds.values()) < ENOUGH_SEEDS:
        return []
    compared = (
        (f"emulation loss on {records.unseen}", records.loss, records.unseen, "conditioned",
         published.emulation),
        (f"{name(published.score)} on OOD of frozen embeddings", published.score, "ood", "embedding",
         published.pretrained),
        (f"{name(published.score)} on OOD, trained end to end", published.score, "ood", "supervised",
         published.supervised),
    )  # fmt: skip
    sentences = []
    for what, score, split, of, theirs in compared:
        compared, others = comparable(table, split)
        figures = {
            encoder: records.figure(score, split, (encoder, of)) for encoder in theirs if encoder in compared
        }
        ours = {
            encoder: figure.mean
            for encoder, figure in figures.items()
            if figure is not None and np.isfinite(figure.mean)
        }
        if len(ours) > 2:
            sentences.append(" ".join([_order(what, ours, theirs), *others]))
    groups = alike(table, records.unseen)
    compared = next((group for group in groups if "interactive" in group), [])
    return sentences + _best_ratio(records, published, compared)


def _order(what: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    from scipy.stats import spearmanr

    agreement: Any = spearmanr(list(ours.values()), [theirs[encoder] for encoder in ours])
    order = ", ".join(name(encoder) for encoder in sorted(ours, key=lambda encoder: ours[encoder]))
    levels = sorted({theirs[encoder] for encoder in ours})
    published = ", ".join(
        " = ".join(name(encoder) for encoder in ours if theirs[encoder] == level) for level in levels
    )
    rank = f"{agreement.statistic:.2f}".replace("-", "−")
    return (
        f"By {what}, from best to worst: {order}. Published: {published}. Spearman’s rank correlation "
        f"with the published order is {rank}, of {len(ours)} encoders."
    )


def _best_ratio(records: Records, published: Published, compared: Collection[str]) -> list[str]:
    """The loss of interactive probing over that of the best mechanistic encoder judged on the same RNNs."""
    losses = {
        encoder: figure.mean
        for encoder in MECHANISTIC
        if encoder in compared
        and (figure := records.figure(records.loss, records.unseen, (encoder, "conditioned"))) is not None
    }
    if not losses:
        return []
    best = min(losses, key=lambda encoder: losses[encoder])
    theirs = published.emulation["interactive"] / min(published.emulation[other] for other in MECHANISTIC)
    pair = ("interactive", "conditioned"), (best, "conditioned")
    ours = records.ratio(records.loss, records.unseen, *pair)
    if ours is None:
        return []
    return [
        f"Emulation loss of interactive probing divided by that of the best mechanistic encoder "
        f"({name(best)}), on {records.unseen}: {ours}; published: {theirs:.2f}."
    ]
