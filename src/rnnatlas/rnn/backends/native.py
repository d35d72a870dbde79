"""The compiled CPU backend: float32 RNNs, forward and backward, threads over RNNs.

`kernels.py` calls the compiled code; this is how torch's autograd sees it.
`docs/decisions/0003-cpu-backend.md` has the reasons.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from rnnatlas.rnn.backends import Stacked, eager, kernels
from rnnatlas.rnn.backends.kernels import Part
from rnnatlas.rnn.spec import RNNSpec
from rnnatlas.rnn.tracing import first_derivatives_only, traced

_MOST_LAYERS = 64  # of kernels.cpp


def applies(population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None) -> bool:
    """Whether the kernels can run this; what they cannot, `eager` can."""
    tensors = (inputs, *(state or ()), *population.weights.values())
    return (
        population.spec.cell in kernels.CELLS
        and population.spec.layers <= _MOST_LAYERS
        and all(tensor.dtype is torch.float32 and tensor.is_cpu for tensor in tensors)
        and not traced()
    )


def run(
    population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`rnnatlas.rnn.running` on inputs that are known to fit."""
    spec, weights, state = _from_a_state(population, inputs.shape[-3], state)
    if spec.bidirectional:
        signal, end = _both_ways(spec, weights, inputs, state)
        return eager._head(population, signal), end
    return _one_way(spec, False, weights, inputs, state)


def step(
    population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`rnnatlas.rnn.running.step` on inputs that are known to fit."""
    spec, weights, state = _from_a_state(population, inputs.shape[-2], state)
    return _one_way(spec, True, weights, inputs, state)


def _from_a_state(
    population: Stacked, batch: int, state: tuple[Tensor, ...] | None
) -> tuple[RNNSpec, tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """Spec and weights without learned initial states, which are to the kernels a state as any other."""
    spec, weights = population.spec, population.weights
    if not spec.initial_state:
        return spec, tuple(weights.values()), state
    if state is None:
        state = eager._stack(eager._unstack(population, batch, None))
    spec = dataclasses.replace(spec, initial_state=False)
    return spec, tuple(weights[name] for name in spec.shapes), state


def _both_ways(
    spec: RNNSpec, weights: tuple[Tensor, ...], inputs: Tensor, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Each layer and direction is an RNN of its own, which reads the sequences or their mirror images."""
    signal, ends = inputs, []
    each = 4 if spec.bias else 2
    for layer in range(spec.layers):
        size = 2 * spec.hidden if layer else spec.input
        alone = RNNSpec(cell=spec.cell, input=size, hidden=spec.hidden, bias=spec.bias)
        both = []
        for index in (2 * layer, 2 * layer + 1):
            backwards = index % 2 == 1
            start = None if state is None else tuple(part[index : index + 1] for part in state)
            own, read = weights[each * index : each * (index + 1)], signal.flip(-2) if backwards else signal
            hidden, end = _one_way(alone, False, own, read, start)
            both.append(hidden.flip(-2) if backwards else hidden)
            ends.append(end)
        signal = torch.cat(both, -1)
    return signal, tuple(torch.cat(part) for part in zip(*ends, strict=True))


def _one_way(
    spec: RNNSpec,
    stepping: bool,
    weights: tuple[Tensor, ...],
    inputs: Tensor,
    state: tuple[Tensor, ...] | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    h, c = (None, None) if state is None else (state[0], state[1] if len(state) == 2 else None)
    results: Any
    if not torch.is_grad_enabled():
        results, _ = kernels.forward(spec, stepping, weights, (inputs, h, c), save=False)
    elif any(weight.requires_grad for weight in weights):
        results = _Run.apply(spec, stepping, None, inputs, h, c, *weights)
    elif inputs.requires_grad or any(part.requires_grad for part in state or ()):
        # autograd looks at each tensor that it is given, so those without gradients go as one tuple
        results = _Run.apply(spec, stepping, weights, inputs, h, c)
    else:
        results, _ = kernels.forward(spec, stepping, weights, (inputs, h, c), save=False)
    outputs, *end = results
    return outputs, tuple(end)


class _Run(torch.autograd.Function):
    """Arguments: spec, stepping, weights if none needs a gradient, inputs, h, c, weights otherwise."""

    @staticmethod
    def forward(
        ctx: Any,
        spec: RNNSpec,
        stepping: bool,
        fixed: Any,
        inputs: Tensor,
        h: Part,
        c: Part,
        *weights: Tensor,
    ):
        weights = fixed or weights
        ctx.set_materialize_grads(False)
        results, ctx.kept = kernels.forward(spec, stepping, weights, (inputs, h, c), save=True)
        ctx.spec, ctx.stepping = spec, stepping
        ctx.save_for_backward(inputs, h, c, *weights)
        return results

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, *gradients: Part):
        inputs, h, c, *weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        found = kernels.backward(ctx.spec, ctx.stepping, weights, (inputs, h, c), ctx.kept, wanted, gradients)
        return None, None, None, *found
