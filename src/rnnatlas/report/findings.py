"""An experiment's findings on each split, and what all encoders together show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rnnatlas.emulation.model import read_settings
from rnnatlas.evaluation.figures import Figure, find, loss_name
from rnnatlas.evaluation.roles import clusters
from rnnatlas.intervals import Interval, correlation
from rnnatlas.report import claims, comparison, words
from rnnatlas.report.alike import alike, comparable, runs
from rnnatlas.report.experiment import Experiment, Results

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


def brief(folder: Path) -> list[str]:
    """What an experiment found on its main split, in two sentences; none where there is no such split."""
    results = Results(folder, Experiment.load(folder))
    split = words.headline(results.splits)
    if split is None:
        return []
    first, second = [*_answers(results, split), *_lowest(results, split)][:2]
    return [f"On {words.split_name(split, results.noun)}: {first[0].lower()}{first[1:]}", second]


def of_run(run: Path, zoo: str) -> list[tuple[str, list[tuple[str, words.Finding]]]]:
    """Findings of one evaluated run: name of each split, and each question with its answer.

    Args:
        run: The run's folder.
        zoo: The zoo that it was trained on.
    """
    settings = read_settings(run)
    runs = {settings.encoder: {settings.seed: str(run.resolve())}}
    results = Results(run, Experiment(zoo=zoo, runs=runs))
    return [
        (
            words.split_name(split, results.noun),
            [
                (question, finding)
                for question, found in [*of_split(results, split), *_labels(results, split)]
                for finding in found
            ],
        )
        for split in results.splits
    ]


def _labels(results: Results, split: str) -> list[tuple[str, list[words.Finding]]]:
    """Findings on each label of imported RNNs: accuracy of classes, loss of numbers.

    Labels that too few RNNs of the split have for an interval are left out.
    """
    known = {
        figure.name
        for figures in results.properties.values()
        for figure in figures
        if figure.split == split and figure.of == "embedding" and np.isfinite(figure.interval.low)
    }
    losses = [name for name in sorted(known) if name.startswith("labels.") and name.endswith(" loss")]
    labels = [name.removesuffix(" loss") for name in losses if not name.endswith(" calibrated loss")]
    scores = {label: f"{label} {'accuracy' if f'{label} accuracy' in known else 'loss'}" for label in labels}
    return [
        (
            f"Does the frozen embedding predict {label.removeprefix('labels.')}?",
            words.prediction(results.properties, split, score),
        )
        for label, score in scores.items()
    ]


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
    emulated, *predicted = _answers(results, split)
    return [emulated, *_lowest(results, split), *predicted]


def _answers(results: Results, split: str) -> list[str]:
    """A sentence for each question."""
    emulated, *predicted = of_split(results, split)
    claim = "Conditioning the emulator on the embedding lowers its loss"
    sentences = [words.summary(emulated[1], claim)]
    if predicted:
        claim = f"Frozen embeddings predict the {results.noun} better than all baselines"
        sentences.append(words.summary(predicted[0][1], claim))
    return sentences


def _lowest(results: Results, split: str) -> list[str]:
    """The lowest loss of encoders that were judged on the same RNNs, and who is left out."""
    compared, others = comparable(results.table, split)
    losses, zeros = _losses(results, split, "conditioned"), _losses(results, split, "zero")
    best = min(compared, key=lambda encoder: losses[encoder].mean)
    if len(compared) < 2 <= len(losses):
        return ["No two encoders were judged on the same RNNs, so their losses are not compared."]
    names = words.listed([words.name(one) for one in compared], ", ")
    lowest = f"Among {names}, the lowest loss" if others else "The lowest loss"
    return [
        f"{lowest} is {losses[best]}, of {words.name(best)}; that of the unconditional emulator is "
        f"{zeros[best]}.",
        *others,
    ]


def table(results: Results, split: str) -> dict[str, Any]:
    """The main figures of a split with their outcomes, a row an encoder.

    The unconditional emulator's loss comes once, where it is the same beside all encoders.
    """
    emulated, *predicted = of_split(results, split)
    losses, zeros = _losses(results, split, "conditioned"), _losses(results, split, "zero")
    score = words.task_score(results.properties) if predicted else None
    scores = _scores(results, split, score) if score else {}
    helps, predicts = (
        {finding.encoder: finding.outcome for group in groups for finding in group[1]}
        for groups in ([emulated], predicted)
    )
    counts = runs(results.table, split)
    rows = [
        (
            encoder,
            str(losses.get(encoder, "no RNN of this split")),
            helps.get(encoder),
            str(scores.get(encoder, "–")),
            predicts.get(encoder),
            str(zeros.get(encoder, "–")),
            counts.get(encoder, 0),
        )
        for encoder in results.encoders
    ]
    zero = str(next(iter(zeros.values()))) if len(alike(results.table, split)) == 1 else None
    return {"rows": rows, "zero": zero, "score": score}


def absent(results: Results, split: str) -> list[str]:
    """A sentence on the encoders that take no RNN of the split, if any."""
    known = runs(results.table, split)
    return words.left_out({}, [encoder for encoder in results.encoders if encoder not in known])


def _losses(results: Results, split: str, of: str) -> dict[str, Interval]:
    """The emulation loss beside each encoder that has RNNs of the split: "conditioned" or "zero"."""
    name = loss_name(results.divergence)
    return _intervals(results.losses, name, split, of)


def _intervals(groups: Mapping[str, Sequence[Figure]], name: str, split: str, of: str) -> dict[str, Interval]:
    """One figure of all encoders that have it."""
    known = {encoder: comparison.intervals(figures, name, split) for encoder, figures in groups.items()}
    return {encoder: intervals[of] for encoder, intervals in known.items() if of in intervals}


def _scores(results: Results, split: str, score: str) -> dict[str, Interval]:
    """A score of the frozen embeddings of all encoders that have it."""
    return _intervals(results.properties, score, split, "embedding")


def ranking(results: Results, split: str) -> list[str]:
    """Which encoders can be ranked by emulation loss and by predicting the task."""
    if len(results.encoders) < 2:
        return []
    if min(map(len, results.experiment.runs.values())) < words.ENOUGH_SEEDS:
        return [f"Encoders with fewer than {words.ENOUGH_SEEDS} seeds are not ranked."]
    compared, others = comparable(results.table, split)
    if len(compared) < 2:
        return ["No two encoders were judged on the same RNNs, so they are not ranked."]
    losses = _losses(results, split, "conditioned")
    sentences = words.ranking({encoder: losses[encoder] for encoder in compared}, "emulation loss")
    score = words.task_score(results.properties)
    scores = _scores(results, split, score) if score else {}
    scores = {encoder: scores[encoder] for encoder in compared if encoder in scores}
    if score and len(scores) > 1:
        figures = [find(figures, score, split) for figures in results.properties.values()]
        lower = next(known["embedding"].lower_is_better for known in figures if "embedding" in known)
        sentences += words.ranking(scores, words.name(score), bool(lower))
    return sentences + others


def correlations(results: Results, split: str) -> dict[str, Any]:
    """Correlations of original and emulated performance within training steps, over all seeds."""
    intervals: dict[str, Interval] = {}
    chosen = {
        encoder: [table.filter(pc.field("split") == split) for table in tables]
        for encoder, tables in results.emulated.items()
        if tables
    }
    chosen = {encoder: of_seeds for encoder, of_seeds in chosen.items() if of_seeds[0].num_rows}
    counts = {encoder: _counts(of_seeds[0]) for encoder, of_seeds in chosen.items()}
    same = len({tuple(of_seeds[0]["id"].to_pylist()) for of_seeds in chosen.values()}) == 1
    for encoder, of_seeds in chosen.items():
        steps, together = of_seeds[0]["step"].to_numpy(), clusters(of_seeds[0])
        beside = "" if same else f" beside {words.name(encoder)}"
        number = "" if same else f" ({counts[encoder]})"
        for column, title in (
            ("emulated", f"{words.name(encoder)}{number}"),
            ("zero", f"{words.name('zero')}{beside}"),
        ):
            if column in of_seeds[0].column_names and title not in intervals:
                x, y = (
                    np.stack([table[name].to_numpy() for table in of_seeds]) for name in (column, "original")
                )
                intervals[title] = correlation(x, y, together, within=steps)
    return {
        "split": words.split_name(split, results.noun),
        "intervals": intervals,
        "counts": next(iter(counts.values())) if same else None,
    }


def _counts(table: pa.Table) -> str:
    """How many RNNs and snapshots a table is of."""
    return f"{len(table['run'].unique())} RNNs, {table.num_rows} snapshots"
