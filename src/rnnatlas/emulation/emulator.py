"""The emulator: one network that imitates any RNN, conditioned on its embedding."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from rnnatlas.encoders.base import EMBED, chrono_initialise, mean_and_sd
from rnnatlas.rnn import Interface, Population, State, Tokens
from rnnatlas.rnn.backends import kernels, layers
from rnnatlas.settings import at_least_one, settings

GROUPS = 3
"""Groups of like length that sequences are run in: more waste less on padding and more on small products."""


@settings
class EmulatorSettings:
    """Settings of `Emulator`; the paper's by default.

    Args:
        width: Hidden units of each LSTM layer.
        layers: LSTM layers.
    """

    width: int = 256
    layers: int = 2

    def __post_init__(self) -> None:
        at_least_one(self, "width", "layers")


class Emulator(nn.Module):
    """An LSTM that gives out what an RNN would, conditioned at the start on that RNN's embedding.

    The embedding enters as a linear projection that is added to the first projected input (Herrmann et
    al. 2024, section 4). Of tokens it gives out log-probabilities; of numbers, a linear layer's outputs in
    units of the zoo's outputs, whose mean and standard deviation it knows.

    Args:
        interface: What the RNNs read and give out.
        time: Steps of a rollout, for which it should remember the embedding.
        settings: Width and depth.
        size: Numbers of an embedding.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, interface: Interface, time: int, settings: EmulatorSettings, size: int = EMBED):
        super().__init__()
        reads, gives = interface.sizes
        self.interface = interface
        self.input = nn.Linear(reads, settings.width)
        self.embedding = nn.Linear(size, settings.width)
        self.lstm = nn.LSTM(settings.width, settings.width, settings.layers)
        self.output = nn.Linear(settings.width, gives)
        if not isinstance(interface.output, Tokens):
            self.register_buffer("mean", torch.zeros(gives))
            self.register_buffer("sd", torch.ones(()))
        self.rounded = False  # see `EmulationSettings.products`
        chrono_initialise(self.lstm, time)
        with torch.no_grad():  # as if numbers of an embedding had sd 1, for z to matter from the start
            self.embedding.weight.mul_(size**0.5)

    def forward(
        self,
        z: Float[Tensor, "rnn embed"],
        inputs: Float[Tensor, "rnn rollout time input"],
        lengths: Int[Tensor, "rnn rollout"] | None = None,
    ) -> Float[Tensor, "rnn rollout time output"]:
        """Outputs of the emulated RNNs on the inputs given: log-probabilities, or numbers.

        Args:
            z: Embeddings of the RNNs.
            inputs: What the RNNs read.
            lengths: How many steps of each rollout matter, where that is known: what comes after is not
                worked out, and zeros may stand there.
        """
        condition = self.embedding(z).repeat_interleave(inputs.shape[1], 0)
        sequences = inputs.flatten(0, 1)
        if layers.applies(condition, self.lstm.hidden_size):
            outputs = self._imitate_together(
                condition, sequences, None if lengths is None else lengths.flatten()
            )
            return outputs.unflatten(0, inputs.shape[:2])
        # on a GPU, three short runs cost more than one with empty steps
        if lengths is None or inputs.is_cuda or lengths.min() == inputs.shape[2]:
            outputs, _ = self.run(condition, sequences, None)
        else:
            outputs = self._imitate_sorted(condition, sequences, lengths.flatten())
        return outputs.unflatten(0, inputs.shape[:2])

    def run(
        self,
        condition: Float[Tensor, "sequence width"] | None,
        inputs: Float[Tensor, "sequence time input"],
        state: State | None,
    ) -> tuple[Float[Tensor, "sequence time output"], State]:
        """Outputs and last state; `condition` is the projected embedding at the start and None later."""
        projected = self.input(inputs.transpose(0, 1))
        if condition is not None:
            projected = torch.cat([projected[:1] + condition, projected[1:]])
        hidden, state = self._hidden(projected, state)
        return self._outputs(hidden).transpose(0, 1), state

    def step(
        self,
        condition: Float[Tensor, "sequence width"] | None,
        inputs: Float[Tensor, "sequence input"],
        state: State | None,
    ) -> tuple[Float[Tensor, "sequence output"], State]:
        """One step of `run`."""
        projected = self.input(inputs)
        projected = projected if condition is None else projected + condition
        hidden, state = self._cells.step(projected.unsqueeze(0), state)
        return self._outputs(hidden[0]), state

    @property
    def _cells(self) -> Population:
        return Population.from_modules([self.lstm])

    def _hidden(
        self, projected: Float[Tensor, "time sequence width"], state: State | None
    ) -> tuple[Tensor, State]:
        """Hidden states; on one thread of a CPU the compiled backend is faster than torch's own loop."""
        compiled = not projected.is_cuda and torch.get_num_threads() == 1 and kernels.available()
        if not compiled:
            start = None if state is None else tuple(part.squeeze(1) for part in state)
            outputs, end = self.lstm(projected, start)
            return outputs, tuple(part.unsqueeze(1) for part in end)
        outputs, end = self._cells.run(projected.transpose(0, 1).unsqueeze(0), state)
        return outputs[0].transpose(0, 1), end

    def _imitate_together(
        self,
        condition: Float[Tensor, "sequence width"],
        inputs: Float[Tensor, "sequence time input"],
        lengths: Int[Tensor, " sequence"] | None,
    ) -> Float[Tensor, "sequence time output"]:
        """`run` on the compiled layers, step by step those sequences that have not ended.

        What comes before the first layer is linear as well, so both are one product, as small as an input.
        """
        count, time = inputs.shape[:2]
        lengths = torch.full((count,), time) if lengths is None else lengths.clamp(min=1)
        order = lengths.argsort(descending=True, stable=True)
        present = lengths[order] > torch.arange(int(lengths.max())).unsqueeze(1)
        step, place = present.nonzero(as_tuple=True)
        steps, row = layers.Steps(present.sum(1)), order[place]
        weights = self.lstm.all_weights
        first = weights[0][0]
        bias = first @ self.input.bias + weights[0][2] + weights[0][3]
        projected = first @ self.input.weight
        sums = _First.apply(inputs[row, step], projected, bias, condition[order] @ first.T)
        counts, rounded = [steps.tokens], self.rounded and self.training
        hidden, _ = layers.Layer(None, weights[0][1], sums, counts, rounded)(None, steps)
        for w_x, w_h, b_x, b_h in weights[1:]:
            hidden, _ = layers.Layer(w_x, w_h, b_x + b_h, counts, rounded)(hidden, steps)
        outputs = self._outputs(hidden)
        return outputs.new_zeros(count, time, outputs.shape[1]).index_put((row, step), outputs)

    def _imitate_sorted(self, condition: Tensor, inputs: Tensor, lengths: Tensor) -> Tensor:
        """`run` in groups of like length, each only as long as its longest sequence."""
        order = lengths.argsort()
        parts = []
        for group in order.chunk(GROUPS):
            longest = max(1, int(lengths[group].max()))
            outputs, _ = self.run(condition[group], inputs[group, :longest], None)
            parts.append(functional.pad(outputs, (0, 0, 0, inputs.shape[1] - longest)))
        return torch.cat(parts)[order.argsort()]

    # --- units of outputs ----------------------------------------------------------------------

    def _outputs(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch output"]:
        outputs = self.output(hidden)
        if isinstance(self.interface.output, Tokens):
            return outputs.log_softmax(-1)
        return self.mean + self.sd * outputs

    def standardise(self, outputs: Float[Tensor, "*batch output"]) -> Float[Tensor, "*batch output"]:
        """Outputs as divergences take them: numbers in units of the zoo's outputs, tokens as they are."""
        return outputs if isinstance(self.interface.output, Tokens) else (outputs - self.mean) / self.sd

    @torch.no_grad()
    def calibrate(self, outputs: Float[Tensor, "sample output"]) -> None:
        """Takes the mean of each output over the zoo, and one standard deviation of all about these."""
        if not isinstance(self.interface.output, Tokens):
            self.mean.copy_(outputs.mean(0))
            self.sd.copy_(mean_and_sd(outputs - outputs.mean(0))[1])


class _First(Function):
    """A linear layer, with what joins the first rows; torch's weight gradient of few inputs is slow."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, first: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.count = len(first)
        outputs = torch.addmm(bias, inputs, weight.T)
        outputs[: ctx.count] += first
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        [inputs] = ctx.saved_tensors
        padded = functional.pad(inputs, (0, -inputs.shape[1] % 16))
        d_weight = layers.product(gradient, padded, half=False)[:, : inputs.shape[1]]
        return None, d_weight, gradient.sum(0), gradient[: ctx.count]
