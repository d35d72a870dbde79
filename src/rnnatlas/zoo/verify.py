"""Whether a zoo's stored rollouts and metrics are what its stored weights do."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from rnnatlas.errors import SettingsError
from rnnatlas.executors.base import limited
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.seeds import stream
from rnnatlas.zoo.folder import Folder
from rnnatlas.zoo.format import AGAIN, AS_STATED, DIVERGED, Shard, ShardDamaged, read_card
from rnnatlas.zoo.store import Zoo

RNNS = 32
"""RNNs that are run at a time."""
ATOL, RTOL = 5e-3, 2e-3
"""Of outputs stored as float16, which rounds by up to 5e-4 of a number, run by whichever backend."""
METRIC_TOLERANCE = 0.01
"""Of metrics: a draw that lies on a token's edge may fall to either side on another machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What a check of a zoo found.

    Args:
        snapshots: How many the zoo holds.
        diverged: How many of them are marked as diverged; they are not run.
        checked: How many were checked.
        not_finite: Ids of those whose weights are not finite although they are not marked.
        outputs_differ: Ids of those whose stored outputs are not what their weights give out.
        metrics_differ: Ids of those whose metrics came out differently.
        largest_difference: Largest difference of an output, in nats, among those that agree.
    """

    snapshots: int
    diverged: int
    checked: int
    not_finite: list[str]
    outputs_differ: list[str]
    metrics_differ: list[str]
    largest_difference: float

    @property
    def agree(self) -> int:
        """How many of those checked hold in every respect."""
        return self.checked - len({*self.not_finite, *self.outputs_differ, *self.metrics_differ})


def verify(zoo: Zoo, sample: int | None = 100, seed: int = 0, progress: bool = False) -> Verification:
    """Runs the stored rollouts of some snapshots again, and measures their metrics again.

    Args:
        zoo: The zoo; of imported RNNs, which have neither rollouts nor metrics, only weights are looked at.
        sample: How many snapshots, drawn at random; None for all.
        seed: Of the draw.
        progress: Show a progress bar on stderr.

    Raises:
        SettingsError: `sample` is less than one.
        ZooFormatError: A shard is damaged.
    """
    if sample is not None and sample < 1:
        raise SettingsError(f"the number of snapshots to check should be 1 or more, found {sample}")
    rows = zoo.snapshots()["row"].to_numpy()
    if sample is not None and sample < len(rows):
        rows = np.sort(stream(seed, "verify").choice(rows, sample, replace=False))
    verification = Verification(
        snapshots=len(zoo),
        diverged=zoo.table["health"].to_pylist().count(DIVERGED),
        checked=len(rows),
        not_finite=[],
        outputs_differ=[],
        metrics_differ=[],
        largest_difference=0.0,
    )
    console = Console(stderr=True)
    with limited(1):
        for start in track(range(0, len(rows), RNNS), "checking", console=console, disable=not progress):
            verification = _check(zoo, rows[start : start + RNNS], verification)
    return verification


def damaged(path: Path | str) -> tuple[dict[str, str], int]:
    """The shards of a zoo that are not as they were written, each with why; and how many there are in all.

    All bytes are read. Shards that are missing are none of them.

    Raises:
        ZooFormatError: There is no zoo, or something cannot be read for other reasons.
    """
    folder = Folder(path)
    card = read_card(folder)
    found: dict[str, str] = {}
    count = 0
    for slug in card["expected"]:
        spec = RNNSpec.from_slug(slug)
        for name in folder.shards(spec):
            count += 1
            try:
                shard = Shard(folder, name, spec)
                shard.check_of(card.get("shards_of"))
                shard.check()
            except ShardDamaged as error:
                found[name] = str(error).partition(" is ")[2].partition(f"; {AGAIN}")[0]
    return found, count


def _check(zoo: Zoo, rows: np.ndarray, verification: Verification) -> Verification:
    finite = zoo.finite(rows)
    ids = np.array(zoo.table["id"].take(rows).to_pylist(), dtype=object)
    verification.not_finite.extend(ids[~finite])
    rows, ids = rows[finite], ids[finite]
    largest = verification.largest_difference
    for positions, population in zoo.groups(rows) if zoo.task is not None else ():
        of_spec = rows[positions]
        differences, agree = _compare_outputs(zoo, of_spec, population)
        verification.outputs_differ.extend(ids[positions][~agree])
        largest = max(largest, float(differences[agree].max(initial=0.0)))
        verification.metrics_differ.extend(ids[positions][~_compare_metrics(zoo, of_spec, population)])
    return dataclasses.replace(verification, largest_difference=largest)


@torch.no_grad()
def _compare_outputs(zoo: Zoo, rows: np.ndarray, population: Population) -> tuple[np.ndarray, np.ndarray]:
    """Each RNN's largest difference of an output, and whether all of them are within the tolerance."""
    assert zoo.task is not None
    stored = zoo.rollouts(rows)
    outputs = zoo.task.outputs(population, torch.from_numpy(stored.inputs)).numpy()
    expected = stored.outputs.astype(np.float32)
    differences = np.abs(outputs - expected).reshape(len(rows), -1)
    within = differences <= ATOL + RTOL * np.abs(expected).reshape(len(rows), -1)
    return differences.max(axis=1), np.asarray(within.all(axis=1))


def _compare_metrics(zoo: Zoo, rows: np.ndarray, population: Population) -> np.ndarray:
    """Which snapshots' metrics come out as stored; the streams they were measured with are known."""
    assert zoo.task is not None
    table = zoo.table.take(rows)
    if table["metrics"].null_count or zoo.card["settings"].get(AS_STATED):
        return np.ones(len(rows), dtype=bool)
    names = zip(table["run"].to_pylist(), table["step"].to_pylist(), strict=True)
    streams = [stream(zoo.card["seed"], "metrics", *name) for name in names]
    metrics = zoo.task.metrics(population, table["task"].to_pylist(), streams)
    return _alike(metrics, table["metrics"].to_pylist())


def _alike(metrics: Mapping[str, np.ndarray], stored: Sequence[Mapping[str, float]]) -> np.ndarray:
    differences = [
        np.abs(values - np.array([row[name] for row in stored])) / np.maximum(1, np.abs(values))
        for name, values in metrics.items()
    ]
    return np.asarray((np.stack(differences) <= METRIC_TOLERANCE).all(axis=0))
