"""What is published is what others open: a zoo, a run, and cards of what they hold."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.hub_server import hub_server
from tests.zoo.test_build import same

from rnnatlas import hub
from rnnatlas.cli import main
from rnnatlas.errors import OutputExists, RNNAtlasError, SettingsError
from rnnatlas.evaluation.model import load
from rnnatlas.zoo.export import card, export
from rnnatlas.zoo.store import Zoo


@pytest.fixture(scope="module")
def zoo(experiment):
    return Zoo.open(experiment / "zoo")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with hub_server(tmp_path_factory.mktemp("cache")) as running:
        yield running


def call(*tokens):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, tokens)])
    return ended.value.code


def header(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_run_goes_to_the_hub_and_comes_back(experiment, zoo, server, tmp_path, capsys):
    from rnnatlas.evaluation.published import PublishedModel

    run = experiment / "interactive-0"
    assert not call("publish", run, "--to=lab/encoder", "--license=mit", "--dry-run")
    shown = capsys.readouterr().out
    assert "model.safetensors" in shown
    assert not server.repositories, "a dry run sends nothing"
    assert not call("publish", run, "--to=lab/encoder", "--license=mit")
    files = server.repositories["model", "lab/encoder"]
    assert server.tokens[-1] == "Bearer hf_secret"
    assert f"model.safetensors\t{len(files['model.safetensors'])}" in shown
    assert str(experiment) not in b"".join(files.values()).decode(errors="replace"), "no path of ours"
    text = files["README.md"].decode()
    assert header(text)["license"] == "mit"
    assert "hf://lab/encoder" in text
    rnns = zoo.population(range(len(zoo)))
    here, there = load(run), load("hf://lab/encoder")
    assert torch.equal(there.embed(rnns), here.embed(rnns))
    assert there.predict(rnns) == here.predict(rnns)
    for place in ("lab/encoder", str(run)):
        again = PublishedModel.from_pretrained(place)
        assert torch.equal(again.embed(rnns), here.embed(rnns))
    embedded = tmp_path / "atlas"
    assert not call("embed", "hf://lab/encoder", zoo.path, "--layout=pca", f"--out={embedded}")


def test_a_zoo_goes_to_the_hub_and_comes_back(zoo, server):
    assert not call("publish", zoo.path, "--to=lab/zoo")
    assert same(Zoo.open("hf://lab/zoo"), zoo)
    assert same(Zoo.open("hf://datasets/lab/zoo"), zoo)
    before = server.commits
    assert not call("publish", zoo.path, "--to=lab/zoo")
    assert server.commits == before + 1, "all files in one commit"


def test_cards_say_what_there_is(experiment, zoo):
    text = card(zoo, "cc-by-4.0")
    assert header(text)["license"] == "cc-by-4.0"
    assert header(text)["configs"], "which datasets.load_dataset reads"
    assert f"{len(zoo)} snapshots of {len(zoo.table['run'].unique())} RNNs" in text
    assert f"| ood | {zoo.snapshots(split='ood').num_rows} |" in text


@pytest.mark.parametrize("form", ["hf", "safetensors", "npy"])
def test_exports_hold_every_weight(form, zoo, tmp_path):
    out = tmp_path / "out"
    export(zoo, out, form)
    with pytest.raises(OutputExists):
        export(zoo, out, form)
    weights = zoo.population(range(len(zoo))).flatten().numpy()
    if form == "hf":
        assert same(Zoo.open(out), zoo)
        return
    rows = pq.read_table(out / "snapshots.parquet").to_pylist()
    assert [row["id"] for row in rows] == zoo.table["id"].to_pylist()
    for row, own in zip(rows, weights, strict=True):
        if form == "npy":
            found = np.load(out / row["file"])[row["row"]]
        else:
            tensors = load_file(out / row["file"])
            found = np.concatenate([tensors[name][row["row"]].flatten() for name in zoo.specs[0].shapes])
        assert np.array_equal(found, own)


@pytest.mark.parametrize("name", ["lab", "hf://lab", "lab/zoo/data", "lab/../x/y", "https://lab/zoo"])
def test_what_names_no_repository_is_refused(name, zoo):
    with pytest.raises(SettingsError, match="expected a repository such as hf://user/name"):
        hub.repository(name)
    assert call("publish", zoo.path, f"--to={name}") == 2


def test_what_is_not_there_is_one_sentence(server, monkeypatch):
    with pytest.raises(RNNAtlasError, match=r"hf://lab/none cannot be had .* check the name"):
        load("hf://lab/none")
    with pytest.raises(RNNAtlasError, match="hf://lab/none"):
        Zoo.open("hf://lab/none")


def test_without_its_package_the_hub_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(SettingsError, match=r'pip install "rnnatlas\[hub\]"'):
        load("hf://lab/encoder")
