"""What an experiment found, in sentences computed from its figures and nothing else.

"Lower", "higher" and "better" mean throughout that two 95 % intervals do not overlap.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from rnnatlas import encoders
from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.evaluation.figures import Figure, find, loss_name
from rnnatlas.intervals import Interval, overlap
from rnnatlas.tasks.recorded import Recorded

SPLITS = {
    "new-runs": "new runs of known {noun}s",
    "known": "{noun}s trained on",
    "validation": "{noun}s not trained on (these chose the checkpoints)",
    "test": "{noun}s not trained on, nor used for model selection",
    "ood": "{noun}s of another kind (OOD)",
}
SPLITS_AT_RANDOM = {
    "validation": "held-out networks (these chose the checkpoints)",
    "ood": "networks held out at random",
}
"""Of networks that were imported, which have no kinds."""

NO_INTERACTION = "no-interaction"
"""Label of interactive probing whose inputs cannot depend on the responses."""

NAMES = {
    NO_INTERACTION: "interactive probing, no-interaction ablation",
    "embedding": "frozen embedding",
    "supervised": "encoder trained end to end",
    "untrained": "untrained encoder",
    "direction": "direction in the frozen embedding",
    "untrained-direction": "direction in the untrained encoder's embedding",
    "pca": "PCA of raw weights",
    "nearest": "nearest neighbours in raw weights",
    "nearest-responses": "nearest neighbours in responses to random inputs",
    "fixed-rollouts": "responses to fixed inputs from rollouts",
    "fixed-random": "responses to fixed random inputs",
    "fixed-task": "responses to fixed inputs made for the task",
    "fixed-turned": "responses to fixed images in several rotations",
    "scan": "rotation at which fixed images are classified best",
    "interview": "responses in a fixed interview",
    "dynamics": "Lyapunov exponents and Jacobian eigenvalues",
    "dsa": "DSA distances, by multidimensional scaling",
    "norms": "weight norms",
    "step": "training step",
    "architecture": "architecture",
    "constant": "constant prediction",
    "conditioned": "the RNN's own embedding",
    "shuffled": "another RNN's embedding",
    "fitted": "emulator with fitted embeddings, lower bound",
    "direction degrees": "angle error in degrees",
    "angle degrees": "angle error in degrees, predicted as one number",
    "unseen_direction degrees": "angle error in degrees, no OOD angle seen",
}
"""Names for people of all but encoders and controls, which have their own."""

DIVERGENCES = {
    "kl": "Kullback–Leibler divergence",
    "reverse-kl": "reverse Kullback–Leibler divergence",
    "jensen-shannon": "Jensen–Shannon divergence",
    "cosine": "cosine distance",
    "l1": "mean absolute error",
    "l2": "squared distance",
    "mse": "mean squared error",
}
"""Names for people of divergences that are not called what they are."""

TASK_SCORES = ("task accuracy", "direction degrees")
"""Scores of predicting what an RNN was trained on; the first that there is counts."""

UNTOUCHED = ("new-runs", "test", "ood")
"""Splits that may be the headline, the first that there is; validation chose the checkpoints."""

FEW = 3
"""Baselines that a sentence names one by one."""

ENOUGH_SEEDS = 3
"""Fewer do not rank encoders."""

Outcome = Literal["yes", "no", "open"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One sentence, and the outcome of what it is about.

    Attributes:
        encoder: The encoder that it is about.
        outcome: "yes": the encoder is better than everything that it must beat; "no": worse than
            something; "open": neither.
        text: The sentence, without the encoder's name.
    """

    encoder: str
    outcome: Outcome
    text: str


def compare(a: Interval, b: Interval, lower_is_better: bool = True) -> Outcome:
    """Whether a is better than b; open where their intervals overlap."""
    if overlap(a, b):
        return "open"
    return "yes" if (a.high < b.low) == lower_is_better else "no"


def cost(costs: Mapping[str, float]) -> str:
    """What an encoder costs, in a few words."""
    weights, products = costs["parameters"] / 1e6, costs["flops"] / 1e6
    milliseconds = costs["milliseconds"]
    text = f"{_brief(weights)} M weights, {_brief(products)} MFLOP, {_brief(milliseconds)} ms"
    queries = costs.get("queries")  # which runs of earlier versions did not count
    return text if queries is None else f"{text}, {f'{queries:.0f}' if queries else 'no'} queries"


def _brief(value: float) -> str:
    """Two significant digits, and all digits before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def name(key: str) -> str:
    """An encoder, control, predictor or score for people."""
    if key in NAMES:
        return NAMES[key]
    encoder = encoders.find(key)
    return getattr(encoder, "title", None) or key


def divergence_name(key: str) -> str:
    """A divergence for people."""
    return DIVERGENCES.get(key, key.replace("-", " "))


def split_name(split: str, noun: str) -> str:
    """A split for people; `noun` is what the task calls its instances."""
    if noun == Recorded.noun and split in SPLITS_AT_RANDOM:
        return SPLITS_AT_RANDOM[split]
    return SPLITS.get(split, split).format(noun=noun)


# --- emulation ---------------------------------------------------------------------------------------


def emulation(
    losses: Mapping[str, Sequence[Figure]],
    divergence: str,
    split: str,
    differences: Mapping[str, Interval] | None = None,
) -> list[Finding]:
    """How emulators conditioned on each encoder's embeddings compare with the unconditional one.

    The embedding helps ("yes") only where the loss is lower than that of z = 0 and lower than the
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
        found = find(figures, loss_name(divergence), split)
        if not found:
            continue  # it takes no RNN of this split
        loss, zero, shuffled = (found[of].interval for of in ("conditioned", "zero", "shuffled"))
        outcome = compare(loss, zero)
        text = f"emulation loss {loss}, {_beside_zero(outcome, zero)}"
        if outcome == "open":
            text += _paired((differences or {}).get(encoder))
        if outcome == "yes" and compare(loss, shuffled) != "yes":
            outcome = "open"
        text = f"{text}. {_beside_shuffled(loss, shuffled)}"
        if "fitted" in found:
            text += f" On embeddings fitted to each RNN: {found['fitted'].interval}."
        findings.append(Finding(encoder, outcome, text))
    return findings


def _beside_zero(outcome: Outcome, zero: Interval) -> str:
    return {
        "yes": f"lower than that of the unconditional emulator, {zero}",
        "no": f"higher than that of the unconditional emulator, {zero}: conditioning did not help",
        "open": f"whose interval overlaps with that of the unconditional emulator, {zero}",
    }[outcome]


def _paired(difference: Interval | None) -> str:
    if difference is None:
        return ""
    if difference.high < 0:
        return f"; the paired difference is below 0, {difference}"
    if difference.low > 0:
        return f"; the paired difference is above 0, {difference}"
    return f"; the interval of the paired difference includes 0, {difference}"


def _beside_shuffled(loss: Interval, shuffled: Interval) -> str:
    conditioned = f"Conditioned on another RNN's embedding: {shuffled}"
    return {
        "yes": f"{conditioned}, higher, so the emulator uses the embedding.",
        "no": f"{conditioned}, lower, which should not happen.",
        "open": f"{conditioned}; the intervals overlap, so it is open whether the emulator uses the "
        "embedding.",
    }[compare(loss, shuffled)]


# --- prediction --------------------------------------------------------------------------------------


def prediction(
    properties: Mapping[str, Sequence[Figure]], split: str, score: str = "task accuracy"
) -> list[Finding]:
    """How well frozen embeddings predict the task, beside every baseline and the untrained encoder."""
    findings = []
    for encoder, figures in properties.items():
        scored = find(figures, score, split)
        intervals = {of: figure.interval for of, figure in scored.items()}
        if "embedding" not in intervals:
            continue
        embedding, lower = intervals["embedding"], bool(scored["embedding"].lower_is_better)
        baselines = {of: intervals[of] for of in TRIVIAL if of in intervals}
        outcome, text = _beside_baselines(embedding, baselines, lower)
        if "untrained" in intervals:
            beside = compare(embedding, intervals["untrained"], lower)
            text += f" {_beside_untrained(beside, intervals['untrained'], lower)}"
            outcome = "no" if "no" in (outcome, beside) else "open" if beside == "open" else outcome
        findings.append(Finding(encoder, outcome, f"{name(score)} {embedding}, {text}"))
    return findings


def _sides(lower_is_better: bool) -> tuple[str, str]:
    """What a better and a worse figure are."""
    return ("lower", "higher") if lower_is_better else ("higher", "lower")


def _beside_baselines(
    embedding: Interval, baselines: Mapping[str, Interval], lower: bool
) -> tuple[Outcome, str]:
    outcomes = {of: compare(embedding, interval, lower) for of, interval in baselines.items()}
    best = min(baselines, key=lambda of: baselines[of].mean if lower else -baselines[of].mean)
    better, worse = _sides(lower)
    if all(outcome == "yes" for outcome in outcomes.values()):
        return "yes", f"{better} than every baseline (the best: {name(best)}, {baselines[best]})."
    not_beaten = {of: f"{name(of)}, {baselines[of]}" for of, outcome in outcomes.items() if outcome != "yes"}
    lost = [text for of, text in not_beaten.items() if outcomes[of] == "no"]
    if lost:
        return "no", f"{worse} than {listed(lost)}."
    if len(not_beaten) > FEW:
        first = best if best in not_beaten else next(iter(not_beaten))
        return "open", (
            f"whose interval overlaps with those of {len(not_beaten)} of {len(baselines)} baselines, such as "
            f"{not_beaten[first]}."
        )
    return "open", f"whose interval overlaps with {listed(list(not_beaten.values()))}."


def _beside_untrained(outcome: Outcome, untrained: Interval, lower: bool) -> str:
    better, worse = _sides(lower)
    return {
        "yes": f"Same encoder untrained: {untrained}, {worse}.",
        "no": f"Same encoder untrained: {untrained}, {better}.",
        "open": f"Same encoder untrained: {untrained}; the intervals overlap.",
    }[outcome]


def task_score(properties: Mapping[str, Sequence[Figure]]) -> str | None:
    """Which of `TASK_SCORES` the experiment has; None where it has none."""
    known = {figure.name for figures in properties.values() for figure in figures}
    return next((score for score in TASK_SCORES if score in known), None)


# --- all encoders together ---------------------------------------------------------------------------


def headline(splits: Sequence[str]) -> str | None:
    """The split that the report is about first; None where all had a part in choices."""
    return next((split for split in UNTOUCHED if split in splits), None)


def summary(findings: Sequence[Finding], claim: str) -> str:
    """For which encoders a claim holds, for which it does not, and for which it is open, in one sentence.

    Args:
        findings: Outcomes, one an encoder.
        claim: What holds for encoders with the outcome "yes".
    """
    names = {
        outcome: listed([name(finding.encoder) for finding in findings if finding.outcome == outcome], ", ")
        for outcome in {finding.outcome for finding in findings}
    }
    text = f"{claim} for {names.get('yes', 'no encoder')}"
    if "no" in names:
        text += f"{',' if 'yes' in names else ':'} not for {names['no']}"
    if "open" in names:
        text += f"; for {names['open']} it is open"
    return f"{text}."


def ranking(intervals: Mapping[str, Interval], what: str, lower_is_better: bool = True) -> list[str]:
    """Which encoders can be ranked: a sentence for pairs whose intervals do not overlap, one for others."""
    order = sorted(intervals, key=lambda key: intervals[key].mean, reverse=not lower_is_better)
    ranked, overlapping = [], []
    for place, first in enumerate(order):
        worse = [other for other in order[place + 1 :] if not overlap(intervals[first], intervals[other])]
        if worse:
            ranked.append(f"{name(first)} is better than {listed([name(other) for other in worse], ', ')}")
        pairs = [other for other in order[place + 1 :] if other not in worse]
        overlapping += [f"{name(first)} and {name(other)}" for other in pairs]
    if not ranked:
        return [f"By {what}, no two encoders can be ranked: all their intervals overlap."]
    sentences = [f"By {what}, {'; '.join(ranked)}."]
    if len(overlapping) > 3:
        sentences.append(f"The intervals of the {len(overlapping)} other pairs overlap: not ranked.")
    elif overlapping:
        sentences.append(f"Not ranked, because their intervals overlap: {'; '.join(overlapping)}.")
    return sentences


def left_out(others: Mapping[str, int], absent: Sequence[str]) -> list[str]:
    """Who is not compared with whom and why, in one sentence; none where all are compared.

    Args:
        others: Encoders that were judged on other RNNs, and on how many.
        absent: Encoders that take no RNN of the split.
    """
    items = [f"{name(encoder)} (judged on another set of {count} RNNs)" for encoder, count in others.items()]
    items += [f"{name(encoder)} (no RNN of this split)" for encoder in absent]
    return [f"Left out: {listed(items)}."] if items else []


def listed(items: Sequence[str], between: str = "; ") -> str:
    """Items joined for people, "and" before the last one."""
    return between.join(items[:-1]) + " and " + items[-1] if len(items) > 1 else items[0]


def capital(text: str) -> str:
    """The text with a capital letter in front."""
    return text[:1].upper() + text[1:]
