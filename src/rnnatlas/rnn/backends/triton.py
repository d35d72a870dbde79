"""The GPU backend: float32 RNNs whose weights fit on chip, forward and backward, all of a population at once.

Products over all time steps (input projection, head, gradients in weights) are torch's batched ones; only
the recurrence is a kernel of ours, one launch a layer. `docs/decisions/0009-gpu-backend.md` has the reasons.
"""

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnatlas.rnn.backends import Stacked, eager, kernels
from rnnatlas.rnn.tracing import first_derivatives_only, traced

Part = Tensor | None
Arguments = Any  # projected, weight_hh, GRUs' bias of n, h, LSTMs' c; None where a cell has no such thing

CELLS = ("lstm", "gru", "elman-tanh", "elman-relu")
"""Cells that there are kernels for."""

_LARGEST = 64  # hidden units; an LSTM's 4 × 64 × 64 recurrent weights take 64 KiB of shared memory
_ROWS = 16  # sequences a program: the least that Triton's products take
_OLDEST = (8, 0)  # compute capability; older ones have less shared memory


@functools.cache
def installed() -> bool:
    """Whether there is a Triton; torch's builds for CUDA bring one."""
    return importlib.util.find_spec("triton") is not None


def applies(population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None) -> bool:
    """Whether the kernels can run this; what they cannot, `eager` can."""
    tensors = (inputs, *(state or ()), *population.weights.values())
    return (
        population.spec.cell in CELLS
        and population.spec.hidden <= _LARGEST
        and len(population) > 0
        and all(tensor.dtype is torch.float32 and tensor.is_cuda for tensor in tensors)
        and installed()
        and torch.cuda.get_device_capability(inputs.device) >= _OLDEST
        and not traced()
    )


def run(
    population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`rnnatlas.rnn.running.run` on inputs that are known to fit."""
    spec, signal, last = population.spec, inputs, []
    starts = eager._unstack(population, inputs.shape[-3], state)
    for layer in range(spec.layers):
        both = []
        for direction in range(spec.directions):
            index = layer * spec.directions + direction
            hidden, end = _layer(population, spec.suffixes[index], signal, starts[index], direction == 1)
            both.append(hidden)
            last.append(end)
        signal = both[0] if len(both) == 1 else torch.cat(both, -1)
    return eager._head(population, signal), eager._stack(last)


def step(
    population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`rnnatlas.rnn.running.step` on inputs that are known to fit."""
    outputs, end = run(population, inputs.unsqueeze(-2), state)
    return outputs.squeeze(-2), end


def _layer(
    population: Stacked, suffix: str, signal: Tensor, start: tuple[Tensor, ...], backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer and direction: hidden states [rnn, batch, time, hidden] and the last state."""
    spec, weights = population.spec, population.weights
    bias, bias_n = eager._input_bias(population, suffix), None
    if spec.cell == "gru":  # its reset gate reaches n's part of bias_hh, so only r's and z's join the input
        bias_n = start[0].new_zeros(len(population), spec.hidden)
        if bias is not None:
            r_z, bias_n = weights[f"bias_hh_{suffix}"].split([2 * spec.hidden, spec.hidden], -1)
            bias = bias + F.pad(r_z, (0, spec.hidden))
    projected = _project(signal, weights[f"weight_ih_{suffix}"], bias)
    h, c = start if spec.cell == "lstm" else (start[0], None)
    arguments = (projected, weights[f"weight_hh_{suffix}"], bias_n, h, c)
    results: Any
    if torch.is_grad_enabled() and any(part.requires_grad for part in arguments if part is not None):
        results = _Recurrence.apply(spec.cell, backwards, *arguments)
    else:
        results = _forward(spec.cell, backwards, arguments, keep=False)
    hidden, c_end, *_ = results
    h_end = hidden[:, :, 0 if backwards else -1]
    return hidden, (h_end,) if c_end is None else (h_end, c_end)


def _project(signal: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a layer's input adds to its gates: [rnn, batch, time, gate·hidden], each row contiguous."""
    if signal.ndim == 4:
        return eager._linear(signal.flatten(1, 2), weight, bias).unflatten(1, signal.shape[1:3])
    rnn, rows, _ = weight.shape  # shared: one large product for all RNNs
    projected = F.linear(signal, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return projected.unflatten(-1, (rnn, rows)).permute(2, 0, 1, 3)


class _Recurrence(torch.autograd.Function):
    """From a cell, a direction and `Arguments` to hidden states and, of LSTMs, the last c."""

    @staticmethod
    def forward(ctx: Any, cell: str, backwards: bool, *arguments: Any):
        hidden, c_end, *kept = _forward(cell, backwards, arguments, keep=True)
        ctx.cell, ctx.backwards, ctx.kept = cell, backwards, kept
        ctx.save_for_backward(*arguments, hidden)
        return hidden, c_end

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, *gradients: Part):
        *arguments, hidden = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        found = _backward(ctx.cell, ctx.backwards, arguments, (hidden, *ctx.kept), gradients)
        return None, None, *(gradient if want else None for gradient, want in zip(found, wanted))


def _forward(cell: str, backwards: bool, arguments: Arguments, keep: bool) -> tuple[Part, ...]:
    """Hidden states, the last c, and what only `_backward` needs: gates and cells."""
    projected, weight, bias_n, h, c = _laid_out(arguments)
    rnn, batch, time, _ = projected.shape
    hidden = projected.new_empty(rnn, batch, time, weight.shape[-1])
    gates = cells = None
    if keep and cell in ("lstm", "gru"):  # i f g o, or r z n and what the recurrence adds to n
        gates = hidden.new_empty(rnn, batch, time, 4 * weight.shape[-1])
    if keep and c is not None:
        cells = torch.empty_like(hidden)
    c_end = None if c is None else torch.empty_like(c)
    _launch(
        f"{_family(cell)}_forward",
        (projected, weight, bias_n, h, c, hidden, gates, cells, c_end),
        (*projected.stride()[:3], weight.stride(0), batch, time),
        REVERSE=backwards,
        RELU=cell == "elman-relu",
        KEEP=keep,
    )
    return hidden, c_end, gates, cells


def _backward(
    cell: str, backwards: bool, arguments: Arguments, results: Sequence[Any], gradients: Sequence[Part]
) -> tuple[Part, ...]:
    """Gradients in the `Arguments`."""
    projected, weight, _, h, c = _laid_out(arguments)
    hidden, gates, cells = results
    d_hidden, d_c_end = (None if gradient is None else kernels.plain(gradient) for gradient in gradients)
    batch, time, units = hidden.shape[1:]
    d_projected = projected.new_empty(projected.shape)
    d_n = torch.empty_like(hidden) if cell == "gru" else None  # in what the recurrence adds to n
    d_h, d_c = torch.empty_like(h), None if c is None else torch.empty_like(c)
    _launch(
        f"{_family(cell)}_backward",
        (weight, h, c, hidden, gates, cells, d_hidden, d_c_end, d_projected, d_n, d_h, d_c),
        (weight.stride(0), batch, time),
        REVERSE=backwards,
        RELU=cell == "elman-relu",
    )
    ordered = (hidden[:, :, 1:], h.unsqueeze(2)) if backwards else (h.unsqueeze(2), hidden[:, :, :-1])
    before = torch.cat(ordered, 2).flatten(1, 2)
    parts = [d_projected] if d_n is None else [d_projected[..., : 2 * units], d_n]
    d_weight = torch.cat([part.flatten(1, 2).mT @ before for part in parts], 1)
    return d_projected, d_weight, None if d_n is None else d_n.sum((1, 2)), d_h, d_c


def _laid_out(arguments: Arguments) -> Arguments:
    """The arguments as the kernels read them; only RNNs may lie apart, and projected inputs' rows."""
    projected, weight, *rest = arguments
    bias_n, h, c = (None if part is None else kernels.plain(part) for part in rest)
    together = projected.stride(-1) == 1 and not projected.is_neg()
    weight = kernels.rows_together(weight)
    return projected if together else kernels.plain(projected), weight, bias_n, h, c


def _family(cell: str) -> str:
    return cell.partition("-")[0]


def _launch(name: str, tensors: Sequence[Any], numbers: Sequence[int], **constants: Any) -> None:
    """Runs a kernel on one program an RNN and `_ROWS` of its sequences."""
    from rnnatlas.rnn.backends import triton_kernels  # Triton takes long to import and often is not there

    hidden = tensors[3] if name.endswith("backward") else tensors[5]
    rnn, batch, _, units = hidden.shape
    padded = max(16, 1 << (units - 1).bit_length())
    with torch.cuda.device_of(hidden):
        getattr(triton_kernels, name)[(rnn, -(-batch // _ROWS))](
            *tensors,
            *numbers,
            H=units,
            P=padded,
            ROWS=_ROWS,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            num_warps=padded // 8,
            num_stages=2 if padded <= 32 else 1,  # with two, 64 units would ask for 104 KiB of shared memory
            **constants,
        )
