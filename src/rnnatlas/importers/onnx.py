"""LSTM, GRU and RNN nodes of ONNX graphs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import Importer
from rnnatlas.importers.layers import Direction, Layer, Linear, assemble, in_torch_order, needs, tensor
from rnnatlas.importers.onnx_graph import RECURRENT, Graph, attributes
from rnnatlas.importers.onnx_lean import lean
from rnnatlas.importers.torch_files import mapped
from rnnatlas.rnn import FoundRNN
from rnnatlas.rnn.heads import Head, listed, named_heads, shown

GATES = {"LSTM": ("lstm", "iofg"), "GRU": ("gru", "zrn"), "RNN": ("elman", "h")}
"""The cell of each operator, and the order in which ONNX stacks its gates, in torch's letters."""
USUAL = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
"""The activations of each."""
INPUTS = {"LSTM": 8, "GRU": 6, "RNN": 6}


class ONNX(Importer):
    """Gates are put into torch's order; nodes that compute what torch's cells do not are refused."""

    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        onnx = needs("onnx")
        try:
            data = mapped(path)
            model = onnx.load_model_from_string(lean(data))
        except (OSError, MemoryError):
            raise
        except Exception:  # whatever protobuf has against a damaged file
            data, model = memoryview(b""), onnx.ModelProto()
        if not model.HasField("graph"):
            raise CheckpointError("expected an ONNX model, found something else or a part of one")
        nodes = _Nodes(Graph(model.graph, path.parent, data))
        layers, unclear = [], {}
        for name, (graph, node) in nodes.recurrent.items():
            try:
                layers.append(_layer(name, graph, node, nodes))
            except CheckpointError as error:
                unclear[name] = str(error)
        wanted = {layer.head for layer in layers} | named_heads(head)
        linear = {name: nodes.linear(name) for name in nodes.products if name in wanted}
        rnns, more = assemble(
            layers, {name: each for name, each in linear.items() if each is not None}, cell, head
        )
        return rnns, unclear | more


class _Nodes:
    """Recurrent nodes and matrix products of a graph and of those inside it, by name."""

    def __init__(self, graph: Graph):
        self.recurrent: dict[str, tuple[Graph, Any]] = {}
        self.products: dict[str, tuple[Graph, Any]] = {}
        self._names: dict[int, str] = {}
        for each in graph.all():
            for node in each.nodes:
                kind = node.op_type.removeprefix("DynamicQuantize")
                group = self.recurrent if kind in RECURRENT else self.products
                if kind in RECURRENT or node.op_type in ("MatMul", "Gemm"):
                    name: str = node.name or next(iter(node.output), node.op_type)
                    while name in group:  # in the branches of an If, say
                        name += "'"
                    group[name] = (each, node)
                    self._names[id(node)] = name

    def name(self, node: Any) -> str:
        """What a node is called here."""
        return self._names.get(id(node)) or node.name or node.op_type

    def linear(self, name: str) -> Linear | None:
        """The linear layer that a matrix product is part of; None where its weights are no constant."""
        graph, node = self.products[name]
        found = _linear(graph, node)
        return found and found[0]


# --- what a node computes --------------------------------------------------------------------------------


def _layer(name: str, graph: Graph, node: Any, nodes: _Nodes) -> Layer:
    where, kind = f"the {node.op_type} {shown(name)}", node.op_type
    if kind not in RECURRENT:
        raise CheckpointError(f"{where} has quantised weights; export it with those of floating point")
    settings = attributes(node)
    direction = _text(settings.get("direction", "forward"))
    if direction not in ("forward", "bidirectional"):
        raise CheckpointError(f"{where} has the direction {direction!r}, which is not supported")
    directions = 2 if direction == "bidirectional" else 1
    cell = _cell(kind, settings, directions, where)
    inputs = [*node.input, *[""] * INPUTS[kind]][: INPUTS[kind]]
    weights = [_constant(graph, each, directions, where) for each in inputs[1:4]]
    notes = _notes(graph, inputs, where)
    read_by, head, more = _behind(graph, node, settings, directions, weights[1].shape[-1], nodes)
    order = GATES[kind][1]
    parts = tuple(_direction(each, order, cell, where) for each in zip(*weights, strict=True))
    return Layer(name, cell, parts, read_by, head, (*notes, *more))


def _cell(kind: str, settings: Mapping[str, Any], directions: int, where: str) -> str:
    for name, usual in (("clip", 0.0), ("input_forget", 0)):
        if settings.get(name, usual) != usual:
            raise CheckpointError(f"{where} has {name} {settings[name]}, which is not supported")
    if kind == "GRU" and not settings.get("linear_before_reset", 0):
        raise CheckpointError(
            f"{where} has linear_before_reset=0, which is another function than torch's GRU and not supported"
        )
    given = [_text(each).lower() for each in settings.get("activations", ())]
    if kind == "RNN" and given == ["relu"] * directions:
        return "elman-relu"
    if given and given != [*USUAL[kind]] * directions:
        raise CheckpointError(
            f"{where} has the activations {listed(given)}, which are not supported; "
            f"expected {listed(USUAL[kind])}"
        )
    return "elman-tanh" if kind == "RNN" else GATES[kind][0]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _constant(graph: Graph, name: str, directions: int, where: str) -> Any:
    """Weights [direction, …]; a None for each direction where there are none."""
    if not name:
        return [None] * directions
    values = graph.constant(name)
    if values is None:
        raise CheckpointError(
            f"{where} has the weights {shown(name)}, which are computed or given to its network"
        )
    if values.shape[:1] != (directions,):
        raise CheckpointError(
            f"{where} should have weights for {directions} directions, found {values.shape}"
        )
    return tensor(values, name)


def _notes(graph: Graph, inputs: list[str], where: str) -> list[str]:
    """What a node's further inputs change."""
    notes = ["lengths of sequences are not taken over"] if inputs[4] else []
    origins = {graph.origin(name) for name in inputs[5:7] if name}
    if "learned" in origins:
        raise CheckpointError(
            f"{where} starts from a learned state ({listed(list(filter(None, inputs[5:7])))})"
        )
    notes += ["its network gives it an initial state; zero is assumed"] if "given" in origins else []
    if inputs[7:] and inputs[7]:
        peephole = graph.constant(inputs[7])
        if peephole is None or peephole.any():
            raise CheckpointError(f"{where} has peepholes ({inputs[7]}), which are not supported")
    return notes


def _direction(weights: tuple[Any, ...], order: str, cell: str, where: str) -> Direction:
    inputs, recurrent, bias = weights
    rows = len(order) * recurrent.shape[-1] if recurrent.ndim == 2 else 0
    if inputs.ndim != 2 or (len(inputs), len(recurrent)) != (rows, rows) or not rows:
        shapes = tuple(inputs.shape), tuple(recurrent.shape)
        raise CheckpointError(
            f"{where} has weights of shapes {shapes}; expected {len(order)} rows a hidden unit"
        )
    biases: list[Tensor | None] = [None, None]
    if bias is not None:
        if bias.shape != (2 * rows,):
            raise CheckpointError(f"{where} should have {2 * rows} biases, found shape {tuple(bias.shape)}")
        biases = [in_torch_order(each, order, cell) for each in bias.chunk(2)]
    return Direction(in_torch_order(inputs, order, cell), in_torch_order(recurrent, order, cell), *biases)


# --- what comes behind ---------------------------------------------------------------------------------


def _behind(
    graph: Graph, node: Any, settings: Mapping[str, Any], directions: int, hidden: int, nodes: _Nodes
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The one recurrent node that reads its outputs, or the linear layer that is its head; notes."""
    batch_first = bool(settings.get("layout", 0))
    width = hidden * directions
    readers = graph.behind(node.output[0], "btdh" if batch_first else "tdbh", width)
    if len(node.output) > 1:  # the last state, which is the output of the last step of one direction alone
        readers += graph.behind(node.output[1], "bdh" if batch_first else "dbh", width)
    readers = [each for each in readers if each.node is not None]
    names = list(dict.fromkeys(nodes.name(each.node) for each in readers))
    if len(names) != 1:
        return None, None, (f"left out behind it: {listed(names)}",) if names else ()
    reader = readers[0]
    if reader.node.op_type in RECURRENT:
        order = "bth" if attributes(reader.node).get("layout", 0) else "tbh"
        reads = len(readers) == 1 and reader.node.input[0] == reader.name and reader.axes == order
        return (names[0], None, ()) if reads else (None, None, (f"left out behind it: {listed(names)}",))
    found = _linear(graph, reader.node)
    one_step = "d" not in reader.axes and reader.axes.endswith("h")
    if found and one_step and reader.node.input[0] == reader.name and found[0].weight.shape[1] == width:
        ends, others = graph.ends(found[1])
        if not others:
            return None, names[0], (f"left out behind its head: {', '.join(ends)}",) if ends else ()
    return None, None, (f"left out behind it: {listed(names)}",)


def _linear(graph: Graph, node: Any) -> tuple[Linear, str] | None:
    """A matrix product with the bias behind it, and the name of what it gives out."""
    weight = graph.constant(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
    if weight is None or weight.ndim != 2:
        return None
    settings, output = attributes(node), node.output[0]
    if node.op_type == "Gemm":
        if settings.get("alpha", 1.0) != 1 or settings.get("beta", 1.0) != 1 or settings.get("transA", 0):
            return None
        weight = weight if settings.get("transB", 0) else weight.T
        bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if bias is None and len(node.input) > 2 and node.input[2]:
            return None
    else:
        weight = weight.T
        bias, output = graph.added(output)
    if bias is None:
        return Linear(tensor(weight, node.input[1])), output
    vector = torch.broadcast_to(tensor(bias, output).reshape(-1), weight.shape[:1])
    return Linear(tensor(weight, node.input[1]), vector.clone()), output
