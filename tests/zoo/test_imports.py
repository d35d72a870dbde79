import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rnnatlas import importers
from rnnatlas.errors import CheckpointError, OutputExists
from rnnatlas.importers.base import find
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.zoo.imports import checkpoints, import_checkpoints
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


# --- every format --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", importers.registry)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_checkpoint_comes_back_as_it_was(tmp_path, name, spec):
    save, suffix = SAVE[name]
    path = tmp_path / f"model{suffix}"
    save(state_dict(spec), path)
    format_, [found] = find(path)
    assert (format_, found.spec) == (name, spec)
    expected = Population.initialise(spec, [torch.Generator().manual_seed(0)])
    assert torch.equal(
        Population(spec, {k: v[None] for k, v in found.weights.items()}).flatten(), expected.flatten()
    )


@pytest.mark.parametrize("name", importers.registry)
def test_a_broken_file_is_one_clear_sentence(tmp_path, name):
    save, suffix = SAVE[name]
    path = tmp_path / f"model{suffix}"
    save(state_dict(SPECS[0]), path)
    whole = path.read_bytes()
    for part in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match="found something else or a part"):
            find(path)


@pytest.mark.parametrize("name", importers.registry)
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


def test_a_whole_module_is_refused(tmp_path):
    torch.save(nn.LSTM(2, 3), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"names torch\.nn\.modules\.rnn\.LSTM.*state_dict"):
        find(tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        find(tmp_path / "model.pt")


def test_a_state_dict_inside_a_larger_checkpoint_is_found(tmp_path):
    nested = {
        "epoch": 3,
        "state": {"net": state_dict(SPECS[0])},
        "optimiser": {"state": {0: {"m": torch.ones(2)}}},
    }
    torch.save(nested, tmp_path / "model.ckpt")
    _, [found] = find(tmp_path / "model.ckpt")
    assert found.spec == SPECS[0]
    assert found.prefix == "state.net.rnn."


def test_relu_has_to_be_said(tmp_path):
    torch.save(state_dict(RNNSpec(cell="elman-relu", input=2, hidden=3)), tmp_path / "model.pt")
    assert find(tmp_path / "model.pt")[1][0].spec.cell == "elman-tanh"
    assert find(tmp_path / "model.pt", cell="elman-relu")[1][0].spec.cell == "elman-relu"


# --- files, folders, globs -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "models"
    (folder / "deep").mkdir(parents=True)
    for seed in range(3):
        torch.save(state_dict(SPECS[0], seed), folder / f"lstm-{seed}.pt")
    save_file(state_dict(SPECS[1]), folder / "deep" / "gru.safetensors")
    torch.save(nn.Linear(2, 2).state_dict(), folder / "linear.pt")
    both = {**state_dict(SPECS[1]), "one.weight": torch.ones(2, 8), "two.weight": torch.ones(2, 8)}
    torch.save(both, folder / "unclear.pt")
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
    zoo, _ = import_checkpoints([folder / "unclear.pt"], tmp_path / "zoo", head="two.")
    assert str(zoo.specs[0]) == "bidirectional GRU 2→4→2 (head without bias)"


@pytest.mark.parametrize("given", ["nothing.pt", "nothing*"])
def test_nothing_at_a_path(tmp_path, given):
    with pytest.raises(CheckpointError, match="no file and no folder"):
        list(checkpoints([tmp_path / given]))


def test_nothing_usable_at_all(folder, tmp_path):
    with pytest.raises(CheckpointError, match="none of 1 files"):
        import_checkpoints([f"{folder}/linear*"], tmp_path / "zoo")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="should end with"):
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


# --- in the wild ---------------------------------------------------------------------------------


def test_checkpoints_in_the_wild(wild, tmp_path):
    zoo, skipped = import_checkpoints([wild], tmp_path / "zoo")
    assert sorted(map(str, zoo.specs)) == ["LSTM 128→128", "LSTM 150→150×2→3"]
    [refused] = skipped
    assert refused.path.name == "beatnet_model-1_refuse.pt"
    assert "names model.BDA" in refused.skipped
    with pytest.raises(CheckpointError, match="can run code"):
        import_checkpoints([wild / "beatnet_model-1_refuse.pt"], tmp_path / "other")
