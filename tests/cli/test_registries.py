import json

import pytest

from rnnatlas import encoders
from rnnatlas.cli import main
from rnnatlas.encoders.cost import cost


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_encoders_are_listed_with_what_they_cost(capsys):
    listed = json.loads(run(capsys, "encoders", "--json"))
    assert [record["name"] for record in listed] == list(encoders.registry)
    for record in listed:
        assert record["description"] == encoders.registry.description(record["name"])
        costs = vars(cost(record["name"]))
        assert {name: record[name] for name in costs} == costs
        assert set(record["symmetries"]) == encoders.registry[record["name"]].symmetries


def test_the_table_shows_every_encoder(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = run(capsys, "encoders").splitlines()
    assert lines[0].split()[:3] == ["encoder", "description", "parameters"]
    assert [line.split()[0] for line in lines[1:]] == list(encoders.registry)
    flops = next(line for line in lines if line.startswith("flat"))
    assert f"{cost('flat').flops / 1e6:.3f}" in flops
