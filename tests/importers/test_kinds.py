"""Files are told by their content, parts of checkpoints by what they belong to."""

import io
import json
import zipfile

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import kinds
from rnnatlas.importers.base import find
from rnnatlas.zoo.imports import checkpoints, passed_over

NET = nn.ModuleDict({"rnn": nn.LSTM(3, 4, num_layers=2), "out": nn.Linear(4, 2)})


def is_net(rnn):
    """Whether an RNN has the weights of the network."""
    whole = NET.state_dict()
    named = {
        name: whole[f"rnn.{name}" if "_l" in name else name.replace("head", "out")] for name in rnn.weights
    }
    return len(named) == len(whole) and all(
        torch.equal(rnn.weights[name], value) for name, value in named.items()
    )


@pytest.mark.parametrize("name", ["a.pth.tar", "a.pkl", "a.th", "noname", "a.h5", "a.safetensors", "a.json"])
@pytest.mark.parametrize("zipped", [True, False])
def test_names_of_files_say_nothing(tmp_path, name, zipped):
    torch.save(NET.state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    format_, [found], _ = find(tmp_path / name)
    assert format_ == "torch"
    assert is_net(found)


def test_safetensors_are_told_from_others(tmp_path):
    save_file(NET.state_dict(), tmp_path / "model.bin")
    assert find(tmp_path / "model.bin")[0] == "safetensors"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", kinds.LFS_POINTER),
        (b"\x89HDF\r\n\x1a\n", kinds.HDF5),
        (b"\x1f\x8b\x08", "gzip"),
        (b'{"a": 1}', kinds.JSON),
        (b'{"weights": 1}', kinds.JSON_OF_WEIGHTS),
        (b"GGUF\x03", "GGUF"),
        (b"", None),
        (b"PK\x03\x04", None),
        (b"hello", None),
    ],
)
def test_kinds(tmp_path, content, kind):
    (tmp_path / "a").write_bytes(content)
    assert kinds.kind_of(tmp_path / "a") == kind


def test_what_is_no_checkpoint_is_said_to_be_what_it_is(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(
        CheckpointError, match=r"a\.pt: .* found a Git LFS pointer to one; fetch it: git lfs pull"
    ):
        find(tmp_path / "a.pt")
    (tmp_path / "a.weights").write_bytes(b"GGUF\x03")
    with pytest.raises(CheckpointError, match=r"one of the formats torch, .* found GGUF"):
        find(tmp_path / "a.weights")


def test_a_policy_of_stable_baselines(tmp_path):
    policy = io.BytesIO()
    torch.save(NET.state_dict(), policy)
    for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "ppo.zip", "w", way) as archive:
            archive.writestr("data", "{}")
            archive.writestr("policy.pth", policy.getvalue())
        assert is_net(find(tmp_path / "ppo.zip")[1][0])


# --- parts -------------------------------------------------------------------------------------------


@pytest.fixture(params=["safetensors", "bin"])
def shards(tmp_path, request):
    """A folder with a network in two files and their index."""
    whole = NET.state_dict()
    first = [name for name in whole if "_l0" in name]
    files = {f"model-0000{i}-of-00002.{request.param}": {} for i in (1, 2)}
    for name, value in whole.items():
        files[list(files)[name not in first]][name] = value
    for file, tensors in files.items():
        (save_file if request.param == "safetensors" else torch.save)(tensors, tmp_path / file)
    places = {name: file for file, tensors in files.items() for name in tensors}
    index = tmp_path / f"model.{request.param}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index, [tmp_path / file for file in files]


def test_shards_are_joined_by_their_index(shards):
    index, files = shards
    for paths in ([index.parent], [index]):
        [checkpoint] = checkpoints(paths)
        assert checkpoint.path == index
        assert is_net(checkpoint.rnns[0])
    assert passed_over([index.parent]) is None
    for file in files:
        with pytest.raises(CheckpointError, match=r"found a part of one; model\..*index\.json names it"):
            list(checkpoints([file]))
        file.rename(file.with_stem(f"other-{file.stem}"))
    with pytest.raises(CheckpointError, match=r"'model-00001-of-00002.*', which is not beside it"):
        find(index)
    index.unlink()
    for checkpoint in checkpoints([index.parent / "*-of-*"]):
        assert "its index (….index.json) is not beside it" in checkpoint.skipped


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"weight_map": {"a": "../a"}}', '{"weight_map": {"a": 3}}', "[" * 100_000]
)
def test_an_index_has_to_be_one(tmp_path, content):
    (tmp_path / "model.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.index\.json"):
        find(tmp_path / "model.index.json")


@pytest.mark.filterwarnings("ignore")
def test_a_distributed_checkpoint_is_joined(tmp_path):
    dcp.save({"model": NET.state_dict(), "step": 3}, checkpoint_id=tmp_path / "step", no_dist=True)
    [checkpoint] = checkpoints([tmp_path])
    assert checkpoint.rnns[0].prefix == "model.rnn."
    assert is_net(checkpoint.rnns[0])
    [part] = (tmp_path / "step").glob("*.distcp")
    with pytest.raises(CheckpointError, match=r"part of a torch.distributed one; give its folder"):
        find(part)
    part.unlink()
    with pytest.raises(CheckpointError, match=r"'__0_0\.distcp', which is not beside it"):
        find(tmp_path / "step" / ".metadata")


def test_the_same_weights_are_marked(tmp_path):
    torch.save(NET.state_dict(), tmp_path / "a.pt")
    save_file(NET.state_dict(), tmp_path / "b.safetensors")
    first, second = checkpoints([tmp_path])
    assert first.rnns[0].notes == ()
    assert f"same weights as {tmp_path / 'a.pt'}:rnn" in second.rnns[0].notes


def test_json_without_weights_is_passed_over_in_folders(tmp_path):
    torch.save(NET.state_dict(), tmp_path / "a.pt")
    (tmp_path / "config.json").write_text('{"lr": 1}')
    assert len(list(checkpoints([tmp_path]))) == 1
    assert passed_over([tmp_path]) == "passed over files that are no checkpoints: .json (1)"
