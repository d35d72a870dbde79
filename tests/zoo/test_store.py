import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import rnnatlas
from rnnatlas.errors import RNNSpecMismatch, SettingsError, UnknownName, ZooFormatError
from rnnatlas.rnn import Population, RNNSpec, run
from rnnatlas.zoo.folder import Folder
from rnnatlas.zoo.format import Shard, as_column, column_shape, shard_name, write_card, write_shard
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.target import Target

from .conftest import TASK


def shards(folder):
    return sorted(folder.glob("data/*/part-*.parquet"))


def rewrite(path, **columns):
    """Writes a shard again with some columns changed."""
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    write_shard(path, table)


def weights(path):
    column = pq.read_table(path)["weights"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1).copy()


# --- reading -------------------------------------------------------------------------------------


def test_populations_and_rollouts_belong_together(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    rows = [40, 3, 17, 3]
    population, rollouts = zoo.population(rows), zoo.rollouts(rows)
    assert len(population) == 4
    answers = TASK.outputs(population, torch.from_numpy(rollouts.inputs))
    assert np.allclose(answers.numpy(), rollouts.outputs.astype(np.float32), atol=5e-3)
    assert torch.equal(population.flatten()[1], population.flatten()[3])


def test_what_is_read_is_a_copy(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    zoo.population([0]).weights["head.bias"].zero_()
    zoo.rollouts([0]).inputs[:] = 9
    assert zoo.population([0]).weights["head.bias"].abs().sum() > 0
    assert zoo.rollouts([0]).inputs.max() < 9


def test_the_task_is_made_again_from_the_card(zoo_folder):
    zoo = Zoo.open(str(zoo_folder))
    assert zoo.task is not None
    assert zoo.task.settings == TASK.settings
    assert zoo.card["seed"] == 7
    assert [str(spec) for spec in zoo.specs] == ["LSTM 4→6→4"]


def test_snapshots_are_chosen_by_split_and_sql(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    chosen = zoo.snapshots(split="train", where="step > 0 AND performance >= 0")
    assert set(chosen["split"].to_pylist()) == {"train"}
    assert set(chosen["step"].to_pylist()) == {4, 12}
    ids = [zoo.table["id"][row].as_py() for row in chosen["row"].to_pylist()]
    assert ids == chosen["id"].to_pylist()
    assert len(zoo.population(chosen)) == len(chosen)
    assert len(zoo.snapshots()) == len(zoo)
    with pytest.raises(UnknownName, match="setp"):
        zoo.snapshots(where="setp > 3")


def test_a_split_that_does_not_exist_is_named(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    there = ", ".join(zoo.table["split"].unique().to_pylist())
    with pytest.raises(UnknownName, match=f"no split is called 'exam'; those of this zoo are {there}"):
        zoo.snapshots(split="exam")
    table = zoo.table.filter(pa.array([split == "train" for split in zoo.table["split"].to_pylist()]))
    zoo.table = table
    assert zoo.snapshots(split="ood").num_rows == 0  # one that this zoo lacks


@pytest.mark.parametrize("rows", [[], np.zeros(0), np.zeros(0, dtype=bool), "none"])
def test_no_rows_have_no_rollouts_and_no_population(zoo_folder, rows):
    zoo = Zoo.open(zoo_folder)
    rows = zoo.snapshots(where="step < 0") if isinstance(rows, str) else rows
    none, some = zoo.rollouts(rows), zoo.rollouts([0])
    for empty, full in ((none.inputs, some.inputs), (none.outputs, some.outputs)):
        assert (empty.shape, empty.dtype) == ((0, *full.shape[1:]), full.dtype)
    assert zoo.groups(rows) == []
    assert zoo.finite(rows).shape == (0,)
    with pytest.raises(RNNSpecMismatch, match="found none"):
        zoo.population(rows)


def test_rows_are_positions(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    for rows in (np.array([1.5]), np.ones(len(zoo), dtype=bool), np.array(["a"])):
        with pytest.raises(IndexError, match=r"rows of this zoo are whole numbers .*np\.flatnonzero"):
            zoo.population(rows)


def test_rows_outside_the_zoo_are_refused(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    for rows in ([42], [-1]):
        with pytest.raises(IndexError, match="0 to 41"):
            zoo.population(rows)


def test_shards_are_read_when_they_are_needed(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    last = shards(zoo_folder)[-1]
    last.unlink()
    assert len(zoo.population([0])) == 1
    with pytest.raises(ZooFormatError, match=last.name):
        zoo.population([len(zoo) - 1])


def test_unknown_columns_are_kept(zoo_folder):
    for path in shards(zoo_folder):
        table = pq.read_table(path)
        write_shard(path, table.append_column("mood", pa.array(["good"] * len(table))))
    zoo = Zoo.open(zoo_folder)
    assert zoo.snapshots(where="mood = 'good'").num_rows == len(zoo)


def test_a_zoo_of_several_specs(tmp_path):
    specs = [RNNSpec(cell=cell, input=3, hidden=4, output=2) for cell in ("gru", "elman-relu")]
    counts = {}
    populations = {}
    for number, spec in enumerate(specs):
        populations[spec] = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(3)])
        table = pa.table(
            {
                "id": [f"{number}-{i}" for i in range(3)],
                "run": [0, 1, 2],
                "step": [-1] * 3,
                "health": ["ok"] * 3,
                "weights": as_column(populations[spec].flatten().numpy()),
            }
        )
        write_shard(tmp_path / shard_name(spec, 0), table)
        counts[spec] = (1, 3)
    write_card(tmp_path, task=None, settings={}, seed=None, expected=counts, present=counts)
    zoo = Zoo.open(tmp_path)
    assert zoo.task is None
    groups = zoo.groups([5, 0, 4])
    assert [(positions.tolist(), population.spec) for positions, population in groups] == [
        ([1], specs[0]),
        ([0, 2], specs[1]),
    ]
    assert torch.equal(groups[1][1].flatten(), populations[specs[1]].flatten()[[2, 1]])
    mixed = zoo.population([5, 0, 4])
    inputs = torch.randn(3, 1, 2, 3)
    alone = [populations[spec].select([row]) for spec, row in ((specs[1], 2), (specs[0], 0), (specs[1], 1))]
    expected = torch.cat([run(one, inputs[i : i + 1])[0] for i, one in enumerate(alone)])
    assert torch.allclose(mixed.run(inputs)[0], expected, atol=1e-6)
    with pytest.raises(ZooFormatError, match="imported RNNs have no rollouts"):
        zoo.rollouts([0])


@pytest.mark.parametrize("name", ["a::b", "~", "a#b?c=d"])
def test_a_folder_may_have_any_name(zoo_folder, tmp_path, monkeypatch, name):
    shutil.copytree(zoo_folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (name, Path(name), tmp_path / name):
        assert len(Zoo.open(path)) == len(Zoo.open(zoo_folder))


def test_a_zoo_elsewhere_is_read_through_fsspec(zoo_folder):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(zoo_folder), "/zoo", recursive=True)
    zoo = Zoo.open("memory://zoo")
    assert torch.equal(zoo.population([5]).flatten(), Zoo.open(zoo_folder).population([5]).flatten())
    with pytest.raises(ZooFormatError, match="no zoo at memory://elsewhere"):
        Zoo.open("memory://elsewhere")


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("s3://bucket/zoo", ImportError("Install s3fs to access S3"), r'pip install "rnnatlas\[s3\]"'),
        ("gs://b/z", ImportError("Please install gcsfs"), "Please install gcsfs"),
        ("nope://zoo", None, "nope"),
    ],
)
def test_addresses_that_cannot_be_opened(monkeypatch, path, error, words):
    if error is not None:
        import fsspec

        def refuse(_):
            raise error

        monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(ZooFormatError, match=rf"zoo {path} is at an address that cannot be opened.*{words}"):
        Zoo.open(path)
    with pytest.raises(SettingsError, match=words):
        Target(path).names()


def test_datasets_can_load_a_zoo(zoo_folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the extra `hub` is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    loaded = datasets.load_dataset(str(zoo_folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(loaded) == 42
    expected = Zoo.open(zoo_folder).population([41]).flatten()[0]
    assert torch.equal(torch.tensor(loaded[41]["weights"]), expected)
    assert loaded[41]["task"] == TASK.instance(13, 7)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (2, 3, 4, 5), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_array_columns_round_trip(tmp_path, shape, dtype):
    array = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    spec = RNNSpec(cell="elman-tanh", input=1, hidden=1)
    flat = np.zeros((shape[0], spec.parameters), np.float32)
    count = shape[0]
    columns = {"id": pa.array([""] * count), "run": pa.array([0] * count), "step": pa.array([0] * count)}
    write_shard(tmp_path / "x", pa.table({**columns, "weights": as_column(flat), "array": as_column(array)}))
    shard = Shard(Folder(tmp_path), "x", spec)
    assert column_shape(shard.schema.field("array").type) == (shape[1:], np.dtype(dtype))
    again = np.empty_like(array)
    shard.read_array("array", again)
    assert np.array_equal(again, array)


# --- what can be wrong ---------------------------------------------------------------------------


def read_all(folder):
    zoo = Zoo.open(folder)
    zoo.population(range(len(zoo)))
    zoo.rollouts(range(len(zoo)))


def refused(folder, message):
    with pytest.raises(ZooFormatError, match=message) as caught:
        read_all(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_a_missing_zoo(tmp_path):
    refused(tmp_path / "nowhere", "no zoo at")
    refused(tmp_path, r"has no zoo\.json")
    (tmp_path / "zoo.json").write_text("{")
    refused(tmp_path, "damaged")
    (tmp_path / "zoo.json").write_text("[]")
    refused(tmp_path, "damaged")


def test_a_half_copied_zoo(zoo_folder):
    shards(zoo_folder)[1].unlink()
    assert "--resume" in refused(zoo_folder, "4 shards .* found 3")
    shutil.rmtree(zoo_folder / "data")
    refused(zoo_folder, "4 shards .* found 0")


def test_a_zoo_of_another_version(zoo_folder):
    card = json.loads((zoo_folder / "zoo.json").read_text())
    for change, message in (({"format": 99}, "version 99"), ({"expected": None}, "damaged")):
        (zoo_folder / "zoo.json").write_text(json.dumps({**card, **change}))
        refused(zoo_folder, message)
    del card["seed"]
    (zoo_folder / "zoo.json").write_text(json.dumps(card))
    refused(zoo_folder, "lacks seed")


def test_a_truncated_shard(zoo_folder):
    path = shards(zoo_folder)[2]
    for size in (0, 4, path.stat().st_size // 2, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        refused(zoo_folder, f"{path.name} .*damaged")


def test_a_flipped_bit_does_not_go_unnoticed(zoo_folder):
    path = shards(zoo_folder)[2]
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    for place in np.random.default_rng(0).integers(4, len(whole) - footer, 30):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (int(place) % 8)
        path.write_bytes(flipped)
        refused(zoo_folder, f"{path.name} .*damaged")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), OSError(24, "no"), MemoryError(), OSError(5, "no")], ids=repr
)
def test_a_shard_that_cannot_be_read_is_not_called_damaged(zoo_folder, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pq, "ParquetFile", fail)
    assert "damaged;" not in refused(zoo_folder, "cannot be read").replace("nothing is damaged", "")


def test_a_zoo_is_read_without_threads(zoo_folder):
    """By a process of another user who may start none; its shards were called damaged."""
    code = """if True:
        import os, resource, sys, torch, pyarrow.compute
        import rnnatlas.tasks.formal_languages
        from rnnatlas.zoo.store import Zoo
        if os.getuid() == 0:
            os.setuid(65534)  # root has no limit
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        torch.set_num_threads(1)
        zoo = Zoo.open(sys.argv[1])
        assert len(zoo.population(range(len(zoo)))) == 42
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(rnnatlas.__file__).parents[1])}
    with tempfile.TemporaryDirectory() as open_to_others:
        Path(open_to_others).chmod(0o755)
        shutil.copytree(zoo_folder, f"{open_to_others}/zoo")
        command = [sys.executable, "-c", code, f"{open_to_others}/zoo"]
        subprocess.run(command, env=environment, check=True, timeout=120)


def test_a_folder_may_be_called_like_a_pattern(zoo_folder):
    renamed = zoo_folder.rename(zoo_folder.with_name("zoo[1]*"))
    assert len(Zoo.open(renamed)) == 42


def test_a_shard_of_other_rnns(zoo_folder):
    path = shards(zoo_folder)[0]
    rewrite(path, weights=as_column(weights(path)[:, :-1].copy()))
    refused(zoo_folder, "should hold 316 float32 weights")


def test_a_shard_of_other_columns(zoo_folder):
    path = shards(zoo_folder)[1]
    rewrite(path, seed=pa.array([7] * 12, pa.int32()))
    refused(zoo_folder, "same columns")
    rewrite(path, seed=pa.array(["7"] * 12))
    refused(zoo_folder, f"{path.name} .* is damaged .*'seed' is of the type string")
    write_shard(path, pq.read_table(path).drop_columns(["run"]))
    refused(zoo_folder, "should have one column 'run', found 0")


def test_a_shard_with_rows_missing(zoo_folder):
    path = shards(zoo_folder)[1]
    write_shard(path, pq.read_table(path).slice(0, 5))
    refused(zoo_folder, "42 snapshots, found 35")


def test_weights_that_are_not_finite(zoo_folder):
    path = shards(zoo_folder)[1]
    damaged = weights(path)
    damaged[3, 10] = np.nan
    rewrite(path, weights=as_column(damaged))
    assert "run-00005-step-00000" in refused(zoo_folder, "not finite")
    zoo = Zoo.open(zoo_folder)
    assert len(zoo.population(range(12))) == 12
    assert zoo.finite(range(42)).sum() == 41


def test_run_takes_what_a_zoo_gives(zoo_folder):
    population = Zoo.open(zoo_folder).population(range(4))
    outputs, _ = run(population, torch.zeros(2, 3, 4))
    assert outputs.shape == (4, 2, 3, 4)
