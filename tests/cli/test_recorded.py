"""Networks of one's own, from files to maps and predictions, by commands alone."""

import json
import shlex

import numpy as np
import pytest
import torch
from torch import nn

from rnnatlas.atlas.index import Atlas
from rnnatlas.cli import main

SMALL = """emulation.steps=6 emulation.rnns=6 emulation.validate_every=3 emulation.validation_rollouts=2
emulation.emulator.width=8 emulation.emulator.layers=1 encoders.noninteractive.sequences=2
encoders.noninteractive.steps=4 encoders.noninteractive.width=8 encoders.noninteractive.hidden=8
encoders.noninteractive.layers=1"""
KINDS = (nn.GRU, nn.LSTM, nn.RNN)


class Net(nn.Module):
    def __init__(self, kind, inputs, outputs):
        super().__init__()
        self.rnn, self.out = kind(inputs, 5, batch_first=True), nn.Linear(5, outputs)


def call(capsys, *tokens):
    """What a command prints; it has to succeed."""
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return out, err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """16 networks of numbers in `nets`, 6 of tokens in `words`, with inputs and labels."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, count, sizes in (("nets", 16, (3, 2)), ("words", 6, (4, 4))):
        (tmp_path / name).mkdir()
        for i in range(count):
            torch.save(Net(KINDS[i % 3], *sizes).state_dict(), tmp_path / name / f"net_{i}.pt")
    lines = [f"net_{i}.pt,{i / 10},{'left' if i % 2 else 'right'}" for i in range(16) if i != 5]
    for name in ("runs.csv", "known.csv"):
        (tmp_path / name).write_text("\n".join(["file,size,lesion", *lines]))
    inputs = random.normal(size=(12, 6, 3))
    np.savez(tmp_path / "trials.npz", inputs=inputs, targets=inputs[..., :2])
    (tmp_path / "words.csv").write_text("\n".join("0,1,2,3,1,0" for _ in range(5)))
    return tmp_path


def test_numbers_with_labels_go_through_every_command(folder, capsys, caplog):
    _, said = call(capsys, *shlex.split("zoo import nets --inputs trials.npz --labels runs.csv --out zoo"))
    assert "RNNs read 3 numbers a step, 6 steps a trial, and give out 2 numbers; 12 trials were given" in said
    assert "splits, drawn at random: 12 train, 2 validation, 2 ood networks" in said
    assert "1 RNNs have no labels: nets/net_5.pt:rnn" in said
    assert "16 of 16 snapshots checked agree" in call(capsys, "zoo", "verify", "zoo")[0]
    assert "16 snapshots of 16 RNNs, recorded" in call(capsys, "zoo", "show", "zoo")[0]
    call(capsys, "train", "zoo", "--encoder=noninteractive", "--out=run", *flags())
    figures = json.loads(call(capsys, "evaluate", "run", "--json")[0])
    names = {(one["name"], one["of"]) for one in figures}
    for reads in ("embedding", "constant", "norms", "nearest"):
        assert {("labels.size loss", reads), ("labels.lesion accuracy", reads)} <= names
    assert any(one["name"] == "emulation loss, mse" for one in figures)

    call(capsys, "embed", "run", "zoo", "--out=atlas")
    query = ["nets/net_3.pt:rnn", "-k=3", "--where=size > 0.7", "--json"]
    found = json.loads(call(capsys, "search", "atlas", *query)[0])
    assert len(found) == 3
    places = Atlas.open(folder / "atlas").table.select(["id", "labels"]).to_pylist()
    sizes = {row["id"]: row["labels"]["size"] for row in places}
    assert all(sizes[one["id"]] > 0.7 for one in found)
    shown = call(capsys, "search", "atlas", *query[:-1])[0].splitlines()
    assert shown[0].split("\t")[-3:] == ["size", "lesion", "writes"]
    assert float(shown[1].split("\t")[-3]) > 0.7
    for wrong, said in (
        (["search", query[0], "atlas"], "give: rnnatlas search atlas nets/net_3.pt:rnn"),
        (["embed", "run", "zoo", "--out=b", "--set=executor.partition=long"], "add --executor slurm"),
        (["inspect", "nets/net_0.pt", "--cell=elman-relu"], "no RNN has one gate"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert said in capsys.readouterr().err + caplog.text
    call(capsys, "map", "atlas", "--color=lesion", "--out=map.html")
    assert '"color": "labels.lesion"' in (folder / "map.html").read_text().replace('":"', '": "')
    predicted = json.loads(call(capsys, "predict", "run", "nets/net_1.pt", "--json")[0])
    about = {"id", "notes", "ood_score", "in_distribution"}
    assert set(predicted[0]) == about | {"performance", "labels.size", "labels.lesion"}
    assert predicted[0]["labels.lesion"]["value"] in ("left", "right")


def test_tokens_without_labels_go_through_every_command(folder, capsys):
    _, said = call(capsys, *shlex.split("zoo import words --inputs words.csv --out zoo"))
    assert "RNNs read one of 4 tokens a step, 6 steps a trial, and give out logits of 4 classes" in said
    assert "validation" in call(capsys, "zoo", "show", "zoo")[0]
    call(capsys, "train", "zoo", "--encoder=noninteractive", "--out=run", *flags())
    figures = json.loads(call(capsys, "evaluate", "run", "--json")[0])
    assert {one["name"] for one in figures} >= {"emulation loss, total-variation"}
    assert not (folder / "run" / "emulated.parquet").exists()
    call(capsys, "embed", "run", "zoo", folder / "words" / "net_0.pt", "--out=atlas")
    call(capsys, "map", "atlas", "--out=map.html")
    with pytest.raises(SystemExit):
        main(["predict", "run", "words/net_0.pt"])
    assert "import it again with --labels" in capsys.readouterr().err


def test_what_encoders_learned_without_inputs_says_so(folder, capsys):
    _, said = call(capsys, *shlex.split("zoo import words --signal tokens --rollouts 8 --out zoo"))
    assert "no inputs were given, so each RNN samples its own" in said
    call(capsys, "train", "zoo", "--encoder=noninteractive", "--out=run", *flags())
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert "sequences that RNNs sampled from themselves" in metrics[0]["definition"]


def test_too_few_networks_train_no_encoder(folder, capsys):
    few = [f"nets/net_{i}.pt" for i in range(4)]
    _, said = call(capsys, "zoo", "import", *few, "--inputs=trials.npz", "--out=zoo")
    assert "all 4 networks are for training, since it takes 5 to hold some out" in said
    with pytest.raises(SystemExit):
        main(["train", "zoo", "--encoder=noninteractive", "--out=run", *flags()])
    assert (
        "the split 'validation', found none in zoo; build or import a larger zoo" in capsys.readouterr().err
    )


def flags():
    return [f"--set={change}" for change in SMALL.split()]
