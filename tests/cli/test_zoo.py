import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from rnnatlas.cli import main
from rnnatlas.texts import is_printable
from rnnatlas.zoo.format import write_shard
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
    assert re.search(r"\(performance \d\.\d\d\): ", out)
    assert "right" not in out
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


def test_a_damaged_shard_is_set_aside_and_its_runs_alone_are_trained_again(zoo, capsys):
    before = {path: path.read_bytes() for path in zoo.rglob("*.parquet")}
    status, _, err = call(capsys, "zoo", "verify", zoo, "--set-aside")
    assert (status, "give both" in err) == (2, True)
    part = min(before)
    part.write_bytes(part.read_bytes()[:-1])
    status, _, err = call(capsys, "zoo", "verify", zoo, "--full")
    assert (status, part.is_file()) == (1, True)
    assert f"1 of {len(before)} shards" in err
    assert part.name in err
    status, _, err = call(capsys, "zoo", "verify", zoo, "--full", "--set-aside")
    assert (status, part.is_file(), err.count("\n")) == (1, False, 1)
    again = ("zoo", "build", "formal-languages", "--out", zoo, *FEW, "--resume")
    assert call(capsys, *again)[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    assert call(capsys, "zoo", "verify", zoo, "--full")[0] == 0


@pytest.mark.parametrize("steps", [[3], [0, 3]])
def test_show_where_snapshots_diverged(zoo, capsys, steps):
    for part in zoo.rglob("*.parquet"):
        table = pq.read_table(part)
        health = ["diverged" if step in steps else "ok" for step in table["step"].to_pylist()]
        write_shard(part, table.set_column(table.column_names.index("health"), "health", pa.array(health)))
    status, out, err = call(capsys, "zoo", "show", zoo)
    assert (status, err) == (0, "")
    assert f"{6 * len(steps)} diverged" in out


def test_texts_of_a_zoo_steer_no_terminal(zoo, capsys):
    """What it says of the health of its snapshots was printed as it stood."""
    for path in zoo.rglob("*.parquet"):
        table = pq.read_table(path)
        odd = pa.array(["\x1b[31m<b>\u202e"] * len(table))
        place = table.column_names.index("health")
        write_shard(path, table.set_column(place, "health", odd))
    status, out, _ = call(capsys, "zoo", "show", zoo)
    assert status == 0
    assert "\\x1b[31m<b>\\u202e" in out
    assert is_printable(out.replace("\n", "").replace("\t", ""))


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
    (tmp_path / "none").mkdir()
    (tmp_path / "linear.pt").rename(tmp_path / "none" / "linear.pt")
    for flags in ((), ("--json",)):
        status, _, err = call(capsys, "inspect", tmp_path / "none", *flags)
        assert (status, err.count("error: ")) == (1, 1), "nothing in it can be used"


def test_what_is_odd_about_checkpoints_is_said(tmp_path, capsys):
    folder = tmp_path / "models"
    folder.mkdir()
    torch.save(torch.nn.RNN(3, 4).state_dict(), folder / "elman.pt")
    broken = torch.nn.LSTM(3, 4).state_dict()
    broken["bias_hh_l0"][0] = float("nan")
    both = {f"a.{name}": weight for name, weight in broken.items()} | {"b.weight_hh_l1": torch.zeros(4, 4)}
    torch.save(both, folder / "both.pt")
    (folder / "sound.wav").write_text("")
    note = "nonlinearity assumed tanh; a state_dict does not tell: --cell elman-relu"
    unclear = f"left out: {folder / 'both.pt'}: the RNN at 'b' has 'b.weight_hh_l1' but no weight_hh_l0\n"
    others = "passed over files that are no checkpoints: .wav (1)\n"

    status, _, err = call(capsys, "zoo", "import", folder, "--out", tmp_path / "zoo")
    assert status == 0
    assert err == (
        f"{unclear}1 RNN with one gate: {note}\n"
        f"marked as diverged, since weights are not finite: 1 ({folder / 'both.pt'}:a)\n"
        f"2 RNNs (LSTM 3→4, Elman (tanh) 3→4) in {tmp_path / 'zoo'}, 0 files skipped\n{others}"
    )
    status, out, err = call(capsys, "inspect", folder, "--json")
    notes = {rnn["cell"]: rnn["notes"] for file in json.loads(out) for rnn in file["rnns"]}
    assert notes == {"elman-tanh": [note], "lstm": ["weights are not finite: a.bias_hh_l0"]}
    assert [len(file["left_out"]) for file in json.loads(out)] == [1, 0]
    status, out, err = call(capsys, "inspect", folder)
    assert err == unclear + others
    assert "assumed tanh" in " ".join(out.split())
    status, out, _ = call(capsys, "inspect", folder / "elman.pt", "--cell", "elman-relu")
    assert "Elman (relu)" in out
    assert "assumed" not in out


def test_a_cell_or_head_that_cannot_be_is_one_sentence(tmp_path, capsys):
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "gru.pt")
    for flags, words, expected in (
        (("--cell", "elman-relux"), "did you mean 'elman-relu'", 2),
        (("--cell", "lstm"), "has 3 gates, so it is not of cell 'lstm'", 1),
        (("--head", "fc"), "expected the head's weights at fc.weight, found none", 1),
    ):
        for path in ("gru.pt", "*.pt"):
            for command in (("zoo", "import", "--out", tmp_path / "zoo"), ("inspect",)):
                status, out, err = call(capsys, *command, tmp_path / path, *flags)
                assert words in err
                assert err.count("\n") == 1
                if path == "gru.pt" or command[0] == "zoo" or expected == 2:
                    assert (status, out) == (expected, "")
                    assert err.startswith("error: ")
    assert not (tmp_path / "zoo").exists()


def test_an_imported_zoo_trains_no_encoder(tmp_path, capsys):
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "gru.pt")
    call(capsys, "zoo", "import", tmp_path / "gru.pt", "--out", tmp_path / "zoo")
    flags = ["--encoder", "statistics", "--out", tmp_path / "run"]
    status, _, err = call(capsys, "train", tmp_path / "zoo", *flags)
    assert status == 1
    assert "was imported without inputs; import it again with --inputs FILE" in err
    assert err.count("\n") == 1
    (shard,) = (tmp_path / "zoo").rglob("*.parquet")
    shard.unlink()
    assert "import it again, or copy it whole" in call(capsys, "zoo", "show", tmp_path / "zoo")[2]


def test_import_a_folder_in_the_published_layout(zoo, tmp_path, capsys):
    ours = Zoo.open(zoo)
    rows = np.arange(len(ours))
    sequences = ours.rollout_inputs(rows)
    ended = np.cumsum(sequences == ours.task.eos, axis=-1) > 0
    sequences = np.where(ended, ours.task.eos, sequences).astype(np.uint8)
    arrays = {
        "parameters": ours.population(rows).flatten().numpy(),
        "sequences": sequences,
        "logits": ours.task.outputs(ours.population(rows), torch.from_numpy(sequences)).numpy(),
        "tasks": [list(task.values()) for task in ours.table["task"].to_pylist()],
        "num_step_correct": np.stack([ours.table["step"].to_numpy(), np.full(len(rows), 0.5)], axis=1),
    }
    folder = tmp_path / "published"
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    status, _, err = call(capsys, "zoo", "import", folder, "--out", tmp_path / "again", "--cell", "lstm")
    assert status == 2
    assert "with no flag but --seed" in err
    status, _, err = call(capsys, "zoo", "import", folder, "--out", tmp_path / "again", "--seed", "3")
    assert status == 0
    assert "read as LSTM 4→5→4" in err
    assert "12 snapshots of LSTM 4→5→4" in err
    assert call(capsys, "zoo", "verify", tmp_path / "again", "--all")[0] == 0
