"""Pickles are read and never run."""

import argparse
import collections
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import contents, pickles
from rnnatlas.importers.base import find
from rnnatlas.importers.torch_files import read
from rnnatlas.importers.torch_state_dict import torch_contents

SHARED = Path(__file__).parents[3] / "shared" / "data"
NET = nn.GRU(2, 3)


def saved(content, path, **options):
    torch.save(content, path, **options)
    return torch_contents(path)


def same(found, expected=None, prefix=""):
    """Whether all tensors of a module are found, with their numbers."""
    expected = NET.state_dict() if expected is None else expected
    return all(torch.equal(found.tensors[prefix + name], value.detach()) for name, value in expected.items())


class Odd:
    """An object that must not be made."""

    def __init__(self, **state):
        self.__dict__.update(state)

    def __setstate__(self, state):
        pytest.fail("something was run")


# --- what is read -----------------------------------------------------------------------------------

BESIDE = {
    "numpy": {"loss": np.float64(0.5), "history": np.arange(3.0), "when": np.datetime64("2020-01-01")},
    "namespace": argparse.Namespace(lr=0.1, layers=[2, 3]),
    "path": Path("a/b"),
    "odd": Odd(lr=0.1, deep=Odd(x=[1, {2, 3}, frozenset([4])])),
    "containers": collections.defaultdict(list, {"a": [(1, 2)]}),
    "dtypes": [torch.float32, torch.device("cpu"), torch.Size([2, 3])],
    "loss": nn.CrossEntropyLoss(weight=torch.ones(3)),
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read_whatever_lies_beside_them(tmp_path, beside, zipped):
    document = {"model": NET.state_dict(), "beside": BESIDE[beside]}
    found = saved(document, tmp_path / "a", _use_new_zipfile_serialization=zipped)
    assert same(found, prefix="model.")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_tensors_and_arrays_are_read(tmp_path, protocol):
    arrays = {name: np.asfortranarray(value.numpy()) for name, value in NET.state_dict().items()}
    for document in (NET.state_dict(), dict(NET.named_parameters()), arrays):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(document, protocol=protocol))
        found = torch_contents(tmp_path / "a.pkl")
        assert same(found)


def test_tensors_have_their_shapes_types_and_places(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    document = {
        "transposed": base.T,
        "part": base[1:3, ::2],
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "float8": base.to(torch.float8_e4m3fn),
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(2),
        "list": [base, (base, {"x": base})],
        "parameter": nn.Parameter(base),
        "buffer": nn.Buffer(base),
    }
    for zipped in (True, False):
        found = saved(document, tmp_path / "a", _use_new_zipfile_serialization=zipped).tensors
        for name in set(document) - {"list"}:
            assert found[name].dtype == document[name].dtype
            assert torch.equal(found[name].float(), document[name].detach().float())
        assert torch.equal(found["list.1.1.x"], base)


@pytest.mark.filterwarnings("ignore:.*(uantize|Sparse|prototype|torch.ao)")
def test_what_has_a_meaning_is_read_and_the_rest_is_named(tmp_path):
    base = torch.eye(3)
    document = {"coo": base.to_sparse(), "csr": base.to_sparse_csr(), "csc": base.to_sparse_csc()}
    found = saved(document, tmp_path / "a")
    assert all(torch.equal(found.tensors[name], base) for name in document)
    odd = {
        "quantised": torch.quantize_per_tensor(base, 0.1, 0, torch.qint8),
        "meta": base.to("meta"),
        "nested": torch.nested.nested_tensor([base, base]),
    }
    found = saved(odd, tmp_path / "a")
    assert all(word in found.odd[word] for word in odd)
    assert found.quantised


def test_a_module_gives_what_its_state_dict_has(tmp_path):
    net = nn.Sequential(nn.LSTM(2, 3), nn.BatchNorm1d(3), nn.ModuleDict({"a": nn.Linear(3, 2)}))
    found = saved({"best": net}, tmp_path / "a")
    assert same(found, net.state_dict(), "best.")
    assert set(found.tensors) == {f"best.{name}" for name in net.state_dict()}


# --- what is not ------------------------------------------------------------------------------------


class Call:
    def __init__(self, function, *args):
        self.made = function, args

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize("function", [os.system, eval, exec, open, subprocess.run, sys.exit])
def test_a_pickle_that_would_do_harm_is_refused_by_name(tmp_path, function):
    trap = tmp_path / "sprung"
    call = Call(function, f"open({str(trap)!r}, 'w')")
    for document in (call, {"a": NET.state_dict(), "b": [call]}, {call: 1}):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(document, protocol=2))
        with pytest.raises(CheckpointError, match=r"which would run code; nothing was run"):
            find(tmp_path / "a.pkl")
    assert not trap.exists()


def test_a_function_that_nobody_knows_is_not_called(tmp_path):
    document = {
        "a": NET.state_dict(),
        "b": Call(Path.touch, tmp_path / "sprung"),
        "c": Call(pytest.fail, "run"),
    }
    assert same(saved(document, tmp_path / "a"), prefix="a.")
    assert not (tmp_path / "sprung").exists()


def nested_tuple(depth):
    """A tuple that takes 2 to the power of its depth to hash."""
    return b"".join([b"\x80\x04)", b"\x94", *[b"h%c" % n + b"h%c" % n + b"\x86\x94" for n in range(depth)]])


BOMBS = {
    "memo": b"\x80\x04]r\xf0\xff\xff\xff.",
    "bytes": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    "bytearray": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",
    "long": b"\x80\x04\x8b\xff\xff\xff\x7fx.",
    "frame": b"\x80\x04\x95" + (1 << 60).to_bytes(8, "little") + b"].",
    "hash": b"\x80\x04}" + nested_tuple(60)[2:] + b"Ns.",
    "set": b"\x80\x04\x8f(" + nested_tuple(60)[2:] + b"\x90.",
    "deep": b"\x80\x04" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "many": b"\x80\x04" + b"]" * 200_000,
    "copies": b"\x80\x04c_codecs\nencode\nq\x00X\x10\x27\x00\x00"
    + b"x" * 10_000
    + b"\x8c\x06latin1\x86q\x010"
    + b"h\x00h\x01R0" * 20_000
    + b"N.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_have_an_end(name, monkeypatch):
    monkeypatch.setattr(pickles, "MOST_OPERATIONS", 100_000)
    monkeypatch.setattr(pickles, "MOST_COPIED", 1 << 20)
    data = memoryview(bytearray(BOMBS[name]))
    if name in ("many", "copies"):
        with pytest.raises(CheckpointError, match=r"its pickle (has too many|repeats)"):
            read(data)
    elif name in ("memo", "frame", "hash", "set", "deep"):
        assert not contents.contents(read(data)).tensors
    else:
        with pytest.raises(CheckpointError, match="a part of one"):
            read(data)


def test_containers_that_hold_themselves_have_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MOST_ENTRIES", 2000)
    loop: dict = {"x": torch.ones(1)}
    loop["again"] = loop
    laughs: list = [torch.ones(1)]
    for _ in range(30):
        laughs = [laughs] * 10
    for document in (loop, laughs):
        with pytest.raises(CheckpointError, match="found more"):
            saved(document, tmp_path / "a")
    rows = [[(i, i + 1)] for i in range(10_000)]  # long lists without tensors are no matter
    assert same(
        saved({"a": NET.state_dict(), "rows": rows, "loop": [loop["x"]]}, tmp_path / "a"), prefix="a."
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_negated_views_are_the_numbers_that_they_stand_for(tmp_path, zipped):
    """As torch.fft gives them; they are saved as they lie in memory, with a mark."""
    views = {}
    for name, weight in NET.state_dict().items():
        views[name] = torch.complex(torch.zeros_like(weight), -weight).conj().imag
        assert views[name].is_neg()
    assert same(saved(views, tmp_path / "a", _use_new_zipfile_serialization=zipped))
    endless = torch.complex(torch.zeros(1), torch.ones(1)).conj().imag.expand(10**6, 10**6)
    found = saved({"a": endless}, tmp_path / "b", _use_new_zipfile_serialization=zipped)
    assert found.odd == {"a": "an expanded tensor"}


# --- damaged, hostile -------------------------------------------------------------------------------


def test_damaged_files_are_read_or_refused():
    """`python tests/importers/fuzz.py 1000` for more of them."""
    fuzz = Path(__file__).with_name("fuzz.py")
    run = subprocess.run(
        [sys.executable, str(fuzz), "60"], capture_output=True, text=True, check=False, timeout=300
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
