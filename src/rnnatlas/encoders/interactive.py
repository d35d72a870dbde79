"""Probing with questions that depend on the answers so far."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.probing import Probing, ProbingEncoder, ProbingSettings
from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import Population, RNNSpec, step
from rnnatlas.settings import settings
from rnnatlas.tasks.base import Signal


@settings
class InteractiveSettings(ProbingSettings):
    """Settings of `InteractiveProbing`.

    Args:
        step_embedding: Whether a learned embedding of the step joins what a question is made of.
        interaction: False cuts the path from answers to questions: questions come from a reader that
            hears BOS at every step. A control of the same size, for what interaction is worth.
    """

    step_embedding: bool = False
    interaction: bool = True


class InteractiveProbing(ProbingEncoder):
    """Embeds an RNN by an interview: each question depends on the answers before it.

    The probing input of step i is made of what the reader gives out after step i-1 (Herrmann et al.
    2024, section 3, interactive probing); the first comes after BOS alone.
    """

    Settings = InteractiveSettings

    def __init__(self, spec: RNNSpec, signal: Signal, outcome: Signal, settings: Any):
        super().__init__(spec, signal, outcome, settings)
        self.check(spec)
        self.steps = None
        if settings.step_embedding:
            self.steps = nn.Parameter(torch.randn(settings.steps, settings.width))

    def check(self, spec: RNNSpec) -> None:
        """See `Encoder.check`."""
        super().check(spec)
        if spec.bidirectional and self.settings.interaction:
            raise RNNSpecMismatch(
                f"interactive probing asks one step at a time, but {spec} reads sequences from both ends; "
                "use the encoder noninteractive"
            )

    def _ask(self, population: Population) -> tuple[Probing, Float[Tensor, "rnn width"]]:
        if not self.settings.interaction:
            blind = self.reader(self.bos.expand(self.settings.steps, 1, -1)).squeeze(1)
            thoughts = blind if self.steps is None else blind + self.steps
            return self._probe_all(population, self._inputs(thoughts).transpose(0, 1))
        inputs, answers = [], []
        heard = self.bos.expand(len(population), -1)
        memory, state = self.reader.start(heard, self.settings.steps + 2), None
        markers = [None] * self.settings.steps if self.steps is None else self.steps.unbind()
        for marker in markers:
            thought, memory = self.reader.step(heard, memory)
            inputs.append(self._inputs(thought if marker is None else thought + marker))
            outputs, state = step(population, inputs[-1], state)
            answers.append(self._answers(outputs))
            heard = self._heard(answers[-1])
        _, memory = self.reader.step(heard, memory)
        last, _ = self.reader.step(self.eos.expand_as(heard), memory)
        return Probing(inputs=torch.stack(inputs, 2), outputs=torch.stack(answers, 2)), last
