"""Probing with questions that are the same for every RNN."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.probing import Probing, ProbingEncoder, ProbingSettings
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.tasks.base import Signal


class NonInteractiveProbing(ProbingEncoder):
    """Embeds an RNN by its answers to a fixed, learned list of questions.

    Learned embeddings S_1 … S_L become the probing inputs of L steps (Herrmann et al. 2024, section 3,
    non-interactive probing). They are the same for all RNNs, so these run over them in one go.
    """

    Settings = ProbingSettings

    def __init__(self, spec: RNNSpec, signal: Signal, outcome: Signal, settings: Any):
        super().__init__(spec, signal, outcome, settings)
        self.steps = nn.Parameter(torch.randn(settings.steps, settings.width))

    def _ask(self, population: Population) -> tuple[Probing, Float[Tensor, "rnn width"]]:
        return self._probe_all(population, self._inputs(self.steps).transpose(0, 1))
