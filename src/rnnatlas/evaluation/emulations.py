"""What emulation came to: losses beside their controls, and how well emulations perform."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rnnatlas import seeds
from rnnatlas.emulation import suitable
from rnnatlas.emulation.data import Snapshots, unpack
from rnnatlas.emulation.divergence import masked_mean
from rnnatlas.emulation.model import TrainedRun
from rnnatlas.evaluation import fitted
from rnnatlas.evaluation.roles import HELD_OUT_TASKS
from rnnatlas.rnn import Signal, System, Tokens
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.store import Zoo

BATCH = 4096
"""Sequences that are emulated at a time, which bounds memory."""


def reported(output: Signal) -> tuple[str, ...]:
    """Divergences that are reported beside what was trained on.

    Of tokens, the paper's released configuration and its text name one each.
    """
    return ("total-variation", "reverse-kl") if isinstance(output, Tokens) else ("mse", "l1")


@torch.no_grad()
def losses(
    run: TrainedRun, zoo: Zoo, snapshots: pa.Table, rollouts: int | None = None, fit: bool = False
) -> pa.Table:
    """Emulation losses of snapshots: of emulators conditioned on their embeddings, and of controls.

    Args:
        run: A finished run.
        zoo: Where the snapshots are.
        snapshots: Those of one split, as `Zoo.snapshots` gives them.
        rollouts: How many rollouts of each to look at; None for all.
        fit: Whether to fit embeddings as well, to the other rollouts: at least as many as are looked at,
            which may then be fewer.

    Returns:
        One row for each snapshot and divergence (the one trained on first, then `reported`), with the
        columns of `keys`, divergence, and mean losses over the positions that the task's mask
        leaves: `conditioned` (on the RNN's own embedding), `shuffled` (on that of another RNN, see
        `derangement`), `zero` (the unconditional emulator, which was trained with zeros) and, where they are
        asked for and there are two rollouts or more, `fitted` (on embeddings fitted to other rollouts);
        `conditioned_PART` and so on are means over each other part of the positions (see `_positions`).
    """
    data = Snapshots.of(zoo, snapshots)
    known = suitable(run.task.interface.output)
    names = list(dict.fromkeys([run.divergence, *reported(run.task.interface.output)]))
    z = run.embed(data.population)
    best = None
    if fit and (half := data.stored.shape[1] // 2):
        rollouts = min(half, rollouts or half)
        best = fitted.fit(run, data, z, torch.arange(rollouts, data.stored.shape[1]))
    about = keys(data.task, snapshots)
    held_out = about["split"][0].as_py() in HELD_OUT_TASKS
    tasks = np.array(about["task"].to_pylist()) if held_out else None
    shuffled = z[derangement(about["run"].to_numpy(), tasks)]
    found: dict[tuple[str, str], list[Tensor]] = {}
    shown = _shown(run, data.task, data.stored[:, :rollouts])
    size = max(1, BATCH // len(data.stored[0, :rollouts]))
    for number, batch in enumerate(data.in_order(size, rollouts)):
        inputs, targets, mask = unpack(batch, data.task)
        parts = {part: of for part, of in _positions(data.task, batch["stored"]).items() if part in shown}
        masks = {"": mask, **{f"_{part}": counted for part, counted in parts.items()}}
        rows = slice(number * size, number * size + len(inputs))
        systems = {"conditioned": run.emulation(z[rows]), "shuffled": run.emulation(shuffled[rows])}
        if run.zero is not None:
            systems["zero"] = run.unconditional(len(inputs))
        if best is not None:
            systems["fitted"] = run.emulation(best[rows])
        for kind, emulation in systems.items():
            outputs = emulation.run(inputs.to(run.device))[0].cpu()
            pair = [run.standardise(values) for values in (targets, outputs)]
            for name in names:
                values = known[name](*pair)
                for part, counted in masks.items():
                    found.setdefault((kind + part, name), []).append(masked_mean(values, counted))
    tables = []
    for name in names:
        table = about.append_column("divergence", pa.array([name] * len(z)))
        for (column, other), values in found.items():
            if other == name:
                table = table.append_column(column, pa.array(torch.cat(values).numpy()))
        tables.append(table)
    return pa.concat_tables(tables)


def _positions(task: Task, stored: Tensor) -> dict[str, Tensor]:
    """Other positions than the task's mask leaves, by name: those that the task names, and all of them."""
    return {**task.parts(stored), "unmasked": torch.ones_like(task.mask(stored))}


def _shown(run: TrainedRun, task: Task, stored: Tensor) -> list[str]:
    """Which of `_positions` losses are reported over: those that training looked at, the mask itself aside.

    An emulator gives out anything at positions that it was not trained on.
    """
    mask, everywhere = task.mask(stored) > 0, not run.settings.emulation.mask_padding
    return [
        part
        for part, counted in _positions(task, stored).items()
        if counted.any() and (everywhere or mask[counted > 0].all()) and not torch.equal(counted > 0, mask)
    ]


def keys(task: Task | None, snapshots: pa.Table) -> pa.Table:
    """Which snapshots rows are of: id, run, step, split, and a text that names the task."""
    assert task is not None, "evaluate refuses zoos without a task"
    names = [str(task.key(instance)) for instance in snapshots["task"].to_pylist()]
    return snapshots.select(["id", "run", "step", "split"]).append_column(
        "task", pa.array(names, pa.string())
    )


# --- the shuffled control ----------------------------------------------------------------------------


def derangement(
    runs: Shaped[np.ndarray, " rnn"], tasks: Shaped[np.ndarray, " rnn"] | None = None
) -> Int[np.ndarray, " rnn"]:
    """A fixed random reordering of snapshots that gives each one of another task, at least of another run.

    Snapshots lie in a circle, group by group, groups and the snapshots of each in random order; each gets
    what lies as far ahead as the largest group is long. Groups are tasks where none has more than half of
    the snapshots; else runs; where one run has more than half, some must keep one of their own run.

    Args:
        runs: Which run each snapshot is of.
        tasks: Which task each snapshot is of, on splits whose tasks were held out.
    """
    groups = runs
    if tasks is not None and 2 * np.unique(tasks, return_counts=True)[1].max() <= len(tasks):
        groups = tasks
    random = seeds.stream(0, "shuffled embeddings")
    _, membership, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.lexsort((random.permutation(len(runs)), random.permutation(len(sizes))[membership]))
    reordered = np.empty_like(order)
    reordered[order] = np.roll(order, sizes.max())
    return reordered


# --- performance --------------------------------------------------------------------------------------


@torch.no_grad()
def emulated_performance(run: TrainedRun, zoo: Zoo, snapshots: pa.Table, trials: int = 1000) -> pa.Table:
    """How well emulations perform beside their originals (Herrmann et al. 2024, figure 5).

    Emulations are systems, so the task judges them as it judged their originals.

    Args:
        run: A finished run.
        zoo: Where the snapshots are.
        snapshots: As `Zoo.snapshots` gives them.
        trials: Sequences that each emulation is judged by.

    Returns:
        A row a snapshot: the columns of `keys`, and performance of the `original`, as the zoo has it, of the
        `emulated` one, and of the unconditional emulator, `zero`, where the run has one.
    """
    table = keys(zoo.task, snapshots)
    assert zoo.task is not None, "keys looked"
    z = run.embed(zoo.population(snapshots))
    systems: dict[str, Callable[[slice], System]] = {"emulated": lambda rows: run.emulation(z[rows])}
    if run.zero is not None:
        systems["zero"] = lambda rows: run.unconditional(len(z[rows]))
    table = table.append_column("original", snapshots["metrics"].combine_chunks().field("performance"))
    for name, system in systems.items():
        performance = _performance(run, zoo.task, snapshots, trials, system)
        table = table.append_column(name, pa.array(performance))
    return table


def _performance(
    run: TrainedRun, task: Task, snapshots: pa.Table, trials: int, system: Callable[[slice], System]
) -> Float[np.ndarray, " rnn"]:
    """Performance of one system a snapshot, some at a time."""
    size = max(1, BATCH // trials)
    found = []
    for first in range(0, snapshots.num_rows, size):
        rows = snapshots.slice(first, size).to_pylist()
        streams = [seeds.stream(run.settings.seed, "emulated", row["run"], row["step"]) for row in rows]
        metrics = task.metrics(
            system(slice(first, first + size)), [row["task"] for row in rows], streams, trials
        )
        found.append(metrics["performance"])
    return np.concatenate(found).astype(np.float64)
