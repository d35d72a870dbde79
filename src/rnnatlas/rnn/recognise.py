"""Finding RNNs among the tensors of a torch state_dict, by names and shapes alone."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn.handwritten import Handwritten, handwritten
from rnnatlas.rnn.heads import Head, Heads, Reader, around, listed, parse_heads, shown
from rnnatlas.rnn.initial import initial_state
from rnnatlas.rnn.leaks import DT, LEAKY, TAU, equation, leaks, parse_cell
from rnnatlas.rnn.plain import check, matrix, oddity_of, plain
from rnnatlas.rnn.rewrites import STACKED, unstacked, whole
from rnnatlas.rnn.spec import GATES, RNNSpec
from rnnatlas.texts import is_printable

_MATRIX = re.compile(
    r"(?P<prefix>(?:.*\.)?)weight_(?P<kind>ih|hh)(?:_l(?P<layer>\d+)(?P<reverse>_reverse)?)?", re.DOTALL
)
"""The name of an RNN's matrix."""
_CELLS = {4: "lstm", 3: "gru", 1: "elman-tanh"}
"""The cell of each number of gates."""

ASSUMED_TANH = "nonlinearity assumed tanh; a state_dict does not tell: --cell elman-relu"
"""Note of an RNN with one gate whose cell nobody named."""
ASSUMED_GRU = "three gates, assumed to be a GRU's; a state_dict does not tell (--cell lstm leaves it out)"
"""Note of an RNN with three gates under names that are not those of torch.nn.GRU, whose cell nobody named."""
EXPECTED = "expected the weights of an LSTM, GRU, Elman or leaky network (names such as weight_hh_l0)"
ONE_BIAS = "one bias a gate instead of two, gates taken to be in torch's order"
DEEPEST = 64
"""Modules that lie within one another."""
LARGE = 1e6
"""Weights from here on are noted: outputs may not be finite."""


@dataclasses.dataclass(frozen=True)
class FoundRNN:
    """An RNN within a state_dict.

    Args:
        prefix: What its parameter names start with.
        head: What the names of its linear head start with; None where it has none.
        spec: Its architecture.
        weights: Its tensors under the names of `spec.shapes`.
        not_finite: Name, in the state_dict, of one that holds NaN or infinity as float32; None for none.
        notes: What to know before trusting it.
        question: Why it is not clear which head it has, where there may be one; it was read without.
        step: Number of updates that the file says beside it.
        by_hand: Of one that was written by hand, why it is read only where its cell is given.
    """

    prefix: str
    head: str | None
    spec: RNNSpec
    weights: dict[str, Tensor]
    not_finite: str | None = None
    notes: tuple[str, ...] = ()
    question: str | None = None
    step: int | None = None
    by_hand: str | None = None

    @property
    def place(self) -> str:
        """The prefix without its dot; empty where names have none."""
        return self.prefix.rstrip(".")

    @property
    def remark(self) -> str | None:
        """The notes in one line, if there are any."""
        return "; ".join(self.notes) or None


def find_rnn(
    state_dict: Mapping[str, Tensor], cell: str | None = None, rnn: str | None = None, head: Head = None
) -> FoundRNN:
    """The one RNN of a state_dict.

    Args:
        state_dict: Tensors by name.
        cell: "elman-relu", where RNNs with one gate are such (they are read as "elman-tanh" else);
            "leaky-tanh" or "leaky-relu", with α as in "leaky-relu:0.2" where tensors lack it; or the only
            cell to accept.
        rnn: Prefix of the RNN's parameter names, where there are several.
        head: Prefix of the head's, where several linear layers fit; "" for none.

    Raises:
        CheckpointError: There is none, there are several, or it or its head is not clear or not there.
    """
    rnns, unclear = find_rnns(state_dict, cell=cell, head=head)
    if rnn is not None:
        rnns = [each for each in rnns if each.place == rnn.rstrip(".")]
        unclear = {prefix: why for prefix, why in unclear.items() if prefix.rstrip(".") == rnn.rstrip(".")}
    if unclear:
        raise CheckpointError(next(iter(unclear.values())))
    if len(rnns) == 1:
        if rnns[0].question:
            raise CheckpointError(rnns[0].question)
        return rnns[0]
    if not rnns:
        raise CheckpointError(f"{EXPECTED}, found {listed(state_dict) or 'no tensors at all'}")
    prefixes = listed([each.place for each in rnns])
    raise CheckpointError(f"expected one RNN, found {len(rnns)}, at {prefixes}; name the one to use")


def find_rnns(
    state_dict: Mapping[str, Tensor],
    cell: str | None = None,
    head: Head = None,
    odd: Mapping[str, str] | None = None,
    cells: Mapping[str, str] | None = None,
) -> tuple[list[FoundRNN], dict[str, str]]:
    """All RNNs of a state_dict.

    Args:
        state_dict: Tensors by name.
        cell: As for `find_rnn`.
        head: As for `find_rnn`; "PREFIX=NAME" for the RNN at one prefix.
        odd: Name → what is odd about a tensor that could not be read.
        cells: Prefix → cell, where it is known.

    Returns:
        The RNNs that are clear, in the order of their names; of the others, prefix → why it is not. An RNN
        whose head is not clear is read without one, and says so.

    Raises:
        CheckpointError: A head was named for an RNN that is not there, or modules lie too deep.
        UnknownName: No cell is called so.
    """
    cell, alpha = parse_cell(cell)
    tensors = {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}
    if deep := next((name for name in tensors if name.count(".") > DEEPEST), None):
        raise CheckpointError(f"expected names of at most {DEEPEST} levels, found {shown(deep)}")
    apart = None if odd else unstacked(tensors)
    tensors, made = whole(apart or tensors)
    own = handwritten(tensors) if not any(map(_MATRIX.fullmatch, tensors)) else Handwritten()
    unclear = own.unclear(cell)
    tensors = own.as_torch(tensors) if cell is not None else tensors
    modules = _modules(tensors)
    places = {name: place for place, name in enumerate(tensors)}
    readers = {prefix: _reader(tensors, prefix, names, places[names[0]]) for prefix, names in modules.items()}
    named = parse_heads(head)
    if missing := [prefix for prefix in named if prefix is not None and prefix not in {**readers, **unclear}]:
        found = listed([prefix.rstrip(".") for prefix in readers]) or "none"
        raise CheckpointError(f"a head was named for {shown(missing[0].rstrip('.'))}; the RNNs are {found}")
    heads, stacked = Heads(tensors, readers, named), apart is not None
    file = _File(tensors, heads, cell, alpha, odd or {}, cells or {}, made, stacked, own)
    rnns = []
    for prefix, names in modules.items():
        try:
            rnns.append(_read(file, prefix, names))
        except CheckpointError as error:
            unclear[prefix] = str(error)
    return rnns, unclear


# --- one RNN ---------------------------------------------------------------------------------------


def _modules(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Prefix of each RNN's parameters → names of all tensors under it, but for those of RNNs further down."""
    matches = map(_MATRIX.fullmatch, tensors)
    modules: dict[str, list[str]] = {match["prefix"]: [] for match in matches if match}
    for name in tensors:
        prefix = next((prefix for prefix in around(name) if prefix in modules), None)
        if prefix is not None:
            modules[prefix].append(name)
    return modules


class _File(NamedTuple):
    """What is known while the RNNs of one state_dict are read."""

    tensors: Mapping[str, Tensor]
    heads: Heads
    cell: str | None
    alpha: float | None
    odd: Mapping[str, str]
    cells: Mapping[str, str]
    made: Mapping[str, str]
    stacked: bool
    by_hand: Handwritten


def _read(file: _File, prefix: str, names: Sequence[str]) -> FoundRNN:
    tensors = file.tensors
    where = f"the RNN at {shown(prefix.rstrip('.'))}" if prefix else "the RNN"
    _check_printable(names)
    for name in names:
        if name in file.odd:
            raise CheckpointError(
                f"{where} should have plain floating-point numbers in {name}, found {file.odd[name]}; "
                "save it as float32"
            )
    if projection := next((name for name in names if name.startswith(f"{prefix}weight_hr")), None):
        raise CheckpointError(f"{where} is an LSTM with a projection ({projection}), which is not supported")
    layers, suffix = _layers(prefix, names, where)
    rows, hidden = matrix(tensors, f"{prefix}weight_hh{suffix}", where)
    _, inputs = matrix(tensors, f"{prefix}weight_ih{suffix}", where)
    cell = _chosen_cell(file.cell, file.cells.get(prefix))
    own = {name.removeprefix(prefix) for name in names}
    choice = file.heads.behind(prefix, where)
    head = choice.head
    _check_printable([head or ""])
    spec = RNNSpec(
        cell=_cell(rows, hidden, cell, where, "alpha_l0" in own),
        input=inputs,
        hidden=hidden,
        layers=layers,
        output=matrix(tensors, f"{head}weight", where)[0] if head else None,
        bidirectional=_is_bidirectional(prefix, names),
        bias=any(name.startswith(("bias_ih", "bias_hh")) for name in own),
        head_bias=not head or f"{head}bias" in tensors,
        initial_state="h0_l0" in own,
    )
    initial, about = _initial(file, prefix, spec)
    spec = dataclasses.replace(spec, initial_state=spec.initial_state or bool(initial))
    as_torch = {} if suffix else _as_torch(tensors, prefix, own, spec)
    spec = dataclasses.replace(spec, bias=spec.bias or f"{prefix}bias_ih" in as_torch)
    stored = {name: _stored(name, prefix, head, suffix) for name in spec.shapes}
    leak, leaking = leaks(tensors, prefix, spec, file.alpha, where)
    ready = initial | leak
    stored |= {name: original for name, (original, _) in ready.items()}
    for name, shape in spec.shapes.items():
        if name not in ready:
            check(as_torch if stored[name] in as_torch else tensors, stored[name], shape, where)
    used = {*stored.values(), *([f"{prefix}bias"] if f"{prefix}bias_ih" in as_torch else [])}
    time = {f"{prefix}{DT}", f"{prefix}{TAU}"}
    used |= time if leak and time <= set(names) else set()
    unused = [name for name in names if name not in used and not _is_layer(tensors, prefix, name)]
    if unused:
        leaky = f" ({LEAKY})" if _leak_in(prefix, unused) and len(spec.gates) == 1 else ""
        raise CheckpointError(
            f"{where} has {listed(unused)} beside the weights of {spec}, so it may compute something else; "
            f"delete what plays no part from the file, or save the matrices alone{leaky}"
        )
    weights = {
        name: ready[name][1]
        if name in ready
        else (as_torch if stored[name] in as_torch else tensors)[stored[name]]
        for name in spec.shapes
    }
    notes = list(dict.fromkeys(file.made[name] for name in stored.values() if name in file.made))
    notes += [STACKED] if file.stacked else []
    notes += [ONE_BIAS] if f"{prefix}bias_ih" in as_torch else []
    notes += _assumed(spec, cell, suffix)
    notes += [f"{choice.question}; it is read without a head"] if choice.question else []
    notes += _read_as(spec, file.by_hand.matrices(prefix), leaking)
    by_hand = file.by_hand.question(prefix)
    found = FoundRNN(prefix, head or None, spec, weights, question=choice.question, by_hand=by_hand)
    return _with_notes(found, file.by_hand.original(stored), [*notes, *about, *choice.notes])


def _initial(file: _File, prefix: str, spec: RNNSpec) -> tuple[dict[str, tuple[str, Tensor]], list[str]]:
    """The learned initial state beside an RNN, as `initial_state` gives it, and what to say of it."""
    names, alone = file.heads.initial(prefix)
    if not names or spec.initial_state:
        return {}, []
    usable = alone and not any(name in file.odd or oddity_of(file.tensors[name]) for name in names)
    found = initial_state(file.tensors, names, spec) if usable else None
    if found is None:
        return {}, [f"initial state left out, taken as zero: {listed(names)}"]
    return found, [f"learned initial state: {listed(names)}"]


def _leak_in(prefix: str, names: Sequence[str]) -> bool:
    return any("alpha" in name or name in (f"{prefix}{DT}", f"{prefix}{TAU}") for name in names)


def _assumed(spec: RNNSpec, cell: str | None, suffix: str) -> list[str]:
    """What names and shapes do not tell of an RNN, and was taken for granted."""
    notes = [ASSUMED_TANH] if len(spec.gates) == 1 and cell is None else []
    if len(spec.gates) == 3 and cell is None and not suffix:
        notes.append(ASSUMED_GRU)
    if len(spec.gates) == 1 and spec.input == spec.hidden and not spec.bias:
        notes.append(
            "input and hidden size are equal, so it would look the same if its matrices were transposed"
        )
    return notes


def _read_as(spec: RNNSpec, by_hand: str | None, leak: str | None) -> list[str]:
    """The equation of an RNN that was written by hand, or whose leak is not named as ours."""
    said = ", ".join(filter(None, [by_hand, leak]))
    check = "; hand-written, so check that its forward does this" if by_hand else ""
    return [f"read as {equation(spec)} with {said}{check}"] if said else []


def _as_torch(tensors: Mapping[str, Tensor], prefix: str, own: set[str], spec: RNNSpec) -> dict[str, Tensor]:
    """Tensors of a cell with one bias a gate as they are with two."""
    if "bias" in own and not spec.bias and len(spec.gates) != 3:  # LSTMs and Elman networks add the two
        bias = plain(tensors, f"{prefix}bias", prefix)
        return {f"{prefix}bias_ih": bias, f"{prefix}bias_hh": torch.zeros_like(bias)}
    return {}


def _check_printable(names: Iterable[str]) -> None:
    for name in names:
        if not is_printable(name):
            raise CheckpointError(f"expected names of printable characters, found {shown(name)}")


def _with_notes(rnn: FoundRNN, stored: Mapping[str, str], notes: list[str]) -> FoundRNN:
    largest = {name: float(weight.detach().float().abs().max()) for name, weight in rnn.weights.items()}
    not_finite = next((stored[name] for name, size in largest.items() if not math.isfinite(size)), None)
    size = max(largest.values())
    notes += [] if not_finite is None else [f"weights are not finite: {not_finite}"]
    notes += [f"weights are as large as {size:.0e}"] if not_finite is None and size >= LARGE else []
    notes += [] if any(largest.values()) else ["all weights are zero"]
    return dataclasses.replace(rnn, not_finite=not_finite, notes=tuple(notes))


def _layers(prefix: str, names: Sequence[str], where: str) -> tuple[int, str]:
    """The number of layers, and what ends the first one's names: nothing for `LSTMCell` and its like."""
    matches = [match for name in names if (match := _MATRIX.fullmatch(name)) and match["prefix"] == prefix]
    layers = {match["layer"]: match[0] for match in matches}
    if None in layers and len(layers) > 1:
        raise CheckpointError(
            f"{where} has {listed(layers.values())}; expected the weights of a cell or of layers"
        )
    # by what is there, since a number in a name may be anything
    missing = (layer for layer in map(str, range(len(layers))) if layer not in layers)
    if None not in layers and (layer := next(missing, None)):
        odd = next(reversed(layers.values()))
        raise CheckpointError(f"{where} has {shown(odd)} but no weight_hh_l{layer}")
    return len(layers), "" if None in layers else "_l0"


def _is_bidirectional(prefix: str, names: Iterable[str]) -> bool:
    return any(name.startswith(f"{prefix}weight_hh_l") and name.endswith("_reverse") for name in names)


def _cell(rows: int, hidden: int, cell: str | None, where: str, leaky: bool) -> str:
    gates, rest = divmod(rows, hidden)
    if rest or gates not in _CELLS:
        raise CheckpointError(
            f"{where} has {rows} rows of recurrent weights for {hidden} hidden units; "
            "expected 4, 3 or 1 times as many (LSTM, GRU, Elman or leaky)"
        )
    by_gates = _CELLS[gates]
    if gates == 1:
        by_gates = "leaky-tanh" if leaky else by_gates
        if cell == "elman-relu" or (cell or "").startswith("leaky-"):
            return str(cell)
    if cell in (None, by_gates, "elman-relu", "leaky-tanh", "leaky-relu"):
        return by_gates
    raise CheckpointError(f"{where} has {gates} gates, so it is not of cell {cell!r}; expected {by_gates!r}")


def _chosen_cell(given: str | None, known: str | None) -> str | None:
    """The cell that a user gave, or that a file says, which goes before among cells with one gate."""
    return known if given is None or (known and len(GATES[known]) == len(GATES[given]) == 1) else given


def _stored(name: str, prefix: str, head: str | None, suffix: str) -> str:
    """What a parameter is called in the state_dict."""
    if name.startswith("head."):
        return f"{head}{name.removeprefix('head.')}"
    return prefix + (name if suffix else name.removesuffix("_l0"))


def _is_layer(tensors: Mapping[str, Tensor], prefix: str, name: str) -> bool:
    """Whether a tensor below an RNN is of a linear layer or an embedding, which are left out anywhere."""
    layer, dot, _ = name.removeprefix(prefix).rpartition(".")
    weight, bias = f"{prefix}{layer}.weight", f"{prefix}{layer}.bias"
    return bool(dot) and name in (weight, bias) and weight in tensors and tensors[weight].ndim == 2


def _reader(tensors: Mapping[str, Tensor], prefix: str, names: Sequence[str], place: int) -> Reader:
    """What an RNN reads and gives out, as far as can be said before it is read."""
    sizes = {"ih": 0, "hh": 0}
    for name in names:
        match = _MATRIX.fullmatch(name)
        if (
            match
            and match["prefix"] == prefix
            and match["layer"] in (None, "0")
            and not tensors[name].is_nested
        ):
            sizes[match["kind"]] = tensors[name].shape[-1] if tensors[name].ndim else 0
    return Reader(sizes["ih"], sizes["hh"] * (1 + _is_bidirectional(prefix, names)), place)
