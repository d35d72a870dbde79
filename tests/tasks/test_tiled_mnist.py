"""Rotation, tiles, data and figures of the rotated digits, against image libraries and plain loops."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Population, RNNSpec, Values, run
from rnnatlas.seeds import stream
from rnnatlas.tasks import tiled_mnist
from rnnatlas.tasks.tiled_mnist import PIXELS, TiledDigits, TiledDigitsSettings, TiledMNIST
from rnnatlas.tasks.tiles import rotation, tiled
from rnnatlas.zoo.splits import SplitSettings, assign
from rnnatlas.zoo.train import Chunk, ZooSettings, train

TASK = TiledDigits(TiledDigitsSettings(metric_images=100))


def streams(name, count=2):
    return [stream(0, name, run) for run in range(count)]


def upright(angle=0.0, weight_decay=0.0):
    return {"angle": angle, "weight_decay": weight_decay}


def population(count, task=TASK, hidden=8):
    spec = RNNSpec(
        cell="lstm", input=task.interface.input.size, hidden=hidden, output=task.interface.output.size
    )
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])


def rotated(images, angle):
    """Images as `rotation` and `grid_sample` turn them."""
    grid = rotation(np.array([float(angle)]), images.shape[-1])
    pixels = torch.from_numpy(images).float().unsqueeze(0)
    return F.grid_sample(pixels, grid, align_corners=False)[0].numpy()


def cut(image, tile):
    """Tiles of one picture, in raster order, by two loops."""
    starts = range(0, len(image), tile)
    return [image[y : y + tile, x : x + tile].ravel() for y, x in itertools.product(starts, starts)]


def test_pictures_are_what_the_rnn_reads():
    own = TASK.rollouts(population(2), [upright(), upright(90.0)], streams("rollouts"), 4).inputs
    inputs = TASK.encode_inputs(torch.from_numpy(own))
    images = own[..., PIXELS:].reshape(2, 4, 8, 8) / 255
    assert np.allclose(TASK.picture(inputs).numpy(), images, atol=1e-6)
    begun = TASK.picture(inputs[..., :6, :])
    assert np.allclose(begun[..., :2, :].numpy(), images[..., :2, :], atol=1e-6)
    assert torch.equal(begun.isnan().flatten(2).sum(2), torch.full((2, 4), 64 - 5 * 4))


# --- rotation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("quarter", range(4))
def test_quarter_turns_are_exact_and_go_counter_clockwise(side, quarter):
    images = np.random.default_rng(0).integers(256, size=(3, side, side)).astype(np.float32)
    expected = np.rot90(images, quarter, axes=(1, 2))
    assert np.abs(rotated(images, 90 * quarter) - expected).max() < 0.01


@pytest.mark.parametrize("angle", [1.0, 33.3, 100.0, 211.7, 345.0])
def test_rotation_is_bilinear_with_black_outside(angle):
    """SciPy's interpolation of first order, whose sense of rotation and black border are the same."""
    images = np.random.default_rng(1).integers(256, size=(2, 9, 9)).astype(np.float64)
    expected = ndimage.rotate(images, angle, axes=(2, 1), reshape=False, order=1, mode="grid-constant")
    assert np.abs(rotated(images, angle) - expected).max() < 0.01


def test_each_rnn_has_its_own_angle():
    instances = [upright(90.0), upright(0.0), upright(180.0)]
    images = torch.from_numpy(TASK.digits().images[:4])
    grid = tiled(rotation(np.array([90.0, 0.0, 180.0]), 8), 2)
    shown = TASK._show(images.expand(3, -1, -1, -1), grid)
    for own, instance in zip(shown, instances, strict=True):
        turned = np.rot90(images.numpy(), int(instance["angle"]) // 90, axes=(1, 2))
        stored = np.zeros((4, PIXELS + 64), np.uint8)
        stored[:, PIXELS:] = turned.reshape(4, -1)
        assert torch.allclose(own, TASK.encode_inputs(torch.from_numpy(stored)), atol=1e-5)


@pytest.mark.parametrize("task", [TASK, TiledMNIST()])
def test_turned_inputs_are_those_of_rotated_images(task):
    images = np.random.default_rng(3).integers(256, size=(2, 3, task.side, task.side), dtype=np.uint8)
    read = torch.stack([task._turned(torch.from_numpy(own), 1)[0] for own in images])
    turned = task.turned(read, 8)
    assert turned.shape == (8, *read.shape)
    assert torch.allclose(turned[0], read, atol=1e-5)
    for turn in range(8):
        shown = np.stack([rotated(own.astype(np.float32), 45 * turn) for own in images])
        assert np.abs(task.picture(turned[turn]).numpy() * 255 - shown).max() < 0.51


def test_probes_are_unrotated_images():
    probes = TASK.probes("images", 3)
    images = TASK._part("validation").images
    assert np.allclose(TASK.picture(probes).numpy(), images / 255, atol=1e-5)
    with pytest.raises(SettingsError, match="should be rollouts, random, images, found 'counting'"):
        TASK.probes("counting", 3)


def test_a_scan_finds_the_rotation_at_which_digits_are_told():
    labels = torch.from_numpy(TASK._part("validation").labels[:4]).long()

    class Telling(Population):
        def run(self, inputs, state=None):
            outputs = torch.zeros(3, 8, 4, TASK.time, 10)
            for rnn, turn in enumerate((0, 3, 5)):  # of eight
                outputs[rnn, turn, torch.arange(4), -1, labels] = 9.0
            outputs[:, :, :, :-1] = torch.randn(10)  # what is said before the image is seen does not count
            return outputs.flatten(1, 2), ()

    plain = population(3)
    found = TASK.scan(Telling(plain.spec, plain.weights, TASK.interface), 4, 8)
    assert torch.allclose(found, TASK.target([upright(0.0), upright(135.0), upright(225.0)]), atol=1e-3)


# --- tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "time"), [(TASK, 17), (TiledMNIST(), 50)])
def test_images_are_read_tile_by_tile_after_zeros(task, time):
    assert (task.time, *task.interface.sizes) == (time, task.settings.tile**2, 10)
    image = np.random.default_rng(0).integers(256, size=(task.side, task.side), dtype=np.uint8)
    stored = torch.from_numpy(np.concatenate([np.array([1, 7], np.uint8), image.ravel()]))
    read = task.encode_inputs(stored)
    normalised = (image / 255 - task.mean) / task.sd
    assert (read[0] == 0).all()
    assert np.allclose(read[1:].numpy(), cut(normalised, task.settings.tile), atol=1e-5)
    assert (task.mask(stored) == 1).all()
    assert task.show(stored[None].numpy()) == ["7↺"]


@pytest.mark.parametrize("task", [TASK, TiledMNIST()])
def test_the_range_of_probing_inputs_is_that_of_pixels(task):
    stored = torch.tensor([0, 255], dtype=torch.uint8)[:, None].expand(-1, PIXELS + task.side**2)
    black, white = task.encode_inputs(stored)[:, 1:].flatten(1).unbind()
    assert isinstance(task.interface.input, Values)
    assert torch.allclose(black, torch.full_like(black, task.interface.input.low), atol=1e-5)
    assert torch.allclose(white, torch.full_like(white, task.interface.input.high), atol=1e-5)


def test_probing_inputs_span_the_range():
    from rnnatlas.encoders.noninteractive import NonInteractiveProbing
    from rnnatlas.encoders.probing import ProbingSettings

    rnns = population(2)
    settings = ProbingSettings(steps=17, width=8, logit_scale=1000.0)
    encoder = NonInteractiveProbing(TASK.interface, None, settings)
    shown = encoder.probe(rnns).inputs
    assert shown.min().item() == pytest.approx(TASK.interface.input.low, abs=1e-3)
    assert shown.max().item() == pytest.approx(TASK.interface.input.high, abs=1e-3)


# --- training --------------------------------------------------------------------------------------


def shown_to(batch):
    return TASK._show(batch.images[batch.chosen], batch.grid), batch.labels[batch.chosen]


def test_training_and_validation_images_are_all_and_apart():
    training, validation = (TASK._part(part) for part in ("training", "validation"))
    assert (len(training.labels), len(validation.labels)) == (1437, 360)
    whole = np.concatenate([training.images, validation.images]).reshape(1797, -1)
    expected = TASK.digits().images.reshape(1797, -1)
    assert np.array_equal(np.unique(whole, axis=0), np.unique(expected, axis=0))
    assert np.bincount(validation.labels).min() > 20


@pytest.mark.parametrize("batch", [100, 2000])
def test_every_training_image_comes_once_an_epoch(batch):
    batches = TASK.batches([upright(), upright()], batch, streams("batches"))
    steps = -(-3 * 1437 // batch)
    chosen = torch.cat([next(batches).chosen for _ in range(steps)], dim=1)
    for own in chosen[:, : 3 * 1437]:
        for epoch in own.view(3, 1437):
            assert torch.equal(epoch.sort().values, torch.arange(1437))
    assert not torch.equal(chosen[0], chosen[1])


def test_loss_is_the_mean_cross_entropy_over_all_steps():
    rnns = population(2)
    batch = next(TASK.batches([upright(20.0), upright(300.0)], 5, streams("batches")))
    inputs, labels = shown_to(batch)
    outputs, _ = run(rnns, inputs)
    for own, logits, digits in zip(TASK.loss(rnns, batch), outputs, labels, strict=True):
        each = [F.cross_entropy(logits[:, t], digits) for t in range(TASK.time)]
        assert own.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)


def test_runs_are_trained_with_their_own_weight_decay():
    class Alike(TiledDigits):
        def instance(self, run, seed):
            return upright(weight_decay=10.0 * (run == 1))

    settings = ZooSettings(runs=2, hidden=6, layers=1, batch=4, snapshots=(0, 5), learning_rate=((0, 0.01),))
    (_, before), (_, after) = train(Chunk(Alike(), settings, 0, range(2), ["", ""]))
    start, end = before.flatten().norm(dim=1), after.flatten().norm(dim=1)
    shrunk = end / start
    assert shrunk[1] < 0.9 * shrunk[0]


# --- figures and rollouts --------------------------------------------------------------------------


def test_metrics_are_those_of_the_first_images_of_each_part():
    rnns = population(2)
    instances = [upright(90.0), upright(270.0)]
    found = TASK.metrics(rnns, instances, [])
    for name, part in (("training", TASK._part("training")), ("validation", TASK._part("validation"))):
        for i, quarter in enumerate((1, 3)):
            stored = np.zeros((100, PIXELS + 64), np.uint8)
            stored[:, PIXELS:] = np.rot90(part.images[:100], quarter, axes=(1, 2)).reshape(100, -1)
            log_probs = TASK.outputs(rnns.select([i]), torch.from_numpy(stored)[None])[0]
            labels = torch.from_numpy(part.labels[:100]).long()
            loss = -log_probs.gather(2, labels.view(-1, 1, 1).expand(-1, TASK.time, 1)).mean()
            accuracy = (log_probs[:, -1].argmax(-1) == labels).float().mean()
            assert found[f"{name}_loss"][i] == pytest.approx(loss.item(), rel=1e-5)
            key = "performance" if name == "validation" else "training_accuracy"
            assert found[key][i] == pytest.approx(accuracy.item(), abs=1e-6)
    gap = found["validation_loss"] - found["training_loss"]
    assert np.allclose(found["generalisation_gap"], gap)


def test_half_of_the_rollouts_are_the_rnns_own_and_half_are_shared():
    instances = [upright(90.0), upright(180.0)]
    rollouts = TASK.rollouts(population(2), instances, streams("rollouts"), 7)
    part = TASK._part("validation")
    labels = {image.tobytes(): label for image, label in zip(part.images, part.labels, strict=True)}
    for own, quarter in zip(rollouts.inputs, (1, 2), strict=True):
        assert own[:, 0].tolist() == [1, 0, 1, 0, 1, 0, 1]
        pictures = own[:, PIXELS:].reshape(-1, 8, 8)
        for flag, label, picture in zip(own[:, 0], own[:, 1], pictures, strict=True):
            seen = np.rot90(picture, -quarter) if flag else picture
            assert labels[np.ascontiguousarray(seen).tobytes()] == label
    assert not np.array_equal(rollouts.inputs[0, ::2, 1], rollouts.inputs[1, ::2, 1])
    assert np.allclose(np.exp(rollouts.outputs.astype(np.float64)).sum(-1), 1, atol=0.01)


def test_unrotated_images_are_of_one_set_but_others_for_each_rnn(monkeypatch):
    monkeypatch.setattr(tiled_mnist, "SHARED", 20)
    rollouts = TASK.rollouts(population(2), [upright(90.0), upright(180.0)], streams("rollouts"), 400)
    own, other = ({image.tobytes() for image in inputs[1::2, PIXELS:]} for inputs in rollouts.inputs)
    assert own == other == {image.tobytes() for image in TASK._part("validation").images[:20]}
    assert not np.array_equal(rollouts.inputs[0, 1::2], rollouts.inputs[1, 1::2])


def test_every_rnn_of_the_last_48_degrees_is_ood_and_no_other():
    instances = [TASK.instance(run, seed=1) for run in range(200)]
    splits = np.array(assign(TASK, instances, 1, SplitSettings()))
    late = np.array([instance["angle"] >= 312 for instance in instances])
    assert (splits[late] == "ood").all()
    counts = {split: int((splits[~late] == split).sum()) for split in ("train", "validation", "ood")}
    assert counts["ood"] == 0
    assert counts["train"] > 4 * counts["validation"] > 0


# --- instances and settings ------------------------------------------------------------------------


def test_angles_are_even_and_weight_decays_drawn():
    instances = [TASK.instance(run, seed=5) for run in range(2000)]
    angles = np.array([instance["angle"] for instance in instances])
    counts = np.histogram(angles, bins=8, range=(0, 360))[0]
    assert counts.sum() == 2000
    assert counts.min() > 190
    decays, counts = np.unique([instance["weight_decay"] for instance in instances], return_counts=True)
    assert decays.tolist() == [0, 0.001, 0.01, 0.1]
    assert counts.min() > 400
    assert len({TASK.key(instance) for instance in instances}) == 2000


def test_ood_angles_are_the_last_48_degrees():
    instances = [upright(angle) for angle in (0.0, 311.9, 312.0, 359.9)]
    assert TASK.is_ood(instances, 0.15).tolist() == [False, False, True, True]
    assert not TASK.is_ood(instances, 0.0).any()
    assert [TASK.label(instance) for instance in instances] == ["0°", "312°", "312°", "0°"]
    target = TASK.target([upright(0.0), upright(90.0), upright(225.0)])
    assert torch.allclose(target, torch.tensor([[0, 1], [1, 0], [-(0.5**0.5), -(0.5**0.5)]]), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tile": 3}, "task: tile should divide 8"),
        ({"tile": 0}, "task: tile should be 1 or more"),
        ({"weight_decays": []}, "one number or more"),
        ({"weight_decays": [-0.1]}, "none negative"),
        ({"ood_from": 400}, "at most 360 degrees, found 400"),
        ({"ood_from": 0}, "above 0 and"),
        ({"metric_images": 0}, "task: metric_images should be 1 or more"),
        ({"tiles": 4}, "did you mean 'tile'"),
    ],
)
def test_settings_refuse_what_makes_no_task(values, message):
    with pytest.raises(SettingsError, match=message):
        TiledDigits.from_settings(values)


def test_an_rnn_learns_to_tell_rotated_digits():
    settings = ZooSettings(runs=2, hidden=16, layers=1, batch=32, snapshots=(0, 300))
    chunk = Chunk(TASK, settings, 0, range(2), ["", ""])
    (_, before), (_, after) = train(chunk)
    assert TASK.metrics(before, chunk.instances, [])["performance"].max() < 0.3
    assert TASK.metrics(after, chunk.instances, [])["performance"].min() > 0.4
