import dataclasses

import numpy as np
import pytest
import torch
from tests.made import PROBING, SMALL, make_zoo

from rnnatlas.emulation import divergences
from rnnatlas.emulation.training import train
from rnnatlas.errors import ZooFormatError
from rnnatlas.evaluation.emulations import BATCH, derangement, emulated_performance, losses
from rnnatlas.tasks.tiled_mnist import TiledDigits, TiledDigitsSettings
from rnnatlas.zoo.build import build
from rnnatlas.zoo.train import ZooSettings


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return make_zoo(tmp_path_factory.mktemp("zoo") / "zoo")


@pytest.fixture(scope="module")
def model(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    settings = dataclasses.replace(SMALL, divergence="kl")
    return train(zoo, "interactive", out, encoder_settings=PROBING, settings=settings, progress=False)


def of(table, divergence):
    return table.filter(np.asarray(table["divergence"].to_pylist()) == divergence)


def test_has_a_row_for_each_snapshot_and_divergence(zoo, model):
    rows = zoo.snapshots(split="ood")
    table = losses(model, zoo, rows)
    assert table["divergence"].unique().to_pylist() == ["kl", "total-variation", "reverse-kl"]
    for name in table["divergence"].unique().to_pylist():
        assert of(table, name)["id"].equals(rows["id"])
    kinds = {"conditioned", "shuffled", "zero"}
    keys = {"id", "run", "step", "split", "task", "divergence"}
    assert set(table.column_names) == keys | kinds


@pytest.fixture
def everywhere(model, monkeypatch):
    """The model as if it had been trained on all positions, padding included."""
    emulation = dataclasses.replace(model.settings.emulation, mask_padding=False)
    monkeypatch.setattr(model, "settings", dataclasses.replace(model.settings, emulation=emulation))


@pytest.mark.usefixtures("everywhere")
def test_losses_by_hand(zoo, model):
    rows = zoo.snapshots(split="validation")
    table = of(losses(model, zoo, rows), "total-variation")
    rollouts = zoo.rollouts(rows)
    stored = torch.from_numpy(rollouts.inputs)
    targets = torch.from_numpy(rollouts.outputs).float().log_softmax(-1)
    z = model.embed(zoo.population(rows))
    tasks = np.array([str(zoo.task.key(instance)) for instance in rows["task"].to_pylist()])
    others = derangement(rows["run"].to_numpy(), tasks)
    inputs = zoo.task.encode_inputs(stored)
    conditioned = {
        "conditioned": model.emulator(z, inputs),
        "shuffled": model.emulator(z[others], inputs),
        "zero": model.zero(torch.zeros_like(z), inputs),
    }
    for name, predictions in conditioned.items():
        values = divergences["total-variation"](targets, predictions).numpy()
        for number in range(len(rows)):
            inside = zoo.task.mask(stored)[number].numpy() == 1
            assert table[name][number].as_py() == pytest.approx(values[number][inside].mean(), abs=1e-6)
            unmasked = table[f"{name}_unmasked"][number].as_py()
            assert unmasked == pytest.approx(values[number].mean(), abs=1e-6)


def test_fewer_rollouts_are_the_first_ones(zoo, model):
    rows = zoo.snapshots(split="new-runs")
    assert losses(model, zoo, rows, rollouts=6).equals(losses(model, zoo, rows))
    assert not losses(model, zoo, rows, rollouts=2).equals(losses(model, zoo, rows))


@pytest.mark.usefixtures("everywhere")
def test_batches_do_not_matter(zoo, model, monkeypatch):
    rows = zoo.snapshots()
    whole = losses(model, zoo, rows)
    monkeypatch.setattr("rnnatlas.evaluation.emulations.BATCH", 13)
    apart = losses(model, zoo, rows)
    for name in ("conditioned", "zero_unmasked"):
        np.testing.assert_allclose(apart[name].to_numpy(), whole[name].to_numpy(), atol=1e-6)


@pytest.mark.parametrize("sizes", [[1, 1], [1, 2, 3], [9] * 12, [9, 9], [4, 1, 1, 1, 1], [2, 5, 3, 9, 1, 7]])
def test_shuffling_gives_every_snapshot_one_of_another_run(sizes):
    runs = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = derangement(runs)
    assert sorted(order) == list(range(len(runs)))
    assert (runs[order] != runs).all()
    assert (derangement(runs) == order).all()


def test_on_splits_held_out_by_task_shuffling_gives_another_task():
    random = np.random.default_rng(0)
    runs = random.permutation(np.repeat(np.arange(30), 3))
    tasks = np.array(["a", "b", "c", "d", "e"])[runs % 5]  # six runs each
    order = derangement(runs, tasks)
    assert sorted(order) == list(range(len(runs)))
    assert (tasks[order] != tasks).all()
    assert (derangement(runs) != order).any()
    most = np.where(runs < 20, "a", tasks)  # too many of one task for each to get another
    order = derangement(runs, most)
    assert (runs[order] != runs).all()
    assert (order == derangement(runs)).all()


def test_losses_of_splits_held_out_by_task_are_shuffled_over_tasks(zoo, model, monkeypatch):
    seen = {}

    def spy(runs, tasks=None):
        seen[split] = tasks
        return derangement(runs, tasks)

    monkeypatch.setattr("rnnatlas.evaluation.emulations.derangement", spy)
    for split in ("new-runs", "validation", "ood"):
        losses(model, zoo, zoo.snapshots(split=split), rollouts=1)
    assert seen["new-runs"] is None
    assert len(seen["ood"]) == zoo.snapshots(split="ood").num_rows
    assert seen["validation"] is not None


def test_shuffling_does_not_pair_by_step():
    runs, steps = np.repeat(np.arange(20), 9), np.tile(np.arange(9), 20)
    assert (steps[derangement(runs)] == steps).mean() < 0.3


def test_emulated_performance_is_that_of_strings_the_emulator_writes(zoo, model, monkeypatch):
    rows = zoo.snapshots(split="train")
    table = emulated_performance(model, zoo, rows, trials=50)
    assert table["original"].to_pylist() == [
        metrics["performance"] for metrics in rows["metrics"].to_pylist()
    ]
    assert ((table["emulated"].to_numpy() >= 0) & (table["emulated"].to_numpy() <= 1)).all()
    assert table.equals(emulated_performance(model, zoo, rows, trials=50))
    monkeypatch.setattr("rnnatlas.evaluation.emulations.BATCH", 120)
    assert table.equals(emulated_performance(model, zoo, rows, trials=50))


def test_an_emulator_that_is_perfect_performs_like_the_original(zoo, model, monkeypatch):
    """The RNN itself in the emulator's place: performances differ by sampling alone."""
    rows = zoo.snapshots(split="train")
    population = zoo.population(rows)
    size = max(1, BATCH // 200)
    perfect = iter(population.select(slice(i, i + size)) for i in range(0, len(population), size))
    monkeypatch.setattr(model, "emulation", lambda z: next(perfect))
    table = emulated_performance(model, zoo, rows, trials=200)
    original = table["original"].to_numpy()  # of 20 strings
    sd = np.sqrt(np.maximum(original * (1 - original), 0.05) * (1 / 20 + 1 / 200))
    assert (np.abs(original - table["emulated"].to_numpy()) < 4.5 * sd).all()


def test_imported_rnns_have_nothing_to_emulate(zoo, model, monkeypatch):
    rows = zoo.snapshots()
    monkeypatch.setitem(zoo.card, "task", None)
    monkeypatch.delitem(zoo.__dict__, "task", raising=False)
    with pytest.raises(ZooFormatError, match="was imported without inputs; import it again"):
        losses(model, zoo, rows)
    zoo.__dict__.pop("task")


def test_emulations_of_rnns_that_classify_are_judged_as_their_originals(tmp_path):
    task = TiledDigits(TiledDigitsSettings(metric_images=20))
    digits = build(
        task,
        ZooSettings(runs=12, hidden=4, layers=1, snapshots=(2, 4), rollouts=8, learning_rate=((0, 0.01),)),
        tmp_path / "zoo",
        workers=1,
        progress=False,
    )
    settings = dataclasses.replace(SMALL, rnns=2)
    model = train(digits, "statistics", tmp_path / "run", settings=settings, progress=False)
    rows = digits.snapshots()
    table = emulated_performance(model, digits, rows, trials=20)
    original = [metrics["performance"] for metrics in rows["metrics"].to_pylist()]
    assert table["original"].to_pylist() == original
    images = task._images("validation", rows["task"].to_pylist())
    inputs = task._show(images.images[:20].expand(len(rows), -1, -1, -1), images.grid)
    z = model.embed(digits.population(rows))
    for name, emulator, given in (
        ("emulated", model.emulator, z),
        ("zero", model.zero, torch.zeros_like(z)),
    ):
        right = emulator(given, inputs)[:, :, -1].argmax(-1) == images.labels[:20]
        np.testing.assert_allclose(table[name].to_numpy(), right.float().mean(1).numpy(), atol=1e-6)
    perfect = digits.population(rows)
    model.emulation = lambda z: perfect
    table = emulated_performance(model, digits, rows, trials=20)
    np.testing.assert_allclose(table["emulated"].to_numpy(), original, atol=1e-6)
