"""Zoos in the layout of Herrmann et al. (2024), written from RNNs of our own."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import find
from rnnatlas.importers.paper_zoo import read
from rnnatlas.rnn import Population, run, sample
from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings
from rnnatlas.zoo.imports import checkpoints, import_checkpoints, passed_over
from rnnatlas.zoo.verify import verify

RUNS, STEPS, ROLLOUTS = 6, (0, 100, 200), 5
ROWS = RUNS * len(STEPS)
TASK = FormalLanguages(FormalLanguagesSettings(tokens=3, length=20))


def modules(inputs, outputs, hidden=8, layers=2):
    """Networks as the released code has them, whose parameters lie in torch's order."""
    torch.manual_seed(0)
    return [
        (nn.LSTM(inputs, hidden, layers, batch_first=True), nn.Linear(hidden, outputs)) for _ in range(ROWS)
    ]


def save(folder, nets, settings, **arrays):
    folder.mkdir(exist_ok=True)
    flat = [
        torch.cat([each.detach().flatten() for part in net for each in part.parameters()]).numpy()
        for net in nets
    ]
    for name, array in {"parameters": np.stack(flat), **arrays}.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "args.json").write_text(json.dumps({"rnn_hidden_size": 8, "rnn_num_layers": 2, **settings}))
    return folder


def numbers(*more):
    return np.array([[n, step, *more] for n in range(RUNS) for step in STEPS])


def languages(folder, **changed):
    nets = modules(5, 5)
    with torch.no_grad():
        for _, linear in nets:
            linear.bias[3:] -= 3.0  # few BOS and EOS, so some strings never end
    population = Population.from_modules(nets)
    uniforms = torch.rand(ROWS, ROLLOUTS, 19, generator=torch.Generator().manual_seed(1))
    tokens, log_probs = sample(population, uniforms, TASK.bos)
    sequences = np.pad(tokens.numpy().astype(np.int16), ((0, 0), (0, 0), (1, 0)), constant_values=TASK.bos)
    ends = (sequences == TASK.eos).any(-1)
    assert 0 < ends.sum() < ends.size
    whole = sequences.copy()
    sequences[..., 0][~ends] = TASK.eos  # as the released code leaves them
    shifts = np.random.default_rng(0).integers(-3, 3, (RUNS, 2)).repeat(len(STEPS), 0)
    given = {
        "sequences": sequences,
        "logits": log_probs.numpy().astype(np.float16),
        "tasks": np.pad(shifts, ((0, 0), (1, 0))),
        "num_step_correct": numbers(250),
    }
    settings = {"num_tokens": 3, "sequence_length": 20, "max_n": 6, "one_hot_input": 1}
    return save(folder, nets, settings, **(given | changed)), whole, shifts, population


def test_a_zoo_of_languages_is_kept_with_all_that_is_known(tmp_path):
    folder, whole, shifts, population = languages(tmp_path / "theirs")
    found = read(folder)
    inputs, repaired = found.read(slice(None))
    np.testing.assert_array_equal(inputs, whole)
    assert 0 < repaired.sum() < repaired.size
    zoo, left = import_checkpoints([folder], tmp_path / "ours")
    assert left == []
    assert [str(spec) for spec in zoo.specs] == ["LSTM 5→8×2→5"]
    assert zoo.table["step"].to_pylist() == [step for _ in range(RUNS) for step in STEPS]
    assert zoo.table["run"].to_pylist() == [n for n in range(RUNS) for _ in STEPS]
    assert [tuple(own.values()) for own in zoo.table["task"].to_pylist()] == [
        tuple(m) for m in shifts.tolist()
    ]
    metrics = zoo.table["metrics"].to_pylist()
    assert {own["counted"] for own in metrics} == {0.25}
    instances = zoo.table["task"].to_pylist()
    expected = [
        TASK.membership(own[:, 1:].astype(np.uint8), m).mean()
        for own, m in zip(whole, instances, strict=True)
    ]
    np.testing.assert_allclose([own["performance"] for own in metrics], expected)
    rollouts = zoo.rollouts(np.arange(ROWS))
    np.testing.assert_array_equal(rollouts.inputs, whole)
    kept = zoo.population(np.arange(ROWS))
    assert isinstance(kept, Population)
    assert torch.equal(kept.flatten(), population.flatten().detach())
    checked = verify(zoo)
    assert (checked.checked, checked.agree) == (ROWS, ROWS)
    remarks = " ".join(zoo.card["settings"]["remarks"])
    assert f"{repaired.sum()} rollouts that never end had lost their BOS" in remarks
    splits = {}
    for run_, split in zip(zoo.table["run"].to_pylist(), zoo.table["split"].to_pylist(), strict=True):
        assert splits.setdefault(run_, split) == split
    assert passed_over([folder]) is None


def digits(folder):
    nets = modules(16, 10)
    population = Population.from_modules(nets)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, ROLLOUTS, 7, 4, 7, 4), dtype=np.uint8)
    tiles = ((pixels / 255 - 0.1307) / 0.3081).swapaxes(3, 4).reshape(ROWS, ROLLOUTS, 49, 16)
    sequences = np.pad(tiles, ((0, 0), (0, 0), (1, 0), (0, 0))).astype(np.float16)
    with torch.no_grad():
        logits, _ = run(population, torch.from_numpy(sequences.astype(np.float32)))
    arrays = {
        "sequences": sequences,
        "logits": logits.numpy().astype(np.float16),
        "tasks": np.linspace(0, 359, RUNS).repeat(len(STEPS))[:, None],
        "num_step": numbers(),
        "accuracy_losses": np.tile([0.9, 0.3, 0.5, 0.01], (ROWS, 1)),
    }
    return save(folder, nets, {"tile_size": 4}, **arrays), pixels


def test_a_zoo_of_rotated_digits_is_kept_with_all_that_is_known(tmp_path):
    folder, pixels = digits(tmp_path / "theirs")
    zoo, _ = import_checkpoints([folder], tmp_path / "ours")
    assert zoo.task is not None
    rollouts = zoo.rollouts(np.arange(ROWS))
    np.testing.assert_array_equal(rollouts.inputs[..., 2:], pixels.reshape(ROWS, ROLLOUTS, -1))
    assert zoo.task.show(rollouts.inputs[0])[0] == "?↺"
    angles = [own["angle"] for own in zoo.table["task"].to_pylist()]
    np.testing.assert_allclose(angles, np.linspace(0, 359, RUNS).repeat(len(STEPS)))
    first = zoo.table["metrics"][0].as_py()
    assert first["performance"] == pytest.approx(0.9)
    assert first["generalisation_gap"] == pytest.approx(0.2)
    assert verify(zoo).agree == ROWS
    splits = dict(zip(angles, zoo.table["split"].to_pylist(), strict=True))
    assert splits[359] == "ood"


def test_inspect_finds_every_snapshot(tmp_path):
    folder, _, _, population = languages(tmp_path / "theirs")
    [checkpoint] = checkpoints([folder])
    assert checkpoint.format == "paper_zoo"
    assert [rnn.place for rnn in checkpoint.rnns][:2] == ["run-00000-step-00000", "run-00000-step-00100"]
    assert len(checkpoint.rnns) == ROWS
    assert "first of 18 snapshots of a zoo (formal-languages)" in checkpoint.rnns[0].notes[0]
    assert "parameters taken in torch's order" in checkpoint.rnns[0].notes[0]
    second = population.state_dicts()[1]
    assert all(torch.equal(weight, second[name]) for name, weight in checkpoint.rnns[1].weights.items())


def test_runs_of_zoos_that_were_joined_stay_apart(tmp_path):
    joined = numbers(250)
    joined[ROWS // 2 :, 0] -= RUNS // 2
    folder, *_ = languages(tmp_path / "theirs", num_step_correct=joined)
    assert read(folder).run.tolist() == [n for n in range(RUNS) for _ in STEPS]


def in_another_order(folder):
    path = folder / "parameters.npy"
    np.save(path, np.roll(np.load(path), 7, axis=1))


def resized(folder):
    (folder / "args.json").write_text('{"rnn_hidden_size": 32}')


def cut(folder):
    path = folder / "logits.npy"
    path.write_bytes(path.read_bytes()[:-9])


SPOILT = {
    "another order": (in_another_order, "expected parameters in torch's order"),
    "other sizes": (resized, r"expected 13605 parameters of LSTM 5→32×2→5.*, found 1101"),
    "no logits": (lambda folder: (folder / "logits.npy").unlink(), "there is no logits.npy beside"),
    "cut": (cut, "expected an array in logits.npy"),
    "other rows": (lambda folder: np.save(folder / "tasks.npy", np.zeros((2, 3))), "as many rows"),
    "objects": (
        lambda folder: np.save(folder / "tasks.npy", np.array([{}])),
        "expected an array in tasks.npy",
    ),
    "args": (lambda folder: (folder / "args.json").write_text("[]"), "expected settings in args.json"),
    "sizes": (lambda folder: (folder / "args.json").write_text('{"rnn_hidden_size": -1}'), "expected sizes"),
    "numbers": (
        lambda folder: (folder / "args.json").write_text('{"one_hot_input": 0}'),
        "a token as one number",
    ),
    "tasks": (lambda folder: np.save(folder / "tasks.npy", np.zeros((ROWS, 9))), "do not fit one another"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path, spoil):
    folder, *_ = languages(tmp_path / "theirs")
    change, said = SPOILT[spoil]
    change(folder)
    with pytest.raises(CheckpointError, match=said):
        find(folder / "parameters.npy")
    with pytest.raises(CheckpointError, match=said):
        import_checkpoints([folder], tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
