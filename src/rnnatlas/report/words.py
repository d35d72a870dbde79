"""What an experiment found, in sentences computed from its figures and nothing else."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.evaluation.figures import Figure, find, loss_name
from rnnatlas.intervals import Interval, apart

SPLITS = {
    "new-runs": "new runs of known {noun}s",
    "validation": "{noun}s not trained on (these chose the checkpoints)",
    "ood": "{noun}s of another kind (OOD)",
}
CUT = "interactive-cut"
"""Label of interactive probing whose questions cannot depend on the answers."""

NAMES = {
    "statistics": "layer-wise statistics",
    "flat": "flattened weights",
    "transformer": "parameter transformer",
    "dws": "equivariant network (DWS)",
    "noninteractive": "non-interactive probing",
    "interactive": "interactive probing",
    CUT: "interactive probing, answers cut off",
    "embedding": "trained embedding",
    "supervised": "trained end to end",
    "untrained": "untrained encoder",
    "pca": "PCA of raw weights",
    "nearest": "nearest raw weights",
    "norms": "weight norms",
    "step": "training step",
    "architecture": "architecture",
    "constant": "constant guess",
    "conditioned": "own embedding",
    "shuffled": "another RNN's embedding",
    "zero": "no embedding (z = 0)",
    "direction degrees": "angle error in degrees",
    "angle degrees": "angle error in degrees, predicted as one number",
}

TASK_SCORES = ("task accuracy", "direction degrees")
"""Figures that say how well predictors tell what an RNN was trained on; the first that there is counts."""

CHOSE_NOTHING = ("new-runs", "ood")
"""Splits that may be the headline, the first that there is; validation chose the checkpoints."""

ENOUGH_SEEDS = 3
"""Fewer do not rank encoders."""

Outcome = Literal["yes", "no", "open"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One sentence, and how what it is about came out.

    Attributes:
        encoder: Whom it is about.
        outcome: "yes": the encoder was clearly better than everything that it must beat; "no": clearly
            worse than something; "open": neither.
        text: The sentence, without the encoder's name.
    """

    encoder: str
    outcome: Outcome
    text: str


def compare(a: Interval, b: Interval, lower_is_better: bool = True) -> Outcome:
    """Whether a is clearly better than b: only where their intervals have no value in common."""
    if not apart(a, b):
        return "open"
    return "yes" if (a.high < b.low) == lower_is_better else "no"


def cost(own: Mapping[str, float]) -> str:
    """What an encoder costs, in a few words."""
    weights, products = own["parameters"] / 1e6, own["flops"] / 1e6
    milliseconds = own["milliseconds"]
    return f"{_brief(weights)} M weights, {_brief(products)} MFLOP, {_brief(milliseconds)} ms"


def _brief(value: float) -> str:
    """Two digits that count, all of those before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def name(key: str) -> str:
    """An encoder, control, predictor or score for people."""
    return NAMES.get(key, key)


def split_name(split: str, noun: str) -> str:
    """A split for people; `noun` is what the task calls its instances."""
    return SPLITS.get(split, split).format(noun=noun)


def emulation(
    losses: Mapping[str, Sequence[Figure]],
    divergence: str,
    split: str,
    differences: Mapping[str, Interval] | None = None,
) -> list[Finding]:
    """How each encoder's emulations compare with an emulator that is told nothing.

    The embedding helps ("yes") only where the loss is clearly below that of z = 0 and clearly below the
    encoder's own with another RNN's embedding.

    Args:
        losses: Figures of each encoder.
        divergence: The loss to compare.
        split: On which RNNs.
        differences: For each encoder its loss minus that of z = 0, paired by RNN: mentioned where the
            intervals of the two overlap.
    """
    findings = []
    for encoder, figures in losses.items():
        own, zero, shuffled = _told(figures, divergence, split)
        outcome = compare(own, zero)
        text = f"emulation loss {own}, {_beside_zero(outcome, zero)}"
        if outcome == "open":
            text += _paired((differences or {}).get(encoder))
        if outcome == "yes" and compare(own, shuffled) != "yes":
            outcome = "open"
        findings.append(Finding(encoder, outcome, f"{text}. {_shuffled(own, shuffled)}"))
    return findings


def _beside_zero(outcome: Outcome, zero: Interval) -> str:
    return {
        "yes": f"clearly below {zero} when told nothing",
        "no": f"clearly above {zero} when told nothing: it did not help",
        "open": f"not apart from {zero} when told nothing",
    }[outcome]


def _told(figures: Sequence[Figure], divergence: str, split: str) -> tuple[Interval, Interval, Interval]:
    found = find(figures, loss_name(divergence), split)
    return found["conditioned"].interval, found["zero"].interval, found["shuffled"].interval


def _paired(difference: Interval | None) -> str:
    if difference is None:
        return ""
    if difference.high < 0:
        return f", though lower RNN by RNN (difference {difference})"
    if difference.low > 0:
        return f", though higher RNN by RNN (difference {difference})"
    return f", nor RNN by RNN (difference {difference})"


def _shuffled(own: Interval, shuffled: Interval) -> str:
    return {
        "yes": f"Told another RNN's embedding: {shuffled}, clearly higher, so it is used.",
        "no": f"Told another RNN's embedding: {shuffled}, clearly lower, which should not happen.",
        "open": f"Told another RNN's embedding: {shuffled}, not apart, so whether it is used cannot be told.",
    }[compare(own, shuffled)]


def prediction(
    properties: Mapping[str, Sequence[Figure]], split: str, score: str = "task accuracy"
) -> list[Finding]:
    """How well frozen embeddings tell the task, beside every trivial predictor and the untrained encoder."""
    findings = []
    for encoder, figures in properties.items():
        figures_of = find(figures, score, split)
        found = {of: figure.interval for of, figure in figures_of.items()}
        if "embedding" not in found:
            continue
        own, lower = found["embedding"], bool(figures_of["embedding"].lower_is_better)
        outcome, text = _against(own, {of: found[of] for of in TRIVIAL if of in found}, lower)
        if "untrained" in found:
            beside = compare(own, found["untrained"], lower)
            text += f" {_beside_untrained(beside, found['untrained'], lower)}"
            outcome = "no" if "no" in (outcome, beside) else "open" if beside == "open" else outcome
        findings.append(Finding(encoder, outcome, f"{name(score)} {own}, {text}"))
    return findings


def _sides(lower_is_better: bool) -> tuple[str, str]:
    """Where a better and a worse figure lie."""
    return ("below", "above") if lower_is_better else ("above", "below")


def _against(own: Interval, trivial: Mapping[str, Interval], lower: bool) -> tuple[Outcome, str]:
    outcomes = {of: compare(own, interval, lower) for of, interval in trivial.items()}
    best = min(trivial, key=lambda of: trivial[of].mean if lower else -trivial[of].mean)
    better, worse = _sides(lower)
    if all(outcome == "yes" for outcome in outcomes.values()):
        return "yes", f"clearly {better} every trivial predictor (the best: {name(best)}, {trivial[best]})."
    failed = [of for of, outcome in outcomes.items() if outcome != "yes"]
    lost = [of for of in failed if outcomes[of] == "no"]
    if lost:
        return "no", f"clearly {worse} {listed([f'{name(of)}, {trivial[of]}' for of in lost])}."
    return "open", f"not apart from {listed([f'{name(of)}, {trivial[of]}' for of in failed])}."


def _beside_untrained(outcome: Outcome, untrained: Interval, lower: bool) -> str:
    better, worse = _sides(lower)
    return {
        "yes": f"Clearly {better} the same encoder untrained, {untrained}.",
        "no": f"Clearly {worse} the same encoder untrained, {untrained}.",
        "open": f"Not apart from the same encoder untrained, {untrained}.",
    }[outcome]


def task_score(properties: Mapping[str, Sequence[Figure]]) -> str | None:
    """Which of `TASK_SCORES` the experiment has; None where RNNs differ in nothing that it tells."""
    known = {figure.name for figures in properties.values() for figure in figures}
    return next((score for score in TASK_SCORES if score in known), None)


def headline(splits: Sequence[str]) -> str | None:
    """The split that the report is about first; None where there is none that chose nothing."""
    return next((split for split in CHOSE_NOTHING if split in splits), None)


def ranking(intervals: Mapping[str, Interval], what: str, lower_is_better: bool = True) -> list[str]:
    """Which encoders can be ranked: a sentence for the pairs that part, one for those that do not."""
    order = sorted(intervals, key=lambda key: intervals[key].mean, reverse=not lower_is_better)
    parted, open_ = [], []
    for place, first in enumerate(order):
        behind = [other for other in order[place + 1 :] if apart(intervals[first], intervals[other])]
        if behind:
            parted.append(f"{name(first)} before {listed([name(other) for other in behind], ', ')}")
        open_ += [f"{name(first)} and {name(other)}" for other in order[place + 1 :] if other not in behind]
    if not parted:
        return [f"By {what} no two encoders can be ranked: all their intervals overlap."]
    sentences = [f"By {what}: {'; '.join(parted)}."]
    if len(open_) > 3:
        sentences.append(f"The intervals of the {len(open_)} other pairs overlap, so these are not ranked.")
    elif open_:
        sentences.append(f"Not ranked, because their intervals overlap: {'; '.join(open_)}.")
    return sentences


def listed(items: Sequence[str], between: str = "; ") -> str:
    """Items joined for people, "and" before the last one."""
    return between.join(items[:-1]) + " and " + items[-1] if len(items) > 1 else items[0]


def capital(text: str) -> str:
    """The text with a capital letter in front."""
    return text[:1].upper() + text[1:]
