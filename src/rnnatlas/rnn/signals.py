"""What goes into a system and what comes out: tokens or numbers, and all that depends on which."""

import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn.spec import RNNSpec


@dataclasses.dataclass(frozen=True)
class Tokens:
    """One of `size` symbols a step, read one-hot; outputs are logits.

    Args:
        size: Number of symbols.
    """

    size: int

    @property
    def dtype(self) -> np.dtype:
        """Smallest unsigned integer that holds every symbol, as which token numbers are stored."""
        return np.min_scalar_type(self.size - 1)

    def store(self, outputs: Float[Tensor, "*batch output"]) -> Float[np.ndarray, "*batch output"]:
        """Outputs as rollouts keep them: log-probabilities lose nothing that matters in half precision.

        What overflows becomes infinite, of which zoos take note.
        """
        with np.errstate(over="ignore"):
            return outputs.cpu().numpy().astype(np.float16)

    @property
    def width(self) -> float:
        """Largest distance of two inputs, as the sum of absolute differences."""
        return 2.0

    def encode(self, stored: Shaped[Tensor, "*batch"]) -> Float[Tensor, "*batch {self.size}"]:
        """Token numbers as what a system reads: one-hot vectors."""
        return functional.one_hot(stored.long(), self.size).float()

    def interpret(self, outputs: Float[Tensor, "*batch output"]) -> Float[Tensor, "*batch output"]:
        """Outputs as they are stored and compared: log-probabilities, which resolve small probabilities."""
        return outputs.log_softmax(-1)

    def probing_inputs(self, raw: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        """Distributions over tokens, from any numbers."""
        return raw.softmax(-1)

    def raw(self, inputs: Float[Tensor, "*batch input"], scale: float) -> Float[Tensor, "*batch input"]:
        """Numbers that `scale` times make `probing_inputs` that are nearly the tokens given."""
        return inputs

    def random(
        self, shape: tuple[int, int], random: torch.Generator, like: Float[Tensor, "*batch input"]
    ) -> Float[Tensor, "sequence time input"]:
        """Sequences of tokens drawn alike."""
        return self.encode(torch.randint(self.size, shape, generator=random))


@dataclasses.dataclass(frozen=True)
class Values:
    """`size` numbers a step, of a known range or unbounded.

    Args:
        size: How many numbers.
        low: Least of them; None where they are unbounded.
        high: Largest of them; None where they are unbounded.

    Raises:
        RNNSpecMismatch: One bound without the other, or bounds that leave no range.
    """

    size: int
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise RNNSpecMismatch(f"a signal is bounded on both sides or on neither, found {self}")
        if self.low is not None and self.high is not None and not -math.inf < self.low < self.high < math.inf:
            raise RNNSpecMismatch(f"bounds of a signal should be finite, low below high, found {self}")

    @property
    def bounded(self) -> bool:
        """Whether the range is known."""
        return self.low is not None

    def store(self, outputs: Float[Tensor, "*batch output"]) -> Float[np.ndarray, "*batch output"]:
        """Outputs as rollouts keep them: their range is not known, so not in half precision."""
        return outputs.cpu().numpy().astype(np.float32)

    @property
    def width(self) -> float:
        """Largest distance of two inputs, as the sum of absolute differences; infinite where unbounded."""
        if self.low is None or self.high is None:
            return math.inf
        return self.size * (self.high - self.low)

    def encode(self, stored: Shaped[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Stored numbers as what a system reads."""
        return stored.float()

    def interpret(self, outputs: Float[Tensor, "*batch output"]) -> Float[Tensor, "*batch output"]:
        """Outputs as they are stored and compared: numbers as they are."""
        return outputs

    def probing_inputs(self, raw: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        """Numbers within the range, from any numbers; as they are where there is none."""
        if self.low is None or self.high is None:
            return raw
        return self.low + (self.high - self.low) * raw.sigmoid()

    def raw(self, inputs: Float[Tensor, "*batch input"], scale: float) -> Float[Tensor, "*batch input"]:
        """Numbers that `scale` times make `probing_inputs` that are the inputs given, but off the bounds."""
        if self.low is None or self.high is None:
            return inputs / scale
        return ((inputs - self.low) / (self.high - self.low)).logit(1e-3) / scale

    def random(
        self, shape: tuple[int, int], random: torch.Generator, like: Float[Tensor, "*batch input"]
    ) -> Float[Tensor, "sequence time input"]:
        """Sequences of numbers uniform over the range; where there is none, normal and of like scale."""
        drawn = torch.rand if self.bounded else torch.randn
        numbers = drawn((*shape, self.size), generator=random)
        if self.low is None or self.high is None:
            known = like.flatten(0, -2)
            return known.mean(0) + known.std(0, correction=0) * numbers
        return self.low + (self.high - self.low) * numbers


Signal = Tokens | Values


@dataclasses.dataclass(frozen=True)
class Interface:
    """What a system reads and what it gives out at each step."""

    input: Signal
    output: Signal

    @classmethod
    def of(cls, spec: RNNSpec) -> "Interface":
        """That of RNNs of which nothing is known but their architecture: unbounded numbers."""
        return cls(Values(spec.input), Values(spec.output_size))

    @property
    def sizes(self) -> tuple[int, int]:
        """Sizes of an input and of an output vector."""
        return self.input.size, self.output.size


def draw(
    log_probs: Float[Tensor, "*batch output"], uniforms: Float[Tensor, "*batch"]
) -> Int[Tensor, "*batch"]:
    """Tokens drawn from distributions through the inverse of the cumulative distribution."""
    cumulative = log_probs.exp().cumsum(-1)
    above = (uniforms.unsqueeze(-1) * cumulative[..., -1:] >= cumulative).sum(-1)
    return above.clamp_(max=log_probs.shape[-1] - 1)
