"""Tables for people and for pipes: no word of an RNN's name is ever broken."""

import io
import json
import math

import pytest
import torch
from torch import nn

from rnnatlas.cli import main
from rnnatlas.cli.common import print_json, print_table

NAME = "model.encoder.temporal_modules.0.recurrent_layer"
ROWS = [
    [f"runs/lr=0.01,seed={i}/model.ckpt:{NAME}", 0.5, "words that may stand below one another"]
    for i in (1, 2)
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_of(monkeypatch, columns):
    """What is printed from now on, as if to a terminal of so many columns."""
    for name, value in (("COLUMNS", str(columns)), ("NO_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    return terminal


def printed(monkeypatch, columns, *table, **options):
    """What a terminal of so many columns shows."""
    terminal = terminal_of(monkeypatch, columns)
    print_table(*table, **options)
    monkeypatch.undo()
    return terminal.getvalue()


def test_elsewhere_than_on_a_terminal_a_row_is_a_line_of_cells_between_tabs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_table(["id", "similarity", "note"], [*ROWS, ["two  spaces", 1, "a\ttab and\na line"]])
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        ["id", "similarity", "note"],
        [ROWS[0][0], "0.500", ROWS[0][2]],
        [ROWS[1][0], "0.500", ROWS[1][2]],
        ["two  spaces", "1", "a tab and a line"],
    ]


@pytest.mark.parametrize("columns", [20, 80, 100, 120, 300])
def test_ids_are_never_broken(monkeypatch, columns):
    text = printed(monkeypatch, columns, ["id", "similarity", "note"], ROWS)
    lines = text.splitlines()
    assert all(id in text for id, _, _ in ROWS)
    wide = len(ROWS[0][0]) + len("  similarity  in 4 lines") <= columns  # a quarter of the note
    assert ("  similarity: 0.500" in lines) != wide
    assert not wide or max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", [80, 120])
def test_long_texts_have_lines_of_their_own(monkeypatch, columns):
    reasons = "; ".join(f"property {i} is {i}" for i in range(20))
    rows = [["n000.pt:rnn", 0.9, reasons, "–", reasons, 0.1], ["n001.pt:rnn", 0.8, "–", "–", reasons, 0.2]]
    heads = ["id", "similarity", "agrees in", "differs in", "most", "distance"]
    lines = printed(monkeypatch, columns, heads, rows).splitlines()
    assert lines == [
        *("n000.pt:rnn", "  similarity: 0.900", f"  agrees in: {reasons}", f"  most: {reasons}"),
        *(
            "  distance: 0.100",
            "n001.pt:rnn",
            "  similarity: 0.800",
            f"  most: {reasons}",
            "  distance: 0.200",
        ),
    ]


def test_columns_without_a_value_are_for_pipes_alone(monkeypatch, capsys):
    rows = [["a", "–", 0.5, "", "x"], ["b", "–", 0.25, "", "–"]]
    heads = ["id", "task", "similarity", "writes", "split"]
    head, *lines = printed(monkeypatch, 80, heads, rows).splitlines()
    assert head.split() == ["id", "similarity", "split"]
    assert [line.split() for line in lines] == [["a", "0.500", "x"], ["b", "0.250", "–"]]
    print_table(heads, rows)
    assert capsys.readouterr().out.splitlines()[0] == "\t".join(heads)
    assert printed(monkeypatch, 80, heads, []).split() == ["id"]


def test_columns_that_are_copied_from_are_not_folded_either(monkeypatch):
    rows = [["a", "a name of three words", "more than there is room for, so it goes on below"]]
    text = printed(monkeypatch, 40, ["file", "head", "notes"], rows, whole=("head",))
    assert "a name of three words" in text
    assert len(text.splitlines()) > 2


def test_json_has_null_for_what_is_no_number(capsys):
    print_json({"a": [math.nan, (1.5, -math.inf)], "b": {"c": math.inf}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, [1.5, None]], "b": {"c": None}}


def test_names_that_inspect_prints_can_be_given_as_heads(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "a_long_folder_name" / "as_others_make_them,lr=0.001,hidden=128,seed=3"
    folder.mkdir(parents=True)
    layer = nn.ModuleDict({"rnn": nn.GRU(4, 8), "readout": nn.Linear(8, 3)})
    state = {f"{NAME}.{name}": value for name, value in layer.state_dict().items()}
    torch.save(state, folder / "model.ckpt")
    terminal = terminal_of(monkeypatch, 80)
    with pytest.raises(SystemExit):
        main(["inspect", str(folder)])
    for name in (folder / "model.ckpt", f"at: {NAME}.rnn", f"head: {NAME}.readout"):
        assert str(name) in terminal.getvalue()
