"""Readouts other than MLPs: they are what they claim to be, and come back from disk as arrays alone."""

import json

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import r2_score

from rnnatlas.errors import RunFormatError
from rnnatlas.properties import readouts
from rnnatlas.properties.predictors import PredictorSettings, Roles, fit, load, save
from rnnatlas.properties.scalar import GeneralisationGap
from rnnatlas.properties.step import TrainingStep


def data(count=160, seed=0, width=5):
    """Features, and a number that is linear in the first and bent in the second."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator)
    y = x[:, :1] + 0.8 * (2 * x[:, 1:2]).sin() + 0.05 * torch.randn(count, 1, generator=generator)
    return x, y


def halves(count=160):
    """Half of the RNNs to learn from, the others for all else."""
    train = np.arange(count) % 2 == 0
    return Roles(start=train, train=train, stopping=~train, calibration=~train, held_out=~train)


def test_ridge_is_the_exact_minimum_at_the_penalty_that_others_chose():
    x, y = data()
    parts = x[:80].double(), y[:80].double(), x[80:].double(), y[80:].double()
    found = readouts.Ridge.fit(*parts)
    tried = [SklearnRidge(alpha=80 * penalty).fit(x[:80], y[:80]) for penalty in readouts.PENALTIES]
    best = min(tried, key=lambda one: np.square(one.predict(x[80:]).ravel() - y[80:, 0].numpy()).mean())
    np.testing.assert_allclose(found.weight.flatten(), best.coef_.ravel(), atol=1e-5)
    np.testing.assert_allclose(found(x)[:, 0], best.predict(x).ravel(), atol=1e-5)


def test_boosting_gives_what_scikit_learn_gives():
    x, y = data(300)
    both = torch.cat([y, -2 * y], 1)
    found = readouts.Boosting.fit(x.double(), both.double(), x[:50].double(), both[:50].double())
    trees = len(found.feature) // 2
    for column in range(2):
        same = HistGradientBoostingRegressor(max_iter=trees, **readouts.BOOSTED)
        same.fit(x.double().numpy(), both[:, column].double().numpy())
        np.testing.assert_allclose(found(x)[:, column], same.predict(x.double().numpy()), atol=1e-4)


def test_a_gaussian_process_follows_what_a_line_cannot():
    x, y = data(200)
    parts = x[:100].double(), y[:100].double(), x[100:150].double(), y[100:150].double()
    line, curve = (kind.fit(*parts) for kind in (readouts.Ridge, readouts.GaussianProcess))
    r2 = [r2_score(y[150:].numpy(), one(x[150:]).numpy()) for one in (line, curve)]
    assert r2[1] > max(0.9, r2[0] + 0.05)
    far = curve(torch.full((1, 5), 1e4))  # far from all that is known: the mean of those
    assert torch.allclose(far[0], y[:100].mean(0), atol=1e-4)


@pytest.mark.parametrize("kind", readouts.KINDS)
def test_every_readout_predicts_classes_and_numbers_and_comes_back_from_disk(kind, tmp_path):
    x, y = data()
    settings = PredictorSettings(kind=kind)
    step, gap = TrainingStep([0, 10, 20]), GeneralisationGap()
    classes = torch.nn.functional.one_hot((y[:, 0] > -0.5).long() + (y[:, 0] > 0.5), 3).float()
    fitted = {
        "step": (step, fit(step, x, classes, halves(), 0, settings)),
        "generalisation_gap": (gap, fit(gap, x, y, halves(), 0, settings)),
    }
    save(tmp_path / "predictors.safetensors", fitted)
    again = load(tmp_path / "predictors.safetensors")
    for name, (_, predictor) in fitted.items():
        assert torch.allclose(again[name][1](x), predictor(x), atol=1e-6)
        assert again[name][1].calibration == predictor.calibration
    outputs = fitted["step"][1](x)[1::2]
    assert (outputs.argmax(1) == classes[1::2].argmax(1)).float().mean() > 0.7
    assert step.loss(outputs, classes[1::2]).mean() < 0.8  # of logits; a uniform guess has 1.1


def test_files_of_mlps_without_kinds_are_read_and_unfit_arrays_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    x, y = data(40)
    path, gap = tmp_path / "predictors.safetensors", GeneralisationGap()
    predictor = fit(gap, x, y, halves(40), 0, PredictorSettings(steps=2))
    save(path, {"generalisation_gap": (gap, predictor)})
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del metadata["kinds"], metadata["sha256"]  # as older versions wrote it
    save_file(tensors, path, metadata=metadata)
    assert torch.equal(load(path)["generalisation_gap"][1](x), predictor(x))
    for kind in ("ridge", "no such kind"):
        save_file(tensors, path, metadata={**metadata, "kinds": json.dumps({"generalisation_gap": kind})})
        with pytest.raises(RunFormatError, match="is damaged"):
            load(path)
