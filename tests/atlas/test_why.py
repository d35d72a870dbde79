"""Why RNNs are near one another: properties and responses, and what is not known of them."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from rnnatlas.atlas.embed import embed, embed_file
from rnnatlas.atlas.why import explain
from rnnatlas.rnn import run


@pytest.fixture(scope="module")
def embedded(model, zoo):
    return embed(model, [zoo.path], "pca")


def test_an_rnn_agrees_with_itself_in_all(embedded, model):
    id = embedded.ids[5]
    [why] = explain(embedded, id, embedded.table.slice(5, 1), model)
    assert why.differ == {}
    assert why.distance == 0
    row = embedded.table.slice(5, 1).to_pylist()[0]
    assert why.agree["label"] == row["label"]
    assert why.agree["metrics.performance"] == row["metrics"]["performance"]
    assert not {"id", "source", "embedding", "samples", "task.b", "x"} & {*why.agree}


def test_properties_agree_or_differ_and_none_is_lost(embedded, model):
    id = embedded.ids[0]
    reasons = explain(embedded, id, embedded.table.slice(1, 8), model)
    for row, why in zip(embedded.table.slice(1, 8).to_pylist(), reasons, strict=True):
        assert ("label" in why.agree) == (row["label"] == embedded.table["label"][0].as_py())
        assert ("step" in why.differ) == (row["step"] != embedded.table["step"][0].as_py())
        assert {*why.agree} | {*why.differ} == {*reasons[0].agree} | {*reasons[0].differ}


def test_responses_are_compared_where_they_differ_most(embedded, model, zoo):
    ids = [embedded.ids[i] for i in (1, 7)]
    [why] = explain(embedded, ids[0], embedded.table.slice(7, 1), model)
    outputs, _ = run(zoo.population([1, 7]), model.reference.inputs)
    a, b = outputs.softmax(-1)
    apart = ((a - b).abs().sum(-1) / 2).flatten()[model.reference.shown]
    assert why.distance == pytest.approx(apart.mean().item(), abs=1e-6)
    step = int(model.reference.shown[apart.argmax()])
    token = int((a - b).abs().flatten(0, 1)[step].argmax())
    one, other = (part.flatten(0, 1)[step, token].item() for part in (a, b))
    assert why.most.startswith("after ^")
    assert why.most.endswith(f"{'ab^⏎'[token]} with {one:.0%} against {other:.0%}")


def test_files_and_several_zoos_are_found_again(embedded, model, zoo, tmp_path):
    (module,) = zoo.population([5]).to_modules()
    path = tmp_path / "same.pt"
    torch.save(module.state_dict(), path)
    shutil.copytree(zoo.path, tmp_path / "copy")
    several = embed(model, [zoo.path, tmp_path / "copy", path], "pca")
    found = several.table.filter(pa.array([id.endswith(zoo.table["id"][5].as_py()) for id in several.ids]))
    found = pa.concat_tables([found, several.table.slice(len(several) - 1)])
    reasons = explain(several, embed_file(model, path), found, model)
    assert [why.distance for why in reasons] == pytest.approx([0, 0, 0], abs=1e-5)
    assert "label" not in {*reasons[0].agree} | {*reasons[0].differ}  # of the file it is not known


def test_files_are_read_again_with_the_cell_that_was_given(model, tmp_path):
    torch.manual_seed(0)
    layers = nn.ModuleDict({"input2h": nn.Linear(4, 6), "h2h": nn.Linear(6, 6), "fc": nn.Linear(6, 4)})
    paths = [tmp_path / "given.pt", tmp_path / "stored.pt"]
    torch.save(layers.state_dict(), paths[0])
    torch.save({**layers.state_dict(), "alpha": torch.tensor(0.2)}, paths[1])
    atlas = embed(model, paths, "pca", cell="leaky-relu:0.2")
    [why] = explain(atlas, atlas.ids[0], atlas.table.slice(1, 1), model)
    assert why.distance == pytest.approx(0, abs=1e-6)
    query = embed_file(model, paths[0], "leaky-relu:0.9")
    [why] = explain(atlas, query, atlas.table.slice(0, 1), model, "leaky-relu:0.9")
    assert (why.distance or 0) > 1e-3


def test_what_cannot_be_said_is(embedded, model, zoo, tmp_path, monkeypatch):
    path = tmp_path / "gone.pt"
    torch.save(nn.ModuleDict({"rnn": nn.GRU(4, 6), "head": nn.Linear(6, 4)}).state_dict(), path)
    mixed = embed(model, [zoo.path, path, zoo.population([3])], "pca")
    path.unlink()
    gone, memory = explain(mixed, mixed.ids[0], mixed.table.slice(len(zoo), 2), model)
    assert gone.most.startswith("not known: ")
    assert "gone.pt" in gone.most
    assert memory.most == "not known: RNNs in memory are not kept"
    assert gone.distance is memory.distance is None
    assert "spec" in memory.agree
    monkeypatch.setattr(model, "reference", None)
    [why] = explain(mixed, mixed.ids[0], mixed.table.slice(1, 1), model)
    assert why.most == f"not known: {model.without_reference}"


def test_numbers_agree_within_a_tenth_of_their_deviation(embedded, model):
    performance = np.array([row["performance"] for row in embedded.table["metrics"].to_pylist()])
    near = np.abs(performance - performance[2]) < 0.1 * performance.std()
    reasons = explain(embedded, embedded.ids[2], embedded.table, model)
    assert ["metrics.performance" in why.agree for why in reasons] == near.tolist()
