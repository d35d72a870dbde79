"""Embedding zoos and checkpoints: what fits is embedded, what does not is named."""

import dataclasses
import inspect
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnnatlas.atlas import embed as embedding
from rnnatlas.atlas.embed import embed, embed_query
from rnnatlas.atlas.index import Atlas
from rnnatlas.atlas.predicting import predict
from rnnatlas.errors import AtlasFormatError, CheckpointError, RNNSpecMismatch
from rnnatlas.evaluation.model import load
from rnnatlas.rnn import Mixed, Population, RNNSpec
from rnnatlas.rnn.recognise import ASSUMED_TANH
from rnnatlas.zoo.imports import import_checkpoints
from rnnatlas.zoo.store import Zoo

SPEC = RNNSpec(cell="lstm", input=4, hidden=6, output=4)
"""What `checkpoint` makes unless asked otherwise."""


def checkpoint(path, hidden=6, cell=nn.LSTM, size=4, damage=None):
    """A torch state_dict of an RNN with a head, as someone would save it."""
    torch.manual_seed(hidden)
    module = nn.ModuleDict({"rnn": cell(size, hidden), "head": nn.Linear(hidden, size)})
    state = {name: value.clone() for name, value in module.state_dict().items()}
    if damage is not None:
        state["rnn.weight_hh_l0"][0, 0] = damage
    torch.save(state, path) if path.suffix == ".pt" else save_file(state, path)
    return path


def test_zoo_becomes_entries(model, zoo, tmp_path):
    atlas = embed(model, [zoo.path])
    atlas.save(tmp_path / "atlas")
    table = Atlas.open(tmp_path / "atlas").table
    assert table["id"].to_pylist() == zoo.table["id"].to_pylist()
    expected = model.embed(zoo.population(zoo.snapshots())).numpy()
    assert np.allclose(atlas.embeddings, expected, atol=1e-6)
    assert all(len(strings) == 4 for strings in table["samples"].to_pylist())
    assert table["label"][0].as_py().startswith("aⁿb")
    predicted = table["predicted"].to_pylist()
    assert all(0 <= row["performance"] <= 1 and row["step"] in (0, 40) for row in predicted)


def test_a_large_zoo_is_embedded_part_by_part(model, zoo, monkeypatch):
    whole = embed(model, Zoo.open(zoo.path), "pca")
    monkeypatch.setattr(embedding, "PART", 5)
    large, read = Zoo.open(zoo.path), []
    embed_some = model.embed

    def watch(rnns):
        read.append(len(rnns))
        return embed_some(rnns)

    monkeypatch.setattr(model, "embed", watch)
    parts = embed(model, large, "pca")
    assert max(read) == 5
    assert large._columns == {}
    assert np.allclose(parts.embeddings, whole.embeddings, atol=1e-6)
    others = ["embedding", "x", "y", "ood_score", "predicted"]
    assert parts.table.drop_columns(others).equals(whole.table.drop_columns(others))


def test_functionalist_encoder_takes_any_architecture_that_fits(model, zoo, tmp_path):
    gru = checkpoint(tmp_path / "gru.pt", hidden=9, cell=nn.GRU)
    lstm = checkpoint(tmp_path / "lstm.safetensors", hidden=7)
    atlas = embed(model, [zoo.path, gru, lstm])
    added = atlas.table.to_pylist()[-2:]
    assert [row["spec"] for row in added] == ["gru-4-9x1-4", "lstm-4-7x1-4"]
    assert all(row["label"] is None and row["step"] is None for row in added)
    assert all(len(row["samples"]) == 5 for row in added)
    again = embed(model, [lstm])
    assert again.table["samples"].to_pylist()[0] == added[1]["samples"]
    # alone or beside others: products of other sizes round otherwise, which whitening blows up
    assert np.allclose(again.embeddings[0], atlas.embeddings[-1], atol=1e-4)


def test_a_relu_encoder_reads_files_with_one_gate_as_relu(model, tmp_path, monkeypatch):
    elman = checkpoint(tmp_path / "elman.pt", cell=nn.RNN)
    lstm = checkpoint(tmp_path / "lstm.pt")
    monkeypatch.setattr(model, "specs", [dataclasses.replace(model.specs[0], cell="elman-relu")])
    assert embed(model, [elman, lstm]).table["spec"].to_pylist() == ["elman-relu-4-6x1-4", "lstm-4-6x1-4"]


def test_a_hand_written_network_is_read_only_where_its_cell_is_given(model, tmp_path, monkeypatch):
    layers = nn.ModuleDict({"input2h": nn.Linear(4, 6), "h2h": nn.Linear(6, 6), "fc": nn.Linear(6, 4)})
    torch.save(layers.state_dict(), tmp_path / "net.pt")
    monkeypatch.setattr(model, "specs", [dataclasses.replace(model.specs[0], cell="elman-relu")])
    with pytest.raises(CheckpointError, match=r"look like a hand-written RNN .* --cell elman-tanh"):
        embed(model, [tmp_path / "net.pt"])
    [slug] = embed(model, [tmp_path / "net.pt"], cell="leaky-tanh:0.5").table["spec"].to_pylist()
    assert slug == "leaky-tanh-4-6x1-4"


def test_a_zoo_at_an_address(model, zoo, monkeypatch):
    monkeypatch.setattr(embedding.Zoo, "open", lambda path: zoo if path == "s3://bucket/zoo" else None)
    assert embed(model, ["s3://bucket/zoo"]).ids == zoo.table["id"].to_pylist()


def test_sizes_that_do_not_fit_are_named(model, tmp_path):
    path = checkpoint(tmp_path / "wide.pt", size=8)
    with pytest.raises(RNNSpecMismatch, match=r"wide\.pt: this encoder was built for RNNs with 4 inputs"):
        embed(model, [path])


def test_mechanistic_encoder_takes_only_its_architecture(mechanistic, tmp_path):
    path = checkpoint(tmp_path / "gru.pt", hidden=4, cell=nn.GRU)
    with pytest.raises(RNNSpecMismatch, match="was built for LSTM 4→4→4, found GRU 4→4→4"):
        embed(mechanistic, [path])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(model, tmp_path, value):
    path = checkpoint(tmp_path / "bad.pt", damage=value)
    with pytest.raises(CheckpointError, match=r"bad\.pt: expected finite weights, .* rnn\.weight_hh_l0"):
        embed(model, [path])


def test_bad_files_of_a_folder_are_left_out_and_named(model, tmp_path):
    checkpoint(tmp_path / "bad.pt", damage=float("nan"))
    checkpoint(tmp_path / "good.pt")
    checkpoint(tmp_path / "wide.pt", size=8)
    (tmp_path / "other.pt").write_bytes(b"not a checkpoint")
    atlas = embed(model, [tmp_path])
    assert atlas.ids == [f"{tmp_path / 'good.pt'}:rnn"]
    left_out = " ".join(atlas.card["left_out"])
    assert "bad.pt" in left_out
    assert "other.pt" in left_out
    assert "wide.pt: this encoder was built for RNNs with 4 inputs" in left_out
    assert [own["id"] for own in predict(model, [tmp_path]).entries] == atlas.ids


def test_folder_without_usable_files(model, tmp_path):
    checkpoint(tmp_path / "bad.pt", damage=float("nan"))
    with pytest.raises(CheckpointError, match="none of 1 files holds an RNN that can be used"):
        embed(model, [tmp_path])


def test_one_unusable_rnn_does_not_lose_the_others_of_its_file(model, tmp_path):
    files = {name: checkpoint(tmp_path / f"{name}.pt", size=size) for name, size in (("a", 4), ("b", 8))}
    files["c"] = checkpoint(tmp_path / "c.pt", damage=float("nan"))
    parts = {name: torch.load(path) for name, path in files.items()}
    torch.save({**parts, "d": {"weight_hh_l1": torch.zeros(1)}}, tmp_path / "all.pt")
    atlas = embed(model, [tmp_path / "all.pt"])
    assert atlas.ids == [f"{tmp_path / 'all.pt'}:a.rnn"]
    unclear, misfit, broken = atlas.card["left_out"]
    assert "'d' has 'd.weight_hh_l1'" in unclear
    assert "found LSTM 8→6→8" in misfit
    assert "c.rnn.weight_hh_l0" in broken
    torch.save({"b": parts["b"], "c": parts["c"]}, tmp_path / "none.pt")
    with pytest.raises(RNNSpecMismatch, match=r"none\.pt.*found LSTM 8→6→8"):
        embed(model, [tmp_path / "none.pt"])


def test_other_files_of_a_folder_are_counted(model, tmp_path):
    checkpoint(tmp_path / "a.pt")
    (tmp_path / "b.wav").write_text("")
    left_out = embed(model, [tmp_path]).card["left_out"]
    assert left_out == ["passed over files that are no checkpoints: .wav (1)"]


def test_a_file_named_twice_is_one_entry(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = checkpoint(tmp_path / "a.pt")
    assert embed(model, ["a.pt", path, tmp_path]).ids == ["a.pt:rnn"]
    checkpoint(tmp_path / "wide.pt", size=8)
    with pytest.raises(RNNSpecMismatch, match="wide"):
        embed(model, [tmp_path, "wide.pt"])


def test_the_cell_and_the_head_of_files_can_be_named(model, zoo, tmp_path):
    path = tmp_path / "two.pt"
    module = nn.ModuleDict({"rnn": nn.RNN(4, 4), "head": nn.Linear(4, 4), "value": nn.Linear(4, 1)})
    torch.save(module.state_dict(), path)
    with pytest.raises(CheckpointError, match="several linear layers"):
        embed(model, [path])
    tanh, relu = (embed(model, [path], cell=cell, head="head") for cell in (None, "elman-relu"))
    assert (tanh.table["spec"].to_pylist(), relu.table["spec"].to_pylist()) == (
        ["elman-tanh-4-4x1-4"],
        ["elman-relu-4-4x1-4"],
    )
    behind = "left out, behind it: 'value'"
    assert tanh.table["notes"].to_pylist() == [f"{ASSUMED_TANH}; {behind}"]
    assert relu.table["notes"].to_pylist() == [behind]
    assert not np.allclose(tanh.embeddings, relu.embeddings, atol=1e-6)
    for cell, note in ((None, f"{ASSUMED_TANH}; {behind}"), ("elman-relu", behind)):
        [prediction] = predict(model, [path], cell=cell, head="head").entries
        assert prediction["notes"] == note
        vector, remark = embed_query(embed(model, [zoo.path]), path, model, cell=cell, head="head")
        assert remark == note
    assert np.allclose(vector, relu.embeddings[0], atol=1e-6)


def test_notes_of_an_imported_zoo_stay_with_its_rnns(model, zoo, tmp_path):
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(nn.RNN(4, 4).state_dict(), tmp_path / f"{seed}.pt")
    imported, _ = import_checkpoints([tmp_path], tmp_path / "imported")
    assert embed(model, [imported.path]).table["notes"].to_pylist() == [ASSUMED_TANH] * 2
    assert [prediction["notes"] for prediction in predict(model, [imported.path]).entries] == [
        ASSUMED_TANH
    ] * 2
    assert embed(model, [zoo.path]).table["notes"].null_count == len(zoo)


@pytest.mark.parametrize("things", [[nn.LSTM(4, 6)], nn.LSTM(4, 6), np.zeros((2, 3)), [np.zeros((2, 3))]])
def test_modules_and_arrays_are_refused_with_advice(model, things):
    """Past the checks of annotations, which users do not have."""
    for function in (embed, type(model).embed):
        with pytest.raises(RNNSpecMismatch, match=r"expected RNNs to run, found .*from_modules\(\[…\]\)"):
            inspect.unwrap(function)(model, things)


def test_short_names_for_people(model, zoo):
    assert repr(embed(model, [zoo.path], "pca")) == "Atlas(40 RNNs, embedded by interactive)"
    assert repr(model) == f"Model(interactive encoder for LSTM 4→4→4, at {str(model.path)!r})"


def test_same_path_twice_is_refused(model, zoo):
    with pytest.raises(CheckpointError, match="twice; embed each path once"):
        embed(model, [zoo.path, zoo.path])


def test_ids_of_several_zoos_begin_with_the_zoos_names(model, zoo, tmp_path):
    first, second, third = tmp_path / "first", tmp_path / "a" / "second", tmp_path / "b" / "second"
    for path in (first, second, third):
        shutil.copytree(zoo.path, path)
    atlas, ids = embed(model, [first, second], "pca"), zoo.table["id"].to_pylist()
    assert atlas.ids == [f"{name}/{id}" for name in ("first", "second") for id in ids]
    found = atlas.search(f"second/{ids[3]}", 1)
    assert found["id"].to_pylist() == [f"first/{ids[3]}"]
    assert found["source"].to_pylist() == [str(first)]
    assert [row["id"] for row in predict(model, [first, second]).entries] == atlas.ids
    assert len(set(embed(model, [first, second, third], "pca").ids)) == 3 * len(ids)


def test_search_from_a_file(model, zoo, tmp_path):
    (module,) = zoo.population([5]).to_modules()
    torch.save(module.state_dict(), tmp_path / "query.pt")
    atlas = embed(model, [zoo.path])
    vector, remark = embed_query(atlas, tmp_path / "query.pt", model)
    found = atlas.search(vector, 1)
    assert remark is None
    assert found["id"].to_pylist() == [atlas.ids[5]]


def pair(path, one=6, other=9):
    """A state_dict of a network of two RNNs, each with a head."""
    torch.manual_seed(one + other)
    parts = {}
    for name, size in (("encoder", one), ("decoder", other)):
        parts[name] = nn.ModuleDict({"rnn": nn.GRU(4, size), "head": nn.Linear(size, 4)})
    torch.save(nn.ModuleDict(parts).state_dict(), path)
    return path


def test_rnns_of_one_file_are_one_entry(model, zoo, tmp_path):
    path, single = pair(tmp_path / "pair.pt"), checkpoint(tmp_path / "single.pt")
    atlas = embed(model, [zoo.path, path, single], "pca")
    whole, alone = atlas.table.to_pylist()[-2:]
    assert whole["id"] == str(path)
    assert whole["rnns"] == [f"{path}:encoder.rnn", f"{path}:decoder.rnn"]
    assert alone["rnns"] == [f"{single}:rnn"]
    assert "one file is a network of several RNNs (2 in all)" in atlas.card["networks"]
    apart = embed(model, [path, single], "pca", separate=True)
    assert len(apart) == 3
    assert "rnns" not in apart.table.column_names
    units = apart.embeddings / np.linalg.norm(apart.embeddings, axis=1, keepdims=True)
    mean = units[:2].mean(0)
    joint = atlas.embeddings[-2] / np.linalg.norm(atlas.embeddings[-2])
    np.testing.assert_allclose(joint, mean / np.linalg.norm(mean), rtol=1e-3, atol=1e-4)
    vector, _ = embed_query(atlas, path, model)
    np.testing.assert_allclose(vector, atlas.embeddings[-2], rtol=1e-3, atol=1e-4)
    assert atlas.search(vector, 1)["id"].to_pylist() == [str(path)]
    with pytest.raises(CheckpointError, match="holds 2 RNNs"):
        embed_query(apart, path, model)
    atlas.map(tmp_path / "map.html")
    atlas.save(tmp_path / "atlas")


def test_rnns_of_a_zoo_that_share_a_file_are_one_entry(model, tmp_path):
    for number in range(3):
        pair(tmp_path / f"net{number}.pt", 5 + number)
    imported, _ = import_checkpoints([tmp_path], tmp_path / "imported")
    assert len(imported) == 6
    atlas = embed(model, [imported], "pca")
    assert atlas.ids == [str(tmp_path / f"net{number}.pt") for number in range(3)]
    assert atlas.table["run"].to_pylist() == [0, 1, 2]
    apart, _ = import_checkpoints([tmp_path / "net0.pt"], tmp_path / "apart", separate=True)
    assert len(embed(model, [apart], "pca")) == 2


def test_search_with_another_encoder_is_refused(model, mechanistic, zoo, tmp_path):
    atlas = embed(model, [zoo.path])
    with pytest.raises(AtlasFormatError, match="made by another state of the run"):
        embed_query(atlas, checkpoint(tmp_path / "query.pt"), mechanistic)


def test_predictions_of_zoo_and_file(model, zoo, tmp_path):
    predicted = predict(model, [zoo.path, checkpoint(tmp_path / "one.pt")])
    found, left_out = predicted.entries, predicted.left_out
    assert left_out == []
    assert len(found) == len(zoo) + 1
    assert set(found[0]) == {"id", "notes", "task", "performance", "step", "ood_score", "in_distribution"}


def test_embedding_does_not_depend_on_company(model, zoo):
    alone = model.embed(zoo.population([3]))
    together = model.embed(zoo.population([1, 2, 3]))
    # whitening widens the rounding errors of RNNs that answer nearly alike
    assert torch.allclose(alone[0], together[2], atol=1e-4)
    assert load(model.path).embed(zoo.population([3])).equal(alone)


def test_rnns_whose_outputs_grow_without_bound_are_refused_by_name(model, zoo, tmp_path):
    """Their weights are finite, their embeddings are not."""
    path = checkpoint(tmp_path / "grows.pt", cell=nn.RNN)
    state = torch.load(path)
    state["rnn.weight_hh_l0"] = torch.full((6, 6), 1e20)
    state["rnn.bias_hh_l0"] = torch.ones(6)
    torch.save(state, path)
    sentence = r"the embedding of \S+grows\.pt:rnn is not finite, .* leave it out"
    with pytest.raises(CheckpointError, match=sentence):
        embed(model, [path], cell="elman-relu")
    with pytest.raises(CheckpointError, match=sentence):
        predict(model, [path], cell="elman-relu")
    with pytest.raises(CheckpointError, match=sentence):
        embed_query(embed(model, [zoo.path]), path, model, cell="elman-relu")
    grows = Population.from_state_dicts([state], dataclasses.replace(SPEC, cell="elman-relu"))
    fine = checkpoint(tmp_path / "fine.pt", cell=nn.RNN)  # one odd file never stops the others
    kept = embed(model, [tmp_path], cell="elman-relu")
    found = predict(model, [tmp_path], cell="elman-relu")
    assert kept.ids == [entry["id"] for entry in found.entries] == [f"{fine}:rnn"]
    for left_out in (kept.card["left_out"], found.left_out):
        assert any("grows.pt:rnn is not finite" in sentence for sentence in left_out)
    with pytest.raises(
        RNNSpecMismatch, match=r"finite embeddings, found others at the positions \[1\], whose"
    ):
        model.predict(Mixed([([0, 2], zoo.population([0, 1])), ([1], grows)]))


def test_rnns_in_memory_that_do_not_fit_are_left_out_and_named(mechanistic):
    def population(cell, hidden, count):
        spec = RNNSpec(cell=cell, input=4, hidden=hidden, output=4)
        return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])

    fits, gru = population("lstm", 4, 2), population("gru", 3, 2)
    atlas = embed(mechanistic, [gru, Mixed([([0, 2], fits), ([3, 1], gru)])])
    assert atlas.ids == ["rnn-00002", "rnn-00004"]
    sentence = "2 RNNs in memory: this encoder was built for LSTM 4→4→4, found GRU 4→3→4"
    assert [own.partition(";")[0] for own in atlas.card["left_out"]] == [sentence] * 2
    with pytest.raises(RNNSpecMismatch, match=sentence):
        embed(mechanistic, gru)


def test_files_of_several_sizes_keep_their_order_where_an_encoder_takes_all(model, tmp_path, monkeypatch):
    files = [checkpoint(tmp_path / f"{i}.pt", hidden=5 + i, size=(4, 3, 4, 2)[i]) for i in range(4)]
    monkeypatch.setattr(model.encoder, "accepts", lambda interface, spec: None)
    monkeypatch.setattr(
        model, "embed", lambda system: torch.full((len(system), 16), float(system.interface.sizes[0]))
    )
    atlas = embed(model, files)
    assert atlas.ids == [f"{path}:rnn" for path in files]
    assert atlas.embeddings[:, 0].tolist() == [4, 3, 4, 2]
    assert [own["id"] for own in predict(model, files).entries] == atlas.ids
