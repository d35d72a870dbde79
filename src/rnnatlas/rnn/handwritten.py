"""RNNs written by hand as two linear layers: which of them reads inputs, and which the state.

Names and shapes tell that, but not what is computed, so such an RNN is read only where its cell is given.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rnnatlas.rnn.heads import MOST, listed, shown
from rnnatlas.rnn.plain import oddity_of

_H = "(h|hid|hidden|rec|rnn|state)"
_ROLES = {
    "input": f"(in|inp|inputs?|i|x|ih|xh)((2|to){_H})?",
    "recurrent": f"(rec|recurrent|recurrence|hh|h|{_H}(2|to){_H})",
    "output": f"(out|outputs?|o|y|ho|hy|readout|read|head|dec|decoder|logits|{_H}(2|to)(o|out|outputs?|y))",
}
_NAMES = {
    role: re.compile(rf"(w|fc|lin|linear)?{core}(w|weights?|layer|linear|proj|projection)?")
    for role, core in _ROLES.items()
}
"""What a layer is by its name, in small letters and without underscores."""


class _Pair(NamedTuple):
    """The names of an RNN's two layers, and its sizes."""

    input: str
    recurrent: str
    inputs: int
    hidden: int


@dataclasses.dataclass
class Handwritten:
    """RNNs that seem to be written by hand, by the prefix of their layers' names.

    Args:
        pairs: Those of which it is clear which layer is which.
        doubts: Why it is not clear of others.
        silent: Prefixes of those among others whose names do not say that they are RNNs.
    """

    pairs: dict[str, _Pair] = dataclasses.field(default_factory=dict)
    doubts: dict[str, str] = dataclasses.field(default_factory=dict)
    silent: set[str] = dataclasses.field(default_factory=set)

    def unclear(self, cell: str | None) -> dict[str, str]:
        """Prefix → why it is not read, where a cell is given or not."""
        if cell is not None:
            return dict(self.doubts)
        questions = {prefix: str(self.question(prefix)) for prefix in self.pairs}
        return questions | {prefix: why for prefix, why in self.doubts.items() if prefix not in self.silent}

    def question(self, prefix: str) -> str | None:
        """Why an RNN is read only where its cell is given; None for those that are not written by hand."""
        if prefix not in self.pairs:
            return None
        pair = self.pairs[prefix]
        return (
            f"{shown(pair.input)} and {shown(pair.recurrent)} look like a hand-written RNN of {pair.inputs} "
            f"inputs and {pair.hidden} units, whose cell the file does not tell; give it: --cell elman-tanh, "
            "elman-relu, leaky-tanh or leaky-relu (with its α, leaky-relu:0.2, where there is no tensor "
            f"{prefix}alpha)"
        )

    def matrices(self, prefix: str) -> str | None:
        """Which layers are which, of one that is written by hand."""
        pair = self.pairs.get(prefix)
        return pair and f"W {shown(pair.input)}, U {shown(pair.recurrent)}"

    def as_torch(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors with those of the two layers under torch's names, and zeros for one missing bias."""
        names = {original: name for name, original in self._originals().items()}
        renamed = {names.get(name, name): tensor for name, tensor in tensors.items()}
        for prefix, pair in self.pairs.items():
            biases = [f"{prefix}bias_{kind}_l0" for kind in ("ih", "hh")]
            if any(bias in renamed for bias in biases):
                zeros = torch.zeros(pair.hidden)
                renamed |= {bias: renamed.get(bias, zeros) for bias in biases}
        return renamed

    def original(self, stored: Mapping[str, str]) -> dict[str, str]:
        """Names with those that `as_torch` gave replaced by the file's own."""
        originals = self._originals()
        return {name: originals.get(key, key) for name, key in stored.items()}

    def _originals(self) -> dict[str, str]:
        return {
            f"{prefix}{part}_{kind}_l0": f"{layer}.{part}"
            for prefix, pair in self.pairs.items()
            for kind, layer in (("ih", pair.input), ("hh", pair.recurrent))
            for part in ("weight", "bias")
        }


def handwritten(tensors: Mapping[str, Tensor]) -> Handwritten:
    """The RNNs of a state_dict that seem to be written by hand.

    Such a one is two linear layers side by side, from inputs and from the state to hidden units; beside them
    there may be output layers and embeddings.
    """
    groups: dict[str, dict[str, tuple[int, int]]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        prefix, dot, own = layer.rpartition(".")
        if kind == "weight" and not own.isdigit() and oddity_of(tensor) is None and tensor.ndim == 2:
            groups.setdefault(prefix + dot, {})[layer] = (tensor.shape[0], tensor.shape[1])
    found = Handwritten()
    for prefix, layers in groups.items():
        pairs = _pairs(layers) if len(layers) <= MOST else []
        if len(pairs) == 1:
            pair = pairs[0]
            if beside := _beside(layers, pair, tensors):
                found.doubts[prefix] = (
                    f"{listed(beside)} beside {shown(pair.input)} and {shown(pair.recurrent)} may be part of "
                    "what a hand-written RNN computes; delete what plays no part from the file, or save the "
                    "matrices alone"
                )
            else:
                found.pairs[prefix] = pair
        elif pairs:
            names = dict.fromkeys(name for pair in pairs for name in pair[:2])
            found.doubts[prefix] = (
                f"which of {listed(names)} reads the inputs of a hand-written RNN, and which its state, "
                "is not clear; call them input2h and h2h"
            )
        if prefix in found.doubts and not any(role(name) in ("input", "recurrent") for name in layers):
            found.silent.add(prefix)
    return found


def role(layer: str) -> str | None:
    """What a layer is by its name: "input", "recurrent", "output" or unknown."""
    plain = layer.rpartition(".")[2].replace("_", "").lower()
    return next((role for role, pattern in _NAMES.items() if pattern.fullmatch(plain)), None)


def _pairs(layers: Mapping[str, tuple[int, int]]) -> list[_Pair]:
    """All that may be an RNN's two layers; one alone where only one is called so."""
    roles = {name: role(name) for name in layers}
    pairs = [
        _Pair(read, recurrent, layers[read][1], hidden)
        for recurrent, (hidden, width) in layers.items()
        for read in layers
        if read != recurrent
        and 0 < hidden == width == layers[read][0]
        and roles[recurrent] in ("recurrent", None)
        and roles[read] in ("input", None)
    ]
    named = [pair for pair in pairs if roles[pair.input] and roles[pair.recurrent]]
    return named if len(named) == 1 else pairs


def _beside(layers: Mapping[str, tuple[int, int]], pair: _Pair, tensors: Mapping[str, Tensor]) -> list[str]:
    """Other layers that are neither behind the hidden units nor embeddings."""
    return [
        name
        for name, (_, width) in layers.items()
        if name not in pair
        and (width != pair.hidden or role(name) in ("input", "recurrent"))
        and not ("emb" in name.lower() and f"{name}.bias" not in tensors)
    ]
