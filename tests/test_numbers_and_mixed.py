"""A zoo of several architectures whose outputs are numbers, through all rooms."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import rnnatlas as ra
from rnnatlas.atlas.columns import colour_columns
from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.errors import RNNSpecMismatch, SettingsError
from rnnatlas.evaluation.emulations import emulated_performance, losses
from rnnatlas.report.diagnostics import input_differences
from rnnatlas.rnn import Mixed, run
from rnnatlas.tasks.integrator import CUE, Integrator, IntegratorSettings
from rnnatlas.zoo.build import build
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.train import Range, ZooSettings
from rnnatlas.zoo.verify import verify

TASK = Integrator(IntegratorSettings(time=20, response=5, earliest=5, trials=20))
SETTINGS = ZooSettings(
    runs=40,
    cell=("lstm", "gru", "elman-tanh"),
    hidden=Range(low=4, high=5),
    layers=1,
    batch=8,
    learning_rate=((0, 0.02),),
    snapshots=(0, 30),
    rollouts=4,
    runs_per_shard=3,
    split=SplitSettings(train=0.5, validation=0.2, ood=0.3, new_runs=0.3),
)
EMULATION = EmulationSettings(
    steps=12, rnns=8, validate_every=6, validation_rollouts=2, emulator=EmulatorSettings(width=8, layers=1)
)
PROBING = {"sequences": 2, "steps": 4, "width": 8, "hidden": 8, "layers": 1}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return build(TASK, SETTINGS, tmp_path_factory.mktemp("mixed") / "zoo", seed=3, workers=1)


@pytest.fixture(scope="module")
def model(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("mixed-run") / "run"
    options = {"encoder_settings": PROBING, "settings": EMULATION, "progress": False}
    model = ra.train(zoo, "interactive", out, **options)
    model.evaluate(settings=None)
    return model


def test_every_run_has_an_architecture_of_those_asked_for(zoo):
    cells = {spec.cell for spec in zoo.specs}
    assert cells == {"lstm", "gru", "elman-tanh"}
    assert {spec.hidden for spec in zoo.specs} == {4, 5}
    assert sorted(set(zoo.table["run"].to_pylist())) == list(range(40))
    drawn = {run: SETTINGS.spec(TASK, run, 3).slug for run in range(40)}
    rows = zip(zoo.table["run"].to_pylist(), zoo.table["spec"].to_pylist(), strict=True)
    assert all(drawn[run] == slug for run, slug in rows)


def test_the_zoo_does_not_depend_on_what_runs_beside_an_rnn(zoo, tmp_path):
    alone = build(TASK, dataclasses.replace(SETTINGS, runs=3), tmp_path / "zoo", seed=3, workers=1)
    for row in range(len(alone)):
        run_, step = alone.table["run"][row].as_py(), alone.table["step"][row].as_py()
        other = zoo.snapshots(where=f"run = {run_} AND step = {step}")
        difference = alone.population([row]).flatten() - zoo.population(other).flatten()
        assert difference.abs().max() < 1e-4


def test_the_zoo_is_what_it_says(zoo):
    found = verify(zoo, sample=None)
    assert found.agree == found.checked == 80
    rollouts = zoo.rollouts(zoo.snapshots())
    assert rollouts.inputs.dtype == rollouts.outputs.dtype == np.float32
    mask = TASK.mask(torch.from_numpy(rollouts.inputs))
    assert (mask.sum(-1) == 5).all()
    assert (mask[..., :5] == 0).all(), "no prefix"
    assert mask[..., -1].max() == 1


def test_a_resumed_build_of_several_architectures_is_the_same(zoo, tmp_path):
    again = build(TASK, SETTINGS, tmp_path / "zoo", seed=3, workers=1)
    lost = sorted((tmp_path / "zoo" / "data").rglob("*.parquet"))[::2]
    for shard in lost:
        shard.unlink()
    again = build(TASK, SETTINGS, tmp_path / "zoo", seed=3, workers=2, resume=True)
    assert again.table.equals(zoo.table)
    pairs = zip(again.groups(again.snapshots()), zoo.groups(zoo.snapshots()), strict=True)
    assert all(torch.equal(ours.flatten(), theirs.flatten()) for (_, ours), (_, theirs) in pairs)


def test_targets_are_the_leaky_integral():
    instance = {"memory": 9, "gain": -2}
    trials = TASK._trials([instance], [np.random.default_rng(0)], 3)
    x, decay = trials.inputs[0, 1, :, 0].double().numpy(), np.exp(-1 / 9)
    y, expected = 0.0, []
    for value in x:
        y = decay * y + np.sqrt(1 - decay**2) * value
        expected.append(-2 * y)
    np.testing.assert_allclose(trials.targets[0, 1, :, 0], expected, atol=1e-5)
    assert torch.equal(trials.mask, trials.inputs[..., CUE])


def test_losses_are_errors_over_the_zoos_variance(zoo, model):
    rows = zoo.snapshots(split="validation")
    table = losses(model, zoo, rows)
    assert table["divergence"].unique().to_pylist() == ["mse", "l1"]
    kept = zoo.rollouts(rows)
    outputs = torch.from_numpy(kept.outputs)
    inputs = TASK.encode_inputs(torch.from_numpy(kept.inputs))
    emulated, _ = run(model.emulation(model.embed(zoo.population(rows))), inputs)
    errors = ((outputs - emulated) / model.emulator.sd).square().mean(-1)
    mask = TASK.mask(torch.from_numpy(kept.inputs))
    expected = (errors * mask).sum((1, 2)) / mask.sum((1, 2))
    names = zip(table["conditioned"].to_pylist(), table["divergence"].to_pylist(), strict=True)
    chosen = [value for value, name in names if name == "mse"]
    np.testing.assert_allclose(chosen, expected, rtol=1e-4)


def test_emulations_are_judged_as_their_originals(zoo, model):
    rows = zoo.snapshots(split="ood")
    table = emulated_performance(model, zoo, rows, trials=10)
    assert table["original"].to_pylist() == [each["performance"] for each in rows["metrics"].to_pylist()]
    for name in ("emulated", "zero"):
        assert ((table[name].to_numpy() >= 0) & (table[name].to_numpy() <= 1)).all()


def test_an_evaluated_model_predicts_for_all_architectures(zoo, model):
    rnns = zoo.population(zoo.snapshots(split="new-runs"))
    assert isinstance(rnns, Mixed)
    predictions = model.predict(rnns)
    assert len(predictions) == len(rnns)
    assert set(predictions[0]) == {"task", "performance", "step", "ood_score", "in_distribution"}
    assert set(predictions[0]["task"]["value"]) == {"memory", "gain"}


def test_baselines_know_the_architecture(model):
    records = json.loads((model.path / "metrics.json").read_text())
    assert "architecture" in {record["of"] for record in records}


def test_losses_say_that_they_are_of_the_response_period(model):
    records = json.loads((model.path / "metrics.json").read_text())
    losses = [record for record in records if "loss" in record["name"]]
    emulated = [record["definition"] for record in losses if "emulat" in record["definition"]]
    assert "mean mse over the response period of" in records[0]["definition"]
    assert all("over the response period, of" in definition for definition in emulated)
    assert emulated


def test_probing_inputs_are_unbounded_and_learned_from_the_zoos(zoo, model):
    probing = model.encoder.probe(zoo.population(zoo.snapshots(split="train")))
    assert probing.inputs.abs().max() > 0
    differences = input_differences(probing, TASK.interface.input)
    assert ((differences >= 0) & (differences <= 1)).all()


def test_the_atlas_finds_and_draws_all_of_them(zoo, model, tmp_path):
    gru = (torch.nn.GRU(2, 7), torch.nn.Linear(7, 1))
    box = ra.BlackBox(lambda x, h: (x[:, :1] + h, h), lambda batch: torch.zeros(batch, 1), TASK.interface)
    atlas = ra.embed(model, [zoo, ra.Population.from_modules([gru]), box], layout="pca")
    assert len(atlas) == len(zoo) + 2
    near = atlas.search("rnn-00000", k=4, where="spec LIKE 'lstm%'")
    assert near.num_rows == 4
    assert set(atlas.to_pandas()["spec"].dropna()) == {spec.slug for spec in zoo.specs} | {"gru-2-7x1-1"}
    atlas.map(tmp_path / "map.html", color="architecture")
    [drawn] = [column for column in colour_columns(atlas.table) if column["key"] == "spec"]
    assert "GRU 2→7→1" in drawn["categories"]
    assert (tmp_path / "map.html").is_file()


def test_a_mechanistic_encoder_takes_one_architecture_and_names_the_others(zoo, tmp_path, caplog):
    options = {"encoder_settings": {"width": 8}, "settings": EMULATION, "progress": False}
    model = ra.train(zoo, "statistics", tmp_path / "run", **options)
    [spec] = model.specs
    trained_on = {str(other) for other in zoo.population(zoo.snapshots(split="train")).specs}
    [said] = [message for message in caplog.messages if "the split train:" in message]
    assert all(f" of {other}" in said for other in trained_on - {str(spec)})
    assert said.endswith(f"takes {spec} alone")
    atlas = ra.embed(model, zoo, layout="pca")
    assert set(atlas.table["spec"].to_pylist()) == {spec.slug}
    assert len(atlas.card["left_out"]) == len(zoo.specs) - 1
    with pytest.raises(RNNSpecMismatch, match="reads weights"):
        model.embed(ra.BlackBox(lambda x, h: (x[:, :1], h), None, TASK.interface))


def test_divergences_of_tokens_are_refused(zoo, tmp_path):
    with pytest.raises(SettingsError, match="numbers should be one of mse, l1, cosine, found 'kl'"):
        ra.train(zoo, "noninteractive", tmp_path / "run", changes={"emulation": {"divergence": "kl"}})
    assert not (tmp_path / "run").exists()
