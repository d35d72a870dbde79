"""`rnnatlas theory`, its files and its refusals."""

import json

import pytest

from rnnatlas.cli import main
from rnnatlas.theory.study import random_families


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    return ended.value.code, *capsys.readouterr()


def test_everything_is_one_document_that_is_kept(tmp_path, capsys):
    out = tmp_path / "theory"
    status, printed, _ = call(capsys, "theory", "--letters=2", "--json", f"--out={out}")
    document = json.loads(printed)
    assert (status, json.loads((out / "theory.json").read_text())) == (0, document)
    assert all(row["holds"] for row in document["random"])
    assert all(row["fixed_lower"] == row["theorem"] == row["interactive_upper"] for row in document["tight"])
    long = next(row for row in document["languages"] if row["query"] == "prefixes, long")
    assert (long["interactive_lower"], long["fixed_upper"]) == (2, 3)
    drawn = {path.name for path in out.iterdir()} - {"theory.json"}
    assert drawn == {"queries.png", "queries.pdf"}


def test_the_seed_decides_which_families_are_drawn():
    assert random_families(8, 3) == random_families(8, 3) != random_families(8, 4)


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--letters=7"], 2, "should lie between 2 and 6, found 7"),
        (["--rnns=0"], 2, "should be 1 or more, found 0"),
        (["--zoo=nothing"], 1, "nothing"),
        (["--out=."], 1, "exists already; choose another --out"),
    ],
)
def test_refusals_are_one_sentence(flags, status, message, capsys):
    found, printed, err = call(capsys, "theory", "--quiet", *flags)
    assert (found, printed) == (status, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
