"""Training on a GPU: what a CUDA graph reads, what is trained side by side, and that zoos are the same."""

import dataclasses

import pytest
import torch

from rnnatlas.captured import Captured, Inputs
from rnnatlas.errors import SettingsError
from rnnatlas.zoo.build import _jobs, build
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.target import Target
from rnnatlas.zoo.train import Chunk, _Update, initialise, train

from .conftest import SETTINGS, TASK

GPU = torch.cuda.is_available()


def chunk(*runs, settings=SETTINGS):
    return Chunk(TASK, settings, 7, runs, ["train"] * len(runs))


def test_batches_are_copied_to_where_the_first_one_was():
    some = chunk(0, 3)
    batches = TASK.batches(some.instances, 8, some.streams("batches"))
    inputs, first = Inputs(torch.device("cpu")), vars(next(batches))
    static = inputs(first)
    places = {name: tensor.data_ptr() for name, tensor in static.items()}
    for _ in range(5):
        batch = vars(next(batches))
        assert inputs(batch) is static
        for name, tensor in batch.items():
            assert static[name].data_ptr() == places[name] != tensor.data_ptr()
            assert torch.equal(static[name], tensor)
    assert not torch.equal(static["weights"], first["weights"])


def test_what_batches_share_is_copied_once():
    some = chunk(0, 3)
    batches = TASK.batches(some.instances, 8, some.streams("batches"))
    inputs = Inputs(torch.device("cpu"))
    static = inputs(vars(next(batches)))
    version = static["inputs"]._version
    inputs(vars(next(batches)))
    assert static["inputs"]._version == version


def test_a_rate_in_memory_is_as_good_as_a_number():
    results = []
    for rate in (0.02, torch.tensor(0.02)):
        some = chunk(2, 5)
        population = initialise(some).requires_grad_()
        update = _Update(some, population)
        batches = TASK.batches(some.instances, 8, some.streams("batches"))
        for _ in range(3):
            update(next(batches), rate)
        results.append(population.detach().flatten())
    assert torch.allclose(*results, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(results[0], initialise(chunk(2, 5)).flatten(), atol=1e-3)


def test_files_trained_side_by_side_hold_what_each_would_alone(zoo_folder, tmp_path):
    zoo = Zoo.open(zoo_folder)
    shards = sorted(path.relative_to(zoo_folder) for path in zoo_folder.rglob("*.parquet"))
    runs = [range(first, min(first + 4, 14)) for first in range(0, 14, 4)]
    splits = dict(zip(zoo.table["run"].to_pylist(), zoo.table["split"].to_pylist(), strict=True))
    chunks = {str(s): Chunk(TASK, SETTINGS, 7, own, [splits[r] for r in own]) for s, own in zip(shards, runs)}
    other = tmp_path / "other"
    (other / shards[0]).parent.mkdir(parents=True)
    (other / "zoo.json").write_bytes((zoo_folder / "zoo.json").read_bytes())
    [job] = _jobs(Target(str(other)), chunks, SETTINGS, "cuda")
    assert job.work.device == "cuda"
    assert job.updates == 14 * SETTINGS.steps
    dataclasses.replace(job.work, device="cpu")(lambda updates: None)
    assert job.done
    ours = Zoo.open(other)
    small = ["id", "run", "step", "task", "split", "seed", "health"]
    assert ours.table.select(small).equals(zoo.table.select(small))
    rows = range(len(zoo))
    assert torch.allclose(ours.population(rows).flatten(), zoo.population(rows).flatten(), atol=1e-4)


def test_a_gpu_trains_runs_of_several_files_side_by_side():
    chunks = {f"{number}": chunk(number) for number in range(5)}
    settings = dataclasses.replace(SETTINGS, runs_per_shard=500)
    files = [
        [file.path.name for file, _ in job.work.files]
        for job in _jobs(Target("zoo"), chunks, settings, "cuda")
    ]
    assert files == [["0", "1"], ["2", "3"], ["4"]]


@pytest.mark.skipif(GPU, reason="there is a CUDA device")
def test_a_gpu_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match=r"finds no CUDA device; use --device cpu"):
        build(TASK, SETTINGS, tmp_path / "zoo", device="cuda")
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("asked", [{"workers": 2}, {"device": "tpu"}])
def test_what_a_gpu_cannot_be_asked(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SettingsError, match=r"one process|auto, cpu or cuda"):
        build(TASK, SETTINGS, tmp_path / "zoo", **{"device": "cuda", **asked})


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device")
def test_a_graph_draws_anew_as_it_is_seeded():
    captured = Captured(lambda scale: torch.rand(8, device="cuda") * scale, torch.device("cuda"))
    for seed in (0, 1, 2, 3, 4, 3):  # the first three plainly
        torch.cuda.manual_seed(seed)
        found = captured(scale=torch.tensor(2.0)).clone()
        torch.cuda.manual_seed(seed)
        assert torch.equal(found, torch.rand(8, device="cuda") * 2)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device")
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman-tanh"])
def test_training_on_a_gpu_is_training(cell):
    some = chunk(0, 3, 9, settings=dataclasses.replace(SETTINGS, cell=cell, layers=2))
    on_cpu, on_gpu = dict(train(some)), dict(train(some, device="cuda"))
    for step, population in on_gpu.items():
        assert population.device.type == "cuda"
        assert torch.allclose(population.flatten().cpu(), on_cpu[step].flatten(), atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device")
def test_a_zoo_does_not_depend_on_the_device(zoo_folder, tmp_path):
    zoo, other = Zoo.open(zoo_folder), build(TASK, SETTINGS, tmp_path / "other", seed=7, device="cuda")
    small = ["id", "run", "step", "task", "split", "seed", "health"]
    assert zoo.table.select(small).equals(other.table.select(small))
    rows = range(len(zoo))
    assert torch.allclose(zoo.population(rows).flatten(), other.population(rows).flatten(), atol=1e-3)
    assert (zoo.rollouts(rows).inputs == other.rollouts(rows).inputs).mean() > 0.99
