"""The readable definition of what it means to run a population: plain torch, any device, any precision.

Every RNN of the population has its own weights, so a matrix product over the population is a batched
one: [rnn, batch, in] × [rnn, in, out].
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnatlas.rnn.backends import Stacked


def run(
    population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`rnnatlas.rnn.running` on inputs that are known to fit."""
    spec, weights = population.spec, population.weights
    layers = _unstack(population, inputs.shape[-3], state)
    last: list[tuple[Tensor, ...]] = []
    signal = inputs
    for layer in range(spec.layers):
        both = []
        for direction in range(spec.directions):
            index = layer * spec.directions + direction
            suffix = spec.suffixes[index]
            steps = _project(signal, weights[f"weight_ih_{suffix}"], _input_bias(population, suffix))
            hidden, end = _scan(population, suffix, steps, layers[index], backwards=direction == 1)
            both.append(hidden)
            last.append(end)
        signal = both[0] if len(both) == 1 else torch.cat(both, -1)
    return _head(population, signal), _stack(last)


def step(
    population: Stacked, inputs: Tensor, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`rnnatlas.rnn.running.step` on inputs that are known to fit."""
    signal = inputs if inputs.ndim == 3 else inputs.expand(len(population), *inputs.shape)
    layers = _unstack(population, signal.shape[1], state)
    last = []
    for suffix, start in zip(population.spec.suffixes, layers, strict=True):
        projected = _linear(
            signal, population.weights[f"weight_ih_{suffix}"], _input_bias(population, suffix)
        )
        end = _cell(population, suffix, projected, start)
        signal = end[0]
        last.append(end)
    return _head(population, signal.unsqueeze(2)).squeeze(2), _stack(last)


def _cell(
    population: Stacked, suffix: str, projected: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The next (h, c) or (h,), all [rnn, batch, …]; equations as in torch.nn.LSTM, GRU and RNN.

    Leaky cells go from h the share α of the way to what an RNN without a leak would go to.
    """
    spec = population.spec
    weight, cell, h = population.weights[f"weight_hh_{suffix}"], spec.cell, state[0]
    if cell == "gru":
        return (gru(projected, _linear(h, weight, population.weights.get(f"bias_hh_{suffix}")), h),)
    gates = torch.baddbmm(projected, h, weight.mT)
    if cell == "lstm":
        return lstm(gates, state[1])
    candidate = torch.tanh(gates) if spec.activation == "tanh" else torch.relu(gates)
    if "alpha" in spec.vectors:
        return (torch.lerp(h, candidate, population.weights[f"alpha_{suffix}"].unsqueeze(1)),)
    return (candidate,)


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next (h, c) of an LSTM from its gates' summed inputs [..., gate·hidden]."""
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(projected: Tensor, recurrent: Tensor, h: Tensor) -> Tensor:
    """The next h of a GRU; the reset gate scales what the recurrence adds to the candidate."""
    r_x, z_x, n_x = projected.chunk(3, -1)
    r_h, z_h, n_h = recurrent.chunk(3, -1)
    reset, update = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    candidate = torch.tanh(n_x + reset * n_h)
    return torch.lerp(candidate, h, update)


def _scan(
    population: Stacked, suffix: str, steps: list[Tensor], state: tuple[Tensor, ...], backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer and direction over time: hidden states [rnn, batch, time, hidden] and the last state."""
    hidden = []
    for projected in reversed(steps) if backwards else steps:
        state = _cell(population, suffix, projected, state)
        hidden.append(state[0])
    return torch.stack(hidden[::-1] if backwards else hidden, 2), state


def _project(signal: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """What a layer's input adds to its gates, one [rnn, batch, gate·hidden] a time step."""
    if signal.ndim == 4:
        rnn, batch, time, size = signal.shape
        flat = signal.transpose(1, 2).reshape(rnn, time * batch, size)
        return list(_linear(flat, weight, bias).view(rnn, time, batch, -1).unbind(1))
    batch, time, size = signal.shape  # shared: one large product for all RNNs
    rnn, rows, _ = weight.shape
    flat = signal.transpose(0, 1).reshape(time * batch, size)
    projected = F.linear(flat, weight.reshape(rnn * rows, size), None if bias is None else bias.reshape(-1))
    return list(projected.view(time, batch, rnn, rows).transpose(1, 2).unbind(0))


def _input_bias(population: Stacked, suffix: str) -> Tensor | None:
    """The biases that join the projected input; the GRU keeps `bias_hh` inside its reset gate's reach."""
    if not population.spec.bias:
        return None
    bias = population.weights[f"bias_ih_{suffix}"]
    return bias if population.spec.cell == "gru" else bias + population.weights[f"bias_hh_{suffix}"]


def _head(population: Stacked, hidden: Tensor) -> Tensor:
    if population.spec.output is None:
        return hidden
    outputs = _linear(
        hidden.flatten(1, 2), population.weights["head.weight"], population.weights.get("head.bias")
    )
    return outputs.unflatten(1, hidden.shape[1:3])


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[rnn, n, in] times each RNN's own [out, in], plus its bias."""
    if bias is None:
        return torch.bmm(inputs, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT)


def _unstack(population: Stacked, batch: int, state: tuple[Tensor, ...] | None) -> list[tuple[Tensor, ...]]:
    """The state by layer and direction; where there is none, a learned one or zeros."""
    spec, weights = population.spec, population.weights
    if state is not None:
        return list(zip(*(part.unbind(0) for part in state), strict=True))
    if spec.initial_state:
        return [
            tuple(weights[f"{part}0_{suffix}"].unsqueeze(1).expand(-1, batch, -1) for part in spec.state)
            for suffix in spec.suffixes
        ]
    zeros = weights[f"weight_hh_{spec.suffixes[0]}"].new_zeros(len(population), batch, spec.hidden)
    return [(zeros,) * len(spec.state) for _ in spec.suffixes]


def _stack(layers: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(part) for part in zip(*layers, strict=True))
