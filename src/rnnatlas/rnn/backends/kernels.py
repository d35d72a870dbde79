"""Calls the compiled kernels of `cpp/` through ctypes: both passes over a population, without autograd.

They know nothing of torch: they read and write the memory of its tensors. ctypes lets other Python threads
run meanwhile and needs no particular version of torch or Python.
"""

import collections
import ctypes
import dataclasses
import functools
import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rnnatlas.rnn.spec import RNNSpec

Part = Tensor | None
Starts = tuple[Tensor, Part, Part]  # inputs, h, c

_FOLDER = Path(__file__).parent / "cpp"
CELLS = {"lstm": 0, "gru": 1, "elman-tanh": 2, "elman-relu": 3}
"""Cells that there are kernels for, each with its number in cpp."""


def library() -> ctypes.CDLL | str:
    """The compiled kernels, or why there are none."""
    return _LIBRARY


def available() -> bool:
    """Whether there are compiled kernels and RNNs may run on them."""
    return os.environ.get("RNNATLAS_BACKEND") != "eager" and not isinstance(_LIBRARY, str)


def _load() -> ctypes.CDLL | str:
    path = _FOLDER / "librnnatlas.so"
    if not path.exists():
        return "it was not compiled; install a C++ compiler and install the package again"
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return f"it cannot be loaded ({error})"
    digest = hashlib.sha256()
    for source in sorted([*_FOLDER.glob("*.cpp"), *_FOLDER.glob("*.h")]):
        digest.update(source.read_bytes())
    loaded.rnnatlas_sources.restype = ctypes.c_char_p
    if loaded.rnnatlas_sources().decode() != digest.hexdigest()[:16]:
        return "it was compiled from other sources; install the package again"
    loaded.rnnatlas_isa.restype = ctypes.c_char_p
    loaded.rnnatlas_saved_size.restype = ctypes.c_int64
    number, address = ctypes.c_int64, ctypes.c_void_p
    loaded.rnnatlas_panel_size.restype = number
    loaded.rnnatlas_panel_size.argtypes = [number] * 3
    loaded.rnnatlas_pack.argtypes = [number, address, number, number, number, address]
    return loaded


_LIBRARY = _load()  # now, since torch.compile reads a variable but cannot see into the loading


def instruction_set() -> str:
    """Which build of the kernels this processor runs: avx512, avx2 or portable."""
    loaded = library()
    assert not isinstance(loaded, str)
    return loaded.rnnatlas_isa().decode()


class Kept:
    """Memory for what backward needs; large pieces go from graph to graph.

    The system would hand out fresh pages each time, and making them takes longer than the forward pass.
    """

    LEAST = 1 << 18  # floats that are worth keeping
    # two, since a graph often lives until the next one stands; its methods need no lock
    _free: ClassVar[collections.deque[Tensor]] = collections.deque(maxlen=2)

    def __init__(self, floats: int, parts: int):
        self.parts = parts
        for _ in range(len(self._free) if floats >= self.LEAST else 0):
            try:
                piece = self._free.popleft()
            except IndexError:  # another thread took it
                break
            if floats <= piece.numel() <= 2 * floats:
                self.memory = piece
                return
            self._free.append(piece)
        self.memory = torch.empty(floats)

    def __del__(self) -> None:
        if self.memory.numel() >= self.LEAST:
            self._free.append(self.memory)


def plain(tensor: Tensor) -> Tensor:
    """The same numbers as they lie in memory; those of some views of complex ones lie there negated."""
    return tensor.resolve_neg().contiguous()


def empty_results(spec: RNNSpec, stepping: bool, inputs: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Memory for outputs and last state."""
    rnns = weights[0].shape[0]
    lead = inputs.shape[-2:-1] if stepping else inputs.shape[-3:-1]
    end = (spec.layers, rnns, lead[0], spec.hidden)
    ends = [inputs.new_empty(end) for _ in range(1 + (spec.cell == "lstm"))]
    return [inputs.new_empty(rnns, *lead, spec.output or spec.hidden), *ends]


def forward(
    spec: RNNSpec, stepping: bool, weights: Sequence[Tensor], starts: Starts, save: bool
) -> tuple[tuple[Tensor, ...], Kept | None]:
    """Outputs and last state, and what `backward` needs of the way there."""
    call = _Call(spec, stepping, weights, starts)
    outputs, *ends = empty_results(spec, stepping, call.inputs, weights)
    size = call.rnns * call.parts * _saved_size(spec, call.batch // call.parts, call.time)
    kept = Kept(size, call.parts) if save else None
    last = ends if spec.cell == "lstm" else (*ends, None)
    call.pass_on("rnnatlas_forward", outputs, *last, kept.memory if kept else None)
    return (outputs, *ends), kept


def backward(
    spec: RNNSpec,
    stepping: bool,
    weights: Sequence[Tensor],
    starts: Starts,
    kept: Kept,
    wanted: Sequence[bool],
    gradients: Any,
) -> list[Part]:
    """Gradients in the inputs, the state and, where `wanted` goes on, the weights."""
    call = _Call(spec, stepping, weights, starts, kept.parts)
    d_outputs, d_h, d_c = (
        None if gradient is None else plain(gradient) for gradient in (*gradients, None)[:3]
    )
    d_x = None
    if wanted[0]:
        lead = (call.rnns, call.batch) if stepping else (call.rnns, call.batch, call.time)
        d_x = call.inputs.new_empty(*lead, spec.input)
    d_state = [
        torch.empty_like(part) if want and part is not None else None
        for part, want in zip((call.h, call.c), wanted[1:3])
    ]
    d_weights: list[Tensor] = (
        [weight.new_empty(call.rnns * call.parts, *weight.shape[1:]) for weight in weights]
        if any(wanted[3:])
        else []
    )
    from_forward = (None, None, None, kept.memory)
    gradients = (d_outputs, d_h, d_c, d_x, *d_state)
    call.pass_on("rnnatlas_backward", *from_forward, *gradients, d_weights=d_weights)
    if call.parts > 1:
        d_weights = [d.unflatten(0, (call.rnns, call.parts)).sum(1) for d in d_weights]
    if d_x is not None and call.shared:
        d_x = d_x.sum(0)
    return [d_x, *d_state, *(d if want else None for d, want in zip(d_weights, wanted[3:]))][: len(wanted)]


class _Call:
    """What both passes hand over, with the tensors whose memory the kernels read.

    The attributes are for readers; the kernels get addresses and strides in the order of `Job` in cpp/job.h.
    """

    def __init__(
        self, spec: RNNSpec, stepping: bool, weights: Sequence[Tensor], starts: Starts, parts: int = 0
    ):
        inputs, h, c = starts
        self.spec = spec
        together = (inputs.stride(-1) == 1 or inputs.shape[-1] == 1) and not inputs.is_neg()
        self.inputs = inputs if together else plain(inputs)
        self.h = None if h is None else plain(h)
        self.c = None if c is None else plain(c)
        self.weights = [rows_together(weight) for weight in weights]
        self.rnns = weights[0].shape[0]
        shape, strides = list(inputs.shape), list(self.inputs.stride())
        if stepping:
            shape.insert(-1, 1)
            strides.insert(-1, 0)
        self.shared = len(shape) == 3
        self.batch, self.time = shape[-3], shape[-2]
        self.parts = parts or _parts(spec, self.rnns, self.batch, self.time)
        self.strides = (0 if self.shared else strides[0], strides[-3], strides[-2])

    def pass_on(self, function: str, *tensors: Part, d_weights: Sequence[Tensor] = ()) -> None:
        """Calls one of the kernels with the tensors that follow the state in `Job`."""
        layout = _layout(self.spec)
        parts = self.parts
        numbers = [layout.cell, self.rnns * parts, parts, self.batch // parts, self.time, *layout.sizes]
        numbers += (torch.get_num_threads(), self.inputs.data_ptr(), *self.strides)
        numbers += [0 if tensor is None else tensor.data_ptr() for tensor in (self.h, self.c, *tensors)]
        numbers += [0] * (_HEADER - len(numbers))
        for position in layout.weights:
            if position is None:
                numbers += (0, 0, 0)
                continue
            weight = self.weights[position]
            numbers += (
                weight.data_ptr(),
                weight.stride(0),
                d_weights[position].data_ptr() if d_weights else 0,
            )
        # packed: a ctypes array of numbers takes 20 times as long to fill
        if getattr(library(), function)(layout.job.pack(*numbers)):
            raise MemoryError


_HEADER = 26  # 8-byte fields of `Job` before its weights


@dataclasses.dataclass(frozen=True)
class _Layout:
    """What `Job` says of an architecture, and where the weights that it lists are in `spec.shapes`."""

    cell: int
    sizes: tuple[int, ...]
    weights: tuple[int | None, ...]
    job: struct.Struct


@functools.lru_cache
def _layout(spec: RNNSpec) -> _Layout:
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    names = [f"{kind}_{suffix}" for suffix in spec.suffixes for kind in kinds]
    positions = {name: position for position, name in enumerate(spec.shapes)}
    weights = tuple(positions.get(name) for name in (*names, "head.weight", "head.bias"))
    sizes = (spec.input, spec.hidden, spec.layers, spec.output or 0)
    return _Layout(CELLS[spec.cell], sizes, weights, struct.Struct(f"={_HEADER + 3 * len(weights)}q"))


@functools.lru_cache
def _saved_size(spec: RNNSpec, batch: int, time: int) -> int:
    layout = _layout(spec)
    numbers = [layout.cell, 1, 1, batch, time, *layout.sizes]
    kernels = library()
    assert not isinstance(kernels, str)
    return kernels.rnnatlas_saved_size(struct.pack(f"={_HEADER}q", *numbers, *[0] * (_HEADER - len(numbers))))


def _parts(spec: RNNSpec, rnns: int, batch: int, time: int) -> int:
    """In how many parts to cut each RNN's batch where there are fewer RNNs than threads."""
    threads = torch.get_num_threads()
    if rnns >= threads or rnns * batch * time * spec.hidden**2 < 1 << 21:
        return 1
    return max(parts for parts in range(1, -(-threads // rnns) + 1) if parts == 1 or _even(batch, parts))


def _even(batch: int, parts: int) -> bool:
    """Whether parts are alike and not so small that each packing the weights costs more than it saves."""
    return batch % parts == 0 and batch // parts >= 4


def rows_together(weight: Tensor) -> Tensor:
    """With each RNN's own weights contiguous; the RNNs may be rows of a larger matrix."""
    together = weight.is_contiguous() or weight[:1].is_contiguous()
    return weight if together and not weight.is_neg() else plain(weight)
