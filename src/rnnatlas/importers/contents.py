"""What a checkpoint holds once it is read: tensors by name, and what else it says about its networks."""

import dataclasses
import re
from typing import Any

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.pickles import Array, Inert, Stored
from rnnatlas.importers.torch_files import Document, as_tensor
from rnnatlas.rnn import FoundRNN, find_rnns
from rnnatlas.rnn.handwritten import role
from rnnatlas.rnn.heads import listed
from rnnatlas.rnn.leaks import DT, TAU
from rnnatlas.rnn.recognise import EXPECTED

MOST_ENTRIES, LONGEST_NAME = 200_000, 2000
"""Containers with tensors in them, and tensors: containers may hold themselves or others again and again."""
STEPS = ("global_step", "step", "iteration", "iterations", "iter", "num_updates", "epoch")
SETTINGS = re.compile(r"conf|cfg|arg|param|opt|setting|sched|loader|history", re.IGNORECASE)
"""In names of what says how long a training should be, not how long it was."""
MATRICES = "matrices such as W_in and W_rec that are no layers are read from .npz (numpy.savez)"
_CONTAINERS = (Stored, Array, Inert, dict, list, tuple)
_TORCH = re.compile(r"torch\.nn\.modules\.rnn\.(LSTM|GRU|RNN)(Cell)?")
_MODES = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "elman-tanh", "RNN_RELU": "elman-relu"}
_MODES |= {"tanh": "elman-tanh", "relu": "elman-relu"}


@dataclasses.dataclass
class Contents:
    """Tensors by name, and what else a file says.

    Args:
        tensors: Tensors by name.
        odd: Name → what is odd about a tensor that cannot be read.
        cells: Prefix of a module → its cell, where the file says it.
        notes: What to know before trusting any of them.
        quantised: Whether it holds quantised tensors.
        step: Number of updates that the file says.
    """

    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    odd: dict[str, str] = dataclasses.field(default_factory=dict)
    cells: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    quantised: bool = False
    step: int | None = None

    def find(self, cell: str | None, head: Any) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`; weights are copied, so that nothing else of the file stays in memory.

        Raises:
            CheckpointError: There is none, and the reason is known.
        """
        rnns, unclear = find_rnns(self.tensors, cell=cell, head=head, odd=self.odd, cells=self.cells)
        if not rnns and not unclear and self.quantised:
            raise CheckpointError(
                "expected floating-point weights, found quantised ones; save the state_dict of the model "
                "as it was before"
            )
        if not rnns and not unclear:
            raise CheckpointError(
                f"{EXPECTED}, found "
                + (f"none among {listed(self.tensors)}" if self.tensors else "no tensors at all")
                + (f"; {MATRICES}" if "recurrent" in map(role, self.tensors) else "")
            )
        return [self._kept(rnn) for rnn in rnns], unclear

    def _kept(self, rnn: FoundRNN) -> FoundRNN:
        weights = {name: weight.detach().clone() for name, weight in rnn.weights.items()}
        return dataclasses.replace(rnn, weights=weights, notes=(*rnn.notes, *self.notes), step=self.step)


def contents(document: Document) -> Contents:
    """All tensors of nested containers and modules, under their joined names.

    Raises:
        CheckpointError: There is no end of them.
    """
    step, notes = _step(document.root)
    found = Contents(quantised=document.quantised, step=step, notes=notes)
    classes: dict[str, None] = {}
    script = document.code is not None
    useful = _useful(document.root, script)
    waiting: list[tuple[str, Any]] = [("", document.root)] if id(document.root) in useful else []
    for _ in range(MOST_ENTRIES):
        if not waiting:
            break
        prefix, value = waiting.pop()
        if len(prefix) > LONGEST_NAME:
            raise _endless()
        if isinstance(value, (Stored, Array)):
            tensor = as_tensor(value)
            if isinstance(tensor, str):
                found.odd[prefix] = tensor
                tensor = _placeholder(value)
            found.tensors[prefix] = tensor
            continue
        if isinstance(value, Inert):
            _inspect(prefix, value, found, classes, document.code)
        inside = [(key, item) for key, item in _items(value, script) if id(item) in useful]
        waiting += [(_joined(prefix, key), item) for key, item in reversed(inside)]
    else:
        raise _endless()
    if document.code is not None:
        found.notes.append("weights of a TorchScript program, whose code was not read")
    elif classes:
        named = ", ".join(list(classes)[:3])
        found.notes.append(
            f"whole pickled modules ({named}), whose code was not run: check what their forward does"
        )
    return found


def _step(root: Any) -> tuple[int | None, list[str]]:
    """The number of updates beside tensors or one level deeper, by the first of `STEPS` that is there.

    Where parts of a file say different ones none is taken, and a note says so.
    """
    if not isinstance(root, dict):
        return None, []
    parts = [(str(key), part) for key, part in root.items() if isinstance(part, dict)]
    inside = [(f"{key}.", part) for key, part in parts if not SETTINGS.search(key)]
    for level in ([("", root)], inside):
        for name in STEPS:
            said = {f"{prefix}{name}": part[name] for prefix, part in level if _is_step(part.get(name))}
            if len(set(said.values())) > 1:
                listed = ", ".join(f"{key} {step}" for key, step in list(said.items())[:3])
                return None, [f"its step is not known, since it says several ({listed})"]
            if said:
                return next(iter(said.values())), []
    return None, []


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _endless() -> CheckpointError:
    return CheckpointError(
        f"expected at most {MOST_ENTRIES} entries, with names of at most {LONGEST_NAME} characters, "
        "found more; save model.state_dict() alone"
    )


def _placeholder(value: Stored | Array) -> Tensor:
    """A tensor of the shape that was meant, without numbers."""
    size = value.size if isinstance(value, Stored) else value.shape
    try:
        return torch.empty(tuple(size), device="meta")
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return torch.empty(0, device="meta")


def _useful(root: Any, script: bool) -> set[int]:
    """Tensors, and containers that hold one at some depth, by their `id`; other lists may be long."""
    useful: set[int] = set()
    around: dict[int, list[int]] = {id(root): []}
    waiting, inner = [root], []
    while waiting:
        value = waiting.pop()
        if isinstance(value, (Stored, Array)):
            inner.append(id(value))
            continue
        for _, item in _items(value, script):
            if isinstance(item, _CONTAINERS):
                if id(item) not in around:
                    around[id(item)] = []
                    waiting.append(item)
                around[id(item)].append(id(value))
    while inner:
        found = inner.pop()
        if found not in useful:
            useful.add(found)
            inner += around[found]
    return useful


def _joined(prefix: str, key: Any) -> str:
    if isinstance(key, int) and key.bit_length() > 200:
        key = "…"
    name = str(key) if isinstance(key, (str, int, float, bool, tuple, bytes)) else "?"
    return f"{prefix}.{name}" if prefix else name


def _items(value: Any, script: bool) -> list[tuple[Any, Any]]:
    """What is inside a container or an object, by name."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if not isinstance(value, Inert):
        return []
    if not isinstance(value.state, dict):
        return list(value.entries.items())
    if _is_module(value):
        parts = [value.state.get(part) for part in ("_parameters", "_buffers", "_modules")]
        return [item for part in parts if isinstance(part, dict) for item in part.items()]
    inside = [
        (key, item)
        for key, item in value.state.items()
        if not script or not isinstance(item, (list, Inert)) or _is_script(item)
    ]
    return inside + list(value.entries.items())


def _is_module(value: Inert) -> bool:
    return isinstance(value.state, dict) and "_parameters" in value.state and "_modules" in value.state


def _is_script(value: Any) -> bool:
    return isinstance(value, Inert) and value.kind.startswith("__torch__.")


def _inspect(prefix: str, value: Inert, found: Contents, classes: dict[str, None], code: str | None) -> None:
    """What a pickled module says of itself: its class, and the nonlinearity that no state_dict tells."""
    if not _is_module(value) and not _is_script(value):
        return
    place = f"{prefix}." if prefix else ""
    state = value.state if isinstance(value.state, dict) else {}
    if _is_script(value):
        if value.kind.rpartition(".")[2] in ("RNN", "RNNCell") and code is not None:
            relu, tanh = (f"rnn_{name}" in code for name in ("relu", "tanh"))
            if relu != tanh:
                found.cells[place] = "elman-relu" if relu else "elman-tanh"
        elif value.kind.rpartition(".")[2] in ("GRU", "GRUCell"):
            found.cells[place] = "gru"
        return
    mode = state.get("mode", state.get("nonlinearity"))
    if known := _TORCH.fullmatch(value.kind):
        if known[1] == "RNN":
            found.cells[place] = _MODES.get(mode, "elman-tanh") if isinstance(mode, str) else "elman-tanh"
        else:
            found.cells[place] = known[1].lower()
    elif not value.kind.startswith("torch.nn."):
        classes[value.kind] = None
        found.tensors |= {f"{place}{name}": torch.tensor(number) for name, number in _leak(state).items()}


def _leak(state: dict[str, Any]) -> dict[str, float]:
    """Attributes of a module that say how fast its state leaks."""
    for names in (("alpha",), (DT, TAU)):
        if all(type(state.get(name)) in (int, float) for name in names):
            return {name: float(state[name]) for name in names}
    return {}
