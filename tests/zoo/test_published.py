"""Zoos in the layout of Herrmann et al. (2024): made of a zoo of ours, and read back."""

import json

import numpy as np
import pytest
import torch

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.tasks.tiled_mnist import TiledMNIST
from rnnatlas.zoo.published import import_published
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.verify import verify


def outputs(zoo, rows, strings):
    """Log-probabilities in single precision, [row, rollout, time, token]."""
    return zoo.task.outputs(zoo.population(rows), torch.from_numpy(strings)).numpy()


def padded(strings, eos):
    """Strings with EOS from the first one on."""
    return np.where(np.cumsum(strings == eos, axis=-1) > 0, eos, strings).astype(np.uint8)


def save(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.fixture
def arrays(zoo_folder):
    """A zoo of ours as arrays: runs one after the other, three snapshots each."""
    zoo = Zoo.open(zoo_folder)
    rows = np.arange(len(zoo))
    sequences = padded(zoo.rollout_inputs(rows), zoo.task.eos)
    table = zoo.table
    correct = [one["performance"] for one in table["metrics"].to_pylist()]
    found = {
        "parameters": zoo.population(rows).flatten().numpy(),
        "sequences": sequences.astype(np.int64),
        "logits": outputs(zoo, rows, sequences),
        "tasks": np.array([[one["b"]] for one in table["task"].to_pylist()]),
        "num_step_correct": np.stack([table["step"].to_numpy(), np.array(correct) + 1e-3], axis=1),
    }
    return found, zoo


@pytest.fixture
def taken(arrays, tmp_path):
    """Imports arrays of the zoo, with some of them replaced, and a part of the rows."""

    def take(rows=slice(15), **changed):
        found, _ = arrays
        chosen = {name: array[rows] for name, array in (found | changed).items()}
        return import_published(save(tmp_path / "published", **chosen), tmp_path / "imported")

    return take


def said(zoo):
    return " ".join(zoo.card["settings"]["remarks"])


def test_a_zoo_comes_back_with_its_tasks_steps_and_strings(arrays, tmp_path):
    found, zoo = arrays
    folder = save(tmp_path / "published", **found)
    (folder / "args.json").write_text(json.dumps({"model": {"hidden_size": 6, "num_layers": 1}}))
    again = import_published(folder, tmp_path / "imported", seed=3)
    for name in ("step", "run"):
        assert again.table[name].to_pylist() == zoo.table[name].to_pylist()
    assert [one["b"] for one in again.table["task"].to_pylist()] == found["tasks"][:, 0].tolist()
    assert again.specs == zoo.specs
    rows = np.arange(len(zoo))
    torch.testing.assert_close(again.population(rows).flatten(), zoo.population(rows).flatten())
    np.testing.assert_array_equal(again.rollout_inputs(rows), found["sequences"])
    assert {"train", "validation", "ood"} == set(again.table["split"].to_pylist())
    assert verify(again, sample=None).agree == len(again)
    assert "args.json (hidden 6, layers 1)" in said(again)
    assert "order of rows" in said(again)
    counted = [one["counted"] for one in again.table["metrics"].to_pylist()]
    np.testing.assert_allclose(counted, found["num_step_correct"][:, 1], rtol=1e-6)


@pytest.mark.parametrize("place", [0, 1])
def test_an_overwritten_token_is_told_by_the_outputs(arrays, taken, place):
    found, zoo = arrays
    sequences = found["sequences"].copy()
    whole = (sequences[:15, :, 1] != zoo.task.eos) & (sequences[:15, :, 2] != zoo.task.eos)
    assert whole.sum() > 10
    sequences[:15, :, place][whole] = zoo.task.eos
    again = taken(sequences=sequences)
    np.testing.assert_array_equal(again.rollout_inputs(np.arange(15)), found["sequences"][:15])
    assert f"{whole.sum()} strings began with EOS and went on: in {whole.sum()} the token" in said(again)
    flagged = [note is not None for note in again.table["notes"].to_pylist()]
    assert flagged == whole.any(axis=1).tolist()


def test_an_overwritten_string_whose_outputs_do_not_tell_is_sampled_anew(arrays, taken):
    found, zoo = arrays
    sequences = found["sequences"].copy()
    sequences[4, 2, :4] = [zoo.task.bos, zoo.task.eos, 0, 1]  # and what the RNN gives out when it reads that
    logits = outputs(zoo, np.arange(len(zoo)), sequences.astype(np.uint8))
    again = taken(sequences=sequences, logits=logits)
    assert "in 0 the token that was overwritten is known from the outputs, 1 were replaced" in said(again)
    strings = again.rollout_inputs([4])[0]
    assert strings[2, 0] == zoo.task.bos
    assert strings[2].tolist() != sequences[4, 2].tolist()
    np.testing.assert_array_equal(np.delete(strings, 2, 0), np.delete(sequences[4], 2, 0))
    assert verify(again, sample=None).agree == 15


def test_weights_in_another_order_are_refused(arrays, taken, tmp_path):
    found, _ = arrays
    head = 4 * 6 + 4
    other = np.concatenate([found["parameters"][:, -head:], found["parameters"][:, :-head]], axis=1)
    with pytest.raises(CheckpointError, match="found outputs that differ: LSTM 4→6→4 by up to"):
        taken(parameters=other)
    assert not (tmp_path / "imported").exists()


def test_one_row_of_other_weights_is_refused(arrays, taken):
    parameters = arrays[0]["parameters"].copy()
    parameters[3] = parameters[9]
    with pytest.raises(CheckpointError, match="row 3 of parameters"):
        taken(parameters=parameters)


def test_rows_of_weights_that_are_not_finite_are_marked(arrays, taken):
    parameters = arrays[0]["parameters"].copy()
    parameters[3, 5] = np.nan
    assert taken(parameters=parameters).table["health"].to_pylist().count("diverged") == 1


def test_tokens_in_another_order_become_ours(arrays, taken):
    found, zoo = arrays
    theirs = np.array([3, 2, 0, 1])  # of our a, b, BOS, EOS: b comes before a
    letters_ours = np.argsort(theirs)
    population = zoo.population(np.arange(len(zoo)))
    weights = dict(population.weights)
    weights["weight_ih_l0"] = weights["weight_ih_l0"][..., letters_ours]
    weights |= {name: weights[name][:, letters_ours] for name in ("head.weight", "head.bias")}
    again = taken(
        parameters=Population(population.spec, weights).flatten().numpy(),
        sequences=theirs[found["sequences"]],
        logits=found["logits"][..., letters_ours],
    )
    swapped = np.array([1, 0, 2, 3])[found["sequences"][:15]]
    np.testing.assert_array_equal(again.rollout_inputs(np.arange(15)), swapped)
    assert "BOS is token 0 and EOS 1" in said(again)
    assert verify(again, sample=None).agree == 15


def test_rows_in_disorder_share_a_run_by_task(arrays, taken):
    found, _ = arrays
    rows = np.random.default_rng(0).permutation(42)[:15]
    again = taken(rows)
    assert "nothing in the files says which rows are of one run" in said(again)
    tasks = found["tasks"][rows, 0].tolist()
    assert len(set(zip(again.table["run"].to_pylist(), tasks, strict=True))) == len(set(tasks))


def test_runs_that_are_numbered_are_known_in_any_order(arrays, taken):
    found, zoo = arrays
    rows = np.random.default_rng(0).permutation(42)[:15]
    run = zoo.table["run"].to_numpy()
    again = taken(rows, num_step_correct=np.column_stack([found["num_step_correct"], run]))
    assert again.table["step"].to_pylist() == zoo.table["step"].to_numpy()[rows].tolist()
    assert again.table["run"].to_pylist() == np.unique(run[rows], return_inverse=True)[1].tolist()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"num_step_correct": np.ones((42, 2))}, "a column of steps and one of shares"),
        ({"num_step_correct": np.full((42, 2), 700.0)}, "a column of steps and one of shares"),
        ({"num_step_correct": np.zeros((41, 2))}, "a row a snapshot"),
        ({"tasks": np.zeros((42, 3))}, "1 small whole numbers a row"),
        ({"logits": np.zeros((42, 5, 12, 4))}, "time − 1"),
        ({"sequences": np.full((42, 5, 12), 4)}, "tokens from 0 to 3"),
        ({"parameters": np.zeros((42, 17))}, "17 numbers a row"),
    ],
)
def test_what_cannot_be_told_is_refused(taken, changed, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        taken(slice(None), **changed)


@pytest.fixture
def digits():
    """Untrained RNNs that read images of noise, as arrays: three snapshots of each of four angles."""
    task, random = TiledMNIST(), np.random.default_rng(0)
    spec = RNNSpec(cell="lstm", input=16, hidden=5, layers=2, output=10)
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(12)])
    population = Population(spec, population.weights, task.interface)
    stored = torch.from_numpy(random.integers(0, 256, (12, 3, 2 + 28**2), dtype=np.uint8))
    losses = random.random((12, 3)) * [0.01, 0.01, 0.9] + [2.4, 2.5, 0.05]
    arrays = {
        "parameters": population.flatten().numpy(),
        "sequences": task.encode_inputs(stored).numpy(),
        "logits": task.outputs(population, stored).numpy(),
        "tasks": np.repeat([10.0, 100.5, 250.25, 330.0], 3),
        "num_step": np.tile([0, 100, 200], 4),
        "accuracy_losses": losses,
    }
    return arrays, stored.numpy()


def test_a_zoo_of_rotated_digits(digits, tmp_path):
    arrays, stored = digits
    zoo = import_published(save(tmp_path / "published", **arrays), tmp_path / "imported")
    assert zoo.table["run"].to_pylist() == np.repeat(range(4), 3).tolist()
    assert zoo.table["split"].to_pylist()[-3:] == ["ood"] * 3  # an angle of 330 degrees
    np.testing.assert_array_equal(zoo.rollout_inputs(np.arange(12))[..., 2:], stored[..., 2:])
    metrics = zoo.table["metrics"].to_pylist()
    for name, column in (("performance", 2), ("validation_loss", 1), ("training_loss", 0)):
        found = [one[name] for one in metrics]
        np.testing.assert_allclose(found, arrays["accuracy_losses"][:, column], rtol=1e-6)
    assert all(one["generalisation_gap"] > 0 for one in metrics)
    assert verify(zoo, sample=None).agree == 12
    assert zoo.task.show(zoo.rollout_inputs([0])[0])[0] == "?↺"


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("tasks", np.linspace(0, 6, 12), "in degrees"),
        ("accuracy_losses", np.full((12, 2), 3.0), "should have one accuracy"),
        ("sequences", np.ones((12, 3, 50, 16)), "begin with a tile of zeros"),
    ],
)
def test_digits_that_cannot_be_told_are_refused(digits, tmp_path, name, array, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        import_published(save(tmp_path / "published", **digits[0] | {name: array}), tmp_path / "imported")


def test_losses_that_do_not_tell_training_from_validation_are_left_out(digits, tmp_path):
    arrays, _ = digits
    arrays["accuracy_losses"][:, :2] = 2.5 + np.random.default_rng(1).normal(0, 0.1, (12, 2))
    zoo = import_published(save(tmp_path / "published", **arrays), tmp_path / "imported")
    assert list(zoo.table["metrics"][0].as_py()) == ["performance"]
    assert "losses are left out" in said(zoo)
