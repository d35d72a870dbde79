import csv
import dataclasses
import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch
from tests.made import PROBING, SMALL
from torch.nn.functional import dropout

from rnnatlas import encoders
from rnnatlas.captured import Captured
from rnnatlas.emulation import divergences
from rnnatlas.emulation.data import WEIGHTS, Snapshots, population_of
from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.fit import Training, learning_rate
from rnnatlas.emulation.model import RESUME, EmulationSettings, TrainedRun, read_metrics
from rnnatlas.emulation.training import train
from rnnatlas.errors import (
    OutputExists,
    RunFormatError,
    SettingsError,
    TrainingDiverged,
    UnknownName,
    ZooFormatError,
)
from rnnatlas.evaluation.emulations import losses
from rnnatlas.rnn.backends import layers
from rnnatlas.zoo.store import Zoo

HOPELESS = dataclasses.replace(SMALL, learning_rate=1e38, clip=1e38, warmup=0)
FILES = ("settings.yaml", "model.safetensors", "history.csv", "metrics.json")


def small(zoo, out, encoder="interactive", **changes):
    transformer = {"width": 16, "layers": 2, "feedforward": 16}
    own = {"interactive": PROBING, "noninteractive": PROBING, "transformer": transformer}.get(encoder, {})
    arguments = {"encoder_settings": own, "settings": SMALL, "progress": False} | changes
    return train(zoo, encoder, out, **arguments)


@pytest.fixture(scope="module")
def run(zoo, tmp_path_factory):
    """A run that was not interrupted."""
    out = tmp_path_factory.mktemp("run") / "run"
    small(zoo, out)
    return out


def contents(out):
    return {name: (out / part / name).read_bytes() for part in ("", "zero") for name in FILES}


def test_leaves_what_the_interface_says_and_nothing_pickled(run):
    for folder in (run, run / "zero"):
        names = {path.name for path in folder.iterdir()} - {"zero"}
        events = {name for name in names if name.startswith("events.out.tfevents")}
        assert names - events == set(FILES)
        assert len(events) == 1


def test_history_covers_training_and_validation(run):
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6, 9, 10]
    for row in rows:
        assert 0 < float(row["train_loss"]) < 1
        assert 0 < float(row["validation_loss"]) < 1


def test_keeps_the_weights_that_were_best_on_validation(zoo, tmp_path):
    """So high a learning rate makes things worse, so the last weights are not the best."""
    settings = dataclasses.replace(SMALL, learning_rate=0.3)
    small(zoo, tmp_path / "run", "zero", settings=settings)
    record = read_metrics(tmp_path / "run")[0]
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    assert record["value"] == float(best["validation_loss"])
    assert record["step"] == int(best["step"]) < settings.steps
    held_out = zoo.snapshots(split="validation")
    found = losses(TrainedRun.load(tmp_path / "run"), zoo, held_out, settings.validation_rollouts)
    own = found["conditioned"].to_numpy()[: held_out.num_rows]  # of the divergence trained on, which is first
    assert own.mean() == pytest.approx(record["value"], rel=1e-5)


def test_training_lowers_the_loss(zoo, tmp_path):
    settings = dataclasses.replace(SMALL, steps=100, validate_every=5, learning_rate=1e-2)
    small(zoo, tmp_path / "run", "zero", settings=settings)
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.9 * losses[0]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(zoo, run, tmp_path):
    small(zoo, tmp_path / "again", control=run)
    assert contents(tmp_path / "again") == contents(run)
    small(zoo, tmp_path / "other", seed=1)
    assert (tmp_path / "other/model.safetensors").read_bytes() != (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("step", [0, 1, 3, 5, 9])
def test_interrupted_and_resumed_is_as_uninterrupted(zoo, run, tmp_path, monkeypatch, stop_at, step):
    out = tmp_path / "run"
    for encoder_after_control in (False, True):  # stop the control first, then the encoder itself
        with stop_at(step):
            small(zoo, out, resume=encoder_after_control)
        with pytest.raises(RunFormatError, match="not finished; finish it with: rnnatlas train … --resume"):
            TrainedRun.load(out)
        if not encoder_after_control:
            finish_control(zoo, out, monkeypatch)
    small(zoo, out, resume=True)
    assert contents(out) == contents(run)
    assert not (out / RESUME).exists()


def finish_control(zoo, out, monkeypatch):
    """Resumes until the control is finished and the encoder is about to start."""
    from rnnatlas.emulation import training

    own = training._train

    def only_control(folder, run, *arguments, **options):
        if run.encoder != "zero":
            raise KeyboardInterrupt
        own(folder, run, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_train", only_control)
        with pytest.raises(KeyboardInterrupt):
            small(zoo, out, resume=True)


@pytest.mark.parametrize(
    "encoder", [name for name in sorted(encoders.registry) if not encoders.find(name).turns]
)
def test_all_encoders_resume_exactly(zoo, run, tmp_path, monkeypatch, stop_at, encoder):
    kind = encoders.registry[encoder]
    read = kind.read  # what is random while an encoder learns comes again, too
    monkeypatch.setattr(kind, "read", lambda self, rnns: dropout(read(self, rnns), training=self.training))
    small(zoo, tmp_path / "whole", encoder, control=run)
    with stop_at(7):
        small(zoo, tmp_path / "parts", encoder, control=run)
    small(zoo, tmp_path / "parts", encoder, control=run, resume=True)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_the_first_steps_may_minimise_another_divergence(zoo, run, tmp_path, stop_at):
    out = {name: tmp_path / name for name in ("kl", "first", "resumed")}
    both = dataclasses.replace(SMALL, first_divergence="kl", first_steps=5)
    small(zoo, out["kl"], "noninteractive", settings=dataclasses.replace(SMALL, divergence="kl"))
    small(zoo, out["first"], "noninteractive", settings=both)
    with stop_at(4):
        small(zoo, out["resumed"], "noninteractive", settings=both, control=out["first"])
    small(zoo, out["resumed"], "noninteractive", settings=both, control=out["first"], resume=True)
    assert contents(out["resumed"]) == contents(out["first"])
    rows = {name: list(csv.DictReader((own / "history.csv").open())) for name, own in out.items()}
    assert rows["first"][0]["train_loss"] == rows["kl"][0]["train_loss"]  # the steps were the same
    assert rows["first"][0]["validation_loss"] != rows["kl"][0]["validation_loss"]
    assert rows["first"][-1]["train_loss"] != rows["kl"][-1]["train_loss"]
    assert read_metrics(out["first"])[0]["definition"].startswith("mean over snapshots of the mean total-var")


def test_embeddings_have_the_size_asked_for(zoo, tmp_path):
    made = small(zoo, tmp_path / "run", "statistics", settings=dataclasses.replace(SMALL, embedding=5))
    assert made.embed(zoo.population(zoo.snapshots())).shape == (zoo.snapshots().num_rows, 5)
    assert TrainedRun.load(tmp_path / "run").emulator.embedding.in_features == 5


def test_what_resuming_needs_holds_no_code(stopped):
    state = torch.load(stopped, weights_only=True)
    assert state["done"] == 3


@pytest.fixture
def stopped(zoo, run, tmp_path, stop_at):
    """What a run that was stopped goes on from."""
    with stop_at(4):
        small(zoo, tmp_path / "run", control=run)
    return tmp_path / "run" / RESUME


def refused(zoo, run, path):
    with pytest.raises(RunFormatError, match=r"unfinished run, but is damaged; remove this file, and"):
        small(zoo, path.parent, control=run, resume=True)


def test_a_damaged_state_is_one_sentence(zoo, run, stopped):
    whole = stopped.read_bytes()
    for content in (b"", b"nonsense", whole[:5000]):
        stopped.write_bytes(content)
        refused(zoo, run, stopped)
    stopped.unlink()
    small(zoo, stopped.parent, control=run, resume=True)  # as the sentence says
    assert contents(stopped.parent) == contents(run)


@pytest.mark.slow
def test_two_devices_share_a_step(zoo, run, tmp_path):
    """Processes on the CPU stand in for GPUs; sums in another order differ by rounding alone."""
    small(zoo, tmp_path / "run", "statistics", device="cpu", devices=1)
    small(zoo, tmp_path / "shared", "statistics", device="cpu", devices=2)
    one, two = (
        np.loadtxt(tmp_path / name / "history.csv", delimiter=",", skiprows=1) for name in ("run", "shared")
    )
    np.testing.assert_allclose(two, one, rtol=1e-3)


class Repeated:
    """In place of a CUDA graph: does the same again with what lies in the same memory, gradients included."""

    def __init__(self, captured, parameters):
        self.captured, self.parameters = captured, parameters
        with torch.random.fork_rng(devices=[]):
            captured.result = captured.function(**captured.inputs.static)
        self.gradients = [parameter.grad for parameter in parameters]

    def replay(self):
        as_they_are = [parameter.grad for parameter in self.parameters]
        self.captured.result.copy_(self.captured.function(**self.captured.inputs.static))
        for parameter, place, gradient in zip(self.parameters, self.gradients, as_they_are, strict=True):
            if place is not None:
                place.copy_(parameter.grad)
            parameter.grad = gradient


@pytest.mark.parametrize("encoder", ["interactive", "flat"])
def test_steps_made_by_a_graph_are_steps(zoo, tmp_path, monkeypatch, encoder):
    small(zoo, tmp_path / "plain", encoder, device="cpu")

    def capture(self, tensors):
        return Repeated(self, list(self.function.__self__.parameters()))

    monkeypatch.setattr(Training, "_captures", True)
    monkeypatch.setattr(Captured, "_plainly", lambda self, tensors: self.function(**tensors))
    monkeypatch.setattr(Captured, "_capture", capture)
    small(zoo, tmp_path / "graph", encoder, device="cpu")
    assert contents(tmp_path / "plain") == contents(tmp_path / "graph")


def test_resuming_a_finished_run_changes_nothing(zoo, run):
    before = contents(run)
    small(zoo, run, resume=True)
    assert contents(run) == before


def test_patience_ends_training_early(zoo, run, tmp_path):
    settings = dataclasses.replace(SMALL, steps=40, learning_rate=1e-30, patience=2)
    small(zoo, tmp_path / "run", settings=settings)
    with (tmp_path / "run/history.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [3, 6, 9]


def test_the_control_is_the_emulator_alone(run, zoo):
    model = TrainedRun.load(run)
    assert model.zero is not None
    control = TrainedRun.load(run / "zero")
    assert control.settings.encoder == "zero"
    assert control.zero is None
    for name, tensor in model.zero.state_dict().items():
        assert torch.equal(tensor, control.emulator.state_dict()[name])


def test_nothing_global_is_changed(zoo, run, tmp_path, monkeypatch):
    import logging
    import signal
    import warnings

    before = torch.random.get_rng_state(), signal.getsignal(signal.SIGINT), warnings.filters[:]
    level = logging.getLogger("lightning.pytorch").level
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("GPUs were seeded"))
    small(zoo, tmp_path / "run", control=run)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert signal.getsignal(signal.SIGINT) == before[1]
    assert warnings.filters == before[2]
    assert logging.getLogger("lightning.pytorch").level == level


def test_quiet_training_says_nothing(zoo, run, tmp_path, capfd):
    small(zoo, tmp_path / "run", control=run)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", sorted(divergences))
def test_trains_on_every_divergence(zoo, tmp_path, name):
    settings = dataclasses.replace(SMALL, steps=2, divergence=name, mask_padding=False)
    small(zoo, tmp_path / "run", "zero", settings=settings)
    assert math.isfinite(read_metrics(tmp_path / "run")[0]["value"])


# --- batches and learning rate -------------------------------------------------------------------


def test_a_batch_depends_on_seed_and_step_alone(zoo):
    data = Snapshots.of(zoo, zoo.snapshots(split="train"))
    again = Snapshots.of(zoo, zoo.snapshots(split="train"))
    for step in (5, 2):
        for name, tensor in data.draw(4, 2, 0, step).items():
            assert torch.equal(tensor, again.draw(4, 2, 0, step)[name])
    weights = WEIGHTS + zoo.specs[0].slug
    assert not torch.equal(data.draw(4, 2, 0, 1)[weights], data.draw(4, 2, 0, 2)[weights])
    assert not torch.equal(data.draw(4, 2, 0, 1)[weights], data.draw(4, 2, 1, 1)[weights])


def test_batches_hold_each_rnns_own_rollouts(zoo):
    rows = zoo.snapshots(split="train")
    batch = Snapshots.of(zoo, rows).draw(6, 3, 0, 0)
    outputs = zoo.task.outputs(population_of(batch, zoo.task), batch["stored"])
    torch.testing.assert_close(outputs, batch["targets"].float(), atol=5e-3, rtol=2e-3)


@pytest.mark.parametrize("decay", [False, True])
def test_learning_rate_rises_then_falls_or_stays(decay):
    settings = EmulationSettings(steps=100, warmup=10, learning_rate=1.0, decay=decay)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert rates[10] == 1
    assert rates[-1] == pytest.approx(1 / 90 if decay else 1)
    assert max(rates) == 1


# --- errors --------------------------------------------------------------------------------------


def test_refuses_an_output_that_exists(zoo, run, tmp_path):
    with pytest.raises(OutputExists, match="holds a run already; go on with it with --resume"):
        small(zoo, run)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(OutputExists, match="exists already"):
        small(zoo, tmp_path / "other")


def test_refuses_to_resume_with_other_settings(zoo, run):
    with pytest.raises(SettingsError, match=r"started with emulation\.rnns = 4, now it is 5"):
        small(zoo, run, settings=dataclasses.replace(SMALL, rnns=5), resume=True)
    with pytest.raises(SettingsError, match="started with seed = 0, now it is 1"):
        small(zoo, run, seed=1, resume=True)


def test_a_control_may_have_a_learning_rate_of_its_own(zoo, run, tmp_path, stop_at):
    settings = dataclasses.replace(SMALL, learning_rate=1e-3, divergence="total-variation")
    with stop_at(4):
        small(zoo, tmp_path / "run", control=run, settings=settings)
    model = small(zoo, tmp_path / "run", settings=settings, resume=True)
    assert model.settings.emulation == settings
    assert TrainedRun.load(tmp_path / "run" / "zero").settings.emulation.learning_rate == SMALL.learning_rate


def test_refuses_a_control_that_was_trained_otherwise(zoo, run, tmp_path):
    with pytest.raises(SettingsError, match="started with seed = 0, now it is 1"):
        small(zoo, tmp_path / "run", seed=1, control=run)
    assert not (tmp_path / "run").exists()


def test_says_where_the_loss_was_lost(zoo, run, tmp_path):
    with pytest.raises(TrainingDiverged, match=r"stopped being finite at step .*learning rate below"):
        small(zoo, tmp_path / "run", settings=HOPELESS)


@pytest.mark.slow
def test_one_of_several_devices_says_where_the_loss_was_lost(zoo, tmp_path):
    with pytest.raises(TrainingDiverged, match=r"^the emulation loss stopped being finite at step"):
        small(zoo, tmp_path / "run", "zero", settings=HOPELESS, device="cpu", devices=2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"encoder": "interactiv"}, UnknownName, "did you mean 'interactive'"),
        (
            {"encoder_settings": {"step": 3}},
            SettingsError,
            "unknown setting encoder.step; did you mean 'steps'",
        ),
        (
            {"settings": dataclasses.replace(SMALL, where="step > 99")},
            ZooFormatError,
            "with step > 99, found none",
        ),
        ({"settings": dataclasses.replace(SMALL, where="stp > 9")}, UnknownName, "stp"),
        (
            {"encoder": "orbit", "encoder_settings": {}},
            SettingsError,
            "needs a task whose inputs can be turned, such as tiled-digits, found formal-languages",
        ),
        ({"settings": dataclasses.replace(SMALL, divergence="mse")}, SettingsError, "tokens .* found 'mse'"),
    ],
)
def test_says_what_is_wrong_before_it_makes_anything(zoo, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        small(zoo, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def other(zoo, tmp_path):
    """A zoo of another seed."""
    shutil.copytree(zoo.path, tmp_path / "other")
    card = json.loads((tmp_path / "other/zoo.json").read_text())
    del card["shards_of"]  # as of an older version, whose shards do not say of which zoo they are
    (tmp_path / "other/zoo.json").write_text(json.dumps({**card, "seed": card["seed"] + 1}))
    return Zoo.open(tmp_path / "other")


def test_refuses_to_go_on_with_another_zoo(run, other, tmp_path):
    for flags in ({"out": run, "resume": True}, {"out": tmp_path / "run", "control": run}):
        with pytest.raises(SettingsError, match=r"was started on the zoo .* is another one"):
            small(other, flags.pop("out"), **flags)
    assert not (tmp_path / "run").exists()


def test_a_zoo_may_move(zoo, run, tmp_path):
    shutil.copytree(zoo.path, tmp_path / "moved")
    small(Zoo.open(tmp_path / "moved"), tmp_path / "run", control=run)


@pytest.mark.parametrize(
    ("hardware", "words"),
    [
        ({"device": "cuda"}, "finds no CUDA device"),
        ({"devices": 0}, "devices should be"),
        ({"devices": 5}, "multiple of 5, since 5 devices share them"),
    ],
)
def test_refuses_hardware_that_is_not_there(zoo, tmp_path, monkeypatch, hardware, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=words):
        small(zoo, tmp_path / "run", **hardware)
    assert not (tmp_path / "run").exists()


def test_calls_a_function_at_each_step(zoo, run, tmp_path):
    steps = []
    small(zoo, tmp_path / "run", control=run, progress=steps.append)
    assert sum(steps) == SMALL.steps


def test_shows_progress_on_stderr(zoo, run, tmp_path, capfd):
    small(zoo, tmp_path / "run", control=run, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "training interactive probing" in err
    assert "validation" in err


def test_settings_are_checked():
    with pytest.raises(SettingsError, match=r"^width should be 1 or more"):
        EmulatorSettings(width=0)
    with pytest.raises(SettingsError, match=r"^steps should be 1 or more, found 0"):
        EmulationSettings(steps=0)
    for name, value in (("clip", 0.0), ("learning_rate", -1e-3), ("weight_decay", -1.0), ("warmup", -1)):
        with pytest.raises(SettingsError, match=rf"^{name} should be .*found {value}"):
            EmulationSettings(**{name: value})
    with pytest.raises(SettingsError, match=r"^patience should be 1 or more"):
        EmulationSettings(patience=0)
    with pytest.raises(UnknownName, match="did you mean 'reverse-kl'"):
        EmulationSettings(divergence="reversekl")


def test_an_encoders_own_objective_counts_in_training_alone(zoo, tmp_path):
    own = {"sequences": 2, "steps": 4, "hidden": 8}
    with_it, without = (
        small(zoo, tmp_path / f"{decode}", "hybrid", encoder_settings={**own, "decode": decode}).encoder
        for decode in (0.5, 0.0)
    )
    assert with_it.decoder is not None
    assert without.decoder is None
    first = [
        next(csv.DictReader((tmp_path / decode / "history.csv").open()))["train_loss"]
        for decode in ("0.5", "0.0")
    ]
    assert float(first[0]) > float(first[1]) + 0.1
    table = zoo.snapshots(split="validation")
    loss = losses(TrainedRun.load(tmp_path / "0.5"), zoo, table, SMALL.validation_rollouts)
    chosen = [row["conditioned"] for row in loss.to_pylist() if row["divergence"] == "total-variation"]
    assert np.mean(chosen) == pytest.approx(read_metrics(tmp_path / "0.5")[0]["value"], rel=1e-4)


@pytest.mark.skipif(not layers.has_half(), reason="no bfloat16 products")
def test_products_are_rounded_in_training_alone(zoo, tmp_path):
    wide = {"steps": 4, "validate_every": 2, "emulator": EmulatorSettings(width=16, layers=1)}
    rows, validated = {}, {}
    for products in ("float32", "bfloat16"):
        settings = dataclasses.replace(SMALL, **wide, products=products)
        out = tmp_path / products
        done = small(zoo, out, "statistics", settings=settings)
        rows[products] = list(csv.DictReader((out / "history.csv").open()))
        assert not done.emulator.rounded
        [record] = read_metrics(out)
        snapshots = Snapshots.of(zoo, zoo.snapshots(split="validation"))
        training = Training(done.encoder, done.emulator, snapshots, snapshots, settings, 0, out).eval()
        assert training.emulator.rounded == (products == "bfloat16")
        batch = next(iter(snapshots.in_order(len(snapshots), settings.validation_rollouts)))
        validated[products] = float(training.loss(batch).mean()), record["value"]
    for found, recorded in validated.values():
        assert found == pytest.approx(recorded, rel=1e-5)
    one, other = (float(rows[products][0]["train_loss"]) for products in rows)
    assert one != other
    assert one == pytest.approx(other, rel=0.01)
