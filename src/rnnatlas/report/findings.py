"""An experiment's findings on each split, and what all encoders together show."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from rnnatlas.evaluation.figures import find, loss_name
from rnnatlas.evaluation.roles import clusters
from rnnatlas.intervals import Interval, correlation
from rnnatlas.report import claims, comparison, words
from rnnatlas.report.experiment import Results

EMULATION = "Does the embedding help the emulator?"
PREDICTION = "Does the frozen embedding predict the {noun} that the RNN learned?"


def of_split(results: Results, split: str) -> list[tuple[str, list[words.Finding]]]:
    """Findings under the question that they answer."""
    differences = _differences(results, split)
    groups = [(EMULATION, words.emulation(results.losses, results.divergence, split, differences))]
    score = words.task_score(results.properties)
    predicted = words.prediction(results.properties, split, score) if score else []
    if predicted:
        groups.append((PREDICTION.format(noun=results.noun), predicted))
    return groups


def _differences(results: Results, split: str) -> dict[str, Interval]:
    """For each encoder its emulation loss minus that of z = 0."""
    records, name = claims.Records(results.table), loss_name(results.divergence)
    differences = {
        encoder: records.difference(name, split, (encoder, "conditioned"), (encoder, "zero"))
        for encoder in results.encoders
    }
    return {encoder: interval for encoder, interval in differences.items() if interval is not None}


def summary(results: Results, split: str) -> list[str]:
    """What was found on a split, in a sentence for each question and one for the lowest loss."""
    emulated, *predicted = of_split(results, split)
    losses, zeros = _losses(results, split, "conditioned"), _losses(results, split, "zero")
    best = min(losses, key=lambda encoder: losses[encoder].mean)
    sentences = [
        words.summary(emulated[1], "Conditioning the emulator on the embedding lowers its loss"),
        f"The lowest loss is {losses[best]}, of {words.name(best)}; that of the unconditional emulator is "
        f"{zeros[best]}.",
    ]
    if predicted:
        claim = f"Frozen embeddings predict the {results.noun} better than all baselines"
        sentences.append(words.summary(predicted[0][1], claim))
    return sentences


def table(results: Results, split: str) -> dict[str, Any]:
    """The main figures of a split with their outcomes, a row an encoder and one for the controls."""
    emulated, *predicted = of_split(results, split)
    losses, zero = (
        _losses(results, split, "conditioned"),
        _losses(results, split, "zero")[results.encoders[0]],
    )
    score = words.task_score(results.properties) if predicted else None
    scores = _scores(results, split, score) if score else {}
    outcomes = [
        {finding.encoder: finding.outcome for finding in group[1]} for group in (emulated, *predicted)
    ]
    rows = [
        (encoder, str(loss), outcomes[0][encoder], str(scores.get(encoder, "–")), outcomes[-1].get(encoder))
        for encoder, loss in losses.items()
    ]
    return {"rows": rows, "zero": str(zero), "score": score}


def _losses(results: Results, split: str, of: str) -> dict[str, Interval]:
    """The emulation loss beside each encoder: "conditioned", "shuffled" or "zero"."""
    name = loss_name(results.divergence)
    return {
        encoder: comparison.intervals(figures, name, split)[of] for encoder, figures in results.losses.items()
    }


def _scores(results: Results, split: str, score: str) -> dict[str, Interval]:
    """A score of the frozen embeddings of all encoders that have it."""
    intervals = {
        encoder: comparison.intervals(figures, score, split)
        for encoder, figures in results.properties.items()
    }
    return {encoder: known["embedding"] for encoder, known in intervals.items() if "embedding" in known}


def ranking(results: Results, split: str) -> list[str]:
    """Which encoders can be ranked by emulation loss and by predicting the task."""
    if len(results.encoders) < 2:
        return []
    if min(map(len, results.experiment.runs.values())) < words.ENOUGH_SEEDS:
        return [f"Encoders with fewer than {words.ENOUGH_SEEDS} seeds are not ranked."]
    sentences = words.ranking(_losses(results, split, "conditioned"), "emulation loss")
    score = words.task_score(results.properties)
    scores = _scores(results, split, score) if score else {}
    if score and scores:
        figures = [find(figures, score, split) for figures in results.properties.values()]
        lower = next(known["embedding"].lower_is_better for known in figures if "embedding" in known)
        sentences += words.ranking(scores, words.name(score), bool(lower))
    return sentences


def correlations(results: Results, split: str) -> dict[str, Any]:
    """Correlations of original and emulated performance within training steps, over all seeds."""
    intervals, runs, snapshots = {}, 0, 0
    for encoder, tables in results.emulated.items():
        of_seeds = [table.filter(pc.field("split") == split) for table in tables]
        if not of_seeds or of_seeds[0].num_rows == 0:
            continue
        steps, together = of_seeds[0]["step"].to_numpy(), clusters(of_seeds[0])
        for column, title in (("emulated", words.name(encoder)), ("zero", words.name("zero"))):
            # z = 0 is the same beside all encoders
            if column in of_seeds[0].column_names and title not in intervals:
                x, y = (
                    np.stack([table[name].to_numpy() for table in of_seeds]) for name in (column, "original")
                )
                intervals[title] = correlation(x, y, together, within=steps)
        runs, snapshots = len(of_seeds[0]["run"].unique()), len(steps)
    return {
        "split": words.split_name(split, results.noun),
        "intervals": intervals,
        "runs": runs,
        "snapshots": snapshots,
    }
