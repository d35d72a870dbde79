"""A tiny experiment: goes on after a stop, refuses other settings, ends with a report."""

import dataclasses
import json
import shlex
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rnnatlas import reproduce as experiment
from rnnatlas.cli import main
from rnnatlas.errors import DataError, OutputExists, RunFormatError, SettingsError
from rnnatlas.executors.base import Executor
from rnnatlas.executors.local import Local
from rnnatlas.report.experiment import FILE, Experiment
from rnnatlas.reproduce.folder import begin, command, describe
from rnnatlas.reproduce.jobs import Draw, of_encoders, of_the_map, training
from rnnatlas.reproduce.settings import resolve
from rnnatlas.settings import build
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.build import build as build_zoo
from rnnatlas.zoo.train import ZooSettings

TINY = {
    "experiment": {"seeds": 2, "ablation": True, "supervised": True},
    "supervised": {"properties": ["task"], "steps": 2, "rnns": 4},
    "zoo": {"runs": 72, "hidden": 4, "snapshots": [2, 4], "rollouts": 8, "learning_rate": [[0, 0.01]]},
    "task": {"performance_samples": 20},
    "emulation": {"steps": 4, "validate_every": 2, "rnns": 4, "rollouts": 2, "emulator": {"width": 8}},
    "encoders": {"interactive": {"width": 8}, "responses": {"hidden": 8}, "statistics": {"width": 8}},
}


@pytest.mark.slow
def test_a_demo_goes_on_after_a_stop_and_ends_with_a_report(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Draw, "__call__", stopped)
        with pytest.raises(KeyboardInterrupt):
            experiment.reproduce(tmp_path / "demo", "demo", changes=TINY, workers=1, progress=False)
    trained = {path: path.read_bytes() for path in (tmp_path / "demo" / "runs").rglob("*.safetensors")}
    assert (
        len(trained) == 2 + 4 * 2 * 4
    )  # controls; model, its copy of the control, predictors, and their reference

    ablations = {"sequences": [1], "steps": [], "divergences": ["kl"]}  # which may be added
    changes = {**TINY, "experiment": {**TINY["experiment"], "ablations": ablations}}
    report = experiment.reproduce(tmp_path / "demo", "demo", changes=changes, workers=1, progress=False)
    assert report == tmp_path / "demo" / "report.html"
    text = report.read_text(encoding="utf-8")
    assert "interactive probing" in text
    assert "trained end to end" in text
    assert "<h2>Ablations</h2>" in text
    assert "rnnatlas demo --seed 0 --set experiment.seeds=2" in text
    assert (tmp_path / "demo" / "map.html").is_file()
    assert all(path.read_bytes() == before for path, before in trained.items())
    seconds = Experiment.load(tmp_path / "demo").timings
    assert list(seconds) == ["zoo", "encoders and controls", "atlas and map"]
    assert not list((tmp_path / "demo").rglob(".*"))

    with pytest.raises(OutputExists, match="another seed"):
        experiment.reproduce(tmp_path / "demo", "demo", seed=1, changes=TINY)
    with pytest.raises(
        OutputExists, match=r"another experiment\.seeds \(2 then, 3 now\); choose another --out"
    ):
        experiment.reproduce(tmp_path / "demo", "demo", changes=TINY | {"experiment": {"seeds": 3}})


DIGITS = {
    **TINY,
    "zoo": {**TINY["zoo"], "runs": 40, "runs_per_shard": 40},
    "task": {"metric_images": 20},
    "supervised": {**TINY["supervised"], "properties": ["direction"]},
}


@pytest.mark.slow
def test_rotated_digits_end_with_a_report_as_well(tmp_path):
    out = tmp_path / "demo"
    report = experiment.reproduce(
        out, "demo", zoo="tiled-digits", changes=DIGITS, workers=1, progress=False
    ).read_text(encoding="utf-8")
    assert "angle error in degrees" in report
    assert "trained end to end" in report
    assert "rnnatlas demo --zoo digits --seed 0" in report
    assert 'id="chart-pictures"' in report
    assert 'id="chart-emulated"' in report
    assert "language" not in report.partition("<script>")[0]
    assert "first EOS" not in report
    with pytest.raises(OutputExists, match="another zoo"):
        begin(out, dataclasses.replace(Experiment.load(out), kind="tiled-mnist"))


@pytest.mark.parametrize("text", ["{bad", "[]", "{}", '{"seed": 0}'])
def test_a_damaged_record_is_one_sentence(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(RunFormatError, match=r"experiment\.json should hold .* remove the experiment, or"):
        experiment.reproduce(tmp_path, "demo", changes=TINY, device="cpu")


def test_data_that_are_not_to_be_had_leave_nothing_behind(tmp_path, monkeypatch):
    def fetch(*_):
        raise DataError("no network")

    monkeypatch.setattr("rnnatlas.tasks.digits.fetch", fetch)
    with pytest.raises(DataError, match="no network"):
        experiment.reproduce(tmp_path / "out", "small", zoo="tiled-mnist", device="cpu", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for device, message in (("cuda", "finds no CUDA device"), ("gpu", "auto, cpu or cuda")):
        with pytest.raises(SettingsError, match=message):
            experiment.reproduce(tmp_path / "out", "demo", changes=TINY, device=device)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(SettingsError, match="workers should be 1 or more, found 0"):
        experiment.reproduce(tmp_path / "out", "demo", changes=TINY, device="cuda", workers=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "workers", "of_the_zoo", "of_encoders"),
    [
        ("auto", None, ("cuda", None), ("cuda", 1)),
        ("auto", 1, ("cuda", None), ("cuda", 1)),
        ("auto", 2, ("cpu", 2), ("cpu", 2)),
        ("cuda", 2, ("cuda", None), ("cuda", 2)),
    ],
)
def test_zoo_and_encoders_are_trained_on_the_device(
    tmp_path, monkeypatch, asked, workers, of_the_zoo, of_encoders
):
    seen = []

    def run(self, jobs, *_):
        assert len({job.work.device for job in jobs}) == 1
        seen.append((jobs[0].work.device, self.workers))
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "rnnatlas.zoo.build.build", lambda *_, workers, device, **__: seen.append((device, workers))
    )
    monkeypatch.setattr("rnnatlas.zoo.store.Zoo.open", lambda path: SimpleNamespace(specs=["one"]))
    monkeypatch.setattr(Executor, "run", run)
    changes = {**TINY, "experiment": {"seeds": 2}}
    with pytest.raises(KeyboardInterrupt):
        experiment.reproduce(tmp_path / "out", "demo", changes=changes, workers=workers, device=asked)
    assert seen == [of_the_zoo, of_encoders]


def test_an_encoder_is_trained_and_evaluated_where_its_job_says(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("rnnatlas.zoo.store.Zoo.open", lambda path: path)
    monkeypatch.setattr("rnnatlas.emulation.training.train", lambda *_, device, **__: seen.append(device))
    monkeypatch.setattr("rnnatlas.evaluation.evaluate.evaluate", lambda *_, device, **__: seen.append(device))
    for device in ("cpu", "cuda"):
        jobs = of_encoders(tmp_path, resolve("demo", TINY), 0, device)
        for job in jobs:
            job.work(lambda steps: None)
        assert seen == [device] * len(jobs)
        seen.clear()


def test_encoders_need_their_control_evaluations_their_encoder_and_the_map_all_of_them(tmp_path):
    resolved = resolve("demo", TINY)
    needs = {job.name: job.needs for job in of_encoders(tmp_path, resolved, 3, "cpu")}
    labels = ("interactive", "responses", "statistics", "no-interaction")
    runs = [f"{label}-{seed}" for seed in (3, 4) for label in labels]
    assert needs == {
        "train zero-3": (),
        "train zero-4": (),
        **{f"train {run}": (f"train zero-{run[-1]}",) for run in runs},
        **{f"evaluate {run}": (f"train {run}",) for run in runs},
    }
    assert set(of_the_map(tmp_path, resolved, 3).needs) == {f"evaluate {run}" for run in runs}


@pytest.mark.slow
def test_what_is_trained_does_not_depend_on_the_number_of_workers(tmp_path):
    """Nor on the threads of the process that asks for it, not even in the last digit."""
    resolved = resolve("demo", {**TINY, "experiment": {"seeds": 1}})
    del resolved["encoders"]["interactive"]
    task = FormalLanguages.from_settings(resolved["task"])
    build_zoo(task, build(ZooSettings, resolved["zoo"], "zoo"), tmp_path / "1" / "zoo", workers=1)
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    weights = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}"
        torch.set_num_threads(2)
        try:
            Local(workers).run(of_encoders(out, resolved, 0, "cpu"), out)
        finally:
            torch.set_num_threads(1)
        found = sorted(path.relative_to(out) for path in out.rglob("*.safetensors"))
        weights.append({path: load_file(out / path) for path in found})
    assert len(weights[0]) == 1 + 2 * 4
    assert weights[0].keys() == weights[1].keys()
    for path, own in weights[0].items():
        assert all(torch.equal(tensor, weights[1][path][name]) for name, tensor in own.items()), path


def test_encoders_and_control_may_have_learning_rates_of_their_own(tmp_path):
    own = {"statistics": 1e-3, "interactive": 2e-3, "zero": 3e-3, "responses": 4e-3}
    resolved = resolve("demo", {**TINY, "experiment": {"learning_rates": own}})
    found = {
        label: training(tmp_path, label, 0, resolved, "cpu").work.emulation.learning_rate
        for label in ("statistics", "interactive", "no-interaction", "responses", "zero")
    }
    assert found == own | {"no-interaction": 2e-3}


def test_a_learning_rate_for_all_outweighs_those_of_a_preset():
    rates = resolve("small", {})["experiment"]["learning_rates"]
    assert rates
    changed = {"emulation": {"learning_rate": 0.1}}
    assert resolve("small", changed)["experiment"]["learning_rates"] == {}
    own = changed | {"experiment": {"learning_rates": {"flat": 0.2}}}
    assert resolve("small", own)["experiment"]["learning_rates"] == {"flat": 0.2}


def test_experiments_of_versions_that_knew_fewer_settings_go_on(tmp_path):
    out = tmp_path / "out"

    def described(resolved):
        return describe(out, "demo", "formal-languages", 0, {}, resolved)

    resolved = resolve("demo", TINY | {"emulation": TINY["emulation"] | {"learning_rate": 1e-3}})
    older = json.loads(json.dumps(resolved))
    del older["experiment"]["learning_rates"]
    begin(out, described(older))
    begin(out, described(resolved))
    resolved["experiment"]["learning_rates"] = {"flat": 0.1}
    with pytest.raises(
        OutputExists, match=r"another experiment\.learning_rates\.flat \(None then, 0\.1 now\)"
    ):
        begin(out, described(resolved))


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"statistic": 1e-3}, "found 'statistic'; did you mean 'statistics'"),
        ({"zero": 0.0}, r"^experiment\.learning_rates\.zero: learning_rate should be finite and above 0"),
    ],
)
def test_learning_rates_of_no_encoder_are_refused(rates, message):
    with pytest.raises(SettingsError, match=message):
        resolve("demo", {**TINY, "experiment": {"learning_rates": rates}})


def test_what_is_trained_end_to_end_is_looked_for_among_what_is_evaluated(tmp_path, monkeypatch):
    def snapshots(where):
        raise LookupError(where)

    monkeypatch.setattr("rnnatlas.zoo.build.build", lambda *_, **__: None)
    monkeypatch.setattr(
        "rnnatlas.zoo.store.Zoo.open", lambda path: SimpleNamespace(snapshots=snapshots, specs=["one"])
    )
    changes = {**TINY, "emulation": {**TINY["emulation"], "where": "step = 4"}}
    with pytest.raises(LookupError, match="step = 4"):
        experiment.reproduce(tmp_path / "out", "demo", changes=changes, device="cpu")


@pytest.mark.parametrize(
    ("preset", "task", "expected"),
    [
        ("demo", "tiled-digits", "rnnatlas demo --zoo digits --seed 3"),
        ("small", "formal-languages", "rnnatlas reproduce --preset small --out 'my own' --seed 3"),
        ("small", "tiled-digits", "rnnatlas reproduce --preset small --out 'my own' --zoo digits --seed 3"),
        ("demo", "mixed", "rnnatlas demo --zoo mixed --seed 3"),
        ("demo", "integrator", "rnnatlas demo --zoo integrator --seed 3"),
        ("paper", "tiled-mnist", "rnnatlas reproduce --preset paper --out 'my own' --zoo mnist --seed 3"),
    ],
)
def test_the_command_shown_can_be_typed(tmp_path, capsys, preset, task, expected):
    changes = {"experiment": {"seeds": 2}, "zoo": {"learning_rate": [[0, 0.00001]]}}
    typed = command(tmp_path / "my own", preset, task, 3, changes)
    assert typed.startswith(expected + " --set experiment.seeds=2")
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(typed)[1:], "--print-config"])
    assert not ended.value.code
    assert yaml.safe_load(capsys.readouterr().out)["settings"] == json.loads(
        json.dumps(resolve(preset, changes, task))
    )


def test_settings_are_those_of_the_task():
    assert resolve("paper", {}, "tiled-mnist")["task"]["tile"] == 4
    assert "tile" not in resolve("small", {})["task"]
    with pytest.raises(
        LookupError, match=r"^preset 'demo' has no settings for tiled-mnist; presets that have: paper, small$"
    ):
        resolve("demo", {}, "tiled-mnist")


def test_other_folders_and_unknown_settings_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="exists already"):
        experiment.reproduce(tmp_path, "demo", changes=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    for wrong in (
        {"zo": {}},
        {"zoo": {"rnus": 3}},
        {"experiment": {"seeds": 0}},
        {"encoders": {"nosuch": {}}},
        {"encoders": {"statistics": False}},
        {"emulation": 5},
    ):
        with pytest.raises((SettingsError, LookupError)):
            resolve("demo", wrong)
