"""LSTM layers whose weights all sequences share, on the compiled kernels of `cpp/layer.cpp`.

Emulators and readers are such layers. Steps after a sequence's end cost nothing, each pass is one call for
all steps, and results do not depend on the number of threads. Products are of float32 numbers or, where that
is asked for and the processor has them, of bfloat16 ones, with float32 sums and weights.
"""

import struct
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rnnatlas.rnn.backends import kernels
from rnnatlas.rnn.tracing import traced

Part = Tensor | None


def applies(like: Tensor, *sizes: int) -> bool:
    """Whether the kernels take layers of these numbers of inputs and hidden units, on such a tensor."""
    known = like.is_cpu and like.dtype is torch.float32 and all(size % 16 == 0 for size in sizes)
    return known and kernels.available() and not traced()


def has_half() -> bool:
    """Whether the processor has products of bfloat16 numbers, and the kernels use them."""
    library = kernels.library()
    return not isinstance(library, str) and bool(library.rnnatlas_has_half())


class Steps:
    """Which sequences there are at each step, where they are ordered from long to short.

    Args:
        active: How many, at each step.
    """

    def __init__(self, active: Int[Tensor, " time"]):
        self.active = active.contiguous()
        self.rows = int(active[0])
        self.tokens = int(active.sum())

    def previous(self) -> Int[Tensor, " token"]:
        """Which token comes before each that is not of the first step."""
        starts = self.active.cumsum(0) - self.active
        gap = (starts[1:] - starts[:-1]).repeat_interleave(self.active[1:])
        return torch.arange(self.rows, self.tokens) - gap


class Layer:
    """An LSTM layer, with its weights as they are now.

    Args:
        w_x: Weights of the input; None where `sums` holds all that comes from it.
        w_h: Weights of the state.
        sums: What joins the gates' sums: one row for all tokens, such as a bias, or a row a token.
        counts: Tokens of each call to come.
        half: Whether products are of bfloat16 numbers.
    """

    def __init__(
        self,
        w_x: Float[Tensor, "gates input"] | None,
        w_h: Float[Tensor, "gates hidden"],
        sums: Float[Tensor, " gates"] | Float[Tensor, "token gates"],
        counts: Sequence[int],
        half: bool = False,
    ):
        self.half = half
        self.hidden = w_h.shape[1]
        self.packed = [None if w is None else Packed(w, half) for w in (w_x, w_h)]
        self.seen: list[tuple[Part, Tensor, Part, Steps]] = []
        self.sums = iter(_Sums.apply(w_x, w_h, sums, self.seen, tuple(counts), half))

    def __call__(
        self, x: Float[Tensor, "token input"] | None, steps: Steps, h: Part = None, c: Part = None
    ) -> tuple[Float[Tensor, "token hidden"], Float[Tensor, "token hidden"]]:
        """(h, c) after each token; gradients may come to the c of a single step alone."""
        after, cells = _Cells.apply(self, steps, torch.is_grad_enabled(), next(self.sums), x, h, c)
        x, h = (None if tensor is None else tensor.detach() for tensor in (x, h))
        self.seen.append((x, after.detach(), h, steps))
        return after, cells


class Packed:
    """A weight as the kernels read it, a factor of products from the right."""

    def __init__(self, weight: Float[Tensor, "out in"], half: bool):
        self._weight, self._half = kernels.plain(weight.detach()), half
        self.forward = self._pack(*self._weight.shape[::-1], transposed=True)
        self._backward: Tensor | None = None

    @property
    def backward(self) -> Tensor:
        """As gradients are multiplied with it."""
        if self._backward is None:
            self._backward = self._pack(*self._weight.shape, transposed=False)
        return self._backward

    def _pack(self, length: int, columns: int, transposed: bool) -> Tensor:
        library: Any = kernels.library()
        panels = torch.empty(library.rnnatlas_panel_size(self._half, length, columns))
        library.rnnatlas_pack(
            self._half, self._weight.data_ptr(), length, columns, transposed, panels.data_ptr()
        )
        return panels


def product(
    a: Float[Tensor, "token row"], b: Float[Tensor, "token column"], half: bool
) -> Float[Tensor, "row column"]:
    """aᵀ b, over all tokens."""
    a, b, (length, columns) = kernels.plain(a), kernels.plain(b), b.shape
    c, panels = a.new_empty(a.shape[1], columns), a.new_empty(columns * length)
    numbers = (half, a.shape[1], columns, length, torch.get_num_threads())
    _call("rnnatlas_product", *numbers, *(tensor.data_ptr() for tensor in (a, b, c, panels)))
    return c


def _call(function: str, *numbers: int) -> None:
    if getattr(kernels.library(), function)(struct.pack(f"={len(numbers)}q", *numbers)):
        raise MemoryError


class _Cells(Function):
    """A layer's states; gradients in all but its weights, which get theirs through its sums."""

    @staticmethod
    def forward(
        ctx: Any, layer: Layer, steps: Steps, save: bool, sums: Tensor, x: Part, h: Part, c: Part
    ) -> tuple[Tensor, Tensor]:
        after = sums.new_empty(steps.tokens, layer.hidden)
        cells = torch.empty_like(after)
        gates = sums.new_empty(steps.tokens, 4 * layer.hidden) if save else None
        ctx.layer, ctx.steps, ctx.gates = layer, steps, gates
        x, h, c = (None if tensor is None else kernels.plain(tensor) for tensor in (x, h, c))
        ctx.inputs = 0 if x is None else x.shape[1]
        packed = [None if weight is None else weight.forward for weight in layer.packed]
        found = (x, h, c, *packed, after, cells, gates)
        _run_layer(ctx, "rnnatlas_layer_forward", sums, found)
        ctx.save_for_backward(c, cells)
        if len(steps.active) > 1:
            ctx.mark_non_differentiable(cells)
        ctx.set_materialize_grads(False)
        return after, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_after: Part, d_cells: Part) -> tuple[Any, ...]:
        c, cells = ctx.saved_tensors
        d_after, d_cells = (None if d is None else kernels.plain(d) for d in (d_after, d_cells))
        d_sums = torch.empty_like(ctx.gates)
        needs_x, needs_h, needs_c = ctx.needs_input_grad[4:]
        d_x = cells.new_empty(ctx.steps.tokens, ctx.inputs) if needs_x else None
        d_h, d_c = (
            cells.new_empty(ctx.steps.rows, ctx.layer.hidden) if need else None for need in (needs_h, needs_c)
        )
        w_x, w_h = ctx.layer.packed
        packed = w_x.backward if needs_x else None, w_h.backward
        found = (None, None, c, *packed, None, cells, ctx.gates, d_after, d_cells, d_sums, d_x, d_h, d_c)
        _run_layer(ctx, "rnnatlas_layer_backward", None, found)
        return None, None, None, d_sums, d_x, d_h, d_c


def _run_layer(ctx: Any, function: str, sums: Part, tensors: Sequence[Part]) -> None:
    """Calls a kernel with what `Layer` of cpp/layer.h says."""
    active = ctx.steps.active
    sizes = (len(active), ctx.steps.rows, ctx.inputs, ctx.layer.hidden, torch.get_num_threads())
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    addresses += [0] * (14 - len(addresses))
    at = (0, 0) if sums is None else (sums.data_ptr(), sums.stride(0))
    _call(function, ctx.layer.half, *sizes, active.data_ptr(), *at, *addresses)


class _Sums(Function):
    """Sums for each call; the gradients that come back through them make those of the weights, all at once.

    For each call by itself these would be products of few rows, as large as the weights, to be added up.
    """

    @staticmethod
    def forward(
        ctx: Any, w_x: Part, w_h: Tensor, sums: Tensor, seen: list, counts: tuple[int, ...], half: bool
    ) -> tuple[Tensor, ...]:
        ctx.seen, ctx.half, ctx.shared, ctx.shape = seen, half, sums.ndim == 1, w_h.shape
        ctx.set_materialize_grads(False)
        if not ctx.shared:
            return (sums.view_as(sums),)
        return tuple(sums.expand(count, -1) for count in counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Part) -> tuple[Part, ...]:
        took = [(given, d) for given, d in zip(ctx.seen, gradients, strict=False) if d is not None]
        d_sums = _joined([d for _, d in took])
        d_x = d_h = None
        if ctx.needs_input_grad[0]:
            d_x = product(d_sums, _joined([x for (x, *_), _ in took]), ctx.half)
        if ctx.needs_input_grad[1]:
            states, sums = [], []
            for (_, h, start, steps), d in took:
                if start is not None:
                    states, sums = [*states, start], [*sums, d[: steps.rows]]
                if len(steps.active) > 1:
                    states, sums = [*states, h[steps.previous()]], [*sums, d[steps.rows :]]
            d_h = product(_joined(sums), _joined(states), ctx.half) if sums else d_sums.new_zeros(ctx.shape)
        return d_x, d_h, d_sums.sum(0) if ctx.shared else d_sums, None, None, None


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
