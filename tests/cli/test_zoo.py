import json

import pytest
import torch
import yaml

from rnnatlas.cli import main
from rnnatlas.zoo.store import Zoo

FEW = ["--runs", "6", "--workers", "1"]
for change in (
    "task.tokens=2",
    "task.length=12",
    "task.largest_n=4",
    "task.performance_samples=20",
    "zoo.hidden=5",
    "zoo.layers=1",
    "zoo.snapshots=[0, 3]",
    "zoo.rollouts=3",
    "zoo.runs_per_shard=4",
):
    FEW += ["--set", change]


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.fixture
def zoo(tmp_path, capsys):
    status, _, err = call(capsys, "zoo", "build", "formal-languages", "--out", tmp_path / "zoo", *FEW)
    assert status == 0, err
    return tmp_path / "zoo"


def test_build_show_and_verify(zoo, capsys):
    assert len(Zoo.open(zoo)) == 12
    status, out, err = call(capsys, "zoo", "show", zoo)
    assert (status, err) == (0, "")
    for word in ("12 snapshots of 6 RNNs", "LSTM 4→5→4", "mean performance", "12 ok", "train"):
        assert word in out
    status, out, _ = call(capsys, "zoo", "verify", zoo, "--all")
    assert status == 0
    assert "12 of 12" in out


def test_show_and_verify_as_json(zoo, capsys):
    status, out, _ = call(capsys, "zoo", "show", zoo, "--json")
    shown = json.loads(out)
    assert status == 0
    assert (shown["snapshots"], shown["runs"], shown["health"]) == (12, 6, {"ok": 12})
    assert [step["step"] for step in shown["steps"]] == [0, 3]
    assert sum(split["snapshots"] for split in shown["splits"]) == 12
    assert 0 <= shown["steps"][0]["metrics"]["performance"] <= 1
    status, out, _ = call(capsys, "zoo", "verify", zoo, "--sample", "5", "--json")
    assert status == 0
    assert json.loads(out)["agree"] == json.loads(out)["checked"] == 5


def test_quiet_says_nothing_when_all_is_well(tmp_path, capsys):
    assert call(capsys, "zoo", "build", "formal-languages", "--out", tmp_path / "z", *FEW, "--quiet") == (
        0,
        "",
        "",
    )


def test_a_damaged_zoo_is_one_sentence_and_status_1(zoo, capsys):
    part = next(zoo.rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-100])
    for command in ("show", "verify"):
        status, out, err = call(capsys, "zoo", command, zoo)
        assert (status, out) == (1, "")
        assert err.startswith("error: shard")
        assert err.count("\n") == 1


def test_verify_fails_where_something_disagrees(zoo, capsys):
    import pyarrow.parquet as pq

    from rnnatlas.zoo.format import as_column, write_shard

    part = next(zoo.rglob("*.parquet"))
    table = pq.read_table(part)
    weights = torch.tensor(table["weights"].to_pylist()).roll(1, 0).numpy()
    write_shard(part, table.set_column(table.column_names.index("weights"), "weights", as_column(weights)))
    status, out, err = call(capsys, "zoo", "verify", zoo, "--all", "--json")
    assert status == 1
    assert json.loads(out)["agree"] < 12
    assert "not what was stored" in err


@pytest.mark.parametrize("steps", [[3], [0, 3]])
def test_show_where_snapshots_diverged(zoo, capsys, steps):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rnnatlas.zoo.format import write_shard

    for part in zoo.rglob("*.parquet"):
        table = pq.read_table(part)
        health = ["diverged" if step in steps else "ok" for step in table["step"].to_pylist()]
        write_shard(part, table.set_column(table.column_names.index("health"), "health", pa.array(health)))
    status, out, err = call(capsys, "zoo", "show", zoo)
    assert (status, err) == (0, "")
    assert f"{6 * len(steps)} diverged" in out


def test_existing_output_and_resume(zoo, capsys):
    again = ("zoo", "build", "formal-languages", "--out", zoo, *FEW)
    status, _, err = call(capsys, *again)
    assert status == 1
    assert "--resume" in err
    next(zoo.rglob("*.parquet")).unlink()
    assert call(capsys, *again, "--resume")[0] == 0
    assert len(Zoo.open(zoo)) == 12


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["zoo", "build", "formal-language"], "did you mean 'formal-languages'"),
        (["zoo", "build", "formal-languages", "--set", "zoo.hiden=3"], "did you mean 'hidden'"),
        (["zoo", "build", "formal-languages", "--set", "zooo.hidden=3"], "did you mean 'zoo'"),
        (["zoo", "build", "formal-languages", "--preset", "hughe"], "no preset"),
        (["zoo", "build", "formal-languages", "--set", "zoo.cell=lstn"], "did you mean 'lstm'"),
        (["zoo", "build", "formal-languages", "--executor", "cloud"], "no executor"),
        (["zoo", "build", "formal-languages", "--workers", "0"], "workers"),
        (["zoo", "build", "formal-languages", "--set", "zoo=5"], "zoo should hold settings by name"),
        (
            ["zoo", "build", "formal-languages", "--preset", "demo", "--set", "emulation.steps=1"],
            "'emulation'",
        ),
    ],
)
def test_wrong_names_are_named(tmp_path, capsys, tokens, message):
    status, out, err = call(capsys, *tokens, "--out", tmp_path / "zoo")
    assert (status, out) == (2, "")
    assert message in err
    assert not (tmp_path / "zoo").exists()


def test_print_config_can_be_used_as_config(tmp_path, capsys):
    tokens = ["zoo", "build", "formal-languages", "--out", tmp_path / "zoo", *FEW]
    status, out, _ = call(capsys, *tokens, "--print-config")
    assert status == 0
    assert not (tmp_path / "zoo").exists()
    printed = yaml.safe_load(out)
    assert printed["settings"]["zoo"]["hidden"] == 5
    (tmp_path / "config.yaml").write_text(out)
    config = ["--config", tmp_path / "config.yaml"]
    assert call(capsys, "zoo", "build", "formal-languages", *config)[0] == 0
    assert Zoo.open(tmp_path / "zoo").card["settings"]["hidden"] == 5


def test_import_and_inspect(tmp_path, capsys):
    torch.save(torch.nn.GRU(3, 4, bidirectional=True).state_dict(), tmp_path / "gru.pt")
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "linear.pt")
    status, _, err = call(capsys, "zoo", "import", tmp_path, "--out", tmp_path / "zoo")
    assert status == 0
    assert "1 RNNs (bidirectional GRU 3→4)" in err
    assert "linear.pt" in err
    assert "imported" in call(capsys, "zoo", "show", tmp_path / "zoo")[1]
    assert call(capsys, "zoo", "verify", tmp_path / "zoo")[0] == 0

    status, out, err = call(capsys, "inspect", tmp_path / "*.pt", "--json")
    first, second = json.loads(out)
    assert (status, err) == (0, "")
    [rnn] = first["rnns"]
    assert (rnn["cell"], rnn["input"], rnn["hidden"], rnn["bidirectional"]) == ("gru", 3, 4, True)
    assert rnn["parameters"] == sum(
        weight.numel() for weight in torch.nn.GRU(3, 4, bidirectional=True).parameters()
    )
    assert (second["rnns"], first["skipped"]) == ([], None)
    status, out, err = call(capsys, "inspect", tmp_path / "gru.pt")
    assert "bidirectional GRU" in out
    status, out, err = call(capsys, "inspect", tmp_path / "linear.pt")
    assert (status, out) == (1, "")
    assert "expected the weights" in err
