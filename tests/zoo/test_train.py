import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import cross_entropy

from rnnatlas import tasks
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Population
from rnnatlas.rnn.backends import kernels
from rnnatlas.settings import as_dict
from rnnatlas.settings import build as build_settings
from rnnatlas.zoo.build import build
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.train import (
    Architecture,
    Chunk,
    Range,
    ZooSettings,
    initialise,
    snapshots_table,
    train,
)

from .conftest import SETTINGS, TASK


def chunk(*runs, settings=SETTINGS, seed=7):
    return Chunk(TASK, settings, seed, runs, ["train"] * len(runs))


def test_initialisation_and_batches_do_not_depend_on_the_chunk():
    together, alone = chunk(0, 3, 9), chunk(9)
    assert torch.equal(initialise(together).flatten()[2], initialise(alone).flatten()[0])
    many = TASK.batches(together.instances, 8, together.streams("batches"))
    one = TASK.batches(alone.instances, 8, alone.streams("batches"))
    for _ in range(5):
        ours, own = next(many), next(one)
        assert torch.equal(ours.inputs[2], own.inputs[0])
        assert torch.equal(ours.targets[2], own.targets[0])
        assert torch.equal(ours.weights[2], own.weights[0])


def test_runs_have_initialisations_of_their_own():
    flat = initialise(chunk(*range(6))).flatten()
    assert len(torch.unique(flat, dim=0)) == 6
    assert not torch.equal(initialise(chunk(0, seed=8)).flatten()[0], flat[0])


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 1), ("lstm", 2), ("leaky-tanh", 1)])
def test_training_is_torchs_adamw_on_a_torch_module(cell, layers):
    """One run of a chunk against a module, `AdamW` and the strings drawn one by one."""
    settings = dataclasses.replace(SETTINGS, cell=cell, layers=layers)
    both = chunk(2, 5, settings=settings)
    snapshots = dict(train(both))
    alone = chunk(5, settings=settings)
    [module] = initialise(alone).to_modules()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1.0, weight_decay=settings.weight_decay)
    batches = TASK.batches(alone.instances, settings.batch, alone.streams("batches"))
    strings = torch.from_numpy(TASK.strings(alone.instances[0]))
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = np.interp(step, [0, 10], [0.02, 0.01])
        counts = (next(batches).weights[0, : len(strings)] * settings.batch).round().long()
        drawn = strings.repeat_interleave(counts, 0)
        outputs, _ = module(TASK.encode_inputs(drawn))
        optimiser.zero_grad()
        cross_entropy(outputs.flatten(0, 1), drawn[:, 1:].long().flatten()).backward()
        optimiser.step()
        if step + 1 in settings.snapshots:
            expected = Population.from_modules([module]).flatten()[0]
            assert torch.allclose(snapshots[step + 1].flatten()[1], expected, atol=1e-4)
    assert torch.equal(snapshots[0].flatten(), initialise(both).flatten())


def test_training_leaves_alpha_as_it_was():
    settings = dataclasses.replace(SETTINGS, cell="leaky-relu", weight_decay=0.1)
    first, *_, last = (population.weights for _, population in train(chunk(0, 1, settings=settings)))
    assert [name for name in first if torch.equal(first[name], last[name])] == ["alpha_l0"]


TASKS = {
    "formal-languages": {"tokens": 3, "length": 21, "largest_n": 5, "performance_samples": 20},
    "tiled-digits": {"metric_images": 20},
    "integrator": {"time": 12, "response": 4, "earliest": 3},
}


@pytest.mark.skipif(not kernels.available(), reason="eager torch rounds by place in memory")
@pytest.mark.parametrize("cell", sorted(kernels.CELLS))
@pytest.mark.parametrize("name", TASKS)
def test_what_becomes_of_a_run_depends_on_no_other_run_to_the_last_bit(name, cell):
    """Nor on how many threads there are. With 5 units, no tensor ends where vectors of numbers do."""
    task = tasks.registry[name].from_settings(TASKS[name])
    changes = {"cell": cell, "hidden": 5, "layers": 2, "snapshots": (0, 1, 6), "rollouts": 3}
    settings = dataclasses.replace(SETTINGS, **changes)

    def table(*runs):
        return snapshots_table(Chunk(task, settings, 7, runs, ["train"] * len(runs)))

    together = table(*range(5))
    torch.set_num_threads(2)
    apart = pa.concat_tables([table(0), table(1, 2, 3), table(4)])
    torch.set_num_threads(1)
    assert [column for column in together.column_names if not together[column].equals(apart[column])] == []


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_zoo_does_not_depend_on_chunks_and_workers(zoo_folder, tmp_path, workers):
    settings = dataclasses.replace(SETTINGS, runs_per_shard=7)
    other = build(TASK, settings, tmp_path / "other", seed=7, workers=workers)
    zoo = Zoo.open(zoo_folder)
    small = ["id", "run", "step", "task", "split", "seed", "health"]
    assert zoo.table.select(small).equals(other.table.select(small))
    rows = range(len(zoo))
    ours, theirs = zoo.population(rows).flatten(), other.population(rows).flatten()
    start = zoo.table["step"].to_numpy() == 0
    assert torch.equal(ours[start], theirs[start])
    assert torch.allclose(ours, theirs, atol=0 if kernels.available() else 1e-4)
    assert (zoo.rollouts(rows).inputs == other.rollouts(rows).inputs).mean() > 0.995


def test_rows_say_what_they_are(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    assert len(zoo) == 14 * 3
    assert zoo.table["run"].to_pylist() == sorted([*range(14)] * 3)
    assert zoo.table["step"].to_pylist() == [0, 4, 12] * 14
    assert zoo.table["task"].to_pylist() == [TASK.instance(run, 7) for run in range(14) for _ in range(3)]
    assert len(set(zoo.table["id"].to_pylist())) == len(zoo)
    assert set(zoo.table["health"].to_pylist()) == {"ok"}


def test_a_run_that_diverges_is_kept_counted_and_left_out(tmp_path):
    settings = dataclasses.replace(
        SETTINGS, runs=3, learning_rate=((0, 1e38),), snapshots=(0, 3), weight_decay=0.0
    )
    zoo = build(TASK, settings, tmp_path / "zoo", workers=1)
    assert len(zoo) == 6
    assert zoo.table["health"].to_pylist() == ["ok", "diverged"] * 3
    assert zoo.snapshots()["step"].to_pylist() == [0, 0, 0]
    assert len(zoo.snapshots(diverged=True)) == 6


def test_finite_rnns_whose_rollouts_overflow_half_precision_have_diverged(monkeypatch):
    settings = dataclasses.replace(SETTINGS, cell="elman-relu", snapshots=(0,))
    three = chunk(0, 1, 2, settings=settings)
    population = initialise(three)
    population.weights["head.weight"][1] *= 1e6
    population.weights["weight_ih_l0"][1].abs_()
    monkeypatch.setattr("rnnatlas.zoo.train.initialise", lambda chunk: population)
    with np.errstate(over="ignore"):
        table = snapshots_table(three)
    outputs = np.array(table["rollout_outputs"].to_pylist(), dtype=np.float16)
    assert np.isfinite(np.array(table["weights"].to_pylist())).all()
    assert np.isfinite(outputs.reshape(3, -1)).all(1).tolist() == [True, False, True]
    assert table["health"].to_pylist() == ["ok", "diverged", "ok"]


def test_learning_rate_is_linear_between_its_points():
    rates = [ZooSettings().rate(step) for step in (0, 5000, 10_000, 15_000, 20_000, 30_000)]
    assert np.allclose(rates, [0.01, 0.0065, 0.003, 0.00165, 0.0003, 0.0003])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runs": 0}, "^runs"),
        ({"snapshots": ()}, "^snapshots"),
        ({"snapshots": (5, 3)}, "^snapshots"),
        ({"learning_rate": ((0, -1.0),)}, "negative"),
        ({"learning_rate": ((0, float("nan")),)}, "^learning_rate should be finite"),
        ({"weight_decay": float("inf")}, "^weight_decay should be finite"),
        ({"learning_rate": ((5, 0.1), (5, 0.2))}, "^learning_rate"),
    ],
)
def test_settings_refuse_what_cannot_be_trained(values, message):
    with pytest.raises(SettingsError, match=message):
        ZooSettings(**values)


# --- architectures -----------------------------------------------------------------------------------

DRAWN = {
    "a list of cells": ({"cell": ["lstm", "gru"]}, {("lstm", 32, 2), ("gru", 32, 2)}),
    "a list of sizes": ({"hidden": [8, 16], "layers": [1]}, {("lstm", 8, 1), ("lstm", 16, 1)}),
    "a range": (
        {"hidden": {"low": 3, "high": 5}, "layers": 1},
        {("lstm", 3, 1), ("lstm", 4, 1), ("lstm", 5, 1)},
    ),
    "architectures": (
        {"hidden": 8, "architectures": [{"cell": "gru", "hidden": [4, 6]}, {"layers": 1}]},
        {("gru", 4, 2), ("gru", 6, 2), ("lstm", 8, 1)},
    ),
    "one": ({"cell": "gru", "hidden": 7, "layers": 3}, {("gru", 7, 3)}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_each_run_draws_its_architecture_from_what_is_left_open(name):
    values, expected = DRAWN[name]
    settings = build_settings(ZooSettings, values)
    assert build_settings(ZooSettings, as_dict(settings)) == settings
    specs = [settings.spec(TASK, run, seed=3) for run in range(100)]
    assert {(spec.cell, spec.hidden, spec.layers) for spec in specs} == expected
    assert all((spec.input, spec.output) == TASK.interface.sizes for spec in specs)


def test_a_runs_architecture_depends_on_its_seed_and_number_alone():
    settings = ZooSettings(cell=("lstm", "gru"), hidden=Range(low=2, high=40), layers=(1, 2, 3))
    fewer = dataclasses.replace(settings, runs=3, runs_per_shard=1, batch=7)
    specs = [settings.spec(TASK, run, seed=3) for run in range(20)]
    assert [fewer.spec(TASK, run, seed=3) for run in reversed(range(20))] == specs[::-1]
    assert [settings.spec(TASK, run, seed=4) for run in range(20)] != specs


def test_architectures_are_as_frequent_as_one_another():
    settings = ZooSettings(
        architectures=(Architecture(cell="gru"), Architecture(hidden=Range(low=1, high=9)))
    )
    cells = [settings.spec(TASK, run).cell for run in range(400)]
    assert 160 < cells.count("gru") < 240


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell": ["lstm", "gur"]}, "cell 'gur' is unknown; did you mean 'gru'"),
        ({"hidden": []}, "^settings: hidden should name at least one, found an empty list$"),
        ({"cell": []}, "^settings: cell should name at least one, found an empty list$"),
        ({"architectures": [{"layers": []}]}, r"^settings.architectures.0: layers should name at least one"),
        (
            {"hidden": {"min": 1, "max": 10**6}},
            "^unknown setting settings.hidden.min; known are high, low$",
        ),
        (
            {"hidden": "many"},
            r"^settings.hidden should be a whole number, settings by name \(low, high\) or a list of whole "
            "numbers, found 'many'$",
        ),
        ({"hidden": [4, "x"]}, "^settings.hidden.1 should be a whole number, found 'x'$"),
        ({"hidden": [4, 0]}, "hidden should be 1 or more"),
        ({"layers": {"low": 3, "high": 2}}, "1 <= low <= high, found 3 to 2"),
        ({"layers": {"low": 0, "high": 2}}, "1 <= low <= high, found 0 to 2"),
        ({"architectures": [{"cell": "lstn"}]}, "cell 'lstn' is unknown; did you mean 'lstm'"),
        ({"architectures": [{"hiden": 3}]}, "unknown setting .*architectures.0.hiden; did you mean 'hidden'"),
    ],
)
def test_settings_refuse_what_is_no_architecture(values, message):
    with pytest.raises(SettingsError, match=message):
        build_settings(ZooSettings, values)


def test_runs_of_several_architectures_share_no_chunk():
    settings = dataclasses.replace(SETTINGS, cell=("lstm", "gru"))
    specs = [settings.spec(TASK, run, 7) for run in range(6)]
    alike = [run for run in range(6) if specs[run] == specs[0]]
    assert chunk(*alike, settings=settings).spec == specs[0]
    assert len(alike) < 6
    with pytest.raises(AssertionError, match="runs of one architecture together"):
        _ = chunk(*range(6), settings=settings).spec


def test_threads_are_left_as_they_were(tmp_path):
    torch.set_num_threads(2)
    try:
        build(TASK, dataclasses.replace(SETTINGS, runs=1), tmp_path / "zoo", workers=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
