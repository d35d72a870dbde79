"""Emulations of RNNs as a system, which can be run, sampled and judged as the RNNs themselves."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.emulation.emulator import Emulator
from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import Index, RNNSpec
from rnnatlas.rnn.system import positions


class Emulation:
    """An emulator conditioned on embeddings, one emulated RNN each: a `System`.

    Outputs are those of the emulator: log-probabilities, which are logits as well, or numbers.

    Args:
        emulator: The emulator.
        z: Embeddings of the RNNs that it imitates; zeros for an unconditional one.
    """

    specs: tuple[RNNSpec, ...] = ()

    def __init__(self, emulator: Emulator, z: Float[Tensor, "rnn embed"]):
        self.emulator = emulator
        self.z = z.to(emulator.input.weight)
        self.interface = emulator.interface

    @classmethod
    def unconditional(cls, emulator: Emulator, count: int) -> "Emulation":
        """`count` times the emulator of the control, which was trained with zeros for embeddings."""
        return cls(emulator, torch.zeros(count, emulator.embedding.in_features))

    @property
    def device(self) -> torch.device:
        """Where the emulator is."""
        return self.z.device

    @property
    def dtype(self) -> torch.dtype:
        """In which precision it is."""
        return self.z.dtype

    def __len__(self) -> int:
        return len(self.z)

    def __repr__(self) -> str:
        return f"Emulation({len(self)} RNNs, {self.interface.input} → {self.interface.output})"

    def run(
        self,
        inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "rnn batch time output"], Any]:
        """See `rnnatlas.run`."""
        inputs = self._own(inputs, 3)
        outputs, state = self.emulator.run(self._condition(inputs, state), inputs.flatten(0, 1), state)
        return outputs.unflatten(0, inputs.shape[:2]), state

    def step(
        self, inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"], state: Any = None
    ) -> tuple[Float[Tensor, "rnn batch output"], Any]:
        """See `rnnatlas.step`."""
        inputs = self._own(inputs, 2)
        outputs, state = self.emulator.step(self._condition(inputs, state), inputs.flatten(0, 1), state)
        return outputs.unflatten(0, inputs.shape[:2]), state

    def _condition(self, inputs: Tensor, state: Any) -> Tensor | None:
        """The projected embedding of each sequence, which enters at the start alone."""
        return (
            None
            if state is not None
            else self.emulator.embedding(self.z).repeat_interleave(inputs.shape[1], 0)
        )

    def _own(self, inputs: Tensor, shared: int) -> Tensor:
        """Inputs of each RNN, [rnn, batch, …, input]."""
        reads = self.interface.input.size
        inputs = inputs.expand(len(self), *inputs.shape) if inputs.ndim == shared else inputs
        if inputs.ndim != shared + 1 or len(inputs) != len(self) or inputs.shape[-1] != reads:
            raise RNNSpecMismatch(
                f"inputs of {len(self)} emulated RNNs should have {shared + 1} axes, from {len(self)} to "
                f"{reads}, or be shared, found {list(inputs.shape)}"
            )
        return inputs

    def select(self, index: Index) -> "Emulation":
        """The emulated RNNs at the positions given, in that order."""
        return Emulation(self.emulator, self.z[positions(index, len(self), self.device)])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Emulation":
        """The same on another device or in another precision, with an emulator of its own if it moves."""
        z = self.z.to(device=device, dtype=dtype)
        if z is self.z:
            return self
        return Emulation(copy.deepcopy(self.emulator).to(z), z)
