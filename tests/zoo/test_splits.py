import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnatlas.errors import SettingsError
from rnnatlas.seeds import stream
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.tasks.tiled_mnist import TiledDigits
from rnnatlas.zoo.splits import SPLITS, SplitSettings, _new_runs, assign, ood_half

TASK = FormalLanguages()


def assigned(runs, seed=0, **settings):
    instances = [TASK.instance(run, seed) for run in range(runs)]
    return [TASK.key(instance) for instance in instances], assign(
        TASK, instances, seed, SplitSettings(**settings)
    )


def tasks_of(keys, splits, split):
    return {key for key, own in zip(keys, splits, strict=True) if own == split}


@pytest.mark.parametrize(("runs", "new_runs"), [(1000, 0.0), (1000, 0.2), (40, 0.2)])
def test_no_task_is_in_two_splits(runs, new_runs):
    keys, splits = assigned(runs, new_runs=new_runs)
    train, validation, ood = (tasks_of(keys, splits, split) for split in ("train", "validation", "ood"))
    assert len(train) + len(validation) + len(ood) == len(set(keys))
    assert train | validation | ood == set(keys)
    assert tasks_of(keys, splits, "new-runs") <= train


def test_shares_of_tasks_are_the_papers():
    keys, splits = assigned(1000)
    counts = [len(tasks_of(keys, splits, split)) for split in ("train", "validation", "ood")]
    assert counts == [152, 32, 32]
    assert "new-runs" not in splits


def test_new_runs_are_a_share_of_the_runs_of_training_tasks():
    _, splits = assigned(1000, new_runs=0.2, validation=0.1, test=0.05)
    of_training_tasks = splits.count("train") + splits.count("new-runs")
    assert splits.count("new-runs") == round(0.2 * of_training_tasks)
    assert set(splits) == set(SPLITS)


def test_new_runs_are_drawn_as_they_always_were():
    """Zoos keep their splits: a run is taken, in random order, while its task has another."""
    for seed, share in ((0, 0.2), (3, 0.5), (5, 0.99)):
        keys, splits = assigned(300, seed, new_runs=share)
        runs = [run for run, split in enumerate(splits) if split in ("train", "new-runs")]
        wanted = round(share * len(runs))
        left = {key: sum(keys[run] == key for run in runs) for key in set(keys)}
        chosen = []
        for run in stream(seed, "splits", "new-runs").permutation(runs):
            if len(chosen) < wanted and left[keys[run]] > 1:
                left[keys[run]] -= 1
                chosen.append(int(run))
        assert [run for run, split in enumerate(splits) if split == "new-runs"] == sorted(chosen)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_as_many_comparisons_as_runs_are_enough(share):
    compared = 0

    class Key(int):
        __hash__ = int.__hash__

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return int(self) == int(other)

    keys = [Key(run // 2) for run in range(2000)]
    _new_runs(keys, ["train"] * len(keys), 0, share)
    assert compared < 5 * len(keys)


def test_seed_decides_validation_but_not_ood():
    keys, first = assigned(216, seed=0)
    instances = [dict(zip("bcd", key, strict=True)) for key in keys]
    again, other = (assign(TASK, instances, seed, SplitSettings()) for seed in (0, 1))
    assert first == again
    assert first != other
    assert [split == "ood" for split in first] == [split == "ood" for split in other]


def test_half_of_the_ood_tasks_joins_the_predictors():
    keys, splits = assigned(1000)
    instances = [dict(zip("bcd", key, strict=True)) for key in keys]
    joins = ood_half(TASK, instances, splits, 0)
    ood = np.array(splits) == "ood"
    inside, outside = ({keys[i] for i in np.flatnonzero(mask)} for mask in (joins, ood & ~joins))
    assert not (joins & ~ood).any()
    assert len(inside) == len(outside) == 16
    assert not inside & outside
    order = np.random.default_rng(0).permutation(len(keys))
    again = ood_half(TASK, [instances[i] for i in order], [splits[i] for i in order], 0)
    assert np.array_equal(again, joins[order])
    assert not np.array_equal(ood_half(TASK, instances, splits, 1), joins)


def test_the_joining_half_is_not_told_by_one_number():
    """Alternating sorted keys puts one value of the last number into one half, another into the other."""
    keys, splits = assigned(1000)
    joins = ood_half(TASK, [dict(zip("bcd", key, strict=True)) for key in keys], splits, 0)
    ood = np.array(splits) == "ood"
    last = np.array([key[-1] for key in keys])
    assert set(last[joins]) & set(last[ood & ~joins])


def test_runs_are_held_out_only_where_others_share_their_task():
    digits = TiledDigits()
    instances = [digits.instance(run, 0) for run in range(20)]
    assert "new-runs" not in assign(digits, instances, 0, SplitSettings())
    with pytest.raises(SettingsError, match="where every run has its own angle, found"):
        assign(digits, instances, 0, SplitSettings(new_runs=0.2))


@pytest.mark.parametrize(
    "shares", [{"train": 0.5}, {"train": 0.9, "validation": 0.3, "ood": -0.2}, {"new_runs": 1.0}]
)
def test_shares_have_to_make_sense(shares):
    with pytest.raises(SettingsError, match=r"should be (shares that sum to 1|a share below 1), found"):
        SplitSettings(**shares)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 120),
    st.integers(0, 5),
    st.lists(st.integers(0, 10), min_size=3, max_size=3),
    st.floats(0, 0.99),
)
def test_whatever_the_shares_every_run_has_one_split_and_no_task_leaks(runs, seed, wanted, new):
    """Tasks are held out whole; each training task keeps a run, and as many new runs as can be are drawn."""
    tenths = []
    for want in wanted:
        tenths.append(min(want, 10 - sum(tenths)))
    shares = [*(tenth / 10 for tenth in tenths), (10 - sum(tenths)) / 10]
    names = dict(zip(("train", "validation", "test", "ood"), shares, strict=True))
    keys, splits = assigned(runs, seed, **names, new_runs=new)
    assert len(splits) == runs
    assert set(splits) <= set(SPLITS)
    of = {split: tasks_of(keys, splits, split) for split in SPLITS}
    apart = [of["train"], of["validation"], of["test"], of["ood"]]
    assert sum(map(len, apart)) == len(set(keys)) == len(set.union(*apart))
    assert of["new-runs"] <= of["train"], "new runs are of known tasks"
    known = splits.count("train") + splits.count("new-runs")
    spare = known - len(of["train"])
    assert splits.count("new-runs") == min(round(new * known), spare)
    rest = len(set(keys)) - len(of["ood"])
    if sum(shares[:3]):
        validation, test = (round(rest * share / sum(shares[:3])) for share in shares[1:3])
        assert len(of["validation"]) == validation
        assert len(of["test"]) == min(test, rest - validation)
