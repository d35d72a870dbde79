"""The emulator: one network that imitates any RNN, told by an embedding which one."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from rnnatlas.encoders.base import EMBED, remember
from rnnatlas.rnn import draw, run_lstm
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
    """An LSTM that gives out what an RNN would, told once at the start which RNN it is.

    The embedding enters as a linear projection that is added to the first projected input (Herrmann et
    al. 2024, section 4).

    Args:
        input: Size of the RNNs' input.
        output: Size of the distributions that they give out.
        time: Steps of a rollout, for which it should remember the embedding.
        settings: Width and depth.
    """

    def __init__(self, input: int, output: int, time: int, settings: EmulatorSettings):
        super().__init__()
        self.input = nn.Linear(input, settings.width)
        self.embedding = nn.Linear(EMBED, settings.width)
        self.lstm = nn.LSTM(settings.width, settings.width, settings.layers)
        self.output = nn.Linear(settings.width, output)
        remember(self.lstm, time)
        with torch.no_grad():  # as if numbers of an embedding had sd 1, for z to be heard from the start
            self.embedding.weight.mul_(EMBED**0.5)

    def forward(
        self,
        z: Float[Tensor, "rnn embed"],
        inputs: Float[Tensor, "rnn rollout time input"],
        lengths: Int[Tensor, "rnn rollout"] | None = None,
    ) -> Float[Tensor, "rnn rollout time output"]:
        """Log-probabilities of the emulated RNNs' outputs on the inputs given.

        Args:
            z: Embeddings of the RNNs.
            inputs: What the RNNs read.
            lengths: How many steps of each rollout count, where that is known: what comes after is not
                worked out, and zeros may stand there.
        """
        told = self.embedding(z).repeat_interleave(inputs.shape[1], 0)
        sequences = inputs.flatten(0, 1)
        # on a GPU, three short runs cost more than one with empty steps
        if lengths is None or inputs.is_cuda or lengths.min() == inputs.shape[2]:
            outputs = self._imitate(told, sequences)
        else:
            outputs = self._imitate_sorted(told, sequences, lengths.flatten())
        return outputs.unflatten(0, inputs.shape[:2])

    def _imitate(
        self, told: Float[Tensor, "sequence width"], inputs: Float[Tensor, "sequence time input"]
    ) -> Float[Tensor, "sequence time output"]:
        projected = self.input(inputs.transpose(0, 1))
        projected = torch.cat([projected[:1] + told, projected[1:]])
        return self.output(run_lstm(self.lstm, projected)).log_softmax(-1).transpose(0, 1)

    def _imitate_sorted(self, told: Tensor, inputs: Tensor, lengths: Tensor) -> Tensor:
        """`_imitate` in groups of like length, each only as long as its longest sequence."""
        order = lengths.argsort()
        parts = []
        for group in order.chunk(GROUPS):
            longest = int(lengths[group].max())
            outputs = self._imitate(told[group], inputs[group, :longest])
            parts.append(F.pad(outputs, (0, 0, 0, inputs.shape[1] - longest)))
        return torch.cat(parts)[order.argsort()]

    @torch.no_grad()
    def sample(
        self, z: Float[Tensor, "rnn embed"], uniforms: Float[Tensor, "rnn rollout time"], start: int
    ) -> tuple[UInt8[Tensor, "rnn rollout time"], Float[Tensor, "rnn rollout time output"]]:
        """Writes sequences of tokens as the emulated RNNs would; see `rnnatlas.rnn.sample`.

        Args:
            z: Embeddings of the RNNs.
            uniforms: One number from [0, 1) a draw.
            start: The token read first (BOS).

        Returns:
            The tokens drawn, and the log-probabilities they were drawn from.
        """
        rnn, rollout, _ = uniforms.shape
        words = self.input.weight.t() + self.input.bias
        signal = words[start] + self.embedding(z).repeat_interleave(rollout, 0)
        zeros = torch.zeros_like(signal)
        state = [(zeros, zeros)] * self.lstm.num_layers
        tokens, log_probs = [], []
        for uniform in uniforms.flatten(0, 1).unbind(1):
            for layer, weights in enumerate(self.lstm.all_weights):
                state[layer] = torch.lstm_cell(signal, state[layer], *weights)
                signal = state[layer][0]
            log_probs.append(self.output(signal).log_softmax(-1))
            drawn = draw(log_probs[-1], uniform)
            tokens.append(drawn.to(torch.uint8))
            signal = words[drawn]
        shape = (rnn, rollout)
        return torch.stack(tokens, 1).unflatten(0, shape), torch.stack(log_probs, 1).unflatten(0, shape)
