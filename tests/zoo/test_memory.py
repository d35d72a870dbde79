"""Zoos larger than memory are read and trained on like others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rnnatlas.emulation.data import Snapshots
from rnnatlas.emulation.model import EmulationSettings, read_metrics
from rnnatlas.emulation.training import train
from rnnatlas.zoo import memory
from rnnatlas.zoo.store import Zoo


@pytest.fixture
def scarce(monkeypatch, tmp_path):
    """Little memory, and a folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(memory, "free", lambda: 100)
    monkeypatch.setattr(memory.tempfile, "tempdir", str(folder))
    return folder


def in_a_file(array):
    """Whether an array's memory is that of a file in the folder for temporary ones."""
    place = array.data_ptr() if isinstance(array, torch.Tensor) else array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= place < end:
            return "/temporary/" in line
    return False


def test_what_is_read_is_the_same_and_lies_in_a_file(zoo_folder, scarce, monkeypatch):
    scarce_zoo = Zoo.open(zoo_folder)
    table = scarce_zoo.snapshots(split="train")
    weights, inputs = scarce_zoo.weights(table), scarce_zoo.rollout_inputs(table)
    assert in_a_file(inputs)
    assert all(in_a_file(vectors) for _, _, vectors in weights)
    assert not list(scarce.iterdir()), "the files have no names"
    snapshots = Snapshots.of(scarce_zoo, table)
    assert in_a_file(snapshots.targets)
    monkeypatch.undo()
    zoo = Zoo.open(zoo_folder)
    others = zoo.weights(table)
    assert not in_a_file(others[0][2])
    assert all(np.array_equal(own[2], other[2]) for own, other in zip(weights, others, strict=True))
    assert np.array_equal(inputs, zoo.rollout_inputs(table))
    batch, other = snapshots.draw(4, 2, 0, 3), Snapshots.of(zoo, table).draw(4, 2, 0, 3)
    assert all(torch.equal(batch[name], other[name]) for name in other)


def test_what_is_trained_is_the_same(zoo_folder, tmp_path, scarce, monkeypatch):
    settings = EmulationSettings(steps=4, rnns=4, validate_every=2, validation_rollouts=2)
    for name in ("scarce", "plenty"):
        train(Zoo.open(zoo_folder), "statistics", tmp_path / name, settings=settings, progress=False)
        monkeypatch.undo()
    assert read_metrics(tmp_path / "scarce") == read_metrics(tmp_path / "plenty")


def test_rows_are_copied_in_chunks(monkeypatch):
    monkeypatch.setattr(memory, "CHUNK", 3)
    values = np.arange(40.0).reshape(20, 2)
    index = np.array([3, 3, 19, 0, 7, 8, 1])
    assert np.array_equal(memory.rows_of(values, index), values[index])
    values[7, 1] = np.nan
    assert memory.finite(values).tolist() == [row != 7 for row in range(20)]
    assert memory.finite(values[:0]).shape == (0,)
    assert memory.free() > 0
