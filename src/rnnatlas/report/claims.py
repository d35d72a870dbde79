"""Which published findings an experiment reproduces, in sentences computed from its results alone."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.evaluation.figures import is_loss
from rnnatlas.evaluation.results import interval
from rnnatlas.intervals import Interval
from rnnatlas.report.published import MECHANISTIC, PROBING, PUBLISHED, Published
from rnnatlas.report.words import CUT, ENOUGH_SEEDS, listed, name

Verdict = Literal["reproduced", "not reproduced", "open"]

DISTINCT = 0.01
"""Published losses of supervised and pre-trained encoders that are nearer than this claim nothing."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """Something that should hold, and whether it did.

    Attributes:
        text: What should hold.
        verdict: "open" where intervals leave both possible, or seeds are too few.
        evidence: The figures.
        published: Whether it is a finding of the paper; else it is a control that the paper lacks.
    """

    text: str
    verdict: Verdict
    evidence: str
    published: bool = True


Side = tuple[str, str]
"""An encoder, and whose figure of it."""


class Records:
    """An experiment's results by what they are of.

    Args:
        table: As `rnnatlas.evaluation.results` has it.
    """

    def __init__(self, table: pa.Table):
        self._found: dict[tuple[Any, ...], Interval] = {}
        self.seeds: dict[str, int] = {}
        for row in table.to_pylist():
            if row["kind"] != "cost":
                keys = ("kind", "name", "split", "encoder", "of", "versus", "versus_of")
                self._found[tuple(row[key] for key in keys)] = interval(row)
                self.seeds[row["encoder"]] = len(row["seeds"])
        self.loss = next((key[1] for key in self._found if is_loss(key[1])), "")

    def figure(self, name: str, split: str, side: Side) -> Interval | None:
        """A figure."""
        return self._found.get(("figure", name, split, *side, None, None))

    def less(self, name: str, split: str, a: Side, b: Side) -> Interval | None:
        """The paired difference a − b."""
        found = self._found.get(("difference", name, split, *a, *b))
        turned = self._found.get(("difference", name, split, *b, *a))
        if found is None and turned is not None:
            found = Interval(-turned.mean, -turned.high, -turned.low, turned.n)
        return found

    def over(self, name: str, split: str, a: Side, b: Side) -> Interval | None:
        """The paired ratio a : b."""
        found = self._found.get(("ratio", name, split, *a, *b))
        turned = self._found.get(("ratio", name, split, *b, *a))
        if found is None and turned is not None:
            found = Interval(1 / turned.mean, 1 / turned.high, 1 / turned.low, turned.n)
        return found


def claims(table: pa.Table, task: str) -> list[Claim]:
    """Published findings about losses that the encoders at hand can show, and two controls.

    Args:
        table: An experiment's results.
        task: Name of the zoo's task; there are none for tasks that the paper does not have.
    """
    records, published = Records(table), PUBLISHED.get(task)
    if published is None:
        return []
    made = [*_emulation(records, published), *_task(records, published)]
    return [claim for claim in made if claim is not None]


def _emulation(records: Records, published: Published) -> Iterable[Claim | None]:
    lower = functools.partial(_lower, records, records.loss, "validation")
    mechanistic, probing = ([(one, "conditioned") for one in group] for group in (MECHANISTIC, PROBING))
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
        "emulation of unseen tasks is better with {a} than with the same encoder whose questions do not "
        "depend on answers",
        [(("interactive", "conditioned"), (CUT, "conditioned"))],
        published=False,
    )


def _task(records: Records, published: Published) -> Iterable[Claim | None]:
    lower = functools.partial(_lower, records, published.score, "ood")
    frozen, whole = "embedding", "supervised"
    gaps = {one: published.pretrained[one] - published.supervised[one] for one in published.pretrained}
    for text, (better, worse), chosen in (
        ("better than", (frozen, whole), [one for one, gap in gaps.items() if gap < -DISTINCT]),
        ("less well than", (whole, frozen), [one for one, gap in gaps.items() if gap > DISTINCT]),
    ):
        yield lower(
            f"frozen embeddings tell unseen tasks {text} training end to end, for {{a}}",
            [((one, better), (one, worse)) for one in chosen],
        )
    yield lower(
        "frozen embeddings of {a} tell unseen tasks better than those of {b}",
        [((a, frozen), (b, frozen)) for a in PROBING for b in MECHANISTIC],
    )
    raw = published.score.replace("calibrated ", "")  # validation set the temperatures
    own = {one: records.figure(raw, "validation", (one, frozen)) for one in PROBING}
    known = {one: found.mean for one, found in own.items() if found is not None}
    if known:
        best = min(known, key=lambda one: known[one])
        beaten = [(best, of) for of in (*TRIVIAL, "untrained")]
        yield lower(
            "frozen embeddings of {a}, of the probing encoders the better one on validation, tell unseen "
            "tasks better than every baseline: {b}",
            [((best, frozen), other) for other in beaten],
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
    found = {pair: less for pair in pairs if (less := records.less(score, split, *pair)) is not None}
    if not found:
        return None
    a_names = listed(list(dict.fromkeys(name(a) for (a, _), _ in found)), ", ")
    b_names = listed(list(dict.fromkeys(_side(b, a) for a, b in found)), ", ")
    few = min(records.seeds[side[0]] for pair in found for side in pair) < ENOUGH_SEEDS
    verdict = "open" if few else _verdict(found.values())
    (a, b), hardest = max(found.items(), key=lambda item: item[1].high)
    held = sum(less.high < 0 for less in found.values())
    evidence = f"{score} on {split}: {_side(a, b)} less {_side(b, a)} is {hardest}"
    if len(found) > 1:
        evidence += f", the least clear of {len(found)} differences, of which {held} lie below 0"
    if few:
        evidence += f"; fewer than {ENOUGH_SEEDS} seeds"
    return Claim(text.format(a=a_names, b=b_names), verdict, evidence, published)


def _verdict(differences: Iterable[Interval]) -> Verdict:
    differences = list(differences)
    if any(less.low > 0 for less in differences):
        return "not reproduced"
    return "reproduced" if all(less.high < 0 for less in differences) else "open"


def _side(side: Side, other: Side) -> str:
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
    told = (
        ("emulation loss on validation", records.loss, "validation", "conditioned", published.emulation),
        (f"{published.score} on OOD of frozen embeddings", published.score, "ood", "embedding",
         published.pretrained),
        (f"{published.score} on OOD, trained end to end", published.score, "ood", "supervised",
         published.supervised),
    )  # fmt: skip
    sentences = []
    for what, score, split, of, theirs in told:
        found = {one: records.figure(score, split, (one, of)) for one in theirs}
        ours = {one: own.mean for one, own in found.items() if own is not None and np.isfinite(own.mean)}
        if len(ours) > 2:
            sentences.append(_order(what, ours, theirs))
    return sentences + _ratio(records, published)


def _order(what: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    from scipy.stats import spearmanr

    agreement: Any = spearmanr(list(ours.values()), [theirs[one] for one in ours])
    order = ", ".join(name(one) for one in sorted(ours, key=lambda one: ours[one]))
    levels = sorted({theirs[one] for one in ours})
    published = ", ".join(" = ".join(name(one) for one in ours if theirs[one] == level) for level in levels)
    rank = f"{agreement.statistic:.2f}".replace("-", "−")
    return (
        f"By {what}, from best to worst: {order}; published: {published}. Spearman’s rank correlation "
        f"with the published order is {rank}, of {len(ours)} encoders."
    )


def _ratio(records: Records, published: Published) -> list[str]:
    losses = {
        one: own.mean
        for one in MECHANISTIC
        if (own := records.figure(records.loss, "validation", (one, "conditioned"))) is not None
    }
    if not losses:
        return []
    best = min(losses, key=lambda one: losses[one])
    theirs = published.emulation["interactive"] / min(published.emulation[one] for one in MECHANISTIC)
    ours = records.over(records.loss, "validation", ("interactive", "conditioned"), (best, "conditioned"))
    if ours is None:
        return []
    return [
        f"Emulation loss of interactive probing over that of the best mechanistic encoder ({name(best)}), on "
        f"validation: {ours}; published: {theirs:.2f}."
    ]
