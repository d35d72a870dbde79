"""Learned initial states that lie beside an RNN in a state_dict."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from rnnatlas.rnn.spec import RNNSpec

_PARTS = "h|c|hidden|cell|state"
_NAME = re.compile(
    rf"(?:.*_)?(?:(?P<first>{_PARTS})(?:_state)?_?(?:0|init(?:ial)?)"
    rf"|init(?:ial)?_(?P<last>{_PARTS})(?:_state)?)",
    re.IGNORECASE,
)
"""h0, c_0, init_hidden, lstm_init_c, hidden_state_init, …"""


def initial_state(
    tensors: Mapping[str, Tensor], names: Sequence[str], spec: RNNSpec
) -> dict[str, tuple[str, Tensor]] | None:
    """The initial state of an RNN that some tensors are, by their names and shapes.

    Args:
        tensors: Tensors by name.
        names: Those that seem to be an initial state, of no other RNN than this one.
        spec: The RNN without it.

    Returns:
        Name in `RNNSpec.shapes` → name in the file, and its vector. None where names do not tell the parts of
        the state, or shapes are other than one vector for each layer and direction.
    """
    by_part: dict[str, str] = {}
    for name in names:
        part = _part(name, spec)
        if part is None or part in by_part:
            return None
        by_part[part] = name
    if set(by_part) != set(spec.state):
        return None
    found = {}
    for part, name in by_part.items():
        rows = len(spec.suffixes)
        shape = tuple(tensors[name].shape)
        if shape not in ((rows, spec.hidden), (rows, 1, spec.hidden), (1, rows, spec.hidden)) and (
            rows > 1 or shape != (spec.hidden,)
        ):
            return None
        vectors = tensors[name].reshape(rows, spec.hidden)
        found |= {f"{part}0_{suffix}": (name, vectors[row]) for row, suffix in enumerate(spec.suffixes)}
    return found


def _part(name: str, spec: RNNSpec) -> str | None:
    """Which part of a state a name stands for; "state" stands for all of it."""
    match = _NAME.fullmatch(name.rpartition(".")[2])
    part = (match["first"] or match["last"]).lower() if match else None
    if part == "state":
        return "h" if len(spec.state) == 1 else None
    return part and part[0]
