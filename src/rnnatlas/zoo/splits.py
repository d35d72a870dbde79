"""Which runs of a zoo serve for what: by task and by run, never by row."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from rnnatlas.errors import SettingsError
from rnnatlas.seeds import stream
from rnnatlas.settings import settings
from rnnatlas.tasks.base import Instance, Task

SPLITS = ("train", "new-runs", "validation", "test", "ood")
"""train; held-out runs of training tasks; held-out tasks, which choose models or nothing; of another kind."""


@settings
class SplitSettings:
    """Shares of the tasks (Herrmann et al. 2024, section 5), and of the runs of training tasks.

    Args:
        train: Share of the tasks that training runs have.
        validation: Share of the tasks that choose models.
        test: Share of the tasks that choose nothing, of the same kind as the former; the paper has none.
        ood: Share of the tasks that are of another kind (`Task.is_ood`).
        new_runs: Share of the runs of training tasks that are held out and choose nothing.
    """

    train: float = 0.70
    validation: float = 0.15
    test: float = 0.0
    ood: float = 0.15
    new_runs: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.train, self.validation, self.test, self.ood)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise SettingsError(
                "train, validation, test and ood should be shares that sum to 1, "
                f"found {', '.join(map(str, shares))}"
            )
        if not 0 <= self.new_runs < 1:
            raise SettingsError(f"new_runs should be a share below 1, found {self.new_runs}")


def check(task: Task, settings: SplitSettings) -> None:
    """Makes sure that a task can be split so.

    Raises:
        SettingsError: Runs of known tasks should be held out, but every run has a task of its own.
    """
    if settings.new_runs and isinstance(task.key(task.instance(0, 0)), float):  # no two reals are equal
        raise SettingsError(
            f"zoo.split.new_runs should be 0 for {task.name}, where every run has its own {task.noun}, found "
            f"{settings.new_runs}"
        )


def assign(task: Task, instances: Sequence[Instance], seed: int, settings: SplitSettings) -> list[str]:
    """The split of each run, from the instances that all runs of the zoo are trained on.

    All runs of one task lie in one split, save that `new_runs` of those of training tasks are held out;
    each of these tasks keeps at least one training run.

    Raises:
        SettingsError: As `check`.
    """
    check(task, settings)
    keys = [task.key(instance) for instance in instances]
    ood = {key for key, is_ood in zip(keys, task.is_ood(instances, settings.ood), strict=True) if is_ood}
    rest = sorted(set(keys) - ood)
    stream(seed, "splits").shuffle(rest)
    split = dict.fromkeys(rest, "train") | dict.fromkeys(ood, "ood")
    known, first = settings.train + settings.validation + settings.test, 0
    for name, share in (("validation", settings.validation), ("test", settings.test)):
        last = first + round(len(rest) * share / known) if known else 0
        split |= dict.fromkeys(rest[first:last], name)
        first = last
    splits = [split[key] for key in keys]
    for run in _new_runs(keys, splits, seed, settings.new_runs):
        splits[run] = "new-runs"
    return splits


def _new_runs(keys: Sequence, splits: Sequence[str], seed: int, share: float) -> list[int]:
    runs = [run for run, split in enumerate(splits) if split == "train"]
    wanted = round(share * len(runs))
    left = Counter(keys[run] for run in runs)
    chosen: list[int] = []
    for run in stream(seed, "splits", "new-runs").permutation(runs) if wanted else ():
        if left[keys[run]] > 1:
            left[keys[run]] -= 1
            chosen.append(int(run))
        if len(chosen) == wanted:
            break
    return chosen


def ood_half(
    task: Task, instances: Sequence[Instance], splits: Sequence[str], seed: int
) -> Bool[np.ndarray, " rnn"]:
    """Which snapshots of OOD tasks join a property predictor's training set; the other OOD ones are its test.

    Half of the OOD tasks joins, rounded down (Herrmann et al. 2024, section 5). They are drawn at random:
    in sorted order neighbours differ in one number alone, so every other task would be a biased half.

    Args:
        task: What the RNNs were trained on.
        instances: One a snapshot.
        splits: One a snapshot; those that are not "ood" never join.
        seed: The zoo's, so that all predictors of a zoo share the halves.
    """
    keys = [task.key(instance) for instance in instances]
    ood = sorted({key for key, split in zip(keys, splits, strict=True) if split == "ood"})
    stream(seed, "ood-half").shuffle(ood)
    joins = set(ood[: len(ood) // 2])
    return np.array([key in joins for key in keys], dtype=bool)
