"""Files that Flax itself has written (`flax/make.py`), and such as it writes."""

from pathlib import Path

import numpy as np
import pytest
from tests.importers.outputs import difference, outputs, rnns

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import find

msgpack = pytest.importorskip("msgpack")

FOLDER = Path(__file__).parent / "flax"
CELLS = ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell")


def packed(value):
    """As Flax packs an array."""
    content = msgpack.packb((value.shape, value.dtype.name, value.tobytes()))
    return msgpack.ExtType(1, content)


def write(path, document):
    path.write_bytes(msgpack.packb(document, default=packed))
    return path


def simple(inputs=3, hidden=4, **more):
    random = np.random.default_rng(0)
    return {
        "i": {"kernel": random.normal(size=(inputs, hidden)).astype("float32")},
        "h": {"kernel": random.normal(size=(hidden, hidden)).astype("float32")},
        **more,
    }


@pytest.mark.parametrize("name", [*CELLS, *(f"nnx_{cell}" for cell in CELLS)])
def test_a_network_answers_as_in_flax(name):
    expected = np.load(FOLDER / "outputs.npz")
    [(place, found)] = rnns(FOLDER / f"{name}.msgpack").items()
    assert (place, found.head) == (
        ("memory.cell", "readout.") if "nnx" in name else ("params.cell", "params.Dense_0.")
    )
    assert difference(found, expected["x"], expected[name]) < 1e-5
    assert "read forwards" in found.remark


def test_arrays_in_chunks_are_put_together(tmp_path):
    whole = simple()
    kernel = whole["h"]["kernel"]
    chunked = {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 4, "1": 4},
        "chunks": {str(number): part for number, part in enumerate(np.split(kernel.ravel(), 16))},
    }
    parts = {**whole, "h": {"kernel": chunked}}
    one, two = (
        rnns(write(tmp_path / f"{number}.msgpack", {"cell": each}))["cell"]
        for number, each in enumerate((whole, parts))
    )
    x = np.ones((1, 5, 3))
    assert np.array_equal(outputs(one, x), outputs(two, x))


def test_copies_of_an_optimiser_are_passed_over(tmp_path):
    state = {"params": {"cell": simple()}, "opt_state": {"0": {"mu": {"cell": simple()}}}, "step": 3}
    assert list(rnns(write(tmp_path / "state.msgpack", state))) == ["params.cell"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ({**simple(), "norm": {"scale": np.ones(4, "float32")}}, r"norm\.scale"),
        (
            {f"{side}{gate}": {"kernel": np.ones((4, 4), "float32")} for side in "ih" for gate in "fn"},
            r"'hf\.kernel'",
        ),
        ({key: {"kernel": np.ones((3, 3, 4, 4), "float32")} for key in "ih"}, "no matrices"),
        (simple(i={"kernel": np.ones((3, 5), "float32")}), "4"),
        (simple(i={"kernel": np.ones((3, 4), "int32")}), "int32"),
    ],
)
def test_another_cell_is_refused_by_name(tmp_path, cell, reason):
    with pytest.raises(CheckpointError, match=reason):
        find(write(tmp_path / "model.msgpack", {"params": {"cell": cell}}))


def test_a_part_of_a_file_is_one_sentence(tmp_path):
    whole = (FOLDER / "GRUCell.msgpack").read_bytes()
    path = tmp_path / "model.msgpack"
    for part in (b"", b"\xc1", b"PK", whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match="found something else or a part"):
            find(path)
