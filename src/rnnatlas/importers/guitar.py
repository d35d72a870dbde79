"""RNNs that imitate guitar amplifiers, as JSON of Automated-GuitarAmpModelling, GuitarML and RTNeural."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import Importer
from rnnatlas.importers.keras import direction
from rnnatlas.importers.keras_config import Described, activation, behind
from rnnatlas.importers.layers import MOST_ENTRIES, Layer, Linear, assemble, tensor
from rnnatlas.rnn import FoundRNN, find_rnns
from rnnatlas.rnn.heads import Head, shown

KINDS = {
    "lstm": "LSTM",
    "gru": "GRU",
    "dense": "Dense",
    "time-distributed-dense": "Dense",
    "activation": "Activation",
}
"""The classes of Keras that RTNeural's types of layers are."""


class Guitar(Importer):
    """Weights as nested lists, under torch's names (model_data, state_dict) or as Keras has them (layers)."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise CheckpointError("expected JSON, found something else or a part of it") from None
        document = document if isinstance(document, Mapping) else {}
        if isinstance(document.get("state_dict"), Mapping):
            return _of_torch(document["state_dict"], document.get("model_data"), cell, head)
        if isinstance(document.get("layers"), list):
            return _of_rtneural(document, cell, head)
        return [], {}


def _numbers(values: Any, name: str) -> Tensor:
    """Nested lists as a tensor."""
    try:
        return tensor(np.asarray(values, dtype=np.float64), name)
    except (TypeError, ValueError):
        raise CheckpointError(f"expected lists of numbers in {shown(name)}, found something else") from None


def _of_torch(
    weights: Mapping[str, Any], data: Any, cell: str | None, head: Head
) -> tuple[list[FoundRNN], dict[str, str]]:
    rnns, unclear = find_rnns({name: _numbers(each, name) for name, each in weights.items()}, cell, head)
    skip = data.get("skip") if isinstance(data, Mapping) else None
    note = (
        (f"left out: the first {skip} of its inputs, which its network adds to its outputs",) if skip else ()
    )
    return [dataclasses.replace(rnn, notes=(*rnn.notes, *note)) for rnn in rnns], unclear


def _of_rtneural(
    document: Mapping[str, Any], cell: str | None, head: Head
) -> tuple[list[FoundRNN], dict[str, str]]:
    """Layers that read one another in their order, with weights as in Keras."""
    entries = [each for each in document["layers"] if isinstance(each, Mapping)]
    if len(entries) > MOST_ENTRIES:
        raise CheckpointError(f"expected at most {MOST_ENTRIES} layers, found more")
    described = _described(entries)
    layers, linear, unclear = [], {}, {}
    for name, entry in zip(described, entries, strict=True):
        try:
            if described[name].recurrent:
                layers.append(_layer(name, entry, described))
            elif described[name].kind == "Dense":
                kernel, *bias = _weights(name, entry, 1)
                linear[name] = Linear(kernel.T, *bias)
        except CheckpointError as error:
            unclear[name] = str(error)
    if document.get("in_skip"):
        note = "left out: its inputs, which its network adds to its outputs"
        layers = [dataclasses.replace(layer, notes=(*layer.notes, note)) for layer in layers]
    rnns, more = assemble(layers, linear, cell, head)
    return rnns, unclear | more


def _described(entries: Sequence[Mapping[str, Any]]) -> dict[str, Described]:
    names = [f"{number}-{entry.get('type')}" for number, entry in enumerate(entries)]
    described = {}
    for number, (name, entry) in enumerate(zip(names, entries, strict=True)):
        kind = str(entry.get("type"))
        settings = {"activation": entry.get("activation") or "linear"}
        described[name] = Described(name, "", KINDS.get(kind, kind), settings)
        described[name].inputs = names[number - 1 : number] if number else []
        described[name].readers = names[number + 1 : number + 2]
    return described


def _layer(name: str, entry: Mapping[str, Any], described: Mapping[str, Described]) -> Layer:
    where = f"the layer {shown(name)}"
    tanh = activation(entry, "activation", "tanh") or "tanh"
    if tanh != "tanh":
        raise CheckpointError(f"{where} has the activation {tanh}, which is not supported; expected tanh")
    kernel, recurrent, *rest = _weights(name, entry, 2)
    bias = rest[0] if rest else None
    cell, weights = direction(kernel, recurrent, bias, described[name].kind.lower(), where)
    return Layer(name, cell, (weights,), *behind(name, described))


def _weights(name: str, entry: Mapping[str, Any], matrices: int) -> list[Tensor]:
    """The arrays of a layer: one or two matrices, and perhaps a bias."""
    values = entry.get("weights")
    if not isinstance(values, list) or not matrices <= len(values) <= matrices + 1:
        raise CheckpointError(f"the layer {shown(name)} should have {matrices} matrices and perhaps a bias")
    return [_numbers(each, name) for each in values]
