import shutil
import warnings

import numpy as np
import pytest
import torch

from rnnatlas.errors import DataError, SettingsError, UnknownName
from rnnatlas.rnn import RNNSpec, Tokens, run
from rnnatlas.rnn.modules import RecurrentNetwork
from rnnatlas.tasks.recorded import Recorded
from rnnatlas.zoo.imports import import_checkpoints
from rnnatlas.zoo.recording import assign
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.verify import verify

INPUTS = np.random.default_rng(0).normal(size=(20, 7, 3)).astype(np.float32)
CELLS = ("gru", "lstm", "elman-tanh")


def network(cell="gru", input=3, output=2, seed=0, hidden=4):
    net = RecurrentNetwork(RNNSpec(cell=cell, input=input, hidden=hidden, output=output))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(generator=generator)
    return net


def networks(count=9, **sizes):
    return [network(CELLS[i % 3], seed=i, **sizes) for i in range(count)]


@pytest.fixture
def files(tmp_path):
    for number, net in enumerate(networks()):
        (tmp_path / "nets").mkdir(exist_ok=True)
        torch.save(net.state_dict(), tmp_path / "nets" / f"net_{number}.pt")
    lines = [f"net_{i}.pt,{i / 2},{'ab'[i % 2]},{i % 3}" for i in range(8)]
    (tmp_path / "runs.csv").write_text("\n".join(["file,lr,kind,lab", *lines]))
    return tmp_path / "nets"


# --- what RNNs do ----------------------------------------------------------------------------------------


def test_rollouts_are_what_each_network_gives_out_on_the_inputs(tmp_path):
    nets = networks()
    zoo = Zoo.from_modules(nets, tmp_path / "zoo", inputs=INPUTS, rollouts=5)
    assert zoo.table["metrics"].null_count == 9
    rollouts = zoo.rollouts(np.arange(9))
    for row, id in enumerate(zoo.table["id"].to_pylist()):
        trials = torch.from_numpy(INPUTS[rollouts.inputs[row, :, 0]])
        with torch.no_grad():
            outputs, _ = nets[int(id.removeprefix("rnn-"))](trials)
        assert np.allclose(outputs, rollouts.outputs[row], atol=1e-5)
        assert len(set(rollouts.inputs[row, :, 0])) == 5
    assert len({tuple(row) for row in rollouts.inputs[:, :, 0].tolist()}) == 9
    assert zoo.task is not None
    assert torch.equal(zoo.task.encode_inputs(torch.from_numpy(rollouts.inputs))[row], trials)


def test_the_zoo_holds_all_that_it_needs(files, tmp_path):
    targets = INPUTS[..., :2].cumsum(1)
    np.savez(tmp_path / "trials.npz", inputs=INPUTS, targets=targets, mask=np.arange(7) > np.zeros((20, 1)))
    options = {"inputs": tmp_path / "trials.npz", "labels": tmp_path / "runs.csv", "group": "lab"}
    import_checkpoints([files], tmp_path / "zoo", **options)
    (tmp_path / "trials.npz").unlink()
    shutil.rmtree(files)
    zoo = Zoo.open(shutil.move(tmp_path / "zoo", tmp_path / "moved"))
    assert verify(zoo, None).agree == len(zoo) == 9
    assert zoo.task is not None
    assert zoo.task.counted == "positions that the mask of the inputs leaves"
    stored = torch.from_numpy(zoo.rollout_inputs([0]))
    assert torch.equal(zoo.task.mask(stored)[0, 0], torch.tensor([0.0] + [1.0] * 6))
    labels = {row["file"]: row for row in zoo.table["labels"].to_pylist()}
    assert labels["net_3.pt"] == {"file": "net_3.pt", "lr": 1.5, "kind": "b", "lab": 0}
    assert labels[None] == dict.fromkeys(("file", "lr", "kind", "lab"))
    assert zoo.snapshots(where="lr > 1 AND kind = 'a'").num_rows == 2


def test_performance_is_1_of_networks_that_give_out_the_targets(tmp_path):
    nets = networks(3)
    mask = np.arange(7) >= np.arange(20)[:, None] % 6
    with torch.no_grad():
        given = nets[1](torch.from_numpy(INPUTS))[0].numpy()
    known = np.where(mask[..., None], given, 100)
    numbers = {"inputs": INPUTS, "targets": known, "mask": mask}
    classes = {"inputs": INPUTS, "targets": np.where(mask, given.argmax(2), 0), "mask": mask}
    ignored = {"inputs": INPUTS, "targets": np.where(mask, given.argmax(2), -1)}
    for name, trials in (("numbers", numbers), ("classes", classes), ("ignored", ignored)):
        zoo = Zoo.from_modules(nets, tmp_path / name, inputs=trials)
        performance = {row["id"]: row["metrics"]["performance"] for row in zoo.table.to_pylist()}
        assert performance["rnn-00001"] == pytest.approx(1, abs=1e-5)
        assert max(performance["rnn-00000"], performance["rnn-00002"]) < 0.99
    assert zoo.task is not None
    assert zoo.task.interface.output == Tokens(2)
    assert any("the target is -1, which is no class" in said for said in zoo.card["settings"]["remarks"])


def test_outputs_that_overflow_are_marked_without_warnings(tmp_path):
    nets = networks(6, input=3, output=3)
    with torch.no_grad():
        nets[2].head.weight *= 1e38
    targets = np.ones((20, 7), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo = Zoo.from_modules(nets, tmp_path / "zoo", inputs={"inputs": INPUTS, "targets": targets})
        with pytest.raises(DataError, match="should be finite"):
            Zoo.from_modules(nets, tmp_path / "other", inputs=INPUTS.astype(np.float64) * 1e300)
    assert zoo.table["health"].to_pylist().count("diverged") == 1


def test_tokens_are_sampled_from_networks_that_can_feed_themselves(tmp_path):
    nets = networks(6, input=4, output=4)
    zoo = Zoo.from_modules(nets, tmp_path / "zoo", rollouts=8)
    alone = Zoo.from_modules(nets[:1], tmp_path / "alone", rollouts=8)
    assert zoo.task is not None
    assert alone.task is not None
    assert zoo.task.interface.input == Tokens(4)
    assert "sampled from themselves, since no inputs were given" in zoo.task.counted
    assert "each RNN samples its own" in " ".join(zoo.card["settings"]["remarks"])
    inputs = [each.task.encode_inputs(torch.from_numpy(each.rollout_inputs([0]))) for each in (zoo, alone)]
    assert torch.equal(*inputs)  # whoever else is there
    # the next token is one that the network finds likely
    outputs, _ = run(zoo.population([0]), inputs[0][:, :, :-1])
    chosen = (outputs.log_softmax(-1) * inputs[0][:, :, 1:]).sum(-1).mean()
    assert chosen > outputs.log_softmax(-1).mean()
    assert verify(zoo, None).agree == 6


def test_noise_is_drawn_where_nothing_is_given_and_said(tmp_path):
    zoo = Zoo.from_modules(networks(3), tmp_path / "zoo")
    assert zoo.task is not None
    assert "white and smooth noise, drawn since no inputs were given" in zoo.task.counted
    assert "give --inputs for others" in (tmp_path / "zoo" / "README.md").read_text()
    assert verify(zoo, None).agree == 3


def test_networks_without_finite_outputs_are_marked(tmp_path):
    nets = [network("elman-tanh"), network("elman-tanh", seed=1)]
    with torch.no_grad():
        nets[1].head.weight.fill_(3e38)
    zoo = Zoo.from_modules(nets, tmp_path / "zoo", inputs=INPUTS)
    assert zoo.table["health"].to_pylist() == ["ok", "diverged"]


# --- which are kept --------------------------------------------------------------------------------------


def test_networks_that_the_inputs_do_not_fit_are_left_out_by_name(tmp_path, caplog):
    nets = [*networks(4), network(input=5), network(output=1), network(output=1, seed=1)]
    labels = {"number": list(range(7))}
    zoo = Zoo.from_modules(nets, tmp_path / "zoo", inputs=INPUTS, labels=labels)
    assert sorted(row["number"] for row in zoo.table["labels"].to_pylist()) == [0, 1, 2, 3]
    left_out = [one for one in zoo.card["settings"]["remarks"] if one.startswith("left out: ")]
    assert left_out == [
        "left out: GRU 5→4→2 (the inputs have 3 channels): rnn-00004",
        "left out: GRU 3→4→1 (fewer RNNs are of these sizes): rnn-00005, rnn-00006",
    ]
    assert "rnn-00004" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"inputs": INPUTS[..., :2]}, DataError, "the inputs have 2 channels, but 9 of 9 RNNs read 3"),
        ({"inputs": np.full((2, 3), 9)}, DataError, "tokens go up to 9, but 9 of 9"),
        ({"inputs": INPUTS, "group": "lab"}, DataError, "give --labels with a column lab"),
        ({"labels": {"a": [1]}}, DataError, "a row for each of the 9 networks, found 1"),
        ({"labels": {"a": [1] * 9}, "group": "b"}, UnknownName, "no column 'b' to group by; known are a"),
        ({"signal": "tokens"}, DataError, "sample tokens .* found GRU 3→4→2"),
        ({"signal": "words"}, SettingsError, "signal should be tokens or values"),
        ({"rollouts": 0}, SettingsError, "rollouts should be 1 or more"),
        ({"rollout": 1}, SettingsError, "unknown setting .*rollout"),
    ],
)
def test_what_cannot_be_recorded_is_one_sentence_and_leaves_nothing(tmp_path, options, error, words):
    with pytest.raises(error, match=words) as caught:
        Zoo.from_modules(networks(), tmp_path / "zoo", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "zoo").exists()


def test_one_number_a_step_may_be_whole(tmp_path):
    zoo = Zoo.from_modules([network(input=1)], tmp_path / "zoo", inputs=np.eye(4, dtype=int))
    assert zoo.task is not None
    assert not isinstance(zoo.task.interface.input, Tokens)


def test_without_inputs_or_labels_an_import_is_as_it_was(files, tmp_path):
    zoo, _ = import_checkpoints([files], tmp_path / "zoo")
    assert zoo.task is None
    assert zoo.card["settings"] == {"paths": [str(files)], "cell": None, "head": None}


# --- which serve for what --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [5, 8, 40, 200])
def test_some_networks_are_held_out_of_few_and_of_many(count):
    splits = assign([(False, f"{i:03d}") for i in range(count)], 0, grouped=False)
    least = 1 if count < 8 else 2
    for split in ("validation", "ood"):
        assert splits.count(split) == max(least, round(0.15 * count))
    assert splits != assign([(False, f"{i:03d}") for i in range(count)], 1, grouped=False)


def test_groups_are_of_one_split_and_too_few_all_for_training(files, tmp_path):
    options = {"inputs": INPUTS, "labels": tmp_path / "runs.csv"}
    zoo, _ = import_checkpoints([files], tmp_path / "zoo", **options, group="lab")
    split = {}
    for row in zoo.table.to_pylist():
        split.setdefault(row["labels"]["lab"], set()).add(row["split"])
    assert sorted(map(len, split.values())) == [1] * 4
    assert {one for own in split.values() for one in own} == {"train", "validation", "ood"}
    alone = Zoo.from_modules(networks(4), tmp_path / "alone", inputs=INPUTS)
    assert set(alone.table["split"].to_pylist()) == {"train"}
    assert "all 4 networks are for training, since it takes 5" in " ".join(alone.card["settings"]["remarks"])


def test_snapshots_of_a_run_are_of_one_split(tmp_path):
    for seed in range(6):
        for step in (0, 50, 100):
            path = tmp_path / "nets" / str(seed) / f"step_{step}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(network(seed=seed + step).state_dict(), path)
    zoo, _ = import_checkpoints([tmp_path / "nets"], tmp_path / "zoo", inputs=INPUTS)
    rows = zoo.table.select(["run", "split"]).to_pylist()
    assert len({tuple(row.values()) for row in rows}) == 6
    assert sorted(set(zoo.table["step"].to_pylist())) == [0, 50, 100]
    assert zoo.card["settings"]["series"].startswith(
        "6 series of checkpoints, 18 snapshots, steps from names"
    )


def test_zoos_of_other_networks_are_others(tmp_path):
    zoos = [Zoo.from_modules(networks(n), tmp_path / str(n), inputs=INPUTS) for n in (2, 3)]
    assert zoos[0].identity != zoos[1].identity
    labelled = Zoo.from_modules(networks(3), tmp_path / "labelled", inputs=INPUTS, labels={"a": [1, 2, 3]})
    assert labelled.identity == zoos[1].identity  # so runs trained before labels were mended go on


def test_nothing_can_be_trained_on_it():
    with pytest.raises(SettingsError, match="rnnatlas zoo import"):
        Recorded().prepare()
    with pytest.raises(DataError, match="are in their zoo"):
        _ = Recorded.from_settings({"source": "given"}).trials
