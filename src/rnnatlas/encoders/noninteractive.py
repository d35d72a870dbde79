"""Probing with inputs that are the same for every RNN."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED
from rnnatlas.encoders.probing import Probing, ProbingSettings, StepwiseReading
from rnnatlas.rnn import Interface, RNNSpec, System


class NonInteractiveProbing(StepwiseReading):
    """Embeds an RNN by its responses to a fixed, learned list of probing inputs.

    Learned embeddings S_1 … S_L become the probing inputs of L steps (Herrmann et al. 2024, section 3,
    non-interactive probing). They are the same for all RNNs, so these run over them in one go.
    """

    Settings = ProbingSettings
    title: ClassVar[str | None] = "non-interactive probing"
    colour: ClassVar[str | None] = "#0072b2"

    def __init__(self, interface: Interface, spec: RNNSpec | None, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        self.steps = nn.Parameter(torch.randn(settings.steps, settings.width))

    def _probe(self, system: System) -> tuple[Probing, Float[Tensor, "rnn width"]]:
        return self._probe_all(system, self._inputs(self.steps).transpose(0, 1))
