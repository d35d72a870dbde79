import dataclasses
import json
import multiprocessing
import os

import pytest
import torch

from rnnatlas import _version, benchmarks, encoders
from rnnatlas.benchmarks import base, running, scaling, zoo_training
from rnnatlas.benchmarks import encoders as encoder_costs
from rnnatlas.cli import main
from rnnatlas.errors import RNNAtlasError
from rnnatlas.rnn import Population, RNNSpec, backend, run
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.train import Chunk, ZooSettings

CASE = running.Case("lstm", 4, 1, 2, 3, 5)
SETTINGS = ZooSettings(hidden=4, layers=1, batch=4, runs_per_shard=2)
TINY = {
    "zoo-training": zoo_training.ZooTraining(settings=SETTINGS, workers=1, rounds=2, seconds=0.0),
    "run": running.Running(cases=[CASE, dataclasses.replace(CASE, cell="gru")], seconds=0.0),
    "encoders": encoder_costs.Encoders(presets=["demo"], seconds=0.0),
    "scaling": scaling.Scaling(base=CASE, curves={"hidden": (4, 8), "time": (3,)}, seconds=0.0),
}
COLUMNS = {
    "zoo-training": {"contender", "way", "per_second", "per_core_second", "operations"},
    "run": {"cell", "hidden", "layers", "rnns", "batch", "time", "pass", "seconds", "share_of_peak"},
    "encoders": {"preset", "rnns", "what", "step_seconds"},
    "scaling": {"size", "value", "seconds", "share_of_peak"},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(base, "PRODUCT", 32)
    monkeypatch.setattr(base, "TURN", 0.0)


def all_quartiles(value):
    """All medians and quartiles anywhere in figures."""
    if isinstance(value, dict):
        if "median" in value:
            yield value
        for item in value.values():
            yield from all_quartiles(item)


def test_a_benchmark_whose_process_is_killed_says_so():
    def killed():
        with zoo_training._a_process_a_core(SETTINGS, 1) as serve:
            multiprocessing.active_children()[0].kill()
            serve(zoo_training.ZOO, 0.0)

    with pytest.raises(RNNAtlasError, match="a process of the benchmark was killed"):
        killed()


def test_what_is_timed_as_training_is_training():
    sizes = encoder_costs.Sizes("demo")
    model = sizes.training("flat")
    sizes.embedder(model.encoder)()
    assert model.encoder.training


@pytest.mark.parametrize("name", benchmarks.registry)
def test_benchmark_gives_its_columns_and_a_table(name):
    assert isinstance(TINY[name], benchmarks.registry[name])
    shown = []
    rows = TINY[name].measure(lambda share, doing: shown.append(share))
    assert all(COLUMNS[name] <= set(row) for row in rows)
    for figures in (own for row in rows for own in all_quartiles(row)):
        assert 0 <= figures["low"] <= figures["median"] <= figures["high"]
        assert figures["count"] >= 2
    assert shown == sorted(shown)
    assert shown[0] == 0
    assert shown[-1] < 1
    table = TINY[name].table(rows)
    assert {tuple(row) for row in table} == {tuple(table[0])}
    assert all(isinstance(cell, str) for row in table for cell in row.values())
    json.dumps(rows, allow_nan=False)


def test_every_contender_takes_part():
    rows = TINY["run"].measure(lambda *_: None)
    assert all(set(row["seconds"]) == {"run", "product", *running.OTHERS} for row in rows)
    assert [row["pass"] for row in rows] == ["forward", "forward, backward"] * 2
    whats = {row["what"] for row in TINY["encoders"].measure(lambda *_: None)}
    assert whats == {*encoders.registry, encoder_costs.OURS, encoder_costs.TORCH}


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman-tanh"])
def test_vmap_contender_does_the_same_work(cell):
    spec = RNNSpec(cell=cell, input=3, hidden=4, layers=2, output=3)
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(3)])
    inputs = torch.randn(3, 2, 5, 3)
    torch.testing.assert_close(running.vmapped(population, inputs), run(population, inputs)[0])


def test_operations_are_those_of_the_products():
    spec = RNNSpec(cell="lstm", input=6, hidden=32, layers=2, output=6)
    products = 128 * (6 + 32) + 128 * (32 + 32) + 6 * 32
    assert running.operations_each(spec, backward=False) == 2 * products
    assert running.operations_each(spec, backward=True) == 2 * (3 * products - 128 * 6)


def test_all_strings_are_as_many_as_a_batch_and_of_the_language():
    task, languages = FormalLanguages.from_settings({}), zoo_training.LiteralLanguages.from_settings({})
    chunk = Chunk(languages, SETTINGS, 0, range(2), ["train"] * 2)
    batch = next(languages.batches(chunk.instances, 5, chunk.streams("batches")))
    assert batch.inputs.shape == (2, 5, 41, 6)
    torch.testing.assert_close(batch.weights, torch.full((2, 5), 0.2))
    for targets, instance in zip(batch.targets, chunk.instances):
        assert task.membership(targets.byte().numpy(), instance).all()


def test_turns_go_on_until_the_slowest_has_had_its_least():
    calls = dict.fromkeys("ab", 0)

    def call(name):
        calls[name] += 1

    found = base.take_turns({name: lambda name=name: call(name) for name in calls}, seconds=0.0, least=4)
    assert {name: own["count"] for name, own in found.items()} == {"a": 4, "b": 4}
    assert min(calls.values()) >= 4


def test_the_torch_emulator_leaves_the_backend_as_it_was(monkeypatch):
    for before in (None, "eager", "native"):
        if before is None:
            monkeypatch.delenv("RNNATLAS_BACKEND", raising=False)
        else:
            monkeypatch.setenv("RNNATLAS_BACKEND", before)
        with base.on_backend("eager"):
            assert os.environ["RNNATLAS_BACKEND"] == "eager"
        assert os.environ.get("RNNATLAS_BACKEND") == before


def bench(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    return stop.value.code, *capsys.readouterr()


def test_command_prints_one_document(monkeypatch, capsys):
    monkeypatch.setattr(running, "Running", lambda: TINY["run"])
    status, out, _ = bench(capsys, "run", "--json", "--quiet")
    document = json.loads(out)
    assert status == 0
    assert document["command"] == "rnnatlas bench run --json"
    assert list(document["benchmarks"]) == ["run"]
    assert len(document["benchmarks"]["run"]["rows"]) == 4
    assert {"commit", "processor", "cores", "backend", "torch", "python"} <= set(document)


def test_command_prints_tables_and_says_where_figures_come_from(monkeypatch, capsys):
    monkeypatch.setattr(running, "Running", lambda: TINY["run"])
    status, out, err = bench(capsys, "run")
    assert status == 0
    assert backend() in out
    assert "gru" in out
    assert "run" in err  # the bar


def test_unknown_name(capsys):
    status, out, err = bench(capsys, "encoder")
    assert (status, out) == (2, "")
    assert err.strip() == "error: no benchmark is called 'encoder'; did you mean 'encoders'?"


def test_outside_of_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(_version, "__file__", str(tmp_path / "lib/rnnatlas/_version.py"))
    assert _version.commit() is None
