"""Zoos of rotated digits from the command line, and where their images come from."""

import json
from pathlib import Path

import pytest

from rnnatlas.cli import main
from rnnatlas.tasks import digits
from rnnatlas.zoo.store import Zoo

FEW = ["--runs", "5", "--workers", "1", "--quiet"]
for change in (
    "task.metric_images=20",
    "zoo.hidden=4",
    "zoo.layers=1",
    "zoo.batch=4",
    "zoo.snapshots=[0, 2]",
):
    FEW += ["--set", change]
SHARED = Path(__file__).parents[3] / "shared" / "data" / "mnist.npz"


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(digits.CACHE, str(tmp_path / "cache"))


def check_zoo(capsys, path):
    zoo = Zoo.open(path)
    assert len(zoo) == 10
    assert {row["split"] for row in zoo.table.to_pylist()} <= {"train", "validation", "ood"}
    status, out, _ = call(capsys, "zoo", "verify", path, "--all", "--json", "--quiet")
    assert status == 0
    assert json.loads(out)["agree"] == 10
    assert "°" in call(capsys, "zoo", "show", path)[1]


def test_tiled_digits_need_nothing(tmp_path, capsys):
    status, _, err = call(capsys, "zoo", "build", "tiled-digits", "--out", tmp_path / "zoo", *FEW)
    assert (status, err) == (0, "")
    check_zoo(capsys, tmp_path / "zoo")
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_tiled_mnist_takes_a_file_once(tmp_path, capsys):
    if not SHARED.is_file():
        pytest.skip(f"needs MNIST at {SHARED}")
    status, _, err = call(
        capsys, "zoo", "build", "tiled-mnist", "--data", SHARED, "--out", tmp_path / "a", *FEW
    )
    assert (status, err) == (0, "")
    check_zoo(capsys, tmp_path / "a")
    digits.load.cache_clear()
    assert call(capsys, "zoo", "build", "tiled-mnist", "--out", tmp_path / "b", *FEW)[0] == 0
    weights = [Zoo.open(tmp_path / name) for name in "ab"]
    assert weights[0].population(range(10)).flatten().equal(weights[1].population(range(10)).flatten())


@pytest.mark.parametrize("task", ["tiled-digits", "formal-languages"])
def test_data_for_a_task_that_brings_its_own_are_refused(task, tmp_path, capsys):
    status, out, err = call(capsys, "zoo", "build", task, "--data", tmp_path, "--out", tmp_path / "zoo")
    assert (status, out) == (2, "")
    assert "brings its own data" in err
    assert not (tmp_path / "zoo").exists()


def test_runs_cannot_be_held_out_of_angles_that_each_have_one(tmp_path, capsys):
    flags = ["--out", tmp_path / "zoo", *FEW, "--set=zoo.split.new_runs=0.2"]
    status, out, err = call(capsys, "zoo", "build", "tiled-digits", *flags)
    assert (status, out) == (2, "")
    assert "new_runs should be 0 for tiled-digits, where every run has its own angle, found 0.2" in err
    assert not (tmp_path / "zoo").exists()


def test_data_that_are_not_mnist_end_in_one_sentence_and_leave_no_zoo(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    status, out, err = call(
        capsys, "zoo", "build", "tiled-mnist", "--data", tmp_path / "empty", "--out", tmp_path / "zoo"
    )
    assert (status, out) == (1, "")
    assert "should hold train-images-idx3-ubyte.gz" in err
    assert "Traceback" not in err
    assert not (tmp_path / "zoo").exists()
    assert not (tmp_path / "cache").exists()
