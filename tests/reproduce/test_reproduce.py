"""A tiny experiment: goes on after a stop, refuses other settings, ends with a report."""

import json
import shlex
from types import SimpleNamespace

import pytest
import yaml

from rnnatlas import reproduce as experiment
from rnnatlas.cli import main
from rnnatlas.errors import DataError, OutputExists, RunFormatError, SettingsError

TINY = {
    "experiment": {"seeds": 2, "cut": True, "supervised": True},
    "supervised": {"properties": ["task"], "steps": 2, "rnns": 4},
    "zoo": {"runs": 72, "hidden": 4, "snapshots": [2, 4], "rollouts": 8, "learning_rate": [[0, 0.01]]},
    "task": {"performance_samples": 20},
    "emulation": {"steps": 4, "validate_every": 2, "rnns": 4, "rollouts": 2, "emulator": {"width": 8}},
    "encoders": {name: {"width": 8} for name in ("interactive", "noninteractive", "statistics")},
}


@pytest.mark.slow
def test_a_demo_goes_on_after_a_stop_and_ends_with_a_report(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(experiment, "_draw", stopped)
        with pytest.raises(KeyboardInterrupt):
            experiment.reproduce(tmp_path / "demo", "demo", changes=TINY, workers=1, progress=False)
    trained = {path: path.read_bytes() for path in (tmp_path / "demo" / "runs").rglob("*.safetensors")}
    assert len(trained) == 2 + 4 * 2 * 3  # controls; model, its copy of the control, and predictors

    report = experiment.reproduce(tmp_path / "demo", "demo", changes=TINY, workers=1, progress=False)
    assert report == tmp_path / "demo" / "report.html"
    text = report.read_text(encoding="utf-8")
    assert "interactive probing" in text
    assert "trained end to end" in text
    assert "rnnatlas demo --seed 0 --set experiment.seeds=2" in text
    assert (tmp_path / "demo" / "map.html").is_file()
    assert all(path.read_bytes() == before for path, before in trained.items())
    seconds = json.loads((tmp_path / "demo" / experiment.RECORD).read_text())["seconds"]
    assert list(seconds) == ["zoo", "encoders and controls", "atlas and map"]

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
        out, "demo", task="tiled-digits", changes=DIGITS, workers=1, progress=False
    ).read_text(encoding="utf-8")
    assert "angle error in degrees" in report
    assert "trained end to end" in report
    assert "rnnatlas demo --zoo digits --seed 0" in report
    assert 'id="chart-pictures"' in report
    assert 'id="chart-emulated"' in report
    assert "language" not in report.partition("<script>")[0]
    assert "first EOS" not in report
    with pytest.raises(OutputExists, match="another task"):
        experiment.Record(out, 0, experiment.resolve("demo", DIGITS, "tiled-digits"), "tiled-mnist")


@pytest.mark.parametrize("text", ["{bad", "[]", "{}", '{"seed": 0}'])
def test_a_damaged_record_is_one_sentence(tmp_path, text):
    (tmp_path / experiment.RECORD).write_text(text)
    with pytest.raises(RunFormatError, match=r"settings\.json should say how .* remove the experiment first"):
        experiment.reproduce(tmp_path, "demo", changes=TINY, device="cpu")


def test_data_that_are_not_to_be_had_leave_nothing_behind(tmp_path, monkeypatch):
    def fetch(*_):
        raise DataError("no network")

    monkeypatch.setattr("rnnatlas.tasks.digits.fetch", fetch)
    with pytest.raises(DataError, match="no network"):
        experiment.reproduce(tmp_path / "out", "small", task="tiled-mnist", device="cpu", progress=False)
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

    def train(jobs, workers, progress):
        assert len({job.device for job in jobs}) == 1
        seen.append((jobs[0].device, workers))
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "rnnatlas.zoo.build.build", lambda *_, workers, device, **__: seen.append((device, workers))
    )
    monkeypatch.setattr(experiment, "_train", train)
    changes = {**TINY, "experiment": {"seeds": 2}}
    with pytest.raises(KeyboardInterrupt):
        experiment.reproduce(tmp_path / "out", "demo", changes=changes, workers=workers, device=asked)
    assert seen == [of_the_zoo, of_encoders]


def test_an_encoder_is_trained_and_evaluated_where_its_job_says(tmp_path, monkeypatch):
    resolved = json.loads(json.dumps(experiment.resolve("demo", TINY)))
    seen = []
    monkeypatch.setattr("rnnatlas.zoo.store.Zoo.open", lambda path: path)
    monkeypatch.setattr("rnnatlas.emulation.training.train", lambda *_, device, **__: seen.append(device))
    monkeypatch.setattr("rnnatlas.evaluation.evaluate.evaluate", lambda *_, device, **__: seen.append(device))
    control = experiment._job(tmp_path, "zero", 0, resolved, "cpu").folder
    control.mkdir(parents=True)
    (control / "model.safetensors").touch()
    for device in ("cpu", "cuda"):
        experiment._train_one(
            experiment._job(tmp_path, "statistics", 0, resolved, device), lambda steps: None
        )
    assert seen == ["cpu", "cpu", "cuda", "cuda"]


def test_encoders_and_control_may_have_learning_rates_of_their_own(tmp_path):
    own = {"statistics": 1e-3, "interactive": 2e-3, "zero": 3e-3}
    resolved = experiment.resolve("demo", {**TINY, "experiment": {"learning_rates": own}})
    found = {
        label: experiment._job(tmp_path, label, 0, resolved, "cpu").emulation.learning_rate
        for label in ("statistics", "interactive", "interactive-cut", "noninteractive", "zero")
    }
    shared = resolved["emulation"]["learning_rate"]
    assert found == own | {"interactive-cut": 2e-3, "noninteractive": shared}


def test_a_learning_rate_for_all_outweighs_those_of_a_preset():
    rates = experiment.resolve("small", {})["experiment"]["learning_rates"]
    assert rates
    changed = {"emulation": {"learning_rate": 0.1}}
    assert experiment.resolve("small", changed)["experiment"]["learning_rates"] == {}
    own = changed | {"experiment": {"learning_rates": {"flat": 0.2}}}
    assert experiment.resolve("small", own)["experiment"]["learning_rates"] == {"flat": 0.2}


def test_experiments_of_versions_that_knew_fewer_settings_go_on(tmp_path):
    resolved = experiment.resolve("demo", TINY)
    older = json.loads(json.dumps(resolved))
    del older["experiment"]["learning_rates"]
    experiment.Record(tmp_path / "out", 0, older)
    experiment.Record(tmp_path / "out", 0, resolved)
    resolved["experiment"]["learning_rates"] = {"flat": 0.1}
    with pytest.raises(
        OutputExists, match=r"another experiment\.learning_rates\.flat \(None then, 0\.1 now\)"
    ):
        experiment.Record(tmp_path / "out", 0, resolved)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"statistic": 1e-3}, "found 'statistic'; did you mean 'statistics'"),
        ({"zero": 0.0}, r"^experiment\.learning_rates\.zero: learning_rate should be finite and above 0"),
    ],
)
def test_learning_rates_of_no_encoder_are_refused(rates, message):
    with pytest.raises(SettingsError, match=message):
        experiment.resolve("demo", {**TINY, "experiment": {"learning_rates": rates}})


def test_what_is_trained_end_to_end_is_looked_for_among_what_is_evaluated(tmp_path, monkeypatch):
    def snapshots(where):
        raise LookupError(where)

    monkeypatch.setattr(experiment, "_build_zoo", lambda *_: None)
    monkeypatch.setattr("rnnatlas.zoo.store.Zoo.open", lambda path: SimpleNamespace(snapshots=snapshots))
    changes = {**TINY, "emulation": {**TINY["emulation"], "where": "step = 4"}}
    with pytest.raises(LookupError, match="step = 4"):
        experiment.reproduce(tmp_path / "out", "demo", changes=changes, device="cpu")


@pytest.mark.parametrize(
    ("preset", "task", "expected"),
    [
        ("demo", "tiled-digits", "rnnatlas demo --zoo digits --seed 3"),
        ("small", "formal-languages", "rnnatlas reproduce --preset small --out 'my own' --seed 3"),
        ("small", "tiled-digits", "rnnatlas reproduce --preset small --out 'my own' --zoo digits --seed 3"),
        ("paper", "tiled-mnist", "rnnatlas reproduce --preset paper --out 'my own' --zoo mnist --seed 3"),
    ],
)
def test_the_command_shown_can_be_typed(tmp_path, capsys, preset, task, expected):
    changes = {"experiment": {"seeds": 2}, "zoo": {"learning_rate": [[0, 0.00001]]}}
    command = experiment._command(tmp_path / "my own", preset, task, 3, changes)
    assert command.startswith(expected + " --set experiment.seeds=2")
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command)[1:], "--print-config"])
    assert not ended.value.code
    assert yaml.safe_load(capsys.readouterr().out)["settings"] == json.loads(
        json.dumps(experiment.resolve(preset, changes, task))
    )


def test_settings_are_those_of_the_task():
    assert experiment.resolve("paper", {}, "tiled-mnist")["task"]["tile"] == 4
    assert "tile" not in experiment.resolve("small", {})["task"]
    with pytest.raises(LookupError, match="no settings for task 'tiled-mnist'"):
        experiment.resolve("demo", {}, "tiled-mnist")


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
    ):
        with pytest.raises((SettingsError, LookupError)):
            experiment.resolve("demo", wrong)
