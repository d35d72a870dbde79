"""Constants of an ONNX graph, and what comes behind a recurrent node; nothing is run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.layers import MOST_ENTRIES, needs
from rnnatlas.importers.onnx_lean import place_of
from rnnatlas.rnn.heads import shown

RECURRENT = {"LSTM", "GRU", "RNN"}
LEAVES = {"Identity", "Dropout"}
"""Operators that leave numbers as they are."""
MOVES = {
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Reshape",
    "Flatten",
    "Slice",
    "Gather",
    "Concat",
    "Cast",
} | LEAVES
"""Those that leave them in other places."""
ENDS = {"Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Relu", "ArgMax", "Clip", "HardSigmoid", "Softplus"}
"""Those that may come behind a head."""
DEEPEST = 50


@dataclasses.dataclass(frozen=True)
class Reader:
    """A node that reads a recurrent node's outputs, after operators that only move them.

    Args:
        node: The node; None where the graph gives them out.
        name: What it reads.
        axes: What the axes of that are: "t" time, "d" direction, "b" batch, "h" hidden, "*" any.
    """

    node: Any
    name: str
    axes: str


class Graph:
    """A graph, with those inside the nodes of it as graphs of their own.

    Args:
        proto: The GraphProto.
        folder: Where files with more of its tensors are.
        data: The bytes of its own file, of which `lean` left large tensors there.
        outer: The graph around it.
    """

    def __init__(self, proto: Any, folder: Path, data: memoryview, outer: "Graph | None" = None):
        self._onnx = needs("onnx")
        self._folder, self._data, self._outer = folder, data, outer
        self.nodes: Sequence[Any] = proto.node
        self.inputs = {value.name for value in proto.input}
        self.outputs = {value.name for value in proto.output}
        self._tensors = {tensor.name: tensor for tensor in proto.initializer}
        self._makers = {name: node for node in proto.node for name in node.output if name}
        self._readers: dict[str, list[Any]] = {}
        for node in proto.node:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)

    def all(self) -> Iterator["Graph"]:
        """This graph and those inside it."""
        waiting, count = [self], 0
        while waiting:
            graph = waiting.pop()
            yield graph
            for node in graph.nodes:
                count += 1
                if count > MOST_ENTRIES:
                    raise CheckpointError(f"expected at most {MOST_ENTRIES} nodes, found more")
                for attribute in node.attribute:
                    protos = [attribute.g] if attribute.HasField("g") else attribute.graphs
                    waiting += [Graph(proto, self._folder, self._data, graph) for proto in protos]

    # --- constants --------------------------------------------------------------------------------

    def constant(self, name: str, depth: int = 0) -> np.ndarray | None:
        """A tensor that does not depend on what the graph is given; None for one that may."""
        if not name or depth > DEEPEST:
            return None
        if name in self._tensors:
            return self._stored(self._tensors[name])
        node = self._makers.get(name)
        if node is None:
            return self._outer and self._outer.constant(name, depth + 1)
        if node.op_type == "Constant":
            return self._of_constant(node)
        if node.op_type not in _FOLDED:
            return None
        values = [self.constant(each, depth + 1) for each in node.input]
        if any(value is None for value, each in zip(values, node.input, strict=True) if each):
            return None
        return _FOLDED[node.op_type](node, *values)

    def _stored(self, tensor: Any) -> np.ndarray:
        if self._onnx.external_data_helper.uses_external_data(tensor):
            copy = self._onnx.TensorProto()
            copy.CopyFrom(tensor)
            if place := place_of(tensor):
                del copy.external_data[:]
                copy.data_location, copy.raw_data = self._onnx.TensorProto.DEFAULT, bytes(self._data[place])
                return self._onnx.numpy_helper.to_array(copy)
            try:
                self._onnx.external_data_helper.load_external_data_for_tensor(copy, str(self._folder))
            except Exception:  # whatever it has against the file that is named
                raise CheckpointError(
                    f"the numbers of {shown(tensor.name)} lie in another file, which cannot be read; put it "
                    "beside this one"
                ) from None
            tensor = copy
        return self._onnx.numpy_helper.to_array(tensor)

    def _of_constant(self, node: Any) -> np.ndarray | None:
        for attribute in node.attribute:
            if attribute.name == "value":
                return self._stored(attribute.t)
            if attribute.name in ("value_float", "value_int", "value_floats", "value_ints"):
                return np.asarray(self._onnx.helper.get_attribute_value(attribute))
        return None

    def origin(self, name: str) -> str:
        """Where a state comes from: "zero", "given" to the network or computed in it, or "learned"."""
        constant = self.constant(name)
        if constant is not None:
            return "learned" if constant.any() else "zero"
        graph, node = self._place(name)
        seen, waiting, learned = set(), [(graph, node, name)], False
        while waiting:
            graph, node, name = waiting.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            constant = graph.constant(name)
            if constant is not None:
                learned |= constant.dtype.kind == "f" and bool(constant.any())
            elif node is None or node.op_type in RECURRENT:
                return "given"
            elif node.op_type == "ConstantOfShape":
                learned |= any(self._stored(each.t).any() for each in node.attribute if each.name == "value")
            elif node.op_type not in ("Shape", "Size"):
                data = node.input[:1] if node.op_type in _FIRST else node.input
                waiting += [(*graph._place(each), each) for each in data]
        return "learned" if learned else "zero"

    def _place(self, name: str) -> tuple["Graph", Any]:
        """The graph that makes a tensor, and the node; None where it is an input."""
        graph = self
        while name not in graph._makers and name not in graph.inputs and graph._outer is not None:
            graph = graph._outer
        return graph, graph._makers.get(name)

    # --- what comes behind --------------------------------------------------------------------------

    def behind(self, name: str, axes: str, width: int) -> list[Reader]:
        """What reads a tensor with axes as of `Reader`, whose last ones hold `width` numbers."""
        found, waiting, seen = [], [(name, axes)], set()
        while waiting:
            name, axes = waiting.pop()
            if not name or name in seen:
                continue
            seen.add(name)
            found += [Reader(None, name, axes)] * (name in self.outputs)
            for node in self._readers.get(name, ()):
                after = self._moved(node, axes, width) if node.input[0] == name else None
                taken = self._taken(node, name, axes) if node.op_type == "Concat" else None
                if after is not None:
                    waiting.append((node.output[0], after))
                elif taken is not None:
                    waiting += taken
                elif node.op_type != "Shape":
                    found.append(Reader(node, name, axes))
        return found

    def _taken(self, node: Any, name: str, axes: str) -> list[tuple[str, str]] | None:
        """Where the last states of several recurrent nodes are stacked: what is taken out of this one again.

        Returns:
            Names with axes as of `Reader`; None where something else is done with the stack.
        """
        makers = [self._makers.get(each) for each in node.input]
        sizes = [directions(maker) for maker in makers if maker is not None and maker.op_type in RECURRENT]
        axis = int(attributes(node).get("axis", 0)) % len(axes)
        if len(sizes) < len(makers) or axes[axis] != "d":
            return None
        start = sum(sizes[: list(node.input).index(name)])
        own = range(start, start + directions(self._makers[name]))
        found = []
        for reader in self._readers.get(node.output[0], ()):
            index = self.constant(reader.input[1]) if reader.op_type == "Gather" else None
            if index is not None and not index.ndim and int(attributes(reader).get("axis", 0)) == axis:
                if int(index) % sum(sizes) in own:
                    found.append((reader.output[0], axes.replace("d", "")))
            elif reader.op_type != "Shape" and any(self.ends(reader.output[0])):
                return None
        return found

    def ends(self, name: str) -> tuple[list[str], list[str]]:
        """Behind a head: operators that may come there, and others."""
        waiting, seen, ends, others = [name], set(), [], []
        while waiting:
            name = waiting.pop()
            for node in self._readers.get(name, ()):
                if node.op_type in MOVES | ENDS:
                    ends += [node.op_type] * (node.op_type in ENDS)
                    waiting += [each for each in node.output if each not in seen]
                    seen.update(node.output)
                elif node.op_type != "Shape":
                    others.append(node.name or node.op_type)
        return ends, others

    def added(self, name: str) -> tuple[np.ndarray | None, str]:
        """The vector that is added to a tensor and its sum's name; None and its own name for none."""
        readers = self._readers.get(name, ())
        if len(readers) == 1 and readers[0].op_type == "Add":
            [node] = readers
            bias = self.constant(node.input[1] if node.input[0] == name else node.input[0])
            if bias is not None and bias.ndim and bias.size == bias.shape[-1]:
                return bias, node.output[0]
        return None, name

    def _moved(self, node: Any, axes: str, width: int) -> str | None:
        """The axes behind an operator that only moves numbers; None behind any other."""
        settings = attributes(node)
        if node.op_type in LEAVES:
            return axes
        if node.op_type == "Transpose":
            order = settings.get("perm", range(len(axes))[::-1])
            return "".join(axes[each] for each in order) if sorted(order) == list(range(len(axes))) else None
        if node.op_type == "Squeeze":
            given = self.constant(node.input[1]) if len(node.input) > 1 else settings.get("axes")
            dropped = {int(each) % len(axes) for each in np.ravel(given)} if given is not None else set()
            rest = "".join(axis for number, axis in enumerate(axes) if number not in dropped)
            return rest if dropped and "h" in rest else None
        if node.op_type == "Gather":
            index, axis = self.constant(node.input[1]), int(settings.get("axis", 0)) % len(axes)
            one = index is not None and index.ndim == 0 and axes[axis] in "td"
            return axes[:axis] + axes[axis + 1 :] if one else None
        return self._reshaped(node, axes, width) if node.op_type == "Reshape" else None

    def _reshaped(self, node: Any, axes: str, width: int) -> str | None:
        target = self.constant(node.input[1]) if len(node.input) > 1 else None
        if target is None or not axes.endswith("h") or not len(target):
            return None
        rest, last = axes.removesuffix("h").removesuffix("d"), int(target[-1])
        whole = "d" not in rest
        if whole and len(target) == len(rest) + 1 and all(each != -1 for each in target[:-1]):
            return f"{rest}h" if last in (-1, width) else None
        return "*" * (len(target) - 1) + "h" if whole and last == width else None


def directions(node: Any) -> int:
    """In how many directions a recurrent node reads."""
    return 2 if attributes(node).get("direction") == b"bidirectional" else 1


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node that are numbers or text, by name."""
    onnx = needs("onnx")
    return {
        each.name: onnx.helper.get_attribute_value(each)
        for each in node.attribute
        if each.type in (each.FLOAT, each.INT, each.STRING, each.FLOATS, each.INTS, each.STRINGS)
    }


# --- operators on constants ----------------------------------------------------------------------------

_FIRST = {"Expand", "Slice", "Gather", "Reshape", "Squeeze", "Unsqueeze", "Tile"}
"""Operators whose other inputs are sizes and places."""


def _axes(node: Any, values: Sequence[np.ndarray]) -> list[int]:
    given = values[0] if values else attributes(node).get("axes", ())
    return [int(each) for each in np.ravel(given)]


def _unsqueeze(node: Any, data: np.ndarray, *more: np.ndarray) -> np.ndarray:
    return np.expand_dims(data, tuple(_axes(node, more)))


def _squeeze(node: Any, data: np.ndarray, *more: np.ndarray) -> np.ndarray:
    return np.squeeze(data, tuple(_axes(node, more)) or None)


def _transpose(node: Any, data: np.ndarray) -> np.ndarray:
    return np.transpose(data, attributes(node).get("perm"))


def _concat(node: Any, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, attributes(node)["axis"])


def _slice(node: Any, data: np.ndarray, *given: np.ndarray) -> np.ndarray:
    settings = attributes(node)
    starts, ends = given[:2] if given else (settings["starts"], settings["ends"])
    axes = given[2] if len(given) > 2 else settings.get("axes", range(len(starts)))
    steps = given[3] if len(given) > 3 else [1] * len(starts)
    index = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[int(axis)] = slice(int(start), int(end), int(step))
    return data[tuple(index)]


_FOLDED: Mapping[str, Any] = {
    "Identity": lambda node, data: data,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
}
