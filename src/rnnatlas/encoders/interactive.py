"""Probing with inputs that depend on the responses so far."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED
from rnnatlas.encoders.probing import Probing, ProbingSettings, StepwiseReading
from rnnatlas.rnn import Interface, RNNSpec, System, step
from rnnatlas.settings import settings


@settings
class InteractiveSettings(ProbingSettings):
    """Settings of `InteractiveProbing`.

    Args:
        step_embedding: Whether a learned embedding of the step joins what a probing input is generated from.
        interaction: False is the no-interaction ablation: probing inputs come from a reader that reads BOS
            at every step. A control of the same size, for what interaction is worth.
    """

    step_embedding: bool = False
    interaction: bool = True


class InteractiveProbing(StepwiseReading):
    """Embeds an RNN by an interview: each probing input depends on the responses before it.

    The probing input of step i is generated from what the reader gives out after step i-1 (Herrmann et al.
    2024, section 3, interactive probing); the first comes after BOS alone.
    """

    Settings = InteractiveSettings
    title: ClassVar[str | None] = "interactive probing"
    colour: ClassVar[str | None] = "#009e73"

    def __init__(self, interface: Interface, spec: RNNSpec | None, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        self.steps = None
        if settings.step_embedding:
            self.steps = nn.Parameter(torch.randn(settings.steps, settings.width))

    def accepts(self, interface: Interface, spec: RNNSpec | None) -> str | None:
        """See `Encoder.accepts`."""
        if spec is not None and spec.bidirectional and self.settings.interaction:
            return (
                f"interactive probing goes one step at a time, but {spec} reads sequences from both ends; "
                "use the encoder noninteractive"
            )
        return super().accepts(interface, spec)

    def _probe(self, system: System) -> tuple[Probing, Float[Tensor, "rnn width"]]:
        if not self.settings.interaction:
            blind = self.reader(self.bos.expand(self.settings.steps, 1, -1)).squeeze(1)
            hidden = blind if self.steps is None else blind + self.steps
            return self._probe_all(system, self._inputs(hidden).transpose(0, 1))
        inputs, responses = [], []
        encoded = self.bos.expand(len(system), -1)
        memory, state = self.reader.start(encoded, self.settings.steps + 2), None
        markers = [None] * self.settings.steps if self.steps is None else self.steps.unbind()
        for marker in markers:
            hidden, memory = self.reader.step(encoded, memory)
            inputs.append(self._inputs(hidden if marker is None else hidden + marker))
            outputs, state = step(system, inputs[-1], state)
            responses.append(self.interface.output.interpret(outputs))
            encoded = self._encode(responses[-1])
        _, memory = self.reader.step(encoded, memory)
        last, _ = self.reader.step(self.eos.expand_as(encoded), memory)
        return Probing(inputs=torch.stack(inputs, 2), outputs=torch.stack(responses, 2)), last
