"""What hears an RNN's answers, one after the other."""

from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rnnatlas.encoders.base import remember


class Reader(nn.Module):
    """A stack of residual LSTM or GRU cells, run over a whole sequence or a step at a time."""

    def __init__(self, cell: Literal["lstm", "gru"], width: int, layers: int, steps: int):
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.cells: Any = nn.ModuleList(kind(width, width) for _ in range(layers))
        for own in self.cells:
            remember(own, steps)

    def forward(self, inputs: Float[Tensor, "time rnn width"]) -> Float[Tensor, "time rnn width"]:
        """What the reader gives out at each step of a sequence."""
        for cell in self.cells:
            inputs = inputs + cell(inputs)[0]
        return inputs

    def start(self, inputs: Float[Tensor, "rnn width"]) -> list[Any]:
        """The state before the first step: zeros, and each cell's products, which all steps share."""
        zeros = torch.zeros_like(inputs)
        return [(Product(cell.weight_ih_l0), Product(cell.weight_hh_l0), zeros, zeros) for cell in self.cells]

    def step(
        self, inputs: Float[Tensor, "rnn width"], state: list[Any]
    ) -> tuple[Float[Tensor, "rnn width"], list[Any]]:
        """One step of `forward`; the state is made anew, not changed."""
        following = []
        for cell, (from_inputs, from_hidden, h, c) in zip(self.cells, state, strict=True):
            read, kept = from_inputs(inputs) + cell.bias_ih_l0, from_hidden(h) + cell.bias_hh_l0
            if cell.mode == "LSTM":
                i, f, g, o = (read + kept).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            else:
                (r, z, n), (r_kept, z_kept, n_kept) = read.chunk(3, -1), kept.chunk(3, -1)
                n = (n + (r + r_kept).sigmoid() * n_kept).tanh()
                h = n + (z + z_kept).sigmoid() * (h - n)
            inputs = inputs + h
            following.append((from_inputs, from_hidden, h, c))
        return inputs, following


class Product:
    """Multiplies by weights that many steps share, and takes their gradient for all steps at once.

    For each step by itself it would be a product of few rows, as large as the weights, written and added up.

    Args:
        weight: As in a linear layer.
    """

    def __init__(self, weight: Float[Tensor, "out in"]):
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.weight = cast(Tensor, _Weight.apply(weight, self.seen))

    def __call__(self, inputs: Float[Tensor, "rnn in"]) -> Float[Tensor, "rnn out"]:
        """The product for one step."""
        return cast(Tensor, _Product.apply(inputs, self.weight, self.seen))


class _Weight(Function):
    """The weight as it is. Gradients go back through it after all its products, which note what they saw."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.seen = seen
        ctx.set_materialize_grads(False)
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None) -> tuple[Tensor, None]:
        inputs, outputs = map(torch.cat, zip(*ctx.seen, strict=True))
        ctx.seen.clear()
        return outputs.T @ inputs, None


class _Product(Function):
    """The product, which notes its inputs and the gradient of what it gave out."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.seen = seen
        return inputs @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outputs: Tensor) -> tuple[Tensor, None, None]:
        inputs, weight = ctx.saved_tensors
        ctx.seen.append((inputs, outputs))
        return outputs @ weight, None, None
