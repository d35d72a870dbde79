"""What the configuration of a Keras model says of its recurrent layers."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.layers import MOST_ENTRIES
from rnnatlas.rnn.heads import listed

MODELS = {"Sequential", "Functional", "Model"}
SAME = {"Dropout", "GaussianNoise", "GaussianDropout", "ActivityRegularization", "SpatialDropout1D"}
"""Layers that leave their input as it is when a trained network runs."""
END = SAME | {"Activation", "Softmax"}
"""Layers that may come behind a head."""
CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "elman"}


@dataclasses.dataclass
class Described:
    """A layer of a model: its class and settings, and which layers give it inputs and read its outputs.

    Args:
        name: Its name, after those of the models around it.
        path: Where the weights of Keras 3 are, by classes ("layers/lstm_1").
        kind: Its class.
        config: Its settings.
        inputs: Layers that it reads, once for each tensor.
        readers: Layers that read it.
    """

    name: str
    path: str
    kind: str
    config: Mapping[str, Any]
    inputs: list[str] = dataclasses.field(default_factory=list)
    readers: list[str] = dataclasses.field(default_factory=list)

    @property
    def recurrent(self) -> bool:
        """Whether it is a recurrent layer."""
        kind = str(self.inner.get("class_name"))
        return kind == "RNN" or kind.removeprefix("CuDNN") in CELLS

    @property
    def inner(self) -> Mapping[str, Any]:
        """The layer that a wrapper (TimeDistributed, Bidirectional) holds, or itself, as a document."""
        layer = self.config.get("layer")
        return layer if isinstance(layer, Mapping) else {"class_name": self.kind, "config": self.config}

    @property
    def activation(self) -> str:
        """The name of its activation; "linear" for none."""
        if self.kind == "Softmax":
            return "softmax"
        return activation(_settings(self.inner), "activation", "linear")


def describe(document: Mapping[str, Any]) -> dict[str, Described]:
    """The layers of a model, also of models inside it, by name; empty for models made by code."""
    found: dict[str, Described] = {}
    waiting = [(document, "", "")]
    while waiting:
        model, name, path = waiting.pop()
        layers = list(_layers(model, name, path))
        if len(found) + len(layers) > MOST_ENTRIES:
            raise CheckpointError(f"expected at most {MOST_ENTRIES} layers, found more")
        _connect(model, layers, name)
        found |= {layer.name: layer for layer, _ in layers}
        waiting += [(each, f"{layer.name}/", f"{layer.path}/") for layer, each in layers if _is_model(each)]
    return found


def cell_of(layer: Mapping[str, Any], where: str) -> str:
    """The cell of a recurrent layer.

    Raises:
        CheckpointError: It computes what no cell of ours does.
    """
    kind, config = str(layer.get("class_name")), _settings(layer)
    if kind == "RNN" and isinstance(config.get("cell"), Mapping):
        kind = str(config["cell"].get("class_name")).removesuffix("Cell")
        config = {**_settings(config["cell"]), "go_backwards": config.get("go_backwards")}
    cudnn = kind.startswith("CuDNN")
    cell = CELLS.get(kind.removeprefix("CuDNN"))
    if cell is None:
        raise CheckpointError(f"{where} is a {kind}; expected LSTM, GRU or SimpleRNN")
    if config.get("go_backwards"):
        raise CheckpointError(f"{where} reads its inputs backwards, which is not supported")
    tanh = activation(config, "activation", "tanh")
    gated = not cudnn and cell != "elman"
    gates = activation(config, "recurrent_activation", "hard_sigmoid") if gated else "sigmoid"
    if cell == "elman" and tanh in ("tanh", "relu"):
        return f"elman-{tanh}"
    if (tanh, gates) != ("tanh", "sigmoid") or cell == "elman":
        raise CheckpointError(
            f"{where} has the activations {tanh} and {gates}, which are not supported; "
            "expected tanh and sigmoid"
        )
    if cell == "gru" and not cudnn and not config.get("reset_after", False):
        raise CheckpointError(
            f"{where} is a GRU with reset_after=False, which is another function than torch's and "
            "not supported; expected reset_after=True"
        )
    return cell


def behind(name: str, layers: Mapping[str, Described]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """What reads a recurrent layer's outputs, if it is certain.

    Returns:
        The one recurrent layer that does, or the linear layer that is its head, or neither; notes on what is
        left out.
    """
    readers = _beyond(layers[name], layers, SAME)
    first = readers[0] if len(readers) == 1 else None
    if first and len(first.inputs) == 1 and first.recurrent:
        return first.name, None, ()
    if first and first.inner.get("class_name") == "Dense" and len(first.inputs) == 1:
        ends = _beyond(first, layers, END)
        if not ends:
            then = [first.activation] * (first.activation != "linear")
            then += [layer.activation for layer in _through(first, layers, END) if layer.kind not in SAME]
            return None, first.name, (f"left out behind its head: {', '.join(then)}",) if then else ()
    names = [layer.name for layer in readers]
    return None, None, (f"left out behind it: {listed(names)}",) if names else ()


def _through(layer: Described, layers: Mapping[str, Described], kinds: set[str]) -> list[Described]:
    """Layers of some kinds behind another, as far as each is the only one that reads the one before."""
    passed: list[Described] = []
    while len(layer.readers) == 1 and layers[layer.readers[0]].kind in kinds and len(passed) < len(layers):
        layer = layers[layer.readers[0]]
        passed.append(layer)
    return passed


def _beyond(layer: Described, layers: Mapping[str, Described], kinds: set[str]) -> list[Described]:
    """What reads the last of them, or the layer itself."""
    last = [layer, *_through(layer, layers, kinds)][-1]
    return [layers[each] for each in last.readers]


def activation(config: Mapping[str, Any], key: str, default: str) -> str:
    """The name of an activation function in a layer's settings."""
    value = config.get(key, default)
    if isinstance(value, Mapping):
        value = value.get("config") if value.get("class_name") == "function" else value.get("class_name")
    return "linear" if value is None else str(value).lower()


def _settings(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    config = layer.get("config")
    return config if isinstance(config, Mapping) else {}


def _is_model(layer: Mapping[str, Any]) -> bool:
    return layer.get("class_name") in MODELS


def _layers(model: Mapping[str, Any], name: str, path: str) -> Iterator[tuple[Described, Mapping[str, Any]]]:
    """Each layer with its document; Keras 2 has their list where Sequential's settings are now."""
    settings = model.get("config")
    listed = settings.get("layers") if isinstance(settings, Mapping) else settings
    used: dict[str, int] = {}
    for layer in listed if isinstance(listed, Sequence) and not isinstance(listed, str) else ():
        if not isinstance(layer, Mapping):
            continue
        kind, config = str(layer.get("class_name")), _settings(layer)
        own = str(config.get("name", layer.get("name", kind)))
        snake = _snake(kind)
        used[snake] = used.get(snake, -1) + 1
        number = f"_{used[snake]}" if used[snake] > 0 else ""
        yield Described(f"{name}{own}", f"{path}layers/{snake}{number}", kind, config), layer


def _snake(kind: str) -> str:
    """As `keras.src.utils.naming.to_snake_case`."""
    name = re.sub(r"\W+", "", kind)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _connect(
    model: Mapping[str, Any], layers: Sequence[tuple[Described, Mapping[str, Any]]], name: str
) -> None:
    """Says of the layers of one model what they read, and who reads them."""
    if model.get("class_name") == "Sequential":
        for (lower, _), (upper, _) in itertools.pairwise(layers):
            upper.inputs.append(lower.name)
    else:
        for layer, document in layers:
            layer.inputs += [f"{name}{each}" for each in _history(document.get("inbound_nodes"))]
    by_name = {layer.name: layer for layer, _ in layers}
    for layer, _ in layers:
        for each in dict.fromkeys(layer.inputs):
            if each in by_name:
                by_name[each].readers.append(layer.name)


def _history(nodes: Any) -> Iterator[str]:
    """Names in nested lists such as ["lstm", 0, 0, {}], wherever they are."""
    waiting = [nodes]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            if len(value) >= 3 and isinstance(value[0], str) and all(isinstance(n, int) for n in value[1:3]):
                yield value[0]
            else:
                waiting += value
