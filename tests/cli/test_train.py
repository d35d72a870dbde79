import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from rnnatlas.cli import main
from rnnatlas.zoo.imports import import_checkpoints

SET = [
    f"--set={change}"
    for change in (
        "emulation.steps=30",
        "emulation.rnns=4",
        "emulation.validate_every=5",
        "emulation.emulator.width=8",
        "encoders.statistics.width=8",
    )
]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    changes = ["task.tokens=2", "task.length=12", "task.largest_n=4", "task.performance_samples=10"]
    changes += ["zoo.hidden=4", "zoo.layers=1", "zoo.batch=4", "zoo.snapshots=[0, 5]", "zoo.rollouts=4"]
    flags = [f"--set={change}" for change in changes]
    with pytest.raises(SystemExit):
        main(
            [
                "zoo",
                "build",
                "formal-languages",
                "--out",
                str(folder),
                "--runs=16",
                "--workers=1",
                *flags,
                "--quiet",
            ]
        )
    return folder


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, tokens)])
    return end.value.code, *capsys.readouterr()


def test_trains(zoo, tmp_path, capsys):
    status, out, err = call(
        capsys, zoo, "--encoder=statistics", "--out", tmp_path / "run", *SET, "--divergence=kl"
    )
    assert status == 0
    assert out == ""
    assert "best validation loss (kl)" in err
    assert "mean kl over" in json.loads((tmp_path / "run/metrics.json").read_text())[0]["definition"]
    assert call(capsys, zoo, "--encoder=statistics", "--out", tmp_path / "run", *SET) == (
        1,
        "",
        f"error: {tmp_path}/run holds a run already; go on with it with --resume, or choose another --out\n",
    )


def test_prints_its_settings_and_takes_them_back(zoo, tmp_path, capsys):
    status, out, err = call(
        capsys, zoo, "--encoder=statistics", "--out", tmp_path / "run", *SET, "--seed=3", "--print-config"
    )
    assert (status, err) == (0, "")
    (tmp_path / "config.yaml").write_text(out)
    assert not (tmp_path / "run").exists()
    status, again, err = call(capsys, zoo, "--config", tmp_path / "config.yaml", "--print-config")
    assert (status, again, err) == (0, out, "")


@pytest.mark.parametrize(
    ("encoder", "flags", "expected", "of_control"),
    [
        ("flat", [], 0.001, 0.001),
        ("responses", [], 0.004, 0.001),
        ("responses", ["--control-learning-rate=0.2"], 0.004, 0.2),
        ("flat", ["--set=emulation.learning_rate=0.1"], 0.1, None),
    ],
)
def test_a_preset_gives_encoder_and_control_their_learning_rates(
    zoo, tmp_path, capsys, encoder, flags, expected, of_control
):
    flags = ["--encoder", encoder, "--preset=small", "--out", tmp_path / "run", *flags, "--print-config"]
    printed = yaml.safe_load(call(capsys, zoo, *flags)[1])
    assert printed["settings"]["emulation"]["learning_rate"] == expected
    assert printed.get("control-learning-rate") == of_control


def test_the_control_is_trained_at_its_own_learning_rate(zoo, tmp_path, capsys):
    encoder = ["--encoder=responses", "--preset=small", "--out", tmp_path / "run"]
    few = [*SET[:-1], "--set=emulation.steps=2", "--set=encoders.responses.sequences=1"]
    few += ["--set=encoders.responses.steps=3"]
    assert call(capsys, zoo, *encoder, *few)[0] == 0
    rates = [
        yaml.safe_load((tmp_path / "run" / name).read_text())["emulation"]["learning_rate"]
        for name in ("settings.yaml", "zero/settings.yaml")
    ]
    assert rates == [0.004, 0.001]


def test_a_preset_for_imported_rnns_is_refused(tmp_path, capsys):
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "gru.pt")
    import_checkpoints([tmp_path / "gru.pt"], tmp_path / "zoo")
    flags = ["--encoder=statistics", "--preset=demo", "--out", tmp_path / "run", "--print-config"]
    status, out, err = call(capsys, tmp_path / "zoo", *flags)
    assert (status, out) == (2, "")
    assert err.startswith("error: the preset demo has settings for a zoo's task, but")
    assert "import them again with --inputs, or --signal" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--encoder=statistic"], "no encoder is called 'statistic'; did you mean 'statistics'?"),
        (
            ["--encoder=statistics", "--divergence=kll"],
            "emulation: no divergence of tokens is called 'kll'; did you mean 'kl'?",
        ),
        (
            ["--encoder=statistics", "--set=emulation.step=3"],
            "unknown setting emulation.step; did you mean 'steps'?",
        ),
        (
            ["--encoder=statistics", "--set=emulatio.steps=3"],
            "unknown section of settings 'emulatio'; did you mean 'emulation'?",
        ),
        (
            ["--encoder=statistics", "--preset=demo", "--set=zoo.hidden=99"],
            "unknown section of settings 'zoo'; known are emulation, encoders, executor",
        ),
        (
            ["--encoder=statistics", "--set=encoders.statistic.width=9"],
            "no encoder is called 'statistic'; did you mean 'statistics'?",
        ),
        (
            ["--encoder=statistics", "--set=encoders.interactive.widht=9"],
            "unknown setting encoders.interactive.widht; did you mean 'width'?",
        ),
        (
            ["--encoder=statistics", "--set=emulation=5"],
            "emulation should hold settings by name, such as emulation.NAME=VALUE, found 5",
        ),
    ],
)
def test_says_what_is_wrong(zoo, tmp_path, capsys, flags, message):
    assert call(capsys, zoo, "--out", tmp_path / "run", *flags) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "run").exists()


def test_a_file_holds_what_the_command_uses(zoo, tmp_path, capsys):
    flags = [zoo, "--encoder=statistics", "--out", tmp_path / "run", "--preset=demo"]
    for text, message in (("settings: {task: {tokens: 3}}", "'task'"), ("settings: 5", "found 5")):
        (tmp_path / "config.yaml").write_text(text)
        status, out, err = call(capsys, *flags, "--config", tmp_path / "config.yaml")
        assert (status, out) == (2, "")
        assert message in err


@pytest.mark.parametrize("flag", ["--seed=-1", f"--seed={2**63}", "--sed=3", "--devices=two"])
def test_wrong_usage_is_status_2(zoo, tmp_path, capsys, flag):
    status, _, err = call(capsys, zoo, "--encoder=statistics", "--out", tmp_path / "run", flag)
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def start(zoo, out, *flags):
    command = [
        sys.executable,
        "-m",
        "rnnatlas",
        "train",
        zoo,
        "--encoder=statistics",
        "--out",
        out,
        *SET,
        *flags,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process):
    while process.poll() is None and not path.exists():
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read()


LONGER = ["--set=emulation.steps=150", "--quiet"]


@pytest.fixture(scope="module")
def whole(zoo, tmp_path_factory):
    """A run that was not stopped."""
    out = tmp_path_factory.mktemp("run") / "whole"
    assert start(zoo, out, *LONGER).communicate()[1] == ""
    return out


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_for_real_and_resumed_is_as_not_stopped(zoo, whole, tmp_path, how):
    flags = [*LONGER, "--control", whole]
    parts = start(zoo, tmp_path / "parts", *flags)
    wait_for(tmp_path / "parts/resume.ckpt", parts)
    parts.send_signal(how)
    error = parts.communicate()[1]
    assert parts.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert error == (
        "error: interrupted; what was finished is kept: the same command goes on with --resume\n"
        if how == signal.SIGINT
        else ""
    )
    assert not (tmp_path / "parts/model.safetensors").exists()
    assert start(zoo, tmp_path / "parts", *flags, "--resume").communicate()[1] == ""
    for name in (
        "model.safetensors",
        "history.csv",
        "metrics.json",
        "settings.yaml",
        "zero/model.safetensors",
    ):
        assert (tmp_path / "parts" / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (tmp_path / "parts/resume.ckpt").exists()
