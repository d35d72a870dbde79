"""Angles and the generalisation gap, which zoos of rotated digits have."""

import math
import re

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnatlas import properties
from rnnatlas.cli.predict import _cell
from rnnatlas.properties.angle import Angle, Direction, UnseenDirection, aligned, between
from rnnatlas.properties.scalar import GeneralisationGap
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.tasks.tiled_mnist import TiledDigits

TASK = TiledDigits()


def snapshots(angles, gaps=None):
    tasks = [{"angle": float(angle), "weight_decay": 0.0} for angle in angles]
    gaps = gaps or [0.5 * number for number in range(len(tasks))]
    metrics = [{"performance": 0.5, "generalisation_gap": gap} for gap in gaps]
    return pa.table({"task": pa.array(tasks, TASK.struct), "metrics": metrics})


@pytest.mark.parametrize("name", ["angle", "direction", "unseen_direction", "generalisation_gap"])
def test_true_predictions_have_no_loss_and_read_as_what_they_are(name):
    table = snapshots([0.0, 45.0, 200.0, 359.0])
    prop = properties.registry[name].fit(TASK, table)
    target = prop.target(TASK, table)
    assert target.shape == (4, prop.width)
    assert set(prop.score(target, target)) == set(prop.scores)
    assert all(np.allclose(values, 0, atol=1e-3) for values in prop.score(target, target).values())
    described = prop.describe(target, 0.0)
    truth = [0, 0.5, 1, 1.5] if name == "generalisation_gap" else [0, 45, 200, 359]
    assert [own["value"] for own in described] == pytest.approx(truth, abs=0.05)
    assert all(own["low"] == own["value"] == own["high"] for own in described)
    assert type(prop)(**prop.as_dict()) == prop


def test_tasks_without_angles_or_gaps_do_not_have_them():
    table = pa.table({"task": [{"b": 1}], "metrics": [{"performance": 0.5}]})
    languages = FormalLanguages.from_settings({"tokens": 2})
    for kind in (Angle, Direction, UnseenDirection, GeneralisationGap):
        assert kind.fit(languages, table) is None
        assert kind.fit(None, table) is None
    assert properties.registry["task"].fit(TASK, snapshots([0.0])) is None


def test_errors_go_the_shorter_way_round():
    near = snapshots([359.0]), snapshots([2.0])
    for prop in (Angle(), Direction()):
        outputs, target = (prop.target(TASK, table) for table in near)
        assert prop.score(outputs, target)["degrees"][0] == pytest.approx(3, abs=1e-3)
    squared = Angle().loss(*(Angle().target(TASK, table) for table in near)).item()
    assert squared == pytest.approx((357 / 360) ** 2, rel=1e-4)
    assert Direction().loss(*(Direction().target(TASK, table) for table in near)).item() < 0.002


def test_an_angle_beyond_a_whole_turn_is_scored_as_it_reads():
    target = Angle().target(TASK, snapshots([324.0, 36.0]))
    outputs = torch.tensor([[1.25], [-0.1]])
    assert [own["value"] for own in Angle().describe(outputs, 0.0)] == [360, 0]
    assert Angle().score(outputs, target)["degrees"] == pytest.approx([36, 36], abs=1e-3)
    squared = [(1.25 - 0.9) ** 2, (-0.1 - 0.1) ** 2]
    assert Angle().score(outputs, target)["loss"] == pytest.approx(squared, abs=1e-5)


def test_directions_are_turned_and_scaled_as_fits_those_known():
    target = Direction().target(TASK, snapshots([10.0, 100.0, 200.0, 330.0]))
    radians = torch.deg2rad(torch.tensor([10.0, 100.0, 200.0, 330.0]) + 70)
    own = 0.3 * torch.stack([radians.cos(), radians.sin()], 1)
    known = torch.tensor([True, True, True, False])
    torch.testing.assert_close(aligned(own, target, known), target)
    mirrored = aligned(own * torch.tensor([1.0, -1.0]), target, known)
    assert Direction().score(mirrored, target)["degrees"].max() > 45
    off = aligned(torch.cat([own[:3], -own[3:]]), target, known)
    torch.testing.assert_close(off[3], -target[3])


def test_a_direction_is_said_below_360():
    outputs = torch.tensor([[-1e-9, 1.0], [-1e-4, 1.0], [0.0, 1.0]])
    assert [own["value"] for own in Direction().describe(outputs, 0.0)] == [0, 0, 0]


def test_direction_does_not_depend_on_how_far_from_the_centre_an_output_is():
    target = Direction().target(TASK, snapshots([10.0, 130.0, 250.0]))
    assert np.allclose(Direction().score(0.1 * target, target)["degrees"], 0, atol=1e-3)


@pytest.mark.parametrize("half_width", [0.05, 0.3, 0.69])
def test_no_point_within_the_half_width_lies_outside_a_directions_interval(half_width):
    truth = torch.arange(0.0, 360.0, 1.0)
    target = Direction().target(TASK, snapshots(truth.tolist()))
    corners = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    for corner in corners:
        outputs = target + half_width * torch.tensor(corner)
        for own, angle in zip(Direction().describe(outputs, half_width), truth.tolist(), strict=True):
            off = (own["value"] - angle + 180) % 360 - 180
            assert abs(off) <= own["high"] - own["value"] + 0.11
    assert Direction().describe(target, math.inf)[0]["high"] == 180
    assert Direction().describe(target, 0.71)[0]["low"] == -180


def test_a_gap_may_be_negative_and_is_not_cut():
    prop = GeneralisationGap()
    target = prop.target(TASK, snapshots([1.0, 2.0], gaps=[-0.25, 3.0]))
    assert prop.describe(target, 1.0) == [
        {"value": -0.25, "low": -1.25, "high": 0.75},
        {"value": 3.0, "low": 2.0, "high": 4.0},
    ]


@pytest.mark.parametrize("kind", [Angle, Direction])
def test_what_people_read_of_an_angle_stays_on_one_circle(kind):
    target = kind().target(TASK, snapshots([0.1, 5.0, 200.0, 355.0]))
    for half_width in (0.0, 0.01, 0.2, 0.6, math.inf):
        for found in kind().describe(target, half_width):
            read = between(found["low"], found["high"])
            numbers = [float(number) for number in re.findall(r"-?\d+\.\d", read)]
            assert (read == "any angle") == (found["high"] - found["low"] > 359.9)
            assert all(0 <= number <= 360 for number in numbers)
            assert ("by way of 0" in read) == (len(numbers) == 2 and numbers[0] > numbers[1])
            assert read in _cell(None, kind(), found)
    assert between(75.6, 435.6) == between(-167.0, 193.0) == "any angle"
