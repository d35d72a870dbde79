"""Parameters of Flax as msgpack (`flax.serialization.to_bytes`): cells of linen and nnx."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import Importer
from rnnatlas.importers.layers import MOST_ENTRIES, kept, tensor
from rnnatlas.importers.packed import unpack
from rnnatlas.importers.torch_files import mapped
from rnnatlas.rnn import FoundRNN, find_rnns
from rnnatlas.rnn.heads import Head, listed, shown

NDARRAY, SCALAR = 1, 3
"""Codes of msgpack's extension types that Flax writes."""
OPTIMISER = {"opt_state", "optimizer", "optimizer_state"}
"""Where a training state keeps copies of all parameters."""
GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n"), "elman": ("",)}
"""The gates of each cell in torch's order; each has one dense layer for inputs, one for the state."""
FUSED = {"dense_i", "dense_h"}
"""Names of the dense layers of nnx that hold all gates, in torch's order."""
ASSUMED = "assumed to read forwards, with activations tanh and sigmoid; a Flax file does not tell"
ASSUMED_SIMPLE = "assumed to read forwards, without a residual; a Flax file does not tell"
_DENSE = re.compile(r"[ih][a-z]?_?")


class Flax(Importer):
    """Kernels [input, output] of each gate are turned and stacked in torch's order."""

    suffixes: ClassVar[tuple[str, ...]] = (".msgpack",)

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        try:
            document = unpack(mapped(path) if path.stat().st_size else memoryview(b""), _extension)
        except CheckpointError:
            raise
        except (ValueError, TypeError, KeyError):
            document = None
        if not isinstance(document, Mapping):
            raise CheckpointError(
                "expected parameters of Flax as msgpack, found something else or a part of them"
            )
        return kept(find_cells(arrays(document), cell, head))


def _extension(code: int, data: memoryview) -> Any:
    """An array, from its shape, the name of its type and its bytes, which are not copied."""
    if code not in (NDARRAY, SCALAR):
        return None
    shape, name, content = unpack(data, lambda code, data: None)
    if name == "bfloat16":
        return torch.frombuffer(bytearray(content), dtype=torch.bfloat16).reshape(shape)
    return np.frombuffer(content, np.dtype(name)).reshape(shape)


def arrays(document: Mapping[Any, Any]) -> dict[str, Any]:
    """The arrays of nested mappings under their joined names, those in chunks put together.

    Raises:
        CheckpointError: There is no end of them.
    """
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", document)]
    for _ in range(MOST_ENTRIES):
        if not waiting:
            return found
        name, value = waiting.pop()
        if isinstance(value, Mapping) and "__msgpack_chunked_array__" in value:
            own = name.rpartition(".")[2] in ("kernel", "bias")
            value = _joined(value) if own else np.empty(0)  # others are not read
        if isinstance(value, Mapping):
            items = [(f"{name}.{key}" if name else str(key), item) for key, item in value.items()]
            waiting += [(key, item) for key, item in reversed(items) if key not in OPTIMISER]
        elif isinstance(value, (np.ndarray, torch.Tensor)):
            found[name] = value
    raise CheckpointError(f"expected at most {MOST_ENTRIES} entries, found more")


def _joined(value: Mapping[str, Any]) -> np.ndarray:
    shape, chunks = value["shape"], value["chunks"]
    parts = [chunks[key] for key in sorted(chunks, key=int)]
    return np.concatenate(parts).reshape([shape[key] for key in sorted(shape, key=int)])


def find_cells(
    given: Mapping[str, Any], cell: str | None = None, head: Head = None
) -> tuple[list[FoundRNN], dict[str, str]]:
    """The RNNs among arrays that are named as in Flax; arguments and result as `Importer.find`."""
    layers: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[kind] = value
    inside: dict[str, dict[str, dict[str, Any]]] = {}
    for layer, values in layers.items():
        module, _, own = layer.rpartition(".")
        inside.setdefault(module, {})[own] = values
    tensors: dict[str, Tensor] = {}
    unclear: dict[str, str] = {}
    for module, dense in inside.items():
        prefix = f"{module}." if module else ""
        try:
            if _is_cell(dense):
                tensors |= {f"{prefix}{name}": value for name, value in _cell(module, dense).items()}
            else:
                tensors |= {f"{prefix}{name}": value for name, value in _linear(dense).items()}
        except CheckpointError as error:
            unclear[prefix] = str(error)
    by_name = dict(sorted(tensors.items()))  # the order of the file says nothing
    rnns, more = find_rnns(by_name, cell=cell, head=head)
    noted = [
        dataclasses.replace(rnn, notes=(*rnn.notes, ASSUMED if len(rnn.spec.gates) > 1 else ASSUMED_SIMPLE))
        for rnn in rnns
    ]
    return noted, unclear | more


def _is_cell(dense: Mapping[str, Any]) -> bool:
    """Whether some layers are those of a recurrent cell, by their names."""
    sides = {name[0] for name in dense if _DENSE.fullmatch(name)}
    return sides == {"i", "h"} or set(dense) >= FUSED


def _linear(dense: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    found = {}
    for name, values in dense.items():
        if "kernel" in values and np.ndim(values["kernel"]) == 2:
            found[f"{name}.weight"] = tensor(values["kernel"], name).T
            if "bias" in values:
                found[f"{name}.bias"] = tensor(values["bias"], name)
    return found


def _cell(module: str, dense: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """A cell's weights under torch's names."""
    where = f"the RNN at {shown(module)}" if module else "the RNN"
    named = {name.rstrip("_"): values for name, values in dense.items()}
    names = [("dense_i", "dense_h")] if set(named) == FUSED else None
    for gates in GATES.values():
        if names is None and set(named) == {f"{side}{gate}" for side in "ih" for gate in gates}:
            names = [(f"i{gate}", f"h{gate}") for gate in gates]
    odd = {f"{name}.{key}" for name, values in named.items() for key in values} - {
        f"{name}.{key}" for pair in names or () for name in pair for key in ("kernel", "bias")
    }
    if names is None or odd:
        raise CheckpointError(
            f"{where} has {listed(sorted(odd))}; expected the layers of an LSTMCell, GRUCell or SimpleCell, "
            "and nothing beside them"
        )
    weights = {}
    for side, key in enumerate(("ih", "hh")):
        layers = [named[pair[side]] for pair in names]
        kernels = [
            tensor(layer.get("kernel"), f"{module}.{pair[side]}") for layer, pair in zip(layers, names)
        ]
        if any(kernel.ndim != 2 for kernel in kernels):
            raise CheckpointError(f"{where} has kernels that are no matrices; expected those of dense layers")
        zeros = [kernel.new_zeros(kernel.shape[1]) for kernel in kernels]
        biases = [
            tensor(layer["bias"], module) if "bias" in layer else zero
            for layer, zero in zip(layers, zeros, strict=True)
        ]
        weights[f"weight_{key}_l0"] = torch.cat([kernel.T for kernel in kernels])
        weights[f"bias_{key}_l0"] = torch.cat(biases)
    return weights
