"""A large file takes about as much memory as its RNN, in every format that says where its numbers lie."""

import io
import json
import tracemalloc
import zipfile

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from rnnatlas.importers.base import find
from rnnatlas.importers.hdf5_texts import Part

ROWS = 1 << 18
"""Of an embedding of 32 MB, beside an RNN of 32 inputs and 16 hidden units."""
MOST = 6 << 20
"""Bytes that reading may take; modules that are imported for it take some."""


def embedding():
    return np.random.default_rng(0).standard_normal((ROWS, 32), dtype=np.float32)


def state_dict():
    return {
        "emb.weight": torch.from_numpy(embedding()),
        **nn.ModuleDict({"rnn": nn.LSTM(32, 16)}).state_dict(),
    }


def keras(path):
    def layer(kind, name, **config):
        return {"class_name": kind, "config": {"name": name, **config}}

    units = {"units": 16, "activation": "tanh", "recurrent_activation": "sigmoid"}
    layers = [layer("Embedding", "embedding"), layer("LSTM", "lstm", **units)]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    weights = path.with_suffix(".h5")
    with h5py.File(weights, "w") as file:
        file["layers/embedding/vars/0"] = embedding()
        for number, shape in enumerate([(32, 64), (16, 64), (64,)]):
            file[f"layers/lstm/cell/vars/{number}"] = np.ones(shape, np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(weights, "model.weights.h5")


def graph(path):
    arrays = {"emb": embedding(), "W": np.ones((1, 64, 32), "f"), "R": np.ones((1, 64, 16), "f")}
    nodes = [
        helper.make_node("Gather", ["emb", "x"], ["e"]),
        helper.make_node("LSTM", ["e", "W", "R"], ["y", "", ""], hidden_size=16),
    ]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.INT64, [5, 1])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    held = [numpy_helper.from_array(each, name) for name, each in arrays.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, held))
    path.write_bytes(model.SerializeToString())


def packed(path):
    msgpack = pytest.importorskip("msgpack")

    def array(value):
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))

    cell = {"i": {"kernel": np.ones((32, 16), "f")}, "h": {"kernel": np.ones((16, 16), "f")}}
    path.write_bytes(msgpack.packb({"emb": {"embedding": embedding()}, "cell": cell}, default=array))


def arrays(path):
    np.savez(path, emb=embedding(), W_rec=np.ones((16, 16), "f"), W_in=np.ones((16, 32), "f"))


WRITE = {
    "a.pt": lambda path: torch.save(state_dict(), path),
    "legacy.pt": lambda path: torch.save(state_dict(), path, _use_new_zipfile_serialization=False),
    "a.safetensors": lambda path: save_file(state_dict(), path),
    "a.npz": arrays,
    "torch.npz": lambda path: np.savez(path, **{name: each.numpy() for name, each in state_dict().items()}),
    "a.onnx": graph,
    "a.msgpack": packed,
    "a.keras": keras,
}


@pytest.mark.parametrize("name", WRITE)
def test_what_lies_beside_an_rnn_is_not_loaded(tmp_path, name):
    path = tmp_path / name
    WRITE[name](path)
    assert path.stat().st_size > 32 << 20
    tracemalloc.start()
    try:
        _, [found], _ = find(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.spec.input, found.spec.hidden) == (32, 16)
    assert most < MOST


def test_no_more_is_asked_for_than_a_part_of_a_file_has():
    part = Part(io.BytesIO(b"0123456789"), 2, 5)
    assert part.read(1 << 50) == b"23456"
    assert part.read(3) == b""
    part.seek(-2, 2)
    assert bytearray(part.read()) == b"56"


@pytest.mark.parametrize("name", ["a.npz", "a.keras", "a.pt"])
def test_a_changed_byte_of_what_is_mapped_does_not_go_unnoticed(tmp_path, name):
    path = tmp_path / name
    WRITE[name](path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"found something else or a part|checksum"):
        find(path)
