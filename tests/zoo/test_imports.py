import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnnatlas import importers
from rnnatlas.errors import CheckpointError, OutputExists, UnknownName
from rnnatlas.importers import contents, torch_state_dict
from rnnatlas.importers.base import find
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.zoo import keep
from rnnatlas.zoo.imports import assumed, checkpoints, import_checkpoints, passed_over
from rnnatlas.zoo.store import Zoo

SPECS = [
    RNNSpec(cell="lstm", input=3, hidden=5, layers=2, output=4),
    RNNSpec(cell="gru", input=2, hidden=4, bidirectional=True),
    RNNSpec(cell="elman-tanh", input=2, hidden=3, output=7, head_bias=False),
]
SAVE = {"torch": (torch.save, ".pt"), "safetensors": (save_file, ".safetensors")}


def state_dict(spec, seed=0):
    [module] = Population.initialise(spec, [torch.Generator().manual_seed(seed)]).to_modules()
    return {name: weight.detach().clone() for name, weight in module.state_dict().items()}


@pytest.fixture
def wild():
    folder = Path(__file__).parents[3] / "shared" / "data" / "wild"
    if not folder.is_dir():
        pytest.skip("the folder of checkpoints in the wild is not here")
    return folder


# --- every format with torch's names -----------------------------------------------------------


def test_other_formats_have_tests_of_their_own():
    own = {
        path.stem.removeprefix("test_")
        for path in (Path(__file__).parents[1] / "importers").glob("test_*.py")
    }
    assert own >= set(importers.registry) - set(SAVE)


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_checkpoint_comes_back_as_it_was(tmp_path, name, spec):
    save, suffix = SAVE[name]
    path = tmp_path / f"model{suffix}"
    save(state_dict(spec), path)
    format_, [found], unclear = find(path)
    assert (format_, found.spec, unclear) == (name, spec, [])
    expected = Population.initialise(spec, [torch.Generator().manual_seed(0)])
    assert torch.equal(
        Population(spec, {k: v[None] for k, v in found.weights.items()}).flatten(), expected.flatten()
    )


@pytest.mark.parametrize("name", SAVE)
def test_a_broken_file_is_one_clear_sentence(tmp_path, name):
    save, suffix = SAVE[name]
    path = tmp_path / f"model{suffix}"
    save(state_dict(SPECS[0]), path)
    whole = path.read_bytes()
    for part in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match="found something else or a part"):
            find(path)


@pytest.mark.parametrize("name", SAVE)
def test_a_file_without_rnns_is_refused(tmp_path, name):
    save, suffix = SAVE[name]
    save(nn.Linear(3, 4).state_dict(), tmp_path / f"model{suffix}")
    with pytest.raises(CheckpointError, match="expected the weights of an LSTM"):
        find(tmp_path / f"model{suffix}")


# --- torch's own ---------------------------------------------------------------------------------


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_a_pickle_that_names_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": state_dict(SPECS[0]), "trap": Trap()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    for path in ("zip.pt", "plain.pt"):
        with pytest.raises(CheckpointError) as caught:
            find(Path(path))
        assert "mkdir" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


class Net(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(3, 4)

    def forward(self, x):
        return self.out(self.rnn(x)[0])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_whole_module_gives_its_tensors_and_is_not_run(tmp_path, monkeypatch, nonlinearity):
    """It says of itself what a state_dict does not."""
    net = Net(nn.RNN(2, 3, nonlinearity=nonlinearity))
    torch.save({"net": net, "epoch": 3}, tmp_path / "model.pt")
    monkeypatch.setattr(Net, "__setstate__", lambda *_: pytest.fail("something was run"))
    _, [found], _ = find(tmp_path / "model.pt")
    assert (found.prefix, found.head, found.spec.cell) == ("net.rnn.", "net.out.", f"elman-{nonlinearity}")
    for cell in ("elman-tanh", "elman-relu", "leaky-relu:0.2"):  # of those that do not tell
        assert find(tmp_path / "model.pt", cell)[1][0].spec == found.spec
    assert torch.equal(found.weights["weight_hh_l0"], net.rnn.weight_hh_l0.detach())
    assert [note for note in found.notes if "Net), whose code was not run" in note] == list(found.notes)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_weights_of_a_torchscript_program_are_read(tmp_path, nonlinearity):
    net = Net(nn.RNN(2, 3, nonlinearity=nonlinearity))
    torch.jit.script(net).save(tmp_path / "model.pt")
    _, [found], _ = find(tmp_path / "model.pt")
    assert (found.head, found.spec.cell) == ("out.", f"elman-{nonlinearity}")
    assert torch.equal(found.weights["weight_hh_l0"], net.rnn.weight_hh_l0.detach())
    assert "TorchScript" in found.remark


def test_a_state_dict_inside_a_larger_checkpoint_is_found(tmp_path):
    nested = {
        "epoch": 3,
        "state": {"net": state_dict(SPECS[0])},
        "optimiser": {"state": {0: {"m": torch.ones(2)}}},
    }
    torch.save(nested, tmp_path / "model.ckpt")
    _, [found], _ = find(tmp_path / "model.ckpt")
    assert found.spec == SPECS[0]
    assert found.prefix == "state.net.rnn."


def test_relu_has_to_be_said(tmp_path):
    torch.save(state_dict(RNNSpec(cell="elman-relu", input=2, hidden=3)), tmp_path / "model.pt")
    assert find(tmp_path / "model.pt")[1][0].spec.cell == "elman-tanh"
    assert find(tmp_path / "model.pt", cell="elman-relu")[1][0].spec.cell == "elman-relu"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_cell_of_a_hand_written_network_has_to_be_said(tmp_path, suffix):
    layers = nn.ModuleDict({"input2h": nn.Linear(2, 3), "h2h": nn.Linear(3, 3), "fc": nn.Linear(3, 4)})
    (save_file if suffix == ".safetensors" else torch.save)(layers.state_dict(), tmp_path / f"net{suffix}")
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="'input2h' and 'h2h' look like a hand-written RNN"):
        find(tmp_path / f"net{suffix}")
    zoo, [other] = import_checkpoints([tmp_path], tmp_path / "zoo", "leaky-relu:0.2")
    assert [str(spec) for spec in zoo.specs] == ["leaky RNN (relu) 2→3→4"]
    assert torch.equal(zoo.population([0]).weights["alpha_l0"], torch.full((1, 3), 0.2))
    assert zoo.card["settings"]["cell"] == "leaky-relu:0.2"
    assert "LSTM, GRU, Elman or leaky network" in (other.skipped or "")


def test_matrices_that_are_no_layers_are_refused_with_advice(tmp_path):
    torch.save({"W_in": torch.zeros(3, 2), "W_rec": torch.zeros(3, 3)}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"none among 'W_in', 'W_rec'; matrices .* from \.npz"):
        find(tmp_path / "net.pt", "leaky-relu:0.2")


# --- files, folders, globs -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "models"
    (folder / "deep").mkdir(parents=True)
    for seed in range(3):
        torch.save(state_dict(SPECS[0], seed), folder / f"lstm-{seed}.pt")
    save_file(state_dict(SPECS[1]), folder / "deep" / "gru.safetensors")
    torch.save(nn.Linear(2, 2).state_dict(), folder / "linear.pt")
    torch.save(nn.LSTM(2, 3, proj_size=2).state_dict(), folder / "unclear.pt")
    (folder / "notes.txt").write_text("not a checkpoint")
    return folder


def test_a_folder_becomes_a_zoo(folder, tmp_path):
    zoo, skipped = import_checkpoints([folder], tmp_path / "zoo")
    assert {checkpoint.path.name for checkpoint in skipped} == {"linear.pt", "unclear.pt"}
    assert zoo.task is None
    assert sorted(map(str, zoo.specs)) == ["LSTM 3→5×2→4", "bidirectional GRU 2→4"]
    assert len(zoo) == 4
    assert set(zoo.table["step"].to_pylist()) == {-1}
    assert zoo.table["metrics"].null_count == 4
    again = Zoo.open(tmp_path / "zoo")
    lstms = again.snapshots(where="spec LIKE 'lstm%'")
    expected = Population.initialise(SPECS[0], [torch.Generator().manual_seed(i) for i in range(3)])
    assert torch.equal(again.population(lstms).flatten(), expected.flatten())
    assert [Path(source).name for source in lstms["source"].to_pylist()] == [f"lstm-{i}.pt" for i in range(3)]


def test_globs_and_files_are_taken_once(folder, tmp_path):
    zoo, _ = import_checkpoints([f"{folder}/lstm*", folder / "lstm-1.pt"], tmp_path / "zoo")
    assert len(zoo) == 3


def test_a_file_named_directly_has_to_be_usable(folder, tmp_path):
    for name in ("linear.pt", "unclear.pt", "notes.txt"):
        with pytest.raises(CheckpointError, match=name):
            import_checkpoints([folder, folder / name], tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_head_that_is_not_clear_is_asked_for(tmp_path):
    both = {**state_dict(SPECS[1]), "one.weight": torch.ones(2, 8), "two.weight": torch.zeros(2, 8)}
    torch.save(both, tmp_path / "a.pt")
    zoo, _ = import_checkpoints([tmp_path / "a.pt"], tmp_path / "zoo")
    assert str(zoo.specs[0]) == "bidirectional GRU 2→4"
    [note] = zoo.table["notes"].to_pylist()
    assert "fit behind the RNN at 'rnn': 'one', 'two'; name the head to use: --head 'two'" in note
    for number, head in enumerate(("two.", "rnn=two", ["other=one", "rnn=two"][1:])):
        zoo, _ = import_checkpoints([tmp_path / "a.pt"], tmp_path / f"zoo-{number}", head=head)
        assert zoo.table["head"].to_pylist() == ["two"]
    with pytest.raises(CheckpointError, match="named for 'other'; the RNNs are 'rnn'"):
        import_checkpoints([tmp_path / "a.pt"], tmp_path / "none", head=["other=one"])


@pytest.mark.parametrize("given", ["nothing.pt", "nothing*"])
def test_nothing_at_a_path(tmp_path, given):
    with pytest.raises(CheckpointError, match="no file and no folder"):
        list(checkpoints([tmp_path / given]))


def test_nothing_usable_at_all(folder, tmp_path):
    with pytest.raises(CheckpointError, match="none of 1 files"):
        import_checkpoints([f"{folder}/linear*"], tmp_path / "zoo")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="one of the formats torch"):
        import_checkpoints([tmp_path / "empty"], tmp_path / "zoo")
    with pytest.raises(OutputExists):
        import_checkpoints([folder], folder)


def test_half_precision_and_broken_weights(tmp_path):
    fine = {name: weight.half() for name, weight in state_dict(SPECS[0]).items()}
    broken = {name: weight * float("nan") for name, weight in fine.items()}
    torch.save(fine, tmp_path / "fine.pt")
    torch.save(broken, tmp_path / "broken.pt")
    zoo, _ = import_checkpoints([tmp_path], tmp_path / "zoo")
    assert zoo.snapshots()["source"].to_pylist() == [str(tmp_path / "fine.pt")]
    assert zoo.population(zoo.snapshots()).dtype == torch.float32


# --- odd files -----------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A folder of one good file, and of others that nobody would expect."""
    monkeypatch.setattr(contents, "MOST_ENTRIES", 2000)
    folder = tmp_path / "odd"
    folder.mkdir()
    good, matrix = state_dict(SPECS[0]), torch.zeros(12, 3)
    loop: dict = {}
    loop["again"] = loop
    many: dict = {"leaf": torch.zeros(1)}
    for _ in range(9):
        many = {str(i): many for i in range(10)}
    files = {
        "fine": good,
        "layer": {"weight_hh_l1": matrix},
        "layers": {"weight_hh_l999999999": matrix, "weight_ih_l999999999": matrix},
        "vector": {"weight_hh_l0": matrix, "weight_ih_l0": matrix[0]},
        "nothing": {"weight_hh_l0": torch.zeros(0, 0), "weight_ih_l0": torch.zeros(0, 2)},
        "digits": {"weight_hh_l0": matrix, 10**5000: matrix},
        "loop": loop,
        "many": many,
        "meta": {name: weight.to("meta") for name, weight in good.items()},
        "names": {f"\x1b[31m{name}": weight for name, weight in good.items()},
    }
    for name, content in files.items():
        torch.save(content, folder / f"{name}.pt")
    (folder / "fine.pt").rename(folder / "x fine.pt")
    return folder


def test_one_odd_file_does_not_end_an_import(odd, tmp_path):
    zoo, left_out = import_checkpoints([odd], tmp_path / "zoo")
    assert zoo.table["source"].to_pylist() == [str(odd / "x fine.pt")]
    assert [checkpoint.path.name for checkpoint in left_out] == sorted(
        path.name for path in odd.iterdir() if "fine" not in path.name
    )
    for checkpoint in left_out:
        assert checkpoint.skipped.startswith(str(checkpoint.path))
        assert checkpoint.skipped.isprintable()
        assert len(checkpoint.skipped) < 400
        with pytest.raises(CheckpointError, match=checkpoint.path.name):
            find(checkpoint.path)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("a\nb"), RecursionError(), PermissionError(13, "no")]
)
@pytest.mark.parametrize("name", SAVE)
def test_an_error_that_nobody_thought_of_ends_no_import(tmp_path, monkeypatch, name, error):
    save, suffix = SAVE[name]
    for file in ("a", "b"):
        save(state_dict(SPECS[0]), tmp_path / f"{file}{suffix}")
    kind = importers.registry[name]
    whole = kind.find

    def find_with(self, path, *options):
        if path.stem == "a":
            raise error
        return whole(self, path, *options)

    monkeypatch.setattr(kind, "find", find_with)
    first, second = checkpoints([tmp_path])
    reason = "no" if isinstance(error, PermissionError) else type(error).__name__
    assert (
        first.skipped == f"{tmp_path / 'a'}{suffix} cannot be read ({reason}); save it again, or leave it out"
    )
    assert len(second.rnns) == 1
    with pytest.raises(CheckpointError, match="cannot be read"):
        list(checkpoints([tmp_path / f"a{suffix}"]))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_is_no_files_fault_ends_an_import(tmp_path, monkeypatch, error):
    torch.save(state_dict(SPECS[0]), tmp_path / "a.pt")

    def load(*_, **__):
        raise error

    monkeypatch.setattr(torch_state_dict, "read_path", load)
    with pytest.raises(error):
        list(checkpoints([tmp_path]))


def test_an_unclear_rnn_does_not_lose_the_others_of_its_file(tmp_path):
    both = {f"a.{name}": weight for name, weight in state_dict(SPECS[1]).items()}
    torch.save({**both, "b.weight_hh_l1": torch.zeros(3, 3)}, tmp_path / "both.pt")
    zoo, [checkpoint] = import_checkpoints([tmp_path / "both.pt"], tmp_path / "zoo")
    assert zoo.table["prefix"].to_pylist() == ["a.rnn"]
    assert checkpoint.skipped is None
    assert checkpoint.unclear == [
        f"{tmp_path / 'both.pt'}: the RNN at 'b' has 'b.weight_hh_l1' but no weight_hh_l0"
    ]


def test_parameters_that_ask_for_gradients_are_read(tmp_path):
    torch.save(dict(nn.GRU(2, 3).named_parameters()), tmp_path / "a.pt")
    assert len(import_checkpoints([tmp_path / "a.pt"], tmp_path / "zoo")[0]) == 1


def test_a_file_is_taken_once_however_it_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.pt").symlink_to(folder / "lstm-1.pt")
    names = ["models/lstm-1.pt", folder / "lstm-1.pt", "models/deep/../lstm-1.pt", "link.pt", "models/*-1.pt"]
    for given in (names, names[::-1]):
        [checkpoint] = checkpoints(given)
        assert checkpoint.named
    assert checkpoint.ids == ["models/lstm-1.pt:rnn"]


def test_a_path_that_cannot_be_printed_is_escaped(tmp_path):
    torch.save(state_dict(SPECS[0]), tmp_path / "a.pt")
    torch.save(state_dict(SPECS[0]), tmp_path / "\x1b[31m\n.pt")
    good, bad = sorted(checkpoints([tmp_path]), key=lambda checkpoint: bool(checkpoint.skipped))
    assert good.path.name == "a.pt"
    assert "expected a path of printable characters" in bad.skipped
    assert bad.skipped.isprintable()


def test_other_files_are_counted(folder, tmp_path):
    for name in ("a.wav", "b.WAV", "deep/c.wav", "README", "d.x\x1b"):
        (folder / name).write_text("")
    others = "passed over files that are no checkpoints: .wav (3), without a suffix (2), .txt (1)"
    assert passed_over([folder, folder / "deep"]) == others
    assert passed_over([folder / "lstm-0.pt", f"{folder}/*.pt"]) is None
    (folder / "deep" / "gru.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"formats torch, .*, found \.wav \(1\)$"):
        list(checkpoints([folder / "deep"]))
    for path in folder.glob("*.pt"):
        if path.name != "linear.pt":
            path.unlink()
    with pytest.raises(CheckpointError, match=rf"none of 1 files .*linear\.pt.* \({re.escape(others)}\)$"):
        import_checkpoints([folder], tmp_path / "zoo")


def test_a_failed_import_leaves_nothing(folder, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keep, "write_card", fail)
        with pytest.raises(OSError, match="no space"):
            import_checkpoints([folder], tmp_path / "out" / "zoo")
    assert list((tmp_path / "out").iterdir()) == []
    assert len(import_checkpoints([folder], tmp_path / "out" / "zoo")[0]) == 4


def test_a_cell_has_to_be_one(folder):
    with pytest.raises(UnknownName, match="did you mean 'elman-relu'"):
        list(checkpoints([folder], cell="elman-rely"))


def test_notes_are_kept(tmp_path):
    torch.save(nn.RNN(2, 3).state_dict(), tmp_path / "a.pt")
    torch.save(nn.GRU(2, 3).state_dict(), tmp_path / "b.pt")
    broken = {name: weight.double() * 1e300 for name, weight in nn.RNN(2, 3).state_dict().items()}
    torch.save(broken, tmp_path / "c.pt")  # finite, but not as float32
    zoo, _ = import_checkpoints([tmp_path], tmp_path / "zoo")
    notes = dict(zip(map(Path, zoo.table["source"].to_pylist()), zoo.table["notes"].to_pylist(), strict=True))
    tanh = "nonlinearity assumed tanh; a state_dict does not tell: --cell elman-relu"
    assert notes == {
        tmp_path / "a.pt": tanh,
        tmp_path / "b.pt": None,
        tmp_path / "c.pt": f"{tanh}; weights are not finite: weight_ih_l0",
    }
    assert assumed(notes.values()) == f"2 RNNs with one gate: {tanh}"
    assert zoo.snapshots(where="notes LIKE '%tanh%'").num_rows == 1  # the other diverged
    again, _ = import_checkpoints([tmp_path / "a.pt"], tmp_path / "relu", cell="elman-relu")
    assert assumed(again.table["notes"].to_pylist()) is None


# --- in the wild ---------------------------------------------------------------------------------


def test_checkpoints_in_the_wild(wild, tmp_path):
    """One is a whole module, which is read like its state_dict and says so."""
    zoo, skipped = import_checkpoints([*wild.glob("*.pt"), *wild.glob("*.safetensors")], tmp_path / "zoo")
    assert sorted(map(str, zoo.specs)) == ["LSTM 128→128", "LSTM 150→150×2→3"]
    assert skipped == []
    notes = {Path(row["source"]).name: row["notes"] or "" for row in zoo.table.to_pylist()}
    assert "(model.BDA), whose code was not run" in notes["beatnet_model-1_refuse.pt"]
    whole, alone = (find(wild / f"beatnet_model{name}.pt")[1][0] for name in ("-1_refuse", "_1_weights"))
    assert all(torch.equal(whole.weights[name], weight) for name, weight in alone.weights.items())
