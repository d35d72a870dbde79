"""Which columns of published tables are steps, runs, shares and losses, by their values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rnnatlas.errors import CheckpointError

Columns = Sequence[Float[np.ndarray, " rnn"]]


def columns(array: np.ndarray) -> list[Float[np.ndarray, " rnn"]]:
    """The columns of a table [row] or [row, column]."""
    return list(np.asarray(array, dtype=np.float64).reshape(len(array), -1).T)


def is_share(column: Float[np.ndarray, " rnn"]) -> bool:
    """Whether all numbers lie between 0 and 1, but for those that are none."""
    known = column[~np.isnan(column)]
    return len(known) > 0 and bool(known.min() >= 0 and known.max() <= 1)


def is_whole(column: Float[np.ndarray, " rnn"]) -> bool:
    """Whether all numbers are whole and none is negative."""
    return bool(np.isfinite(column).all() and (column >= 0).all() and (column % 1 == 0).all())


def numbered(found: Columns, keys: Sequence[Any], noun: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Run and step of each row, and how they are known.

    Args:
        found: A column of steps, perhaps beside one of numbers of runs, in any order.
        keys: What each row was trained on; rows of one run share it.
        noun: What that is called.

    Raises:
        CheckpointError: There are other columns, or nothing tells one from the other.
    """
    whole = [column.astype(np.int64) for column in found]
    if len(whole) == 2:
        orders = [(run, step) for run, step in (whole, whole[::-1]) if _are_runs(run, step, keys)]
        if len(orders) == 1:
            run, step = orders[0]
            if len(np.unique(run)) < len(run) or len(np.unique(step)) == 1:
                return np.unique(run, return_inverse=True)[1], step, "runs are numbered in the files"
            whole = [step]  # the others number rows
    if len(whole) != 1:
        raise CheckpointError(
            "the steps should be one column of whole numbers, perhaps with the number of the run in another, "
            f"found {len(found)} columns that could be either; leave the steps alone in num_step*.npy"
        )
    return _by_order(whole[0], keys, noun)


def _are_runs(run: np.ndarray, step: np.ndarray, keys: Sequence[Any]) -> bool:
    """Whether each pair is there once, and rows of one run share what they were trained on."""
    own = dict(zip(run.tolist(), keys, strict=True))
    alike = all(own[number] == key for number, key in zip(run.tolist(), keys, strict=True))
    return alike and len(set(zip(run.tolist(), step.tolist(), strict=True))) == len(run)


def _by_order(step: np.ndarray, keys: Sequence[Any], noun: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Runs where rows follow one another run by run, or step by step; else rows of one task share one."""
    rows = np.arange(len(step))
    drops = np.flatnonzero(step[1:] <= step[:-1])
    length = int(drops[0]) + 1 if len(drops) else len(step)
    for run in (rows // length, rows % int((step == step[0]).sum())):
        count = int(run.max()) + 1
        if len(step) % count == 0 and _are_runs(run, step, keys):
            series = step[np.argsort(run, kind="stable")].reshape(count, -1)
            if (series == series[0]).all() and (np.bincount(run) == len(step) // count).all():
                return run, step, "runs are told by the order of rows, in which steps and tasks repeat"
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    said = f"nothing in the files says which rows are of one run, so all rows of one {noun} share a run"
    return np.array([places[key] for key in keys]), step, said


def training(one: np.ndarray, other: np.ndarray, step: np.ndarray) -> float:
    """Standard errors by which the second is larger on average, in the rows of the last step."""
    gap = (other - one)[step == step.max()]
    gap = gap[np.isfinite(gap)]
    if len(gap) < 2:
        return 0.0
    return float(gap.mean() / max(gap.std(ddof=1) / np.sqrt(len(gap)), 1e-12))
