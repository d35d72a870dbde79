"""From files or modules to a table, distances and a report; what cannot be said is not said."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

import rnnatlas as ra
from rnnatlas.errors import DataError, OutputExists, RNNAtlasError, RNNSpecMismatch
from rnnatlas.exploration import explore, learned
from rnnatlas.exploration.structure import coordinates
from rnnatlas.rnn.recognise import ASSUMED_TANH

INPUTS = np.random.default_rng(0).standard_normal((24, 10, 3)).astype(np.float32)


def networks(count=18):
    """Networks of three cells, every third with outputs that are ten times as large."""
    kinds = [nn.GRU, nn.LSTM, nn.RNN]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [(kinds[i // 3 % 3](3, 4 + i % 4), nn.Linear(4 + i % 4, 2)) for i in range(count)]
        for recurrent, head in made[::3]:
            with torch.no_grad():
                head.weight *= 10
                recurrent.weight_hh_l0 *= 0.1
        return made


LABELS = {"loud": ["yes", "no", "no"] * 6, "lesion": [float(i % 5) for i in range(18)]}


def rows(found):
    with (found.folder / "rnns.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_modules_are_compared_and_a_report_is_written(tmp_path):
    said = []
    found = ra.explore(
        networks(), tmp_path / "out", inputs=INPUTS, labels=LABELS, train=False, say=said.append
    )
    assert found.explained[0].name == "loud"
    assert found.explained[0].p < 0.05
    assert [row["loud"] for row in rows(found)] == LABELS["loud"]
    assert np.load(found.folder / "distances.npy").shape == (18, 18)
    page = found.report.read_text(encoding="utf-8")
    assert "<b>loud</b> explains best" in page
    assert "A learned embedding" not in page
    assert said[0].startswith("18 RNNs compared")
    assert "18 RNNs" in repr(found)
    with pytest.raises(OutputExists):
        ra.explore(networks(), tmp_path / "out", inputs=INPUTS, train=False)


def test_the_same_seed_gives_the_same_and_files_the_same_as_modules(tmp_path):
    folder = tmp_path / "nets"
    folder.mkdir()
    for number, (recurrent, head) in enumerate(networks()):
        torch.save(
            nn.ModuleDict({"rnn": recurrent, "head": head}).state_dict(), folder / f"net{number:02}.pt"
        )
    (folder / "notes.txt").write_text("not a checkpoint")
    of_files = ra.explore(folder, tmp_path / "a", inputs=INPUTS, train=False)
    of_modules = ra.explore(networks(), tmp_path / "b", inputs=INPUTS, train=False)
    np.testing.assert_allclose(of_files.distances, of_modules.distances, rtol=1e-4, atol=1e-4)
    assert of_files.names[:2] == ["net00.pt", "net01.pt"]
    assert any(".txt (1)" in sentence for sentence in of_files.left_out)
    assert "not a checkpoint" not in of_files.report.read_text(encoding="utf-8")


def test_an_encoder_is_trained_and_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "STEPS", 20)
    found = ra.explore(networks(), tmp_path / "out", inputs=INPUTS, labels=LABELS)
    assert found.learned is not None
    assert found.learned.z.shape == (18, 16)
    assert {"conditioned", "shuffled", "zero"} <= set(found.learned.emulation["ood"])
    predicted = {one.name: one for one in found.predicted}
    assert {"loud", "cell"} <= set(predicted)
    assert set(predicted["loud"].of) == set(learned.SOURCES)
    page = found.report.read_text(encoding="utf-8")
    assert "A learned embedding" in page
    assert (found.folder / "map.html").is_file()
    assert ra.load(found.folder / "run").settings.encoder == learned.ENCODER


def test_without_inputs_the_report_names_what_was_read(tmp_path):
    found = ra.explore(networks(9), tmp_path / "out", train=False)
    assert "no inputs were given" in found.report.read_text(encoding="utf-8")


def test_few_rnns_are_compared_but_nothing_is_learned_of_them(tmp_path):
    said = []
    found = ra.explore(networks(4), tmp_path / "out", inputs=INPUTS, say=said.append)
    assert (found.groups, found.learned) == (None, None)
    assert "4 RNNs are too few to train an encoder on; 12 would do" in said[-1]
    with pytest.raises(RNNAtlasError, match="at least two RNNs, found 1"):
        ra.explore(networks(1), tmp_path / "one", inputs=INPUTS)


def test_an_assumed_nonlinearity_is_said_once(tmp_path):
    for number in range(3):
        torch.save(nn.RNN(3, 4, nonlinearity="relu").state_dict(), tmp_path / f"net{number}.pt")
    said = []
    ra.explore(tmp_path, tmp_path / "tanh", inputs=INPUTS, train=False, say=said.append)
    assert said[1:] == [f"3 RNNs with one gate: {ASSUMED_TANH}"]
    said, nets = [], list(tmp_path.glob("*.pt"))
    ra.explore(nets, tmp_path / "relu", inputs=INPUTS, train=False, cell="elman-relu", say=said.append)
    assert len(said) == 1


def test_one_rnn_is_too_few_and_nothing_is_left(tmp_path):
    folder = tmp_path / "nets"
    folder.mkdir()
    torch.save(nn.GRU(3, 4).state_dict(), folder / "a.pt")
    (folder / "b.pt").write_bytes(b"damaged")
    with pytest.raises(RNNAtlasError, match="at least two RNNs, found 1"):
        ra.explore(folder, tmp_path / "out", inputs=INPUTS)
    assert not (tmp_path / "out").exists()
    torch.save(nn.LSTM(3, 4).state_dict(), folder / "b.pt")
    assert len(ra.explore(folder, tmp_path / "out", inputs=INPUTS, train=False).names) == 2


def test_systems_are_refused_with_advice(tmp_path):
    box = ra.BlackBox(lambda x, h: (x, h), None, ra.Interface(ra.Values(3), ra.Values(3)))
    for things in ([box], box, [ra.Population.from_modules([nn.GRU(3, 4)])]):
        with pytest.raises(RNNSpecMismatch, match=r"folders and torch modules, found .*ra\.embed\("):
            ra.explore(things, tmp_path / "out", inputs=INPUTS)
    assert not (tmp_path / "out").exists()


def test_inputs_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(DataError):
        ra.explore(networks(4), tmp_path / "out", inputs=INPUTS[..., :2])
    assert not (tmp_path / "out" / "zoo").exists()


def test_a_stop_before_the_report_is_in_nobodys_way(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(explore, "groups", stopped)
        with pytest.raises(KeyboardInterrupt):
            ra.explore(networks(4), tmp_path / "out", inputs=INPUTS)
    assert not (tmp_path / "out").exists()
    assert ra.explore(networks(4), tmp_path / "out", inputs=INPUTS).report.exists()


def test_texts_of_others_are_escaped_in_the_report(tmp_path):
    labels = {"<b>bold</b>": ["<script>alert(1)</script>", "b", "b"] * 6}
    found = ra.explore(networks(), tmp_path / "out", inputs=INPUTS, labels=labels, train=False)
    page = found.report.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "<b>bold</b>" not in page


# --- predictions -------------------------------------------------------------------------------------


def test_what_is_in_features_is_predicted_and_what_is_not_is_not():
    random = np.random.default_rng(0)
    features = {"embedding": random.standard_normal((60, 4)), "weights": random.standard_normal((60, 4))}
    labels = {
        "number": features["embedding"][:, 0].tolist(),
        "class": [str(value > 0) for value in features["embedding"][:, 1]],
        "noise": random.standard_normal(60).tolist(),
        "few": [1.0] * 5 + [None] * 55,
        "names": [f"net {i}" for i in range(60)],
    }
    found = {one.name: one for one in learned.predict(features, labels, np.arange(60))}
    assert set(found) == {"number", "class", "noise"}
    assert found["number"].of["embedding"].mean > 0.95
    assert found["class"].of["embedding"].mean > 0.85
    assert found["number"].gain["embedding"].low > 0
    assert found["noise"].gain["embedding"].low < 0.05
    assert found["noise"].of["embedding"].mean < 0.2
    assert found["noise"].of["trivial"].mean == pytest.approx(0, abs=0.15)


def test_coordinates_that_are_next_to_nothing_do_not_hide_those_that_matter():
    """Of as many coordinates as RNNs only the first ones tell three groups from one another."""
    random = np.random.default_rng(2)
    group = np.arange(18) % 3
    points = 10 * np.eye(3, 18)[group] + 0.1 * random.standard_normal((18, 18))
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    features = {"behaviour": coordinates(distances, 18)}
    labels = {"group": [f"group {of}" for of in group]}
    [found] = learned.predict(features, labels, np.arange(18))
    assert found.of["behaviour"].mean == 1


def test_groups_are_not_parted_by_cross_validation():
    """A label that each group has at random cannot be predicted from which group it is."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 3)
    features = {"embedding": np.eye(20)[groups] + 0.01 * random.standard_normal((60, 20))}
    label = random.choice(["a", "b"], 20)[groups].tolist()
    [parted] = learned.predict(features, {"way": label}, np.arange(60))
    [whole] = learned.predict(features, {"way": label}, groups)
    assert parted.of["embedding"].mean > 0.9
    assert whole.of["embedding"].mean < 0.7


def test_statistics_of_weights_keep_the_order_of_rnns():
    system = ra.Mixed.from_modules(networks())
    whole = learned.weight_statistics(system)
    order = [5, 0, 17, 4]
    some = learned.weight_statistics(system.select(order))
    assert np.isfinite(whole).all()
    assert len(some) == 4
    np.testing.assert_allclose(some[:, :3], whole[order][:, :3])


def test_networks_that_are_all_the_same_and_labels_that_are_not_known(tmp_path):
    same = networks(1) * 9
    labels = {"age": [1.0, None, 2.0] * 3, "none": [None] * 9}
    found = ra.explore(same, tmp_path / "out", inputs=INPUTS, labels=labels, train=False)
    assert not found.distances.any()
    assert found.groups is None
    assert found.report.is_file()


def test_rnns_of_one_file_are_one_network(tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "STEPS", 20)
    folder = tmp_path / "nets"
    folder.mkdir()
    made = networks()
    for number in range(14):
        parts = {
            name: nn.ModuleDict({"rnn": rnn, "head": head})
            for name, (rnn, head) in (("encoder", made[number]), ("decoder", made[number + 1]))
        }
        torch.save(nn.ModuleDict(parts).state_dict(), folder / f"net{number:02d}.pt")
    said = []
    found = ra.explore([folder], tmp_path / "out", inputs=INPUTS, say=said.append)
    assert found.distances.shape == (14, 14)
    assert said[0].startswith("14 networks compared")
    assert [row["id"] for row in rows(found)] == [str(folder / f"net{i:02d}.pt") for i in range(14)]
    assert "14 files are networks of several RNNs (28 in all)" in found.report.read_text(encoding="utf-8")
    assert found.learned is not None
    assert sorted(found.learned.atlas.ids) == sorted(found.rows["id"].to_pylist())
    apart = ra.explore([folder], tmp_path / "apart", inputs=INPUTS, train=False, separate=True)
    assert apart.distances.shape == (28, 28)
