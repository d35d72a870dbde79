"""The control that every emulation loss is compared with."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.encoders.base import Encoder
from rnnatlas.rnn import SYMMETRIES, System
from rnnatlas.settings import settings


@settings
class ZeroSettings:
    """Nothing to set."""


class Zero(Encoder):
    """Embeds every RNN as zeros.

    Rollouts sampled from an RNN already give its task away, so an emulator learns something without
    any embedding; only what lies below its loss is due to an encoder.
    """

    Settings = ZeroSettings
    title: ClassVar[str | None] = "unconditional (z = 0)"
    colour: ClassVar[str | None] = "#6e7781"
    reads_weights = False
    symmetries: ClassVar[frozenset[str]] = frozenset(SYMMETRIES)

    @property
    def last(self) -> None:
        """No layer: there is nothing to whiten."""
        return None

    def read(self, system: System) -> Float[Tensor, "rnn embed"]:
        """Zeros, which scaling leaves as they are."""
        return torch.zeros(len(system), self.size, device=system.device, dtype=system.dtype)
