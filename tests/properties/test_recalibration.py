"""A few labelled RNNs mend predictions that are shifted and stretched, and do no harm elsewhere."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import r2_score

from rnnatlas.errors import DataError
from rnnatlas.properties.labels import LabelClass, LabelNumber
from rnnatlas.properties.predictors import Predictor, PredictorSettings
from rnnatlas.properties.recalibration import known, recalibrate
from rnnatlas.properties.scalar import GeneralisationGap, Performance
from rnnatlas.properties.step import TrainingStep
from rnnatlas.properties.task import TaskProperty


def identity(width=1):
    """A predictor that gives out its features."""
    return Predictor(width, width, PredictorSettings(), torch.nn.Identity()).eval()


def shifted(count, seed, slope=0.5, offset=2.0, noise=0.05):
    """What is true, and what is predicted of it."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(count, 1, generator=generator)
    return truth, slope * truth + offset + noise * torch.randn(count, 1, generator=generator)


def test_ten_rnns_undo_a_shift_and_a_stretch():
    prop = GeneralisationGap()
    few, of_few = shifted(10, 0)
    many, of_many = shifted(500, 1)
    found = recalibrate(prop, identity(), of_few, few)
    assert r2_score(many, of_many) < 0
    assert r2_score(many, found.predictor(of_many)) > 0.95
    assert found.after < 0.05 * found.before
    inside = (found.predictor(of_many) - many).abs() <= found.predictor.half_width
    assert inside.float().mean() > 0.8
    assert recalibrate(prop, identity(), of_few[:8], few[:8]).predictor.half_width == math.inf


def test_where_nothing_is_to_be_mended_the_predictor_stays():
    few, of_few = shifted(10, 3, slope=1.0, offset=0.0, noise=0.3)
    many, of_many = shifted(500, 4, slope=1.0, offset=0.0, noise=0.3)
    found = recalibrate(GeneralisationGap(), identity(), of_few, few)
    assert found.after <= found.before
    assert r2_score(many, found.predictor(of_many)) > r2_score(many, of_many) - 0.03
    alike = recalibrate(GeneralisationGap(), identity(), torch.ones(5, 1), few[:5])  # no slope is known
    assert torch.isfinite(alike.predictor(of_many)).all()


def test_intervals_of_ten_hold_nine_times_in_ten():
    held = []
    for seed in range(150):
        truth, predicted = shifted(60, seed)
        found = recalibrate(GeneralisationGap(), identity(), predicted[:10], truth[:10]).predictor
        held.append(((found(predicted[10:]) - truth[10:]).abs() <= found.half_width).float().mean().item())
    assert 0.86 <= np.mean(held) <= 0.95


@pytest.mark.parametrize(
    "prop",
    [TrainingStep([0, 10, 20]), TaskProperty({"b": [0, 1, 2], "c": [3, 4, 5]})],
    ids=lambda prop: prop.name,
)
def test_biases_of_classes_are_mended(prop):
    generator = torch.Generator().manual_seed(0)
    parts = len(prop.parts)
    truth = torch.randint(3, (420, parts), generator=generator)
    target = torch.nn.functional.one_hot(truth, 3).flatten(1).float()
    bias = torch.tensor([6.0, 0, 0]).repeat(parts)
    outputs = 6 * target + bias + 2 * torch.randn(target.shape, generator=generator)
    found = recalibrate(prop, identity(prop.width), outputs[:20], target[:20])
    before, after = (
        prop.score(made, target[20:])["accuracy"].mean()
        for made in (outputs[20:], found.predictor(outputs[20:]))
    )
    assert after > before + 0.03
    assert found.after < found.before
    assert 0 < found.predictor.half_width.item() < 1


def told(*given) -> Any:
    """What a table says of a property, which has a column there."""
    return known(*given)


def test_tables_say_properties_by_name_or_in_full():
    table = pa.table(
        {
            "performance": [0.5, None, 1.0],
            "step": [10.0, 20.0, 7.0],
            "task.b": [1, 0, None],
            "c": [5, 4, 3],
            "lesion": ["left", "none", "right"],
            "labels.age": [3, 1, 2],
            "word": ["a", "b", "c"],
        }
    )
    there, values = told(Performance(), table, "known.csv")
    assert (there.tolist(), values[there].flatten().tolist()) == ([True, False, True], [0.5, 1.0])
    there, values = told(TrainingStep([10, 20]), table, "known.csv")
    assert (there.tolist(), values[there].argmax(1).tolist()) == ([True, True, False], [0, 1])
    there, values = told(TaskProperty({"b": [0, 1], "c": [4, 5]}), table, "known.csv")
    assert (there.tolist(), values[there].tolist()) == ([True, True, False], [[0, 1, 0, 1], [1, 0, 1, 0]])
    there, values = told(LabelClass("lesion", ["left", "right"]), table, "known.csv")
    assert there.tolist() == [True, False, True]
    there, values = told(LabelNumber("age", 2.0, 0.5), table, "known.csv")
    assert values.flatten().tolist() == [2, -2, 0]
    assert known(GeneralisationGap(), table, "known.csv") is None
    with pytest.raises(DataError, match=r"'word' of known\.csv should hold numbers, found 'a'"):
        known(LabelNumber("word", 0.0, 1.0), table, "known.csv")
