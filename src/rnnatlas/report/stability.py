"""Whether embeddings stay where they are when hidden units are permuted, and how much seeds differ."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from rnnatlas.emulation.data import accepted
from rnnatlas.evaluation.emulations import keys
from rnnatlas.evaluation.evaluate import LOSSES
from rnnatlas.evaluation.roles import clusters
from rnnatlas.intervals import Interval, bootstrap
from rnnatlas.report.checks import EVERY, Check, Checks, bare, counted, embedded, some
from rnnatlas.report.claims import Claim, Verdict
from rnnatlas.report.experiment import Results
from rnnatlas.report.published import NAMES, PUBLISHED
from rnnatlas.report.words import ENOUGH_SEEDS, name
from rnnatlas.rnn import Mixed, Population, populations
from rnnatlas.rnn.symmetry import SYMMETRIES

MOST = 256
"""RNNs that are permuted."""

MOVED = "distance to itself with hidden units permuted"
SD = "standard deviation over seeds, of the emulation loss"
CURVES = "standard deviation over seeds, of learning curves"
DEFINITIONS = {
    MOVED: "mean distance between an RNN's embedding and that of the same RNN with the hidden units of each "
    "layer in random order, divided by the mean distance between two RNNs",
    SD: "standard deviation over seeds of the mean emulation loss, divided by its mean; the interval is that "
    "of a standard deviation of normal numbers (χ²)",
    CURVES: "standard deviation over seeds of the loss on validation, divided by its mean, averaged over the "
    "second half of training",
}


def checks(results: Results) -> list[Check]:
    """All of them, by encoder."""
    return [*_permuted(results), *_over_seeds(results), *_over_curves(results)]


# --- permutations ------------------------------------------------------------------------------------


def _permuted(results: Results) -> Iterator[Check]:
    for encoder, models in results.models.items():
        chosen = some(models)
        first = next(iter(chosen.values()))
        snapshots = results.zoo.snapshots(where=first.settings.emulation.where)
        held_out = np.isin(np.asarray(snapshots["split"].to_pylist()), results.splits)
        snapshots, _ = accepted(first.encoder, results.zoo, snapshots.filter(pa.array(held_out)))
        if snapshots.num_rows < 2:
            continue
        rows = np.random.default_rng(0).permutation(snapshots.num_rows)[:MOST]
        snapshots = snapshots.take(pa.array(np.sort(rows)))
        rnns = results.zoo.population(snapshots)
        other = permuted(rnns)
        moved = [_distances(*embedded(model, rnns, other)) for model in chosen.values()]
        table = keys(results.zoo.task, snapshots)
        interval = bootstrap(
            np.stack(moved, axis=1), clusters(table), lambda means: means[0] / means[1], bounds=(0.0, np.inf)
        )
        yield Check(name=MOVED, split=EVERY, encoder=encoder, of="embedding", seeds=tuple(chosen),
                    interval=interval, definition=DEFINITIONS[MOVED], lower_is_better=True,
                    **counted(table))  # fmt: skip


def permuted(rnns: Population | Mixed) -> Population | Mixed:
    """The same RNNs, hidden units of each in an order of their own."""
    change, generator = SYMMETRIES["hidden-permutation"].change, torch.Generator().manual_seed(0)
    if isinstance(rnns, Population):
        return change(rnns, generator)
    return Mixed([(index.tolist(), change(part, generator)) for index, part in populations(rnns)])


def _distances(z: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """How far each embedding moved, and its mean distance to the others: [2, rnn]."""
    z, other = z.double(), other.double()
    between = torch.cdist(z, z).sum(1) / (len(z) - 1)
    return np.stack([(z - other).norm(dim=1).numpy(), between.numpy()])


# --- seeds -------------------------------------------------------------------------------------------


def final_losses(results: Results) -> dict[str, dict[str, np.ndarray]]:
    """Split → encoder → the mean emulation loss of each seed."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for encoder in results.encoders:
        tables = results.tables(encoder, LOSSES)
        for split in results.splits:
            columns = [_of(table, split, results.divergence) for table in tables]
            if columns and len(columns[0]):
                found.setdefault(split, {})[encoder] = np.array([column.mean() for column in columns])
    return found


def _of(table: pa.Table, split: str, divergence: str) -> np.ndarray:
    splits, kinds = (np.asarray(table[name].to_pylist()) for name in ("split", "divergence"))
    return table["conditioned"].to_numpy()[(splits == split) & (kinds == divergence)].astype(np.float64)


def _over_seeds(results: Results) -> Iterator[Check]:
    for split, losses in final_losses(results).items():
        for encoder, own in losses.items():
            if len(own) > 1:
                table = results.tables(encoder, LOSSES)[0]
                rows = np.asarray(table["split"].to_pylist()) == split
                yield _check(
                    SD, split, encoder, results, deviation(own), counted(table.filter(pa.array(rows)))
                )


def deviation(values: np.ndarray) -> Interval:
    """Standard deviation over mean, with the 95 % interval of a standard deviation of normal numbers."""
    from scipy.stats import chi2

    freedom = len(values) - 1
    found = float(values.std(ddof=1) / values.mean())
    low, high = (found * float(np.sqrt(freedom / chi2.ppf(end, freedom))) for end in (0.975, 0.025))
    return Interval(found, low, high, len(values))


def _over_curves(results: Results) -> Iterator[Check]:
    for encoder in results.encoders:
        curves = curves_of(results.histories(encoder))
        if curves is None or len(curves[1]) < 2:
            continue
        late = curves[1][:, curves[1].shape[1] // 2 :]
        value = float((late.std(axis=0, ddof=1) / late.mean(axis=0)).mean())
        yield _check(
            CURVES, "validation", encoder, results, bare(value, len(late)), {"runs": 0, "snapshots": 0}
        )


def curves_of(histories: Mapping[int, Mapping[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps at which all seeds were validated, and their losses there: [seed, step]."""
    known = []
    for history in histories.values():
        if "validation_loss" not in history:
            return None
        rows = np.isfinite(history["validation_loss"])
        known.append(dict(zip(history["step"][rows], history["validation_loss"][rows], strict=True)))
    steps = sorted(set.intersection(*map(set, known))) if known else []
    return (np.array(steps), np.array([[one[step] for step in steps] for one in known])) if steps else None


def _check(
    measure: str, split: str, encoder: str, results: Results, interval: Interval, counts: dict[str, Any]
) -> Check:
    return Check(name=measure, split=split, encoder=encoder, of="conditioned", interval=interval,
                 seeds=tuple(results.experiment.runs[encoder]), definition=DEFINITIONS[measure],
                 lower_is_better=True, **counts)  # fmt: skip


def claims(checks: Checks, task: str, split: str) -> Iterable[Claim]:
    """That interactive probing differs more between seeds than other encoders, as the paper finds."""
    known = {check.encoder: check for check in checks if (check.name, check.split) == (SD, split)}
    own = known.pop("interactive", None)
    if task not in PUBLISHED or own is None or not known:
        return
    few = min(len(check.seeds) for check in (own, *known.values())) < ENOUGH_SEEDS
    evidence = (
        f"standard deviation over seeds divided by mean, on {split}: interactive probing {own.interval}"
    )
    evidence += "".join(f"; {name(encoder)} {check.interval}" for encoder, check in known.items())
    others = [check.interval for encoder, check in known.items() if encoder in NAMES]
    outcome: Verdict = "open"
    if others and not few and all(other.high < own.interval.low for other in others):
        outcome = "reproduced"
    elif not few and any(other.low > own.interval.high for other in others):
        outcome = "not reproduced"
    yield Claim(
        "training with interactive probing differs more between seeds than with other encoders of the paper",
        outcome,
        evidence,
    )
