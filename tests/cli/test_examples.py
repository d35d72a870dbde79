"""Every example of every command's --help does what it shows, in a folder that has what it names."""

import importlib
import inspect
import itertools
import re
import shlex
import shutil

import numpy as np
import pytest
import torch

from rnnatlas.cli import COMMANDS, main
from rnnatlas.zoo.store import Zoo

ZOO = """task.tokens=2 task.length=12 task.largest_n=4 task.performance_samples=20 zoo.runs=20 zoo.hidden=4
zoo.layers=1 zoo.batch=4 zoo.snapshots=[0,40] zoo.rollouts=4 zoo.learning_rate=[[0,0.01]]
zoo.split={train:\\ 0.5,validation:\\ 0.2,test:\\ 0,ood:\\ 0.3,new_runs:\\ 0.3}"""
RUN = """emulation.steps=4 emulation.rnns=4 emulation.validate_every=2 emulation.validation_rollouts=2
emulation.emulator.width=8 emulation.emulator.layers=1 encoders.interactive.sequences=1
encoders.interactive.steps=4 encoders.interactive.width=8 encoders.interactive.hidden=8
encoders.interactive.layers=1"""


def changes(text):
    return [f"--set={change}" for change in shlex.split(text)]


SMALLER = {
    "zoo build": ["--workers=1", *changes(ZOO)],
    "train": changes(RUN),
    "demo": ["--print-config"],
    "reproduce": ["--print-config"],
    "bench": ["--print-config"],
    "sweep": ["--workers=1"],
    "theory": ["--letters=2"],
}
"""What is added to examples that would take long."""


def examples(command):
    module, _, function = COMMANDS[command][0].partition(":")
    text = inspect.getdoc(getattr(importlib.import_module(f"rnnatlas.cli.{module}"), function)) or ""
    return [line for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def call(*tokens):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, tokens), "--quiet"])
    return ended.value.code


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Holds what examples name: zoo, run, atlas, model.pt, checkpoints, runs, trials.npz and tables."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert not call("zoo", "build", "formal-languages", "--out=zoo", "--workers=1", *changes(ZOO))
        assert not call("train", "zoo", "--encoder=interactive", "--out=run", *changes(RUN))
        assert not call("evaluate", "run", "--json")
        assert not call("embed", "run", "zoo", "--out=atlas")
    names = ("model.pt", "checkpoints/a.pt", "checkpoints/b.pt", "checkpoints/c.pt")
    modules = Zoo.open(folder / "zoo").population([7, 7, 8, 9, 7, 7]).to_modules()
    for name, module in zip((*names, "runs/a/model.pt", "runs/b/model.pt"), modules, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(module.state_dict(), folder / name)
    np.savez(folder / "trials.npz", inputs=np.random.default_rng(0).normal(size=(8, 5, 4)))
    (folder / "plan.yaml").write_text(
        "zoos: [zoo]\nencoders: [statistics]\nseeds: 1\nevaluate: false\n"
        "settings: {base: {emulation: {steps: 4, rnns: 4, validate_every: 2, validation_rollouts: 2}}}\n"
    )
    (folder / "runs.csv").write_text("file,lesion\na.pt,left\n")
    (folder / "known.csv").write_text("file,performance\na.pt,0.2\nb.pt,0.5\nc.pt,0.9\n")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_do_what_they_show(command, prepared, tmp_path, monkeypatch, capsys):
    lines = examples(command)
    assert lines
    for number, line in enumerate(lines):
        folder = shutil.copytree(prepared, tmp_path / str(number))
        monkeypatch.chdir(folder)
        tokens = list(itertools.takewhile(">".__ne__, shlex.split(line)))
        assert tokens[: 1 + len(command.split())] == ["rnnatlas", *command.split()], line
        if "--out" in tokens:  # which is new there
            shutil.rmtree(tokens[tokens.index("--out") + 1], ignore_errors=True)
        assert not call(*tokens[1:], *SMALLER.get(command, [])), capsys.readouterr().err
