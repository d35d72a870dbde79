"""What emulation came to: losses beside their controls, and how well emulations perform."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from rnnatlas import seeds
from rnnatlas.emulation import divergences
from rnnatlas.emulation.data import Snapshots, unpack
from rnnatlas.emulation.divergence import masked_mean
from rnnatlas.emulation.model import Model
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.store import Zoo

REPORTED = ("total-variation", "reverse-kl")
"""Reported beside what was trained on: the paper's released configuration and its text name one each."""

BATCH = 4096
"""Sequences that are emulated at a time, which bounds memory."""


@runtime_checkable
class WritesStrings(Protocol):
    """A task whose RNNs write strings, which can be scored."""

    bos: int
    time: int

    def score(
        self, tokens: np.ndarray, instances: Sequence[Mapping[str, object]]
    ) -> Mapping[str, np.ndarray]:
        """Scores of each RNN's strings; "performance" is among them."""
        ...


@torch.no_grad()
def losses(model: Model, zoo: Zoo, snapshots: pa.Table, rollouts: int | None = None) -> pa.Table:
    """Emulation losses of snapshots, given what the emulator should be told and what it should not.

    Args:
        model: A finished run.
        zoo: Where the snapshots are.
        snapshots: Those of one split, as `Zoo.snapshots` gives them.
        rollouts: How many rollouts of each to look at; None for all.

    Returns:
        One row for each snapshot and divergence (the one trained on first, then `REPORTED`), with the
        columns of `keys`, divergence, and mean losses over the positions that the task's mask
        leaves: `own` (the emulator is told the RNN's own embedding), `shuffled` (that of a snapshot of
        another run, at random) and `zero` (the emulator that was trained with zeros); `own_PART`,
        `shuffled_PART` and `zero_PART` are means over each other part of the positions that the task names.
    """
    data = Snapshots.of(zoo, snapshots)
    names = list(dict.fromkeys([model.settings.emulation.divergence, *REPORTED]))
    own = model.embed(data.population)
    shuffled = own[derangement(snapshots["run"].to_numpy())]
    parts: dict[tuple[str, str], list[Tensor]] = {}
    size = max(1, BATCH // len(data.stored[0, :rollouts]))
    for number, batch in enumerate(data.in_order(size, rollouts)):
        inputs, targets, mask = unpack(batch, data.task)
        others = {
            part: own_mask for part, own_mask in data.task.parts(batch["stored"]).items() if own_mask.any()
        }
        rows = slice(number * size, number * size + len(inputs))
        predictions = {
            "own": model.emulate(own[rows], inputs),
            "shuffled": model.emulate(shuffled[rows], inputs),
        }
        if model.zero is not None:
            predictions["zero"] = model.emulate_untold(inputs)
        for told, prediction in predictions.items():
            for name in names:
                values = divergences[name](targets, prediction)
                parts.setdefault((told, name), []).append(masked_mean(values, mask))
                for part, positions in others.items():
                    parts.setdefault((f"{told}_{part}", name), []).append(masked_mean(values, positions))
    about = keys(data.task, snapshots)
    tables = []
    for name in names:
        table = about.append_column("divergence", pa.array([name] * len(own)))
        for (told, other), values in parts.items():
            if other == name:
                table = table.append_column(told, pa.array(torch.cat(values).numpy()))
        tables.append(table)
    return pa.concat_tables(tables)


def keys(task: Task | None, snapshots: pa.Table) -> pa.Table:
    """Which snapshots rows are of: id, run, step, split, and a text that tells the task from others."""
    assert task is not None, "evaluate refuses zoos without a task"
    own = [str(task.key(instance)) for instance in snapshots["task"].to_pylist()]
    return snapshots.select(["id", "run", "step", "split"]).append_column("task", pa.array(own, pa.string()))


def derangement(runs: Shaped[np.ndarray, " rnn"]) -> Int[np.ndarray, " rnn"]:
    """A fixed random reordering of snapshots that gives each one of another run.

    Snapshots lie in a circle, run by run, runs and the snapshots of each in random order; each gets what
    lies as far ahead as the largest run is long. Where that has more than half of the snapshots, some must
    keep one of their own run.
    """
    random = seeds.stream(0, "shuffled embeddings")
    _, membership, sizes = np.unique(runs, return_inverse=True, return_counts=True)
    order = np.lexsort((random.permutation(len(runs)), random.permutation(len(sizes))[membership]))
    reordered = np.empty_like(order)
    reordered[order] = np.roll(order, sizes.max())
    return reordered


@torch.no_grad()
def emulated_performance(model: Model, zoo: Zoo, snapshots: pa.Table, strings: int = 1000) -> pa.Table | None:
    """How well emulations perform beside their originals (Herrmann et al. 2024, figure 5).

    Where RNNs write strings, strings sampled from the emulator, told an RNN's embedding, are scored as the
    RNN's own were. Where rollouts can be got right, both are judged by all rollouts of the RNN.

    Args:
        model: A finished run.
        zoo: Where the snapshots are.
        snapshots: As `Zoo.snapshots` gives them.
        strings: Strings sampled for each.

    Returns:
        A row a snapshot: the columns of `keys`, `original` and `emulated` performance, and, where both are of
        the same rollouts, which may be easier for some RNNs than for others, `zero`, that of the emulator
        told nothing; None where the task says of neither strings nor rollouts how good they are.
    """
    if isinstance(zoo.task, WritesStrings):
        original = snapshots["metrics"].combine_chunks().field("performance")
        found = {"original": original, "emulated": _written(model, zoo, snapshots, strings)}
    else:
        found = {name: pa.array(share) for name, share in _solved(model, zoo, snapshots).items()}
    if not found:
        return None
    table = keys(zoo.task, snapshots)
    for name, performance in found.items():
        table = table.append_column(name, performance)
    return table


def _written(model: Model, zoo: Zoo, snapshots: pa.Table, strings: int) -> pa.Array:
    """Performance of strings that the emulator writes."""
    task = zoo.task
    assert isinstance(task, WritesStrings), "the caller looked"
    z = model.embed(zoo.population(snapshots))
    performance = []
    for first in range(0, len(z), max(1, BATCH // strings)):
        rows = snapshots.slice(first, max(1, BATCH // strings)).to_pylist()
        uniforms = [
            seeds.stream(model.settings.seed, "emulated", row["run"], row["step"]).random(
                (strings, task.time), dtype=np.float32
            )
            for row in rows
        ]
        drawn = torch.from_numpy(np.stack(uniforms)).to(model.device)
        told = z[first : first + len(rows)].to(model.device)
        tokens, _ = model.emulator.sample(told, drawn, task.bos)
        performance.append(task.score(tokens.cpu().numpy(), [row["task"] for row in rows])["performance"])
    return pa.array(np.concatenate(performance))


def _solved(model: Model, zoo: Zoo, snapshots: pa.Table) -> dict[str, np.ndarray]:
    """Shares of rollouts that RNNs and their emulations get right; empty where nothing says what is right."""
    data = Snapshots.of(zoo, snapshots)
    z = model.embed(data.population)
    size = max(1, BATCH // data.stored.shape[1])
    shares: dict[str, list[Tensor]] = {}
    for number, batch in enumerate(data.in_order(size)):
        inputs, targets, _ = unpack(batch, data.task)
        own = z[number * size : (number + 1) * size]
        answers = {"original": targets, "emulated": model.emulate(own, inputs)}
        if model.zero is not None:
            answers["zero"] = model.emulate_untold(inputs)
        for name, outputs in answers.items():
            right = data.task.solved(batch["stored"], outputs)
            if right is None:
                return {}
            shares.setdefault(name, []).append(right.mean(1))
    return {name: torch.cat(found).double().numpy() for name, found in shares.items()}
