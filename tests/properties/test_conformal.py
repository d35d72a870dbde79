"""Conformal intervals and sets hold as often as they should, for RNNs of new tasks, too."""

import math

import numpy as np
import pytest
import torch

from rnnatlas.properties.calibration import Calibration, calibrate, half_width, nonconformity, statements
from rnnatlas.properties.scalar import Performance
from rnnatlas.properties.step import TrainingStep
from rnnatlas.properties.task import TaskProperty


def grouped(random, groups, size=6):
    """Errors of RNNs, most of which those of one task share."""
    task = np.arange(groups).repeat(size)
    errors = random.normal(size=groups)[task] + 0.3 * random.normal(size=len(task))
    return torch.from_numpy(errors)[:, None], task


def test_each_rnn_by_itself_is_split_conformal_and_several_weigh_as_one():
    random = np.random.default_rng(0)
    errors = torch.from_numpy(random.normal(size=(40, 1)))
    assert half_width(errors, groups=np.arange(40)) == half_width(errors)
    assert half_width(errors.repeat_interleave(3, 0), groups=np.arange(40).repeat(3)) == half_width(errors)
    assert half_width(errors, groups=np.arange(40) % 8) == math.inf, "eight tasks cannot promise nine in ten"


def test_intervals_hold_for_rnns_of_new_tasks():
    """Over many draws of twenty tasks; taken for independent, RNNs would promise too much."""
    random = np.random.default_rng(0)
    by_task, alone = [], []
    for _ in range(400):
        errors, task = grouped(random, 20)
        new, _ = grouped(random, 20, size=1)
        by_task.append((new.abs() <= half_width(errors, groups=task)).double().mean().item())
        alone.append((new.abs() <= half_width(errors)).double().mean().item())
    assert 0.9 <= np.mean(by_task) <= 0.95
    assert np.mean(alone) < np.mean(by_task) - 0.02


def test_the_largest_groups_of_which_there_are_enough_count():
    random = np.random.default_rng(1)
    errors, task = grouped(random, 12)
    run, few = np.arange(len(task)) // 2, np.arange(len(task)) % 3
    prop, nothing = Performance(), torch.zeros(len(task), 1)
    found = calibrate(prop, errors.float(), nothing, [task, run]).half_width
    assert found == pytest.approx(half_width(errors.float(), groups=task))
    found = calibrate(prop, errors.float(), nothing, [few, run]).half_width
    assert found == pytest.approx(half_width(errors.float(), groups=run))
    found = calibrate(prop, errors.float(), nothing, [few]).half_width
    assert found == pytest.approx(half_width(errors.float()))
    assert calibrate(prop, errors[:5].float(), nothing[:5], [task[:5], run[:5]]).half_width == math.inf


@pytest.mark.parametrize(
    "prop",
    [TrainingStep([0, 1, 2, 3]), TaskProperty({"b": [0, 1, 2], "c": [3, 4, 5]})],
    ids=lambda prop: prop.name,
)
def test_sets_hold_the_right_values_nine_times_in_ten(prop):
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(prop.width // len(prop.parts), (3000, len(prop.parts)), generator=generator)
    target = torch.nn.functional.one_hot(truth, prop.width // len(prop.parts)).flatten(1).float()
    outputs = 2 * target + torch.randn(target.shape, generator=generator)
    found = calibrate(prop, outputs[:1000], target[:1000])
    assert 0 < found.half_width < 1
    held = statements(prop, outputs[1000:], target[1000:], found)["covered"].mean()
    assert 0.87 <= held <= 0.93
    described = prop.describe(outputs[1000:] / found.temperature, found.half_width)
    for own, right in zip(described[:50], truth[1000:1050].tolist(), strict=True):
        sets = own["set"] if isinstance(own["set"], dict) else {"step": own["set"]}
        best = own["value"] if isinstance(own["value"], dict) else {"step": own["value"]}
        assert all(best[part] in chosen for part, chosen in sets.items())
        assert all(len(chosen) == len(set(chosen)) for chosen in sets.values())
        assert len(right) == len(sets)
    unknown = prop.describe(outputs[:1], math.inf)[0]["set"]
    assert unknown is None or set(unknown.values()) == {None}
    assert nonconformity(prop, 100 * target - 50, target).abs().max() < 1e-3
    assert statements(prop, outputs, target, Calibration())["covered"].all()
