"""What each snapshot of a zoo serves for when properties are predicted."""

import dataclasses

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int, Shaped

from rnnatlas.properties.predictors import Roles
from rnnatlas.seeds import stream
from rnnatlas.zoo.splits import ood_half
from rnnatlas.zoo.store import Zoo

HELD_OUT = ("new-runs", "validation", "test", "ood")
HELD_OUT_TASKS = ("validation", "test", "ood")
"""Those whose tasks were held out, not RNNs alone."""
KNOWN = "known"
"""RNNs of another zoo whose tasks were trained on; others of it are as the run's own zoo holds tasks out."""

CALIBRATED_ON = "the split validation, whose tasks no predictor knows"
"""What calibrates predictions, in words."""


def assign(zoo: Zoo, snapshots: pa.Table, seed: int) -> Roles:
    """Training RNNs are those of the split "train" and of half of the OOD tasks (`ood_half`).

    Every sixth of their runs stays out and says when to stop. Most of these trained the encoder, so the
    split "validation" calibrates predictions (docs/decisions/0012-property-benchmark.md).

    Args:
        zoo: Has a task.
        snapshots: As `Zoo.snapshots` gives them.
        seed: The run's.
    """
    assert zoo.task is not None, "evaluate refuses zoos without a task"
    split = np.asarray(snapshots["split"].to_pylist())
    joins = ood_half(zoo.task, snapshots["task"].to_pylist(), split.tolist(), zoo.card["seed"])
    known = (split == "train") | joins
    runs = snapshots["run"].to_numpy()
    stopping = _sixth(known, runs, seed)
    return Roles(
        start=split == "train",
        train=known & ~stopping,
        stopping=stopping,
        calibration=split == "validation",
        held_out=np.isin(split, HELD_OUT) & ~joins,
        together=(np.array([str(zoo.task.key(one)) for one in snapshots["task"].to_pylist()]), runs),
    )


def without_ood(roles: Roles, split: Shaped[np.ndarray, " rnn"]) -> Roles:
    """The same, but that predictors learn from no OOD task, and figures are of all of them."""
    ood = split == "ood"
    return dataclasses.replace(
        roles, train=roles.train & ~ood, stopping=roles.stopping & ~ood, held_out=roles.held_out | ood
    )


def _sixth(
    known: Bool[np.ndarray, " rnn"], runs: Int[np.ndarray, " rnn"], seed: int
) -> Bool[np.ndarray, " rnn"]:
    """Snapshots of every sixth training run, at least of one."""
    order = stream(seed, "predictor", "stopping").permutation(np.unique(runs[known]))
    return known & np.isin(runs, order[: max(1, len(order) // 6)])


def clusters(table: pa.Table) -> Shaped[np.ndarray, " rnn"]:
    """What is drawn together for intervals: all snapshots of an RNN, or all RNNs of a task that was held out.

    Figures of splits whose tasks were held out are to hold for other such tasks, not for other RNNs of
    these few alone. RNNs of another zoo are drawn by task, too.

    Args:
        table: Has the columns split, run and task (a text that tells it from others), a row a snapshot.
    """
    rows = zip(*(table[name].to_pylist() for name in ("split", "run", "task")), strict=True)
    by_task = (KNOWN, *HELD_OUT_TASKS)
    return np.array([task if split in by_task else str(run) for split, run, task in rows], dtype=str)
