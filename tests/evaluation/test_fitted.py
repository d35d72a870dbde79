"""Embeddings fitted to RNNs: never to what they are judged by, and better than where they started."""

import dataclasses

import pytest
import torch
from tests.made import PROBING, SMALL, make_zoo
from torch.nn import functional

from rnnatlas.emulation.data import Snapshots
from rnnatlas.emulation.training import train
from rnnatlas.evaluation import fitted
from rnnatlas.evaluation.emulations import losses


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return make_zoo(tmp_path_factory.mktemp("zoo") / "zoo")


@pytest.fixture(scope="module")
def model(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return train(zoo, "interactive", out, encoder_settings=PROBING, settings=SMALL, progress=False)


@pytest.fixture
def data(zoo):
    return Snapshots.of(zoo, zoo.snapshots(split="validation"))


def test_judged_rollouts_are_not_fitted_to(zoo, model, monkeypatch):
    rows = zoo.snapshots(split="validation")
    stored = Snapshots.of(zoo, rows).stored.shape[1]
    given = []
    monkeypatch.setattr(fitted, "fit", lambda run, data, z, rollouts: given.append(rollouts.tolist()) or z)
    table = losses(model, zoo, rows, fit=True)
    assert table["fitted"].equals(table["conditioned"])
    assert table["conditioned"].equals(losses(model, zoo, rows, stored // 2)["conditioned"])
    losses(model, zoo, rows, rollouts=1, fit=True)
    assert given == [list(range(stored // 2, stored)), list(range(1, stored))]


def test_an_embedding_depends_on_its_own_rollouts_that_were_given_alone(model, data):
    z, chosen = model.embed(data.population), torch.tensor([3, 4, 5])
    found = fitted.fit(model, data, z, chosen)
    assert torch.equal(found, fitted.fit(model, data, z, chosen))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(z)))
    noise = torch.randn_like(data.targets).log_softmax(-1)
    other = data.targets.clone()
    other[:, :3] = noise[:, :3]
    other[1:] = noise[1:]
    again = fitted.fit(model, dataclasses.replace(data, targets=other), z, chosen)
    torch.testing.assert_close(again[0], found[0], atol=1e-4, rtol=0)
    assert not torch.allclose(again[1], found[1], atol=1e-2)


def test_finds_an_embedding_that_emulates_as_well_as_the_one_that_made_the_targets(model, data):
    true = functional.normalize(torch.randn(len(data), 16, generator=torch.Generator().manual_seed(0)))
    model.emulator.embedding.weight.mul_(4)  # for it to depend on z, though it has hardly been trained
    try:
        outputs = model.emulation(true).run(data.task.encode_inputs(data.stored))[0]
        made = dataclasses.replace(data, targets=outputs)
        start = model.embed(data.population)
        z = fitted.fit(model, made, start, torch.arange(3))
        far, near = (
            (model.emulation(own).run(data.task.encode_inputs(data.stored))[0].exp() - outputs.exp()).abs()[
                :, 3:
            ]
            for own in (start, z)
        )
        assert near.mean() < 0.4 * far.mean()
    finally:
        model.emulator.embedding.weight.div_(4)


def test_how_many_are_fitted_together_does_not_matter(model, data, monkeypatch):
    z, chosen = model.embed(data.population), torch.arange(2)
    whole = fitted.fit(model, data, z, chosen)
    monkeypatch.setattr(fitted, "TOGETHER", 3)
    torch.testing.assert_close(fitted.fit(model, data, z, chosen), whole, atol=1e-4, rtol=0)
