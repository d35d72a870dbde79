"""Embedding without a run: RNNs of all sizes, by invariants of their weights."""

import numpy as np
import pytest
import torch
from torch import nn

from rnnatlas.atlas.embed import embed, embed_query
from rnnatlas.atlas.index import Atlas
from rnnatlas.atlas.untrained import BASIS, COMPONENTS, FEWEST, Untrained
from rnnatlas.errors import AtlasFormatError, CheckpointError, SettingsError
from rnnatlas.rnn import Interface, Population, RNNSpec, permute_hidden, random_permutations

LSTM = RNNSpec(cell="lstm", input=3, hidden=4)


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Files of LSTMs, GRUs and Elman networks with several numbers of inputs and outputs."""
    folder = tmp_path_factory.mktemp("nets")
    for number in range(24):
        torch.manual_seed(number)
        kind, size = (nn.LSTM, nn.GRU, nn.RNN)[number % 3], (4, 3)[number // 12]
        module = nn.ModuleDict({"rnn": kind(size, 8), "head": nn.Linear(8, size)})
        torch.save(module.state_dict(), folder / f"{number:02d}.pt")
    return folder


@pytest.fixture(scope="module")
def atlas(nets):
    """All of them."""
    return embed("invariants", [nets])


def test_all_sizes_are_embedded_together(nets, atlas, tmp_path):
    assert len(atlas) == 24
    assert atlas.embeddings.shape == (24, 23), "of n RNNs there are n - 1 components"
    assert np.abs(atlas.embeddings.mean(0)).max() < 1e-4
    assert len({spec.rsplit("-", 1)[1] for spec in atlas.table["spec"].to_pylist()}) == 2
    near = atlas.search(atlas.ids[0], k=23)
    assert near["similarity"].to_pylist() == sorted(near["similarity"].to_pylist(), reverse=True)
    assert "23 principal components of invariants" in atlas.card["basis"]
    assert "over the 24 RNNs" in atlas.card["basis"]
    atlas.save(tmp_path / "atlas")
    again = Atlas.open(tmp_path / "atlas")
    for id, path in zip(atlas.ids[:3], sorted(nets.iterdir())[:3], strict=True):
        vector, _ = embed_query(again, path, Untrained(again.basis))
        assert np.allclose(vector, atlas.vector(id), atol=1e-3)
    (tmp_path / "atlas" / BASIS).write_bytes(b"nothing")
    with pytest.raises(AtlasFormatError, match="should hold means and components of invariants"):
        Atlas.open(tmp_path / "atlas")


def test_rnns_with_their_units_in_another_order_are_nearest():
    torch.manual_seed(0)
    some = Population.from_modules([nn.GRU(3, 6) for _ in range(12)])
    generator = torch.Generator().manual_seed(1)
    other = permute_hidden(some, random_permutations(some.spec, 12, generator))
    atlas = embed("invariants", [some, other])
    for number in range(12):
        (found,) = atlas.search(f"rnn-{number:05d}", k=1).to_pylist()
        assert found["id"] == f"rnn-{number + 12:05d}"
        assert found["similarity"] > 0.999


def test_per_architecture_the_architecture_does_not_count(nets):
    def share(atlas):
        cells = np.array([spec.split("-")[0] for spec in atlas.table["spec"].to_pylist()])
        near = [atlas.search(id, k=1)["spec"][0].as_py().split("-")[0] for id in atlas.ids]
        return np.mean(np.array(near) == cells)

    torch.manual_seed(5)
    kinds = (nn.LSTM, nn.GRU)
    systems = [Population.from_modules([kind(3, 6) for _ in range(FEWEST + 2)]) for kind in kinds]
    together, apart = (embed("invariants", systems, per_architecture=own) for own in (False, True))
    assert share(together) > 0.85
    assert share(apart) < 0.8
    assert "LSTM 3→6, " in apart.card["basis"] or "LSTM 3→6 by themselves" in apart.card["basis"]
    few = embed("invariants", [nets], per_architecture=True)  # four of each
    assert "by themselves" not in few.card["basis"]


def test_zoos_come_with_what_is_known_of_their_rnns(zoo):
    atlas = embed("invariants", [zoo.path])
    assert len(atlas) == len(zoo)
    assert atlas.embeddings.shape[1] == min(COMPONENTS, len(zoo) - 1)
    assert set(atlas.table["step"].to_pylist()) == set(zoo.table["step"].to_pylist())


def test_what_cannot_be_embedded_is_said(nets):
    with pytest.raises(SettingsError, match="by the encoder 'invariants' alone, found 'responses'"):
        embed("responses", [nets])
    with pytest.raises(CheckpointError, match="two that differ are needed, found 1 in all"):
        embed("invariants", [sorted(nets.iterdir())[0]])
    assert "a black box does not show" in str(Untrained().accepts(Interface.of(LSTM), None))
