"""Searching is exact, stable and kind about mistakes; atlases come back from disk as they were."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnatlas.atlas import layouts, neighbours
from rnnatlas.atlas.index import Atlas, with_places
from rnnatlas.errors import AtlasFormatError, OutputExists, SettingsError, UnknownName


def test_search_agrees_with_all_cosines(atlas):
    vectors = atlas.embeddings.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors[7]
    cosines[7] = -np.inf
    expected = [atlas.ids[i] for i in np.argsort(-cosines, kind="stable")[:5]]
    found = atlas.search(atlas.ids[7], 5)
    assert found["id"].to_pylist() == expected
    assert found["similarity"].to_pylist() == pytest.approx(np.sort(cosines)[::-1][:5].tolist(), abs=1e-6)


def test_search_by_embedding_finds_the_entry_itself(atlas):
    found = atlas.search(atlas.vector(atlas.ids[3]), 1)
    assert found["id"].to_pylist() == [atlas.ids[3]]
    assert found["similarity"][0].as_py() == pytest.approx(1)


def test_condition_limits_what_is_found_not_what_is_asked(atlas):
    query = atlas.ids[0]
    assert atlas.table["split"][0].as_py() == "train"
    found = atlas.search(query, 100, where="split = 'ood' AND performance > 0.2 AND b <> 0")
    assert found.num_rows > 0
    assert set(found["split"].to_pylist()) == {"ood"}
    assert atlas.search(query, 5, where="step > 10000").num_rows == 0


def test_several_stand_for_the_mean_of_their_directions(atlas):
    ids, where = [atlas.ids[i] for i in (3, 50, 70)], "step > 0"
    units = atlas.embeddings / np.linalg.norm(atlas.embeddings, axis=1, keepdims=True)
    cosines = units @ units[[3, 50, 70]].mean(0)
    cosines[[3, 50, 70]] = -np.inf
    cosines[np.array(atlas.table["step"].to_pylist()) == 0] = -np.inf
    expected = [atlas.ids[i] for i in np.argsort(-cosines)[:6]]
    assert atlas.search(ids, 6, where)["id"].to_pylist() == expected
    mixed = [ids[0], 7 * atlas.vector(ids[1]), ids[2]]  # an embedding counts whatever its length
    found = atlas.search(mixed, 7, where)["id"].to_pylist()
    assert [id for id in found if id != ids[1]][:6] == expected
    assert atlas.search(ids[:1], 3).equals(atlas.search(ids[0], 3))
    with pytest.raises(SettingsError, match="starts from one RNN or several, found none"):
        atlas.search([])


def test_embeddings_may_be_tensors_arrays_or_lists(atlas):
    vector = atlas.vector(atlas.ids[3])
    one, both = atlas.search(vector, 4), atlas.search([vector, atlas.ids[50]], 4)
    tensor = torch.tensor(vector, requires_grad=True)
    for given in (tensor, tensor[None], vector[None], vector.tolist(), tuple(vector.tolist()), [tensor]):
        assert atlas.search(given, 4).equals(one)
    assert atlas.search([tensor, atlas.ids[50]], 4).equals(both)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (torch.zeros(5), r"one of shape \[5\]"),
        ([[1.0, 2.0]], r"one of shape \[2\]"),
        (np.full(16, np.nan), "one that is not finite"),
        ([None], r"one of shape \[\]"),
        (7, r"one of shape \[\]"),
        ([{1}], r"set"),
    ],
)
def test_what_is_no_embedding_is_one_sentence(atlas, given, found):
    with pytest.raises(
        SettingsError, match=f"ids and embeddings of 16 finite numbers, found {found}.*; give"
    ):
        atlas.search(given)


def large(count=3000):
    """An atlas of vectors around 30 centres."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(30, 8))[random.integers(30, size=count)]
    vectors = (vectors + 0.3 * random.normal(size=(count, 8))).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8)
    table = pa.table({"id": [f"r{i}" for i in range(count)], "embedding": column})
    return Atlas({}, with_places(table, np.zeros((count, 2))))


def test_large_atlases_are_searched_by_an_index_that_finds_nearly_all(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "EXACT", 1000)
    made = large()
    made.save(tmp_path / "atlas")
    opened = Atlas.open(tmp_path / "atlas")
    recall = opened.card["recall"]
    assert 0.99 <= recall <= 1
    assert f"recall was {recall:.3f}" in opened.exactness
    assert "searched exactly" in made.exactness
    found = [
        len({*opened.search(id, 10)["id"].to_pylist()} & {*made.search(id, 10)["id"].to_pylist()})
        for id in made.ids[::100]
    ]
    assert np.mean(found) > 9.5
    several = opened.ids[:3]
    assert not {*several} & {*opened.search(several, 10)["id"].to_pylist()}
    exact = made.search("r0", 5, where="id < 'r2'")
    assert opened.search("r0", 5, where="id < 'r2'").equals(exact)
    assert opened.search("r0", 2000).num_rows == 2000


@pytest.mark.parametrize("damage", ["no faiss", "no index", "another index"])
def test_large_atlases_are_searched_exactly_without_an_index(tmp_path, monkeypatch, damage):
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "EXACT", 1000)
    made = large()
    made.save(tmp_path / "atlas")
    if damage == "no faiss":
        monkeypatch.setattr(neighbours, "installed", lambda: False)
    elif damage == "no index":
        (tmp_path / "atlas" / "neighbours.faiss").unlink()
    else:
        (tmp_path / "atlas" / "neighbours.faiss").write_bytes(b"IwFl")
    opened = Atlas.open(tmp_path / "atlas")
    assert "searched exactly, all 3000 embeddings" in opened.exactness
    assert opened.search("r5", 10).equals(made.search("r5", 10))


def test_small_atlases_have_no_index(atlas, tmp_path):
    atlas.save(tmp_path / "atlas")
    assert atlas.exactness is None
    assert sorted(path.name for path in (tmp_path / "atlas").iterdir()) == ["atlas.json", "entries.parquet"]


def test_ties_go_by_position(atlas):
    same = pa.FixedSizeListArray.from_arrays(pa.array([1.0] * 16 * len(atlas), pa.float32()), 16)
    tied = Atlas(atlas.card, atlas.table.set_column(4, "embedding", same))
    assert tied.search(tied.ids[2], 4)["id"].to_pylist() == [tied.ids[i] for i in (0, 1, 3, 4)]


def test_k_beyond_the_atlas_gives_all_others(atlas):
    assert atlas.search(atlas.ids[0], 10_000).num_rows == len(atlas) - 1


def test_unknown_id_names_the_nearest(atlas):
    with pytest.raises(UnknownName, match=r"no entry .* '0001-00010'; nearest are 0001-000100"):
        atlas.search("0001-00010")
    with pytest.raises(UnknownName, match="they look like 0000-000000, "):
        atlas.search("?")


def test_unknown_column_in_a_condition(atlas):
    with pytest.raises(UnknownName, match="no column is called"):
        atlas.search(atlas.ids[0], where="colour = 'red'")


def test_save_and_open(atlas, tmp_path):
    atlas.save(tmp_path / "atlas")
    again = Atlas.open(tmp_path / "atlas")
    assert again.table.equals(atlas.table)
    assert again.card["encoder"] == "interactive"
    with pytest.raises(OutputExists, match="exists already"):
        atlas.save(tmp_path / "atlas")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "atlas.json").unlink(), "is not an atlas: it has no atlas.json"),
        (lambda path: (path / "atlas.json").write_text("{"), "is damaged"),
        (lambda path: (path / "entries.parquet").unlink(), "cannot be read"),
        (lambda path: (path / "entries.parquet").write_bytes(b"PAR1"), "is damaged"),
        (lambda path: _change(path, format=99), "format version 1, found 99; embed the RNNs again"),
        (lambda path: _change(path, entries=5), "should hold 5 entries, found 96"),
        (
            lambda path: (path / "atlas.json").write_text('{"format": 1}'),
            "should say how many entries it has",
        ),
    ],
)
def test_damaged_atlases_are_one_sentence(atlas, tmp_path, damage, message):
    atlas.save(tmp_path / "atlas")
    damage(tmp_path / "atlas")
    with pytest.raises(AtlasFormatError, match=message) as error:
        Atlas.open(tmp_path / "atlas")
    assert "\n" not in str(error.value)


def _change(path, **values):
    card = json.loads((path / "atlas.json").read_text())
    (path / "atlas.json").write_text(json.dumps({**card, **values}))


@pytest.mark.parametrize("layout", ["pca", "tsne"])
def test_layouts_keep_clusters_and_repeat(layout):
    random = np.random.default_rng(0)
    centres = np.eye(16)[:3] * 4
    points = np.concatenate([centre + random.normal(0, 0.1, (12, 16)) for centre in centres])
    first, second = (layouts.place(layout, points, seed=1) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.abs(first).max() == pytest.approx(1)
    means = first.reshape(3, 12, 2).mean(axis=1)
    spread = first.reshape(3, 12, 2).std(axis=1).max()
    apart = min(np.linalg.norm(means[i] - means[j]) for i in range(3) for j in range(i))
    assert apart > 3 * spread


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6])
def test_few_rnns_can_be_placed(count):
    points = np.random.default_rng(0).normal(size=(count, 16))
    places = layouts.place("tsne", points)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


def test_equal_embeddings_can_be_placed():
    assert np.isfinite(layouts.place("tsne", np.ones((12, 16)))).all()


@pytest.mark.parametrize("layout", ["umap", "pacmap"])
def test_missing_extra_says_what_to_install(layout, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, layout, None)
    with pytest.raises(SettingsError, match=r"pip install 'rnnatlas\[map\]'"):
        layouts.place(layout, np.random.default_rng(0).normal(size=(8, 16)))


def test_unknown_layout_is_named(atlas):
    with pytest.raises(UnknownName, match="no layout is called 'tsn'; did you mean 'tsne'"):
        atlas.placed("tsn")
