"""Matrices of vanilla RNNs by name, run by a few lines of NumPy."""

import io
import zipfile

import numpy as np
import pytest
import scipy.io
import torch
from tests.importers.outputs import difference, outputs, rnns
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import find

X = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")


def arrays(hidden=5, inputs=3, size=2):
    random = np.random.default_rng(1)
    return {
        "W_rec": 0.5 * random.normal(size=(hidden, hidden)),
        "W_in": random.normal(size=(hidden, inputs)),
        "W_out": random.normal(size=(size, hidden)),
        "b_rec": random.normal(size=hidden),
        "b_out": random.normal(size=size),
    }


def answers(given, x=X, bend=np.tanh):
    """h ← φ(W_rec h + W_in x + b_rec), of which W_out h + b_out is given out."""
    h, found = np.zeros((len(x), len(given["W_rec"]))), []
    for step in x.transpose(1, 0, 2):
        h = bend(h @ given["W_rec"].T + step @ given["W_in"].T + given["b_rec"])
        found.append(h @ given["W_out"].T + given["b_out"])
    return np.stack(found, 1)


def save(path, given):
    if path.suffix == ".mat":
        scipy.io.savemat(path, given, do_compression=True)
    else:
        np.savez(path, **given)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("cell", [None, "elman-relu"])
def test_a_vanilla_rnn_answers_as_its_equation(tmp_path, suffix, cell):
    path = save(tmp_path / f"model{suffix}", arrays())
    [(place, found)] = rnns(path, cell=cell).items()
    assert (place, found.head) == ("W_rec", "W_out.")
    bend = np.tanh if cell is None else lambda x: np.maximum(x, 0)
    assert difference(found, X, answers(arrays(), bend=bend)) < 1e-5
    assert "does not tell" in found.remark


def test_matrices_that_multiply_from_the_right_are_turned(tmp_path):
    given = {name: each.T for name, each in arrays().items()}
    [found] = rnns(save(tmp_path / "model.npz", given)).values()
    assert difference(found, X, answers(arrays())) < 1e-5
    assert "assumed to be [to, from]" not in found.remark
    [found] = rnns(save(tmp_path / "square.npz", arrays(3, 3, 3))).values()
    assert "W_rec, W_in, W_out assumed to be [to, from]" in found.remark


def test_other_names_and_a_struct(tmp_path):
    names = {"W_rec": "Whh", "W_in": "Wxh", "W_out": "Why", "b_rec": "bh", "b_out": "by"}
    given = {names[name]: each for name, each in arrays().items()}
    found = rnns(save(tmp_path / "model.mat", {"net": {"core": given}, "seed": 3.0, "name": "run 7"}))
    assert difference(found["net.core"], X, answers(arrays())) < 1e-5


def test_matlab_7_3(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "model.mat", "w", userblock_size=512) as file:
        for name, each in arrays().items():
            file[name] = np.atleast_2d(each).T
    with (tmp_path / "model.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    [found] = rnns(tmp_path / "model.mat").values()
    assert difference(found, X, answers(arrays())) < 1e-5


def test_arrays_named_as_by_torch_or_flax(tmp_path):
    module = nn.LSTM(3, 5, batch_first=True)
    named = {f"rnn.{name}": weight.detach().numpy() for name, weight in module.named_parameters()}
    with torch.no_grad():
        expected = module(torch.as_tensor(X))[0].numpy()
    assert difference(rnns(save(tmp_path / "torch.npz", named))["rnn"], X, expected) < 1e-5
    given = arrays()
    flax = {
        "params/cell/i/kernel": given["W_in"].T,
        "params/cell/i/bias": given["b_rec"],
        "params/cell/h/kernel": given["W_rec"].T,
        "params/out/kernel": given["W_out"].T,
        "params/out/bias": given["b_out"],
    }
    found = rnns(save(tmp_path / "flax.npz", flax))["params.cell"]
    assert difference(found, X, answers(given)) < 1e-5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"alpha": np.array(0.2)}, r"'alpha', so its states leak"),
        ({"dt": np.array(10.0), "tau": np.array(100.0)}, r"'dt', 'tau', so its states leak"),
        ({"dale_ratio": np.array(0.8)}, r"'dale_ratio', so it is of PsychRNN"),
        ({"init_state": np.ones((1, 4))}, "one initial state for each hidden unit"),
        ({"W_in": np.ones((4, 3))}, "do not fit one another"),
        ({"W_in": None}, "no input weights"),
        ({"Whh": np.ones((5, 5))}, "several arrays of one kind"),
        ({"W_rec": np.ones((5, 5), "int64")}, "int64"),
    ],
)
def test_what_is_not_known_to_be_a_vanilla_rnn_is_refused_by_name(tmp_path, change, reason):
    given = {name: each for name, each in (arrays() | change).items() if each is not None}
    with pytest.raises(CheckpointError, match=reason):
        find(save(tmp_path / "model.npz", given))


def test_other_arrays_are_named(tmp_path):
    [found] = rnns(save(tmp_path / "model.npz", arrays() | {"losses": np.ones(9)})).values()
    assert "left out: 'losses'" in found.remark


@pytest.mark.parametrize("cell", ["leaky-tanh", "leaky-relu"])
@pytest.mark.parametrize(
    "leak", [{"alpha": np.array(0.2)}, {"dt": np.array(20.0), "tau": np.linspace(20, 100, 5)}], ids=str
)
def test_a_leak_and_an_initial_state_are_read_where_the_nonlinearity_is_named(tmp_path, cell, leak):
    given, start = arrays(), np.linspace(-1, 1, 5)
    path = save(tmp_path / "model.npz", given | leak | {"init_state": start[None]})
    [found] = rnns(path, cell=cell).values()
    bend = np.tanh if cell == "leaky-tanh" else lambda x: np.maximum(x, 0)
    alpha = leak["alpha"] if "alpha" in leak else leak["dt"] / leak["tau"]
    h, expected = np.tile(start, (2, 1)), []
    for step in X.transpose(1, 0, 2):
        h = (1 - alpha) * h + alpha * bend(h @ given["W_rec"].T + step @ given["W_in"].T + given["b_rec"])
        expected.append(h @ given["W_out"].T + given["b_out"])
    assert difference(found, X, np.stack(expected, 1)) < 1e-5
    origin = "'alpha'" if "alpha" in leak else "'dt' / 'tau'"
    assert f"with α of {origin}" in found.remark


def test_a_leaky_cell_needs_a_leak(tmp_path):
    with pytest.raises(CheckpointError, match=r"alpha, .* or as dt and tau, found none; .* leaky-tanh:0\.2"):
        find(save(tmp_path / "model.npz", arrays()), cell="leaky-tanh")
    with pytest.raises(CheckpointError, match=r"above 0 and at most 1 in 'alpha', found 1\.5"):
        find(save(tmp_path / "model.npz", arrays() | {"alpha": np.array(1.5)}), cell="leaky-tanh")
    [given] = rnns(save(tmp_path / "model.npz", arrays()), cell="leaky-tanh:0.2").values()
    path = save(tmp_path / "model.npz", arrays() | {"alpha": np.array(0.2)})
    [stored] = rnns(path, cell="leaky-tanh").values()
    assert difference(given, X, outputs(stored, X)) < 1e-6
    with pytest.raises(CheckpointError, match=r"another α in 'alpha' than 0\.3, .* give leaky-tanh alone"):
        find(path, cell="leaky-tanh:0.3")


class Trap:
    def __reduce__(self):
        return (print, ("sprung",))


def test_objects_are_not_unpickled(tmp_path, capsys):
    path = save(tmp_path / "model.npz", arrays() | {"note": np.array([Trap()], dtype=object)})
    assert len(rnns(path)) == 1
    assert capsys.readouterr().out == ""


def test_headers_that_promise_more_than_there_is(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)}
    )
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("W_rec.npy", header.getvalue())
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W_rec.npy", bytes(2**26 + 1))
    for name in ("huge", "bomb"):
        with pytest.raises(CheckpointError, match="in 'W_rec', found"):
            find(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_a_part_of_a_file_is_one_sentence(tmp_path, suffix):
    path = save(tmp_path / f"model{suffix}", arrays())
    whole = path.read_bytes()
    for part in (b"", b"PK", b"MATLAB 5.0 MAT-file", whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match="found something else or a part"):
            find(path)


def test_outputs_do_not_depend_on_the_format(tmp_path):
    one, two = (rnns(save(tmp_path / f"model{suffix}", arrays()))["W_rec"] for suffix in (".npz", ".mat"))
    assert np.array_equal(outputs(one, X), outputs(two, X))
