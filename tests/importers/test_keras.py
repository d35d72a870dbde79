"""Networks that Keras itself has made and saved, read and run again."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.importers.outputs import difference, outputs, rnns

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import hdf5
from rnnatlas.importers.base import find

h5py = pytest.importorskip("h5py")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
layers = keras.layers

X = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
SUFFIXES = [".keras", ".h5", ".weights.h5"]
RECURRENT = {
    "lstm": lambda **also: layers.LSTM(5, return_sequences=True, **also),
    "gru": lambda **also: layers.GRU(5, return_sequences=True, **also),
    "elman": lambda **also: layers.SimpleRNN(5, return_sequences=True, **also),
}


def sequential(*parts, features=3):
    """A model with random weights, biases included."""
    model = keras.Sequential([keras.Input((None, features)), *parts])
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=weight.shape) * 0.5 for weight in model.get_weights()])
    return model


def answers(model, inputs=X):
    with torch.no_grad():
        return np.asarray(model(inputs).cpu())


def save(model, path):
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("both", [False, True], ids=["one direction", "two"])
@pytest.mark.parametrize("cell", RECURRENT)
def test_a_layer_answers_as_in_keras(tmp_path, cell, both, bias, suffix):
    layer = RECURRENT[cell](use_bias=bias, name="memory")
    model = sequential(layers.Bidirectional(layer, name="memory") if both else layer)
    path = save(model, tmp_path / f"model{suffix}")
    if (cell, bias, suffix) == ("gru", False, ".weights.h5"):
        with pytest.raises(CheckpointError, match="reset_after"):
            find(path)
        return
    [(place, found)] = rnns(path).items()
    assert place == "memory"
    assert difference(found, X, answers(model)) < 1e-5
    assert any("assumed" in note for note in found.notes) == (suffix == ".weights.h5")


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
@pytest.mark.parametrize("both", [False, True], ids=["one direction", "two"])
@pytest.mark.parametrize("cell", RECURRENT)
def test_layers_that_read_one_another_are_one_rnn_with_its_head(tmp_path, cell, both, suffix):
    wrap = layers.Bidirectional if both else lambda layer: layer
    model = sequential(
        wrap(RECURRENT[cell]()), layers.Dropout(0.5), wrap(RECURRENT[cell]()), layers.Dense(2, name="readout")
    )
    [found] = rnns(save(model, tmp_path / f"model{suffix}")).values()
    assert (found.spec.layers, found.spec.output, found.head) == (2, 2, "readout.")
    assert difference(found, X, answers(model)) < 1e-5


def test_layers_of_other_kinds_are_rnns_of_their_own(tmp_path):
    parts = [RECURRENT["lstm"](name="low"), RECURRENT["gru"](name="high"), layers.Dense(2, name="readout")]
    found = rnns(save(sequential(*parts), tmp_path / "model.keras"))
    assert {place: rnn.head for place, rnn in found.items()} == {"low": None, "high": "readout."}
    low = np.asarray(answers(parts[0]))
    assert difference(found["low"], X, low) < 1e-5
    assert difference(found["high"], low, answers(parts[2], parts[1](low))) < 1e-5


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_a_model_inside_another_is_read(tmp_path, suffix):
    inner = sequential(RECURRENT["lstm"](name="memory"), layers.Dense(2, name="readout"))
    inner.name = "inner"
    model = sequential(layers.Dense(3), inner)
    [(place, found)] = rnns(save(model, tmp_path / f"model{suffix}")).items()
    assert (place, found.head) == ("inner/memory", "inner/readout.")
    assert difference(found, X, answers(inner)) < 1e-5


def test_what_is_behind_the_head_or_instead_of_it_is_said(tmp_path):
    def notes(*behind):
        [found] = rnns(save(sequential(RECURRENT["gru"](), *behind), tmp_path / "model.keras")).values()
        return found.head, found.notes

    assert notes(layers.Dense(2, name="out", activation="softmax")) == (
        "out.",
        ("left out behind its head: softmax",),
    )
    assert notes(layers.Dense(2, name="out"), layers.Softmax()) == (
        "out.",
        ("left out behind its head: softmax",),
    )
    two = [layers.Dense(4, name="first", activation="relu"), layers.Dense(2, name="second")]
    assert notes(*two) == (None, ("left out behind it: 'first'",))
    assert notes(layers.LayerNormalization(name="norm"), layers.Dense(2)) == (
        None,
        ("left out behind it: 'norm'",),
    )


def test_a_head_can_be_named_and_refused(tmp_path):
    model = sequential(RECURRENT["gru"](), layers.Dense(4, name="one"), layers.Dense(2, name="two"))
    path = save(model, tmp_path / "model.keras")
    [found] = rnns(path, head="one").values()
    assert found.spec.output == 4
    with pytest.raises(CheckpointError, match=r"three\.weight"):
        find(path, head="three")


def test_weights_alone_have_a_head_only_where_it_is_certain(tmp_path):
    path = tmp_path / "model.weights.h5"
    save(sequential(RECURRENT["lstm"](), layers.Dense(2, name="out")), path)
    assert [rnn.head for rnn in rnns(path).values()] == ["out."]
    save(sequential(RECURRENT["lstm"](), RECURRENT["lstm"](), layers.Dense(2, name="out")), path)
    found = rnns(path).values()
    assert [rnn.head for rnn in found] == [None, None]
    assert all("may be its head: 'out'" in str(rnn.remark) for rnn in found)
    save(sequential(layers.Dense(5, name="in"), RECURRENT["lstm"](), features=5), path)
    assert [rnn.head for rnn in rnns(path).values()] == [None]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: RECURRENT["lstm"](recurrent_activation="hard_sigmoid"), "hard_sigmoid"),
        (lambda: RECURRENT["lstm"](activation="relu"), "activations relu and sigmoid"),
        (lambda: RECURRENT["gru"](reset_after=False), "reset_after"),
        (lambda: RECURRENT["elman"](activation="gelu"), "gelu"),
        (lambda: RECURRENT["lstm"](go_backwards=True), "backwards"),
        (lambda: layers.Bidirectional(RECURRENT["lstm"](), merge_mode="sum"), "'sum'"),
        (lambda: layers.RNN([layers.LSTMCell(2), layers.LSTMCell(2)]), "2 recurrent cells"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_another_function_is_refused_by_name(tmp_path, layer, reason, suffix):
    path = save(sequential(layer()), tmp_path / f"model{suffix}")
    with pytest.raises(CheckpointError, match=reason):
        find(path)


def test_reset_before_is_refused_in_weights_alone(tmp_path):
    path = save(sequential(RECURRENT["gru"](reset_after=False)), tmp_path / "model.weights.h5")
    with pytest.raises(CheckpointError, match="reset_after=False"):
        find(path)


def test_relu_is_read_from_the_configuration(tmp_path):
    model = sequential(RECURRENT["elman"](activation="relu"))
    [found] = rnns(save(model, tmp_path / "model.keras")).values()
    assert found.spec.cell == "elman-relu"
    assert difference(found, X, answers(model)) < 1e-5
    [found] = rnns(tmp_path / "model.keras", cell="leaky-tanh:0.2").values()  # the file tells
    assert found.spec.cell == "elman-relu"
    path = save(model, tmp_path / "model.weights.h5")
    [found] = rnns(path, cell="elman-relu").values()
    assert difference(found, X, answers(model)) < 1e-5
    with pytest.raises(CheckpointError, match="an Elman network, without a leak"):
        find(path, cell="leaky-tanh:0.2")


def test_an_initial_state_that_another_layer_gives_is_said(tmp_path):
    given = keras.Input((None, 3))
    _, *state = layers.LSTM(5, return_state=True, return_sequences=True, name="encoder")(given)
    model = keras.Model(
        given, layers.LSTM(5, return_sequences=True, name="decoder")(given, initial_state=state)
    )
    found = rnns(save(model, tmp_path / "model.keras"))
    assert "initial state" in found["decoder"].remark


# --- layouts that Keras no longer writes -------------------------------------------------------------


def write(path, arrays, **attributes):
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        for name, array in arrays.items():
            file[name] = array.astype("float32")


def legacy(name, weights):
    names = ["kernel:0", "recurrent_kernel:0", "bias:0"]
    return {f"{name}/{name}/{each}": array for each, array in zip(names, weights, strict=False)}


def cudnn(weights, gates):
    """Weights of Keras as its layers for cuDNN have them, a gate at a time."""
    kernel, recurrent, bias = weights
    inputs = [each.T.reshape(each.shape, order="C") for each in np.hsplit(kernel, gates)]
    both = bias.reshape(-1) if bias.ndim == 2 else np.concatenate([0.25 * bias, 0.75 * bias])
    return [np.hstack(inputs), np.hstack([each.T for each in np.hsplit(recurrent, gates)]), both]


@pytest.mark.parametrize("both", [False, True], ids=["one direction", "two"])
@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
@pytest.mark.parametrize("layout", ["plain", "cudnn"])
def test_weights_of_keras_2(tmp_path, layout, cell, gates, both):
    layer = RECURRENT[cell]()
    model = sequential(layers.Bidirectional(layer) if both else layer)
    weights = model.get_weights()
    names = ["rnn/forward_rnn", "rnn/backward_rnn"] if both else ["rnn"]
    arrays = {}
    for number, name in enumerate(names):
        part = weights[3 * number : 3 * number + 3]
        part = cudnn(part, gates) if layout == "cudnn" else part
        arrays |= {f"rnn/{key.removeprefix(name + '/')}": array for key, array in legacy(name, part).items()}
    path = tmp_path / "old.hdf5"
    write(path, arrays, keras_version="2.1.5")
    [(place, found)] = rnns(path).items()
    assert place == "rnn"
    assert difference(found, X, answers(model)) < 1e-5
    assert ("hard_sigmoid" in str(found.remark)) == (layout == "plain")


def test_two_layers_of_one_group_are_told_apart(tmp_path):
    weights = sequential(RECURRENT["lstm"]()).get_weights()
    first = {f"model_1/{key}": array for key, array in legacy("lstm_1", weights).items()}
    second = {f"model_1/{key}": array for key, array in legacy("lstm_2", weights).items()}
    write(tmp_path / "old.h5", first | second)
    assert sorted(rnns(tmp_path / "old.h5")) == ["model_1/lstm_1", "model_1/lstm_2"]


def test_an_array_beside_the_kernels_refuses(tmp_path):
    weights = legacy("lstm", sequential(RECURRENT["lstm"]()).get_weights())
    write(tmp_path / "old.h5", weights | {"lstm/lstm/peephole:0": np.ones(15)})
    with pytest.raises(CheckpointError, match="peephole"):
        find(tmp_path / "old.h5")


# --- files that are not what they seem ----------------------------------------------------------------


def test_a_part_of_a_file_is_one_sentence(tmp_path):
    for suffix in (".keras", ".h5"):
        path = save(sequential(RECURRENT["lstm"]()), tmp_path / f"model{suffix}")
        whole = path.read_bytes()
        for part in (b"", b"PK", whole[: len(whole) // 2]):
            path.write_bytes(part)
            with pytest.raises(CheckpointError, match="found something else or a part"):
                find(path)


def test_a_heap_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "LONGEST", 2.0)
    path = save(sequential(RECURRENT["lstm"]()), tmp_path / "model.h5")
    whole = bytearray(path.read_bytes())
    place = whole.index(b"GCOL") + 16
    while int.from_bytes(whole[place : place + 2], "little"):  # to the free part behind all texts
        place += 16 + (int.from_bytes(whole[place + 8 : place + 16], "little") + 7) // 8 * 8
    whole[place + 8 : place + 16] = bytes(8)
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="found something else or a part"):
        find(path)


def test_links_out_of_the_file_and_empty_promises_are_not_followed(tmp_path):
    weights = legacy("lstm", sequential(RECURRENT["lstm"]()).get_weights())
    write(tmp_path / "other.h5", weights)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["lstm"] = h5py.ExternalLink("other.h5", "/lstm")
    with pytest.raises(CheckpointError, match="expected the weights"):
        find(tmp_path / "link.h5")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        for name, array in weights.items():
            shape = (10**7, 10**7) if "recurrent" in name else array.shape
            file.create_dataset(name, shape, "float32", chunks=(1,) * array.ndim)
    with pytest.raises(CheckpointError, match=r"bytes of numbers in .*, found 0"):
        find(tmp_path / "huge.h5")


def test_a_keras_file_that_unpacks_to_too_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({}))
        archive.writestr("model.weights.h5", bytes(2**28 + 1))
    with pytest.raises(CheckpointError, match="when unpacked"):
        find(tmp_path / "bomb.keras")


# --- in the wild ---------------------------------------------------------------------------------------


def wild(name):
    path = Path(__file__).parents[3] / "shared" / "data" / "wild" / name
    if not path.is_file():
        pytest.skip("the folder of checkpoints in the wild is not here")
    return path


@pytest.mark.parametrize("name", ["sleepecg_ws-gru-mesa.keras", "sleepecg_wrn-gru-mesa.keras"])
def test_a_sleep_classifier_answers_as_in_keras(name):
    path = wild(name)
    model = keras.saving.load_model(path, compile=False)
    [found] = rnns(path).values()
    recurrent = [layer for layer in model.layers if isinstance(layer, layers.Bidirectional)]
    inputs = np.random.default_rng(0).normal(size=(1, 9, 64)).astype("float32")
    hidden = answers(recurrent[1], recurrent[0](inputs))
    scores = outputs(found, inputs)
    chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    assert abs(chances - answers(model.layers[-1], hidden)).max() < 1e-5


def test_weights_alone_in_the_wild():
    found = rnns(wild("chars2vec_eng_50.weights.h5"))
    assert {place: str(rnn.spec) for place, rnn in found.items()} == {
        "lstm_1": "LSTM 59→50",
        "lstm_2": "LSTM 50→50",
    }
    assert all("hard_sigmoid" in rnn.remark for rnn in found.values())
    found = rnns(wild("textgenrnn_weights.hdf5"))  # of cuDNN, which has no other activations
    assert {place: (str(rnn.spec), rnn.notes) for place, rnn in found.items()} == {
        "rnn_1": ("LSTM 100→128", ()),
        "rnn_2": ("LSTM 128→128", ()),
    }
