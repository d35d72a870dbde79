"""How a demo ends; what it does is tested in tests/reproduce."""

import shlex

import pytest

from rnnatlas.cli import main


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    assert not ended.value.code
    return capsys.readouterr()


def test_a_demo_ends_with_its_report_what_was_found_and_what_to_try(experiment, capsys, monkeypatch):
    monkeypatch.setattr("rnnatlas.reproduce.reproduce", lambda out, *_, **__: out / "report.html")
    out, err = call(capsys, "demo", "--out", experiment)
    assert out == f"{experiment / 'report.html'}\n"
    first, second, following = err.splitlines()
    assert first.startswith(
        "On new runs of known languages: conditioning the emulator on the embedding lowers"
    )
    assert second.startswith("Frozen embeddings predict the language better than all baselines for ")
    command = shlex.split(following.removeprefix("next: "))
    assert "similarity" in call(capsys, *command[1:])[0]
