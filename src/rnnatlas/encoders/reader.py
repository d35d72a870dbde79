"""What reads an RNN's encoded responses, one after the other."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rnnatlas.encoders.base import chrono_initialise
from rnnatlas.rnn.backends import eager
from rnnatlas.rnn.backends.layers import Layer, Steps, applies


class Reader(nn.Module):
    """A stack of residual LSTM or GRU cells, run over a whole sequence or a step at a time."""

    def __init__(self, cell: Literal["lstm", "gru"], width: int, layers: int, steps: int):
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.rounded = False  # see `EmulationSettings.products`
        self.cells: Any = nn.ModuleList(kind(width, width) for _ in range(layers))
        for each in self.cells:
            chrono_initialise(each, steps)

    def forward(self, inputs: Float[Tensor, "time rnn width"]) -> Float[Tensor, "time rnn width"]:
        """What the reader gives out at each step of a sequence."""
        if not self._compiled(inputs):
            for cell in self.cells:
                inputs = inputs + cell(inputs)[0]
            return inputs
        time, rows = inputs.shape[:2]
        steps, signal = Steps(torch.full((time,), rows)), inputs.flatten(0, 1)
        for cell in self.cells:
            signal = signal + self._layer(cell, [steps.tokens])(signal, steps)[0]
        return signal.unflatten(0, (time, rows))

    def _compiled(self, inputs: Tensor) -> bool:
        """Whether the compiled layers can run the reader."""
        cell = self.cells[0]
        return cell.mode == "LSTM" and applies(inputs, cell.hidden_size)

    def _layer(self, cell: nn.RNNBase, counts: list[int]) -> Layer:
        w_x, w_h, b_x, b_h = cell.all_weights[0]
        return Layer(w_x, w_h, b_x + b_h, counts, self.rounded and self.training)

    def start(self, inputs: Float[Tensor, "rnn width"], steps: int) -> list[Any]:
        """The state before the first of so many steps: zeros, and each cell with its weights as they are."""
        if self._compiled(inputs):
            kept = [_Compiled(self._layer(cell, [len(inputs)] * steps), len(inputs)) for cell in self.cells]
            return [(cell, (None, None)) for cell in kept]
        zeros = torch.zeros_like(inputs)
        return [(Stepwise(cell, steps, inputs), (zeros, zeros)) for cell in self.cells]

    def step(
        self, inputs: Float[Tensor, "rnn width"], state: list[Any]
    ) -> tuple[Float[Tensor, "rnn width"], list[Any]]:
        """One step of `forward`; the state is made anew, not changed."""
        following = []
        for cell, before in state:
            after = cell(inputs, before)
            inputs = inputs + after[0]
            following.append((cell, after))
        return inputs, following


class _Compiled:
    """A cell on the compiled layers, for a number of steps in which its weights do not change."""

    def __init__(self, layer: Layer, rows: int):
        self.layer, self.steps = layer, Steps(torch.tensor([rows]))

    def __call__(self, inputs: Float[Tensor, "rnn width"], state: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
        """The cell's (h, c) after a step."""
        return self.layer(inputs, self.steps, *state)


class Stepwise:
    """A cell for a number of steps, in which its weights do not change.

    On a CPU, gradients of the weights are taken for all steps at once: for each step by itself they would be
    products of few rows, as large as the weights, to be written and added up. On a GPU, where starting many
    small operations is what takes time, each step is torch's fused one.

    Args:
        cell: The cell.
        steps: The most steps that are taken.
        inputs: Those of the first step.
    """

    def __init__(self, cell: nn.RNNBase, steps: int, inputs: Float[Tensor, "rnn width"]):
        self.weights = cell.all_weights[0]
        self.kind = cell.mode.lower()
        self.products = None
        if not inputs.is_cuda:
            weights_and_biases = zip(self.weights[:2], self.weights[2:], strict=True)
            self.products = [_Product(*pair, steps, len(inputs)) for pair in weights_and_biases]

    def __call__(
        self, inputs: Float[Tensor, "rnn width"], state: tuple[Tensor, Tensor]
    ) -> tuple[Float[Tensor, "rnn width"], Float[Tensor, "rnn width"]]:
        """The cell's (h, c) after a step; c of a GRU, which has none, stays as it is."""
        h, c = state
        if self.products is None:
            if self.kind == "lstm":
                return torch.lstm_cell(inputs, state, *self.weights)
            return torch.gru_cell(inputs, h, *self.weights), c
        projected, recurrent = (
            product(values) for product, values in zip(self.products, (inputs, h), strict=True)
        )
        if self.kind == "lstm":
            return eager.lstm(projected + recurrent, c)
        return eager.gru(projected, recurrent, h), c


class _Product:
    """Products with one weight, a step after the other, with its bias added."""

    def __init__(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"], steps: int, rows: int):
        self.weight = weight.detach().T
        self.seen: list[Tensor] = []
        self.biases = iter(_Biases.apply(weight, bias, self.seen, steps, rows))

    def __call__(self, inputs: Float[Tensor, "rnn in"]) -> Float[Tensor, "rnn out"]:
        self.seen.append(inputs.detach())
        return torch.addmm(next(self.biases), inputs, self.weight)


class _Biases(Function):
    """The bias for each step; the gradients that come back through it are those of the steps' products."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, seen: list[Tensor], steps: int, rows: int
    ) -> tuple[Tensor, ...]:
        ctx.seen = seen
        ctx.set_materialize_grads(False)
        return tuple(bias.expand(rows, -1) for _ in range(steps))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        took = [(given, made) for given, made in zip(ctx.seen, outputs, strict=False) if made is not None]
        inputs, gradients = map(torch.cat, zip(*took, strict=True))
        return gradients.T @ inputs, gradients.sum(0), None, None, None
