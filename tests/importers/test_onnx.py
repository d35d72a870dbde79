"""Graphs made node by node and by torch's exporter, run by ONNX Runtime."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.importers.outputs import difference, outputs, rnns
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import find

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

INPUT, HIDDEN, TIME, BATCH = 3, 5, 7, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
X = np.random.default_rng(0).normal(size=(BATCH, TIME, INPUT)).astype("float32")


def weights(kind, directions=1, bias=True, inputs=INPUT, name=""):
    random, rows = np.random.default_rng(1), GATES[kind] * HIDDEN
    shapes = {"W": (directions, rows, inputs), "R": (directions, rows, HIDDEN), "B": (directions, 2 * rows)}
    return {
        f"{key}{name}": random.normal(size=shape).astype("float32")
        for key, shape in shapes.items()
        if bias or key != "B"
    }


def write(path, nodes, constants, output="Y", inputs=("X",)):
    """A graph of float tensors with one output."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(name, onnx.TensorProto.FLOAT, None) for name in inputs],
        [value(output, onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def recurrent(kind, inputs=("X", "W", "R", "B"), name="memory", output="Y", **settings):
    settings = {"hidden_size": HIDDEN, **({"linear_before_reset": 1} if kind == "GRU" else {}), **settings}
    return helper.make_node(kind, list(inputs), [output], name=name, **settings)


def running(path, **inputs):
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_a_node_answers_as_in_onnx_runtime(tmp_path, kind, direction, bias):
    arrays = weights(kind, 1 + (direction == "bidirectional"), bias)
    node = recurrent(kind, ["X", *arrays], direction=direction)
    path = write(tmp_path / "model.onnx", [node], arrays)
    [(place, found)] = rnns(path).items()
    expected = running(path, X=X.transpose(1, 0, 2))  # [time, direction, batch, hidden]
    assert place == "memory"
    assert difference(found, X, expected.transpose(2, 0, 1, 3).reshape(BATCH, TIME, -1)) < 1e-5
    assert found.notes == ()


@pytest.mark.parametrize("kind", GATES)
def test_batch_first_is_the_same_function(tmp_path, kind):
    arrays = weights(kind)
    first, second = (
        rnns(write(tmp_path / "model.onnx", [recurrent(kind, layout=layout)], arrays))["memory"]
        for layout in (0, 1)
    )
    assert np.array_equal(outputs(first, X), outputs(second, X))


class Network(nn.Module):
    def __init__(self, kind, layers, both, batch_first, last):
        super().__init__()
        make = getattr(nn, kind)
        self.memory = make(INPUT, HIDDEN, layers, bidirectional=both, batch_first=batch_first)
        self.readout = nn.Linear(HIDDEN * (1 + (both and not last)), 2)
        self.last = last

    def forward(self, x):
        hidden, state = self.memory(x)
        state = state[0] if isinstance(state, tuple) else state
        return self.readout(state[-1] if self.last else hidden)


def export(module, path, *inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, path, dynamo=False, input_names=["X"])
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", [False, True], ids=["every step", "last state"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("kind", GATES)
def test_a_network_of_torch_comes_back_whole(tmp_path, kind, layers, both, batch_first, last):
    torch.manual_seed(0)
    module = Network(kind, layers, both, batch_first, last).eval()
    inputs = torch.as_tensor(X if batch_first else X.transpose(1, 0, 2).copy())
    [found] = rnns(export(module, tmp_path / "model.onnx", inputs)).values()
    assert (found.spec.layers, found.spec.bidirectional) == (layers, both)
    if last and both:  # the last state of each direction is no output of one step
        assert found.head is None
        return
    with torch.no_grad():
        answers = module(inputs).numpy()
    assert found.spec.output == 2
    if last:
        assert abs(outputs(found, X)[:, -1] - answers).max() < 1e-5
    else:
        assert difference(found, X, answers if batch_first else answers.transpose(1, 0, 2)) < 1e-5


def test_what_is_behind_the_head_or_instead_of_it_is_said(tmp_path):
    def notes(*behind, **arrays):
        nodes = [recurrent("RNN"), helper.make_node("Squeeze", ["Y", "one"], ["S"]), *behind]
        constants = weights("RNN") | {"one": np.array([1]), "V": np.ones((HIDDEN, 2), "float32"), **arrays}
        [found] = rnns(write(tmp_path / "model.onnx", nodes, constants, behind[-1].output[0])).values()
        return found.head, found.notes

    product = helper.make_node("MatMul", ["S", "V"], ["out"], name="readout")
    assert notes(product) == ("readout.", ())
    softmax = helper.make_node("Softmax", ["out"], ["end"])
    assert notes(product, softmax) == ("readout.", ("left out behind its head: Softmax",))
    more = helper.make_node("MatMul", ["out", "V2"], ["end"], name="more")
    assert notes(product, more, V2=np.ones((2, 2), "float32")) == (
        None,
        ("left out behind it: 'readout'",),
    )
    relu = [
        helper.make_node("Relu", ["S"], ["relu"], name="first"),
        helper.make_node("Relu", ["relu"], ["end"]),
    ]
    assert notes(*relu) == (None, ("left out behind it: 'first'",))


def test_layers_that_do_not_simply_read_one_another_stay_apart(tmp_path):
    turned = helper.make_node("Transpose", ["Y"], ["T"], perm=[2, 1, 0, 3])
    nodes = [
        recurrent("RNN"),
        turned,
        helper.make_node("Squeeze", ["T", "one"], ["S"]),
        recurrent("RNN", ["S", "W2", "R2", "B2"], "upper", "end"),
    ]
    constants = weights("RNN") | weights("RNN", inputs=HIDDEN, name="2") | {"one": np.array([1])}
    assert sorted(rnns(write(tmp_path / "model.onnx", nodes, constants, "end"))) == ["memory", "upper"]


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("GRU", {"linear_before_reset": 0}, "linear_before_reset=0"),
        ("LSTM", {"clip": 3.0}, "clip 3"),
        ("LSTM", {"input_forget": 1}, "input_forget"),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "hardsigmoid"),
        ("RNN", {"activations": ["Softsign"]}, "softsign"),
        ("RNN", {"direction": "reverse"}, "'reverse'"),
    ],
)
def test_another_function_is_refused_by_name(tmp_path, kind, settings, reason):
    path = write(tmp_path / "model.onnx", [recurrent(kind, **settings)], weights(kind))
    with pytest.raises(CheckpointError, match=reason):
        find(path)


def test_relu_is_read_from_the_node(tmp_path):
    path = write(tmp_path / "model.onnx", [recurrent("RNN", activations=["Relu"])], weights("RNN"))
    [found] = rnns(path).values()
    expected = running(path, X=X.transpose(1, 0, 2))
    assert difference(found, X, expected[:, 0].transpose(1, 0, 2)) < 1e-5


def test_initial_states(tmp_path):
    def found(constants, inputs=("X",), peephole=()):
        node = recurrent("LSTM", ["X", "W", "R", "B", "", "h", "c", *peephole])
        path = write(tmp_path / "model.onnx", [node], weights("LSTM") | constants, inputs=inputs)
        return rnns(path)["memory"]

    zero = np.zeros((1, BATCH, HIDDEN), "float32")
    assert found({"h": zero, "c": zero}).notes == ()
    assert "initial state" in found({}, ("X", "h", "c")).remark
    with pytest.raises(CheckpointError, match=r"learned state \('h', 'c'\)"):
        found({"h": zero + 0.1, "c": zero})
    with pytest.raises(CheckpointError, match="peepholes"):
        found({"h": zero, "c": zero, "P": np.ones((1, 3 * HIDDEN), "float32")}, peephole=["P"])


def test_weights_that_are_put_together_in_the_graph_are_found(tmp_path):
    arrays = weights("GRU")
    parts = {f"part{number}": part for number, part in enumerate(np.split(arrays.pop("W")[0], 3))}
    nodes = [
        helper.make_node("Concat", list(parts), ["flat"], axis=0),
        helper.make_node("Unsqueeze", ["flat", "zero"], ["W"]),
        recurrent("GRU"),
    ]
    path = write(tmp_path / "model.onnx", nodes, arrays | parts | {"zero": np.array([0])})
    expected = running(path, X=X.transpose(1, 0, 2))
    assert difference(rnns(path)["memory"], X, expected[:, 0].transpose(1, 0, 2)) < 1e-5


def test_weights_that_the_network_is_given_are_refused(tmp_path):
    arrays = {name: array for name, array in weights("GRU").items() if name != "R"}
    with pytest.raises(CheckpointError, match="'R', which are computed or given"):
        find(write(tmp_path / "model.onnx", [recurrent("GRU")], arrays, inputs=("X", "R")))


def test_weights_in_another_file_are_read_from_beside_it_only(tmp_path):
    path = write(tmp_path / "plain.onnx", [recurrent("LSTM")], weights("LSTM"))
    model = onnx.load(path)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="data", size_threshold=0)
    one, two = rnns(path)["memory"], rnns(tmp_path / "model.onnx")["memory"]
    assert np.array_equal(outputs(one, X), outputs(two, X))
    (tmp_path / "deep").mkdir()
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../data" if entry.key == "location" else entry.value
    (tmp_path / "deep" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="lie in another file"):
        find(tmp_path / "deep" / "model.onnx")


def test_a_part_of_a_file_is_one_sentence(tmp_path):
    path = write(tmp_path / "model.onnx", [recurrent("LSTM")], weights("LSTM"))
    whole = path.read_bytes()
    for part in (b"", b"ON", whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match="found something else or a part"):
            find(path)


def test_a_voice_detector_answers_as_in_onnx_runtime(tmp_path):
    path = Path(__file__).parents[3] / "shared" / "data" / "wild" / "silero_vad_16k_sequence.onnx"
    if not path.is_file():
        pytest.skip("the folder of checkpoints in the wild is not here")
    [found] = rnns(path).values()
    assert found.notes == (
        "its network gives it an initial state; zero is assumed",
        "left out behind it: '/Relu_4'",
    )
    graph = onnx.load(path).graph
    [node] = [node for node in graph.node if node.op_type == "LSTM"]
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    arrays = {name: array for name, array in arrays.items() if name in node.input}
    alone = helper.make_node("LSTM", ["X", *node.input[1:4]], ["Y"], hidden_size=128)
    inputs = np.random.default_rng(0).normal(size=(9, 1, 128)).astype("float32")
    expected = running(write(tmp_path / "alone.onnx", [alone], arrays), X=inputs)
    assert difference(found, inputs.transpose(1, 0, 2), expected[:, 0].transpose(1, 0, 2)) < 1e-5
