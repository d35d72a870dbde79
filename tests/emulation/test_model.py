import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.made import PROBING, SMALL

from rnnatlas.emulation.model import TrainedRun, make_parts, read_metrics, read_settings
from rnnatlas.emulation.training import train
from rnnatlas.errors import RNNSpecMismatch, RunFormatError
from rnnatlas.rnn import Population, RNNSpec


@pytest.fixture(scope="module")
def whole(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train(zoo, "interactive", out, encoder_settings=PROBING, settings=SMALL, progress=False)
    return out


@pytest.fixture
def run(whole, tmp_path):
    """A run that the test may damage."""
    return shutil.copytree(whole, tmp_path / "run")


def test_a_run_can_be_moved_and_loaded(zoo, whole, run, tmp_path):
    model, moved = TrainedRun.load(whole), TrainedRun.load(shutil.move(run, tmp_path / "moved"))
    population = zoo.population(zoo.snapshots())
    assert torch.equal(model.embed(population), moved.embed(population))
    assert model.specs == zoo.specs
    assert model.task.settings == zoo.task.settings
    assert model.settings.emulation == dataclasses.replace(SMALL, divergence="total-variation")


def test_embeds_in_batches_as_at_once(zoo, whole):
    model, population = TrainedRun.load(whole), zoo.population(zoo.snapshots())
    torch.testing.assert_close(model.embed(population, batch=5), model.embed(population))
    assert not model.embed(population).requires_grad


def test_emulates(zoo, whole):
    model, rows = TrainedRun.load(whole), zoo.snapshots(split="train")
    inputs = zoo.task.encode_inputs(torch.from_numpy(zoo.rollouts(rows).inputs))
    outputs, _ = model.emulation(model.embed(zoo.population(rows))).run(inputs)
    assert outputs.shape == (len(rows), 6, 11, 4)
    torch.testing.assert_close(outputs.exp().sum(-1), torch.ones(len(rows), 6, 11))


def test_embeds_rnns_of_other_precision(zoo, whole):
    model, population = TrainedRun.load(whole), zoo.population(zoo.snapshots())
    torch.testing.assert_close(model.embed(population.to(dtype=torch.float64)), model.embed(population))


def test_refuses_rnns_that_do_not_fit(whole):
    other = Population.initialise(RNNSpec(cell="lstm", input=6, hidden=4, output=6), [torch.Generator()])
    with pytest.raises(RNNSpecMismatch, match="built for RNNs with 4 inputs and 4 outputs"):
        TrainedRun.load(whole).embed(other)


def test_the_emulator_starts_alike_whatever_the_encoder(zoo, whole):
    model = TrainedRun.load(whole)
    control = TrainedRun.load(whole / "zero")
    _, emulator = make_parts(model.specs, model.task, model.settings)
    _, other = make_parts(model.specs, model.task, control.settings)
    for name, tensor in emulator.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunFormatError, match=r"expected a trained run at .*found no settings.yaml"):
        TrainedRun.load(tmp_path / "none")


@pytest.mark.parametrize("part", ["model.safetensors", "zero/model.safetensors"])
def test_an_unfinished_run(run, part):
    (run / part).unlink()
    with pytest.raises(RunFormatError, match="is not finished; finish it with: rnnatlas train … --resume"):
        TrainedRun.load(run)


def test_a_run_without_its_control(run):
    shutil.rmtree(run / "zero")
    with pytest.raises(RunFormatError, match="zero"):
        TrainedRun.load(run)


def test_another_format_version(run):
    text = (run / "settings.yaml").read_text().replace("format: 3", "format: 7")
    (run / "settings.yaml").write_text(text)
    with pytest.raises(
        RunFormatError, match=r"format version 7, this rnnatlas .* reads version 3; use rnnatlas"
    ):
        TrainedRun.load(run)


@pytest.mark.parametrize(("permute", "augment"), [("true", "permutation"), ("false", "none")])
def test_settings_of_when_orders_of_hidden_units_alone_could_be_drawn(run, permute, augment):
    path, settings = run / "settings.yaml", read_settings(run).encoder_settings
    old = f"encoder_settings: {{permute: {permute}, "
    path.write_text(path.read_text().replace("encoder_settings: {", old))
    assert read_settings(run).encoder_settings == {**settings, "augment": augment}


def test_half_copied_weights(run):
    content = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunFormatError, match=r"is damaged .*copy it again, or train again"):
        TrainedRun.load(run)


def test_settings_that_cannot_be_read(run):
    with (run / "settings.yaml").open("a") as file:
        file.write("sede: 3\n")
    with pytest.raises(
        RunFormatError, match=r"unknown setting settings.yaml.sede; did you mean 'seed'.*train again"
    ):
        TrainedRun.load(run)
    (run / "settings.yaml").write_text("{")
    with pytest.raises(RunFormatError, match="should be YAML, but is not"):
        TrainedRun.load(run)


def test_weights_of_another_run(run):
    tensors = load_file(run / "model.safetensors")
    save_file(tensors | {"encoder.more": torch.zeros(1)}, run / "model.safetensors")
    with pytest.raises(RunFormatError, match=r"does not fit the run's settings.yaml \(encoder.more\)"):
        TrainedRun.load(run)
    tensors["encoder.bos"] = torch.zeros(3)
    save_file(tensors, run / "model.safetensors")
    with pytest.raises(RunFormatError, match=r"does not fit the run's settings.yaml \(size mismatch for bos"):
        TrainedRun.load(run)


def test_figures_say_what_they_are(run):
    (record,) = json.loads((run / "metrics.json").read_text())
    assert record["split"] == "validation"
    assert record["of"] == "conditioned"
    assert record["n_snapshots"] >= record["n_runs"] > 0
    assert "chose the weights" in record["definition"]


@pytest.mark.parametrize("text", ["[{", '{"name": 1}', '[{"value": 1}]', "3"])
def test_damaged_figures_are_one_sentence(run, text):
    (run / "metrics.json").write_text(text)
    with pytest.raises(RunFormatError, match=r"metrics\.json should hold the run's figures.*train again"):
        read_metrics(run)
