"""What README and pages show runs: pages that the documentation's build does not run by itself run here."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.test_examples import RUN, ZOO, call, changes

from rnnatlas.exploration import learned
from rnnatlas.rnn import Population, find_rnn, run
from rnnatlas.zoo.store import Zoo

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_BY_THE_BUILD = "file_format: mystnb"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

SMALLER = {"zoo build": [*changes(ZOO), "--set=task.tokens=3", "--workers=1"], "train": changes(RUN)}
"""What is added to commands that would take long."""


def blocks(page):
    """Language and text of the page's fenced blocks."""
    return FENCED.findall(page.read_text(encoding="utf-8"))


def commands(page):
    """Lines of the page's blocks, and of table cells, that call rnnatlas."""
    text = page.read_text(encoding="utf-8")
    shown = [text for language, text in blocks(page) if language in ("", "bash", "console")]
    lines = "\n".join(shown).replace("\\\n", " ").splitlines()
    lines += re.findall(r"\| `(rnnatlas [^`…]*)` \|", text)
    return [shlex.split(line, comments=True) for line in lines if line.startswith("rnnatlas ")]


def words(tokens):
    """The command that tokens begin with."""
    return " ".join(tokens[1:3]) if tokens[1] == "zoo" else tokens[1]


SHOWN = [
    page for page in PAGES if commands(page) and RUN_BY_THE_BUILD not in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.stem)
def test_commands_of_all_pages_are_commands(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for tokens in commands(page):
        if "--version" not in tokens:
            wrong_usage = call(*tokens[1:], "--print-config") == 2  # 1: no such zoo here
            assert not wrong_usage, f"{tokens}: {capsys.readouterr().err}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where pages run: networks, what they read, and what is known of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learned, "STEPS", 20)
    return tmp_path


@pytest.mark.slow
def test_the_readme_runs_as_it_stands(folder, capsys):
    page = ROOT / "README.md"
    lines = commands(page)
    for tokens in [tokens for tokens in lines if words(tokens) in ("zoo build", "train", "evaluate")]:
        assert not call(*tokens[1:], *SMALLER.get(words(tokens), [])), capsys.readouterr().err
        lines.remove(tokens)
    (folder / "nets").mkdir()
    for number in range(4):  # as make_nets.py does in 20 seconds
        parts = {"rnn": torch.nn.GRU(2, 6 + number), "head": torch.nn.Linear(6 + number, 1)}
        torch.save(torch.nn.ModuleDict(parts).state_dict(), folder / f"nets/{number:02}.pt")
    np.savez("trials.npz", inputs=np.random.default_rng(0).normal(size=(16, 8, 2)))
    (folder / "runs.csv").write_text("file,goal\n" + "".join(f"0{n}.pt,{n % 2}\n" for n in range(4)))
    step = int(Zoo.open("zoo").snapshots()["step"].to_numpy().max())
    for tokens in sorted(lines, key=lambda tokens: words(tokens) != "embed"):  # tables name what comes later
        tokens = [token.replace("step-00400", f"step-{step:05}") for token in tokens]
        if "--out" in tokens:
            shutil.rmtree(tokens[tokens.index("--out") + 1], ignore_errors=True)
        assert not call(*tokens[1:]), capsys.readouterr().err
    [code] = [text for language, text in blocks(page) if language == "python"]
    exec(code.replace("step = 400", f"step = {step}").replace("new-runs", "train"), {})
    assert "its emulation" in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_on_own_networks_runs_as_it_stands(folder, capsys):
    (folder / "nets").mkdir()
    torch.manual_seed(0)
    names = [f"{number:02}.pt" for number in range(18)]
    for number, name in enumerate(names):
        cell = (torch.nn.GRU, torch.nn.LSTM)[number % 2]
        parts = {"rnn": cell(3, 6), "head": torch.nn.Linear(6, 2)}
        torch.save(torch.nn.ModuleDict(parts).state_dict(), folder / "nets" / name)
    np.savez("trials.npz", inputs=np.random.default_rng(0).normal(size=(16, 8, 3)))
    rows = [f"{name},{('sum', 'first', 'product')[number % 3]}\n" for number, name in enumerate(names)]
    (folder / "runs.csv").write_text("file,goal\n" + "".join(rows))
    (folder / "known.csv").write_text("file,goal\n" + "".join(rows[:12]))
    for tokens in commands(ROOT / "docs" / "own-rnns.md"):
        assert not call(*tokens[1:], *SMALLER.get(words(tokens), [])), f"{tokens}: {capsys.readouterr().err}"
    assert (folder / "explored" / "report.html").exists()
    assert (folder / "map.html").exists()


def test_the_hand_written_network_of_a_page_is_read_as_it_runs(folder, capsys):
    page = ROOT / "docs" / "checkpoints.md"
    [code] = [text for language, text in blocks(page) if language == "python"]
    names = {"__name__": "page"}
    exec(code, names)
    [tokens] = [tokens for tokens in commands(page) if "ctrnn.pt" in tokens]
    assert not call(*tokens[1:])
    assert "leaky RNN (relu) 3→20→2" in " ".join(capsys.readouterr().out.split())
    found = find_rnn(torch.load("ctrnn.pt"), cell=tokens[-1])
    inputs = torch.randn(4, 30, 3)
    module = names["CTRNN"]()
    module.load_state_dict(torch.load("ctrnn.pt"))
    outputs, _ = run(
        Population(found.spec, {name: each[None] for name, each in found.weights.items()}), inputs
    )
    assert (outputs[0] - module(inputs)).abs().max() < 1e-5
    assert call(*tokens[1:3]) == 1
    assert "3 inputs and 20 units" in capsys.readouterr().err
