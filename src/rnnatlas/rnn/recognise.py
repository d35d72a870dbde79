"""Finding RNNs among the tensors of a torch state_dict, by names and shapes alone."""

import dataclasses
import re
from collections.abc import Mapping

from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn.spec import RNNSpec

_RECURRENT = re.compile(r"(?P<prefix>(?:.*\.)?)weight_hh(?P<layer>_l(?P<number>\d+)(?P<reverse>_reverse)?)?")

_NAME_THE_HEAD = "name the head to use: rnnatlas zoo import FILE --head NAME --out ZOO"


@dataclasses.dataclass(frozen=True)
class FoundRNN:
    """An RNN within a state_dict.

    Args:
        prefix: What its parameter names start with.
        head: What the names of its linear head start with; None where it has none.
        spec: Its architecture.
        weights: Its tensors under the names of `spec.shapes`.
    """

    prefix: str
    head: str | None
    spec: RNNSpec
    weights: dict[str, Tensor]


def find_rnn(
    state_dict: Mapping[str, Tensor], cell: str | None = None, rnn: str | None = None, head: str | None = None
) -> FoundRNN:
    """The one RNN of a state_dict.

    Args:
        state_dict: Tensors by name.
        cell: "elman-relu", where RNNs with one gate are such (they are read as "elman-tanh" else); or the
            only cell to accept.
        rnn: Prefix of the RNN's parameter names, where there are several.
        head: Prefix of the head's, where several linear layers fit; "" for none.

    Raises:
        CheckpointError: There is none, there are several, or the head is not clear or not there.
    """
    found = find_rnns(state_dict, cell=cell, head=head)
    if rnn is not None:
        found = [one for one in found if one.prefix.rstrip(".") == rnn.rstrip(".")]
    if len(found) == 1:
        return found[0]
    if not found:
        names = ", ".join(list(state_dict)[:4]) or "no tensors at all"
        raise CheckpointError(
            "expected the weights of an LSTM, GRU or Elman network (names such as weight_hh_l0), "
            f"found {names}"
        )
    prefixes = ", ".join(repr(one.prefix.rstrip(".")) for one in found)
    raise CheckpointError(f"expected one RNN, found {len(found)}, at {prefixes}; name the one to use")


def find_rnns(
    state_dict: Mapping[str, Tensor], cell: str | None = None, head: str | None = None
) -> list[FoundRNN]:
    """All RNNs of a state_dict, in the order of its names; arguments and errors as `find_rnn`."""
    prefixes: dict[str, list[re.Match[str]]] = {}
    for name in state_dict:
        if match := _RECURRENT.fullmatch(name):
            prefixes.setdefault(match["prefix"], []).append(match)
    found = [_read(state_dict, prefix, matches, cell, head) for prefix, matches in prefixes.items()]
    heads = [one.head for one in found if one.head]
    shared = next((name for name in heads if heads.count(name) > 1), None)
    if head is None and shared:
        layer, count = shared.rstrip("."), heads.count(shared)
        raise CheckpointError(f"the linear layer {layer!r} fits behind {count} RNNs; {_NAME_THE_HEAD}")
    return found


def _read(
    state_dict: Mapping[str, Tensor],
    prefix: str,
    matches: list[re.Match[str]],
    cell: str | None,
    head: str | None,
) -> FoundRNN:
    where = f"the RNN at {prefix.rstrip('.')!r}" if prefix else "the RNN"
    layers = 1 + max(int(match["number"] or 0) for match in matches)
    bidirectional = any(match["reverse"] for match in matches)
    suffix = "" if matches[0]["layer"] is None else "_l0"  # LSTMCell and its like carry no layer number
    recurrent = state_dict[f"{prefix}weight_hh{suffix}"]
    if f"{prefix}weight_hr{suffix}" in state_dict:
        raise CheckpointError(f"{where} is an LSTM with a projection (weight_hr), which is not supported")
    if f"{prefix}weight_ih{suffix}" not in state_dict or recurrent.ndim != 2:
        raise CheckpointError(f"{where} has weight_hh{suffix} but no weight_ih{suffix} of two dimensions")
    rows, hidden = recurrent.shape
    width = hidden * (1 + bidirectional)
    head = _find_head(state_dict, width, where) if head is None else _given_head(state_dict, head)
    spec = RNNSpec(
        cell=_cell(rows, hidden, cell, where),
        input=state_dict[f"{prefix}weight_ih{suffix}"].shape[1],
        hidden=hidden,
        layers=layers,
        output=state_dict[f"{head}weight"].shape[0] if head else None,
        bidirectional=bidirectional,
        bias=f"{prefix}bias_ih{suffix}" in state_dict,
        head_bias=not head or f"{head}bias" in state_dict,
    )
    weights = {}
    for name, shape in spec.shapes.items():
        stored = f"{head}{name[5:]}" if name.startswith("head.") else prefix + name
        stored = stored.removesuffix("_l0") if not suffix else stored
        if stored not in state_dict or tuple(state_dict[stored].shape) != shape:
            found = tuple(state_dict[stored].shape) if stored in state_dict else "nothing"
            raise CheckpointError(f"{where} should have {stored} of shape {shape}, found {found}")
        weights[name] = state_dict[stored]
    return FoundRNN(prefix=prefix, head=head or None, spec=spec, weights=weights)


def _cell(rows: int, hidden: int, cell: str | None, where: str) -> str:
    by_gates = {4: "lstm", 3: "gru", 1: "elman-tanh"}
    gates, rest = divmod(rows, hidden)
    if rest or gates not in by_gates:
        raise CheckpointError(
            f"{where} has {rows} rows of recurrent weights for {hidden} hidden units; "
            "expected 4, 3 or 1 times as many (LSTM, GRU, Elman)"
        )
    found = by_gates[gates]
    if gates == 1 and cell == "elman-relu":
        return cell
    if cell in (None, found, "elman-relu"):
        return found
    raise CheckpointError(f"{where} has {gates} gates, so it is not of cell {cell!r}; expected {found!r}")


def _given_head(state_dict: Mapping[str, Tensor], head: str) -> str:
    """The prefix of a head that the user named, with or without its dot; "" for none.

    Raises:
        CheckpointError: No matrix is there.
    """
    prefix = f"{head.rstrip('.')}." if head else ""
    weight = state_dict.get(f"{prefix}weight")
    if prefix and (weight is None or weight.ndim != 2):
        raise CheckpointError(
            f"expected the head's weights at {prefix}weight, found none; "
            "give the prefix of a linear layer's names, or an empty one for no head"
        )
    return prefix


def _find_head(state_dict: Mapping[str, Tensor], width: int, where: str) -> str | None:
    """Prefix of the only linear layer that reads `width` numbers; None where there is none.

    A matrix without a bias whose name says "emb" is an embedding.
    """
    candidates = [
        name.removesuffix("weight")
        for name, tensor in state_dict.items()
        if name.endswith(".weight")
        and tensor.ndim == 2
        and tensor.shape[1] == width
        and tuple(state_dict.get(f"{name.removesuffix('weight')}bias", tensor[:, 0]).shape) == (len(tensor),)
    ]
    with_bias = [name for name in candidates if f"{name}bias" in state_dict]
    if len(with_bias) == 1:  # the others are embeddings, which have none
        return with_bias[0]
    candidates = [name for name in candidates if name in with_bias or "emb" not in name.lower()]
    if len(candidates) > 1:
        names = ", ".join(repr(name.rstrip(".")) for name in candidates)
        raise CheckpointError(f"several linear layers fit behind {where}: {names}; {_NAME_THE_HEAD}")
    return candidates[0] if candidates else None
