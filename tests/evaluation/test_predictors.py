"""Predictors learn what there is to learn, stop on RNNs set aside, and come back from disk as they were."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnatlas import properties
from rnnatlas.errors import RunFormatError, SettingsError
from rnnatlas.evaluation.roles import Roles
from rnnatlas.properties.calibration import Calibration, calibrate, calibration_gaps, statements
from rnnatlas.properties.predictors import Predictor, PredictorSettings, fit, load, save
from rnnatlas.properties.scalar import GeneralisationGap, Performance
from rnnatlas.properties.step import TrainingStep
from rnnatlas.properties.task import TaskProperty
from rnnatlas.tasks.formal_languages import FormalLanguages

TASK = FormalLanguages.from_settings({"tokens": 3})
STEPS = (0, 100, 200)


def known(kind, table: pa.Table) -> Any:
    """The property as these snapshots have it."""
    prop = kind.fit(TASK, table)
    assert prop is not None
    return prop


def snapshots(runs: int = 40, seed: int = 0) -> pa.Table:
    """A table with the columns that properties read."""
    random = np.random.default_rng(seed)
    shifts = random.integers(-3, 3, (runs, 2)).repeat(len(STEPS), axis=0)
    return pa.table(
        {
            "run": np.arange(runs).repeat(len(STEPS)),
            "step": np.tile(STEPS, runs),
            "task": pa.array([{"b": int(b), "c": int(c)} for b, c in shifts], TASK.struct),
            "metrics": [
                {"performance": float(p), "generalisation_gap": 1 - 3 * float(p)}
                for p in random.uniform(0, 1, runs * len(STEPS))
            ],
        }
    )


def roles(
    train: np.ndarray,
    stopping: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
) -> Roles:
    """All that is not trained on stops, says how sure one may be and is held out, unless said otherwise."""
    rest = ~train if stopping is None else stopping
    return Roles(
        start=train,
        train=train,
        stopping=rest,
        calibration=rest if calibration is None else calibration,
        held_out=~train if held_out is None else held_out,
    )


def split(table: pa.Table) -> Roles:
    """Three quarters of the runs to learn from, the rest to stop on."""
    return roles(table["run"].to_numpy() % 4 != 0)


OF_LANGUAGES = [name for name, kind in properties.registry.items() if kind.fit(TASK, snapshots()) is not None]
"""Those of other tasks have tests of their own."""


@pytest.mark.parametrize("name", OF_LANGUAGES)
def test_each_property_is_learned_from_features_that_hold_it(name):
    table = snapshots()
    prop = known(properties.registry[name], table)
    target = prop.target(TASK, table)
    assert target.shape == (table.num_rows, prop.width)
    serving = split(table)
    features = torch.cat(
        [target * 3, torch.randn(len(target), 4, generator=torch.Generator().manual_seed(1))], 1
    )
    brief = PredictorSettings(steps=200)
    predictor = fit(prop, features, target, serving, 0, brief)
    blind = fit(prop, torch.ones(len(target), 1), target, serving, 0, brief)
    held_out = torch.from_numpy(serving.stopping)
    seeing, guessing = (
        prop.score(one(x[held_out]), target[held_out])
        for one, x in ((predictor, features), (blind, torch.ones(len(target), 1)))
    )
    assert set(seeing) == set(prop.scores)
    assert all(values.shape == (serving.stopping.sum(),) for values in seeing.values())
    assert seeing["loss"].mean() < 0.5 * guessing["loss"].mean()
    if "accuracy" in seeing:
        assert seeing["accuracy"].mean() > 0.9
        assert guessing["accuracy"].mean() < 0.6


@pytest.mark.parametrize("name", ["task", "performance"])
def test_rnns_kept_for_it_calibrate_a_predictor(name):
    table = snapshots()
    prop = known(properties.registry[name], table)
    target = prop.target(TASK, table)
    run = table["run"].to_numpy()
    serving = roles(run % 4 > 1, stopping=run % 4 == 0, calibration=run % 4 == 1)
    noisy = target + torch.randn(target.shape, generator=torch.Generator().manual_seed(2))
    predictor = fit(prop, noisy, target, serving, seed=0, settings=PredictorSettings(steps=40))
    kept, stopping = (torch.from_numpy(mask) for mask in (serving.calibration, serving.stopping))
    found, other = (calibrate(prop, predictor(noisy[chosen]), target[chosen]) for chosen in (kept, stopping))
    assert dataclasses.astuple(predictor.calibration) == pytest.approx(dataclasses.astuple(found), rel=1e-6)
    assert dataclasses.astuple(predictor.calibration) != pytest.approx(dataclasses.astuple(other), rel=1e-2)


@pytest.mark.parametrize("name", OF_LANGUAGES)
def test_saved_predictors_say_the_same(name, tmp_path):
    table = snapshots(20)
    prop = known(properties.registry[name], table)
    target = prop.target(TASK, table)
    serving = split(table)
    predictor = fit(prop, target, target, serving, seed=0, settings=PredictorSettings(steps=20))
    save(tmp_path / "predictors.safetensors", {name: (prop, predictor)})
    again, same = load(tmp_path / "predictors.safetensors")[name]
    assert torch.equal(same(target), predictor(target))
    assert again.describe(same(target), same.half_width.item()) == prop.describe(
        predictor(target), predictor.half_width.item()
    )


def test_task_values_follow_the_one_hot_order():
    prop = known(TaskProperty, snapshots())
    assert prop.values == {"b": [-3, -2, -1, 0, 1, 2], "c": [-3, -2, -1, 0, 1, 2]}
    described = prop.describe(10 * TASK.target([{"b": -1, "c": 2}]) - 5, math.inf)[0]
    assert described["value"] == {"b": -1, "c": 2}
    assert sum(described["probabilities"]["b"].values()) == pytest.approx(1, abs=1e-3)
    assert described["probabilities"]["b"]["-1"] > 0.9


def test_uniform_guess_has_the_known_loss():
    """Method 6: a uniform guess gives a binary cross-entropy of .451 on six values."""
    prop = known(TaskProperty, snapshots())
    target = prop.target(TASK, snapshots())
    guess = torch.full_like(target, math.log(1 / 5))
    assert prop.score(guess, target)["loss"].mean() == pytest.approx(0.451, abs=0.001)


def test_absent_properties_are_none():
    imported = pa.table({"step": [-1, -1], "task": pa.nulls(2), "metrics": pa.nulls(2)})
    assert TaskProperty.fit(None, imported) is None
    assert Performance.fit(None, imported) is None
    assert TrainingStep.fit(None, imported) is None


def test_conformal_interval_covers_about_nine_in_ten():
    random = np.random.default_rng(0)
    n = 1200
    table = pa.table(
        {"run": np.arange(n), "metrics": [{"performance": float(p)} for p in random.uniform(0, 1, n)]}
    )
    prop = known(Performance, table)
    target = prop.target(None, table)
    features = target + 0.1 * torch.randn(n, 1, generator=torch.Generator().manual_seed(0))
    third = np.arange(n) % 3
    predictor = fit(prop, features, target, roles(third == 0, third == 1), seed=0)
    test = torch.from_numpy(third == 2)
    inside = ((predictor(features[test]) - target[test]).abs() <= predictor.half_width).float().mean().item()
    assert 0.85 <= inside <= 0.95
    described = prop.describe(torch.tensor([[0.98]]), 0.1)[0]
    assert described == {"value": 0.98, "low": 0.88, "high": 1.0}
    (unbounded,) = GeneralisationGap().describe(torch.tensor([[0.5]]), math.inf)
    assert unbounded == {"value": 0.5, "low": None, "high": None}


def test_same_seed_same_predictor_and_global_stream_untouched():
    table = snapshots(12)
    prop = known(Performance, table)
    target = prop.target(None, table)
    serving = split(table)
    state = torch.random.get_rng_state()
    first, second, other = (
        fit(prop, target, target, serving, seed, PredictorSettings(steps=45)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first(target), second(target))
    assert not torch.equal(first(target), other(target))


def test_what_the_last_steps_learned_counts():
    table = snapshots(12)
    prop = known(Performance, table)
    target = prop.target(None, table)
    once, longer = (
        fit(prop, target, target, split(table), 0, PredictorSettings(steps=steps)) for steps in (1, 9)
    )
    assert not torch.equal(once(target), longer(target))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every": 0}, "every should be 1 or more, found 0"),
        ({"batch": 0}, "batch should be 1 or more"),
        ({"dropout": 1.0}, r"^dropout should be from 0 to below 1, found 1\.0"),
        ({"learning_rate": 0.0}, "learning_rate should be finite and above 0"),
    ],
)
def test_settings_that_train_nothing_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        PredictorSettings(**values)


def test_training_stops_where_the_stopping_rnns_did_best():
    """Labels of the stopping RNNs are noise, so nothing learned helps: the start or nearly so is kept."""
    random = torch.Generator().manual_seed(0)
    prop = TrainingStep([0, 1])
    target = torch.nn.functional.one_hot(torch.randint(2, (80,), generator=random), 2).float()
    features = torch.randn(80, 10, generator=random)
    train = np.arange(80) < 40
    predictor = fit(prop, features, target, roles(train), seed=0)
    held_out = prop.loss(predictor(features[40:]), target[40:]).mean().item()
    assert held_out < math.log(2) + 0.05


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "predictors.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(RunFormatError, match="is damaged"):
        load(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path, metadata={"format": "9"})
    with pytest.raises(RunFormatError, match="format version 2, found 9; evaluate the run again"):
        load(path)
    for text in ("{", '{"step": {}}', '{"step": {"steps": [0, 1]}}'):
        save_file({"a": torch.zeros(1)}, path, metadata={"format": "2", "properties": text})
        with pytest.raises(RunFormatError, match=r"is damaged \(.*evaluate the run again"):
            load(path)


def test_properties_that_no_part_is_called_are_left_out_and_named(tmp_path, caplog):
    table = snapshots(12)
    prop = known(Performance, table)
    target = prop.target(None, table)
    predictor = fit(prop, target, target, split(table), 0, PredictorSettings(steps=1))
    save(tmp_path / "both", {"tsak": (prop, copy.deepcopy(predictor)), "performance": (prop, predictor)})
    assert [*load(tmp_path / "both")] == ["performance"]
    assert "no property is called 'tsak'; did you mean 'task'?; name the module" in caplog.text
    assert "with --plugin" in caplog.text


def test_features_that_do_not_vary_stay_harmless():
    predictor = Predictor(2, 1, PredictorSettings())
    assert torch.isfinite(predictor(torch.tensor([[0.0, 1e6]]))).all()


@pytest.mark.parametrize("name", ["task", "step"])
def test_temperature_never_changes_what_is_predicted_and_mends_boldness(name):
    table = snapshots()
    prop = known(properties.registry[name], table)
    target = prop.target(TASK, table)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    outputs = 40 * (target + noise)
    calibration = calibrate(prop, outputs, target)
    assert calibration.temperature > 1
    bold, mended = (statements(prop, outputs, target, one) for one in (Calibration(), calibration))
    assert np.array_equal(bold["right"], mended["right"])
    before, after = (
        np.abs(calibration_gaps(one["confidence"], one["right"]).mean(axis=1)).sum() for one in (bold, mended)
    )
    assert after < before
    assert mended["calibrated_loss"].mean() < bold["calibrated_loss"].mean()
    probabilities = prop.probabilities(outputs)
    again = prop.probabilities(prop.logits(probabilities.flatten(1).clamp(1e-6, 1 - 1e-6)))
    assert torch.allclose(again, probabilities, atol=1e-4)


def test_calibration_error_is_zero_where_confidence_is_the_share_right():
    confidence = np.full((1000, 1), 0.75)
    right = (np.arange(1000) % 4 != 0)[:, None]
    assert np.abs(calibration_gaps(confidence, right).mean(axis=1)).sum() == pytest.approx(0)
    assert np.abs(calibration_gaps(confidence, ~right).mean(axis=1)).sum() == pytest.approx(0.5)


def test_values_that_no_snapshot_has_are_not_predicted():
    prop = TaskProperty({"b": [-1, None, None, 2], "c": [None, 0, 1, 2]})
    outputs = torch.tensor([[0.0, 5.0, 3.0, 1.0, 9.0, 0.0, 2.0, 1.0]])
    (found,) = prop.describe(outputs, math.inf)
    assert found["value"] == {"b": 2, "c": 1}
    assert [list(own) for own in found["probabilities"].values()] == [["-1", "2"], ["0", "1", "2"]]
    assert all(sum(own.values()) == pytest.approx(1, abs=1e-3) for own in found["probabilities"].values())
