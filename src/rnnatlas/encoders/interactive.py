"""Probing with inputs that depend on the responses so far."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Examples
from rnnatlas.encoders.probing import Probing, ProbingSettings, StepwiseReading, donor_of
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, Population, RNNSpec, System, run, step
from rnnatlas.settings import settings

DONORS = 32
"""RNNs that the yoked control has interviews with."""


@settings
class InteractiveSettings(ProbingSettings):
    """Settings of `InteractiveProbing`.

    Args:
        step_embedding: Whether a learned embedding of the step joins what a probing input is generated from.
        interaction: False is the no-interaction ablation: probing inputs come from a reader that reads BOS
            at every step. A control of the same size, for what interaction is worth.
        yoked: Another control: each RNN gets the probing inputs of an interview with another RNN, one of a
            few training RNNs that the encoder keeps; which one is as good as random. For RNNs of one
            architecture.
    """

    step_embedding: bool = False
    interaction: bool = True
    yoked: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.yoked and not self.interaction:
            raise SettingsError(
                "a yoked control has interviews with other RNNs, so interaction should be true"
            )


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
        self.donors = nn.Module()
        if settings.yoked:
            if spec is None:
                raise SettingsError(
                    "the yoked control of interactive probing needs RNNs of a known architecture"
                )
            for name, shape in spec.shapes.items():
                self.donors.register_buffer(name.replace(".", "_"), torch.zeros(DONORS, *shape))

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
        if self.settings.yoked:
            inputs = self._interview(self._kept())[0].inputs
            return self._probe_all(system, inputs[self._donor(system, inputs[:1, :, :1])])
        return self._interview(system)

    def _interview(self, system: System) -> tuple[Probing, Float[Tensor, "rnn width"]]:
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

    @torch.no_grad()
    def standardise(self, system: System, examples: Examples | None = None) -> None:
        """See `StepwiseReading.standardise`; the yoked control takes its donors first.

        Raises:
            SettingsError: Donors would be of several architectures.
        """
        if self.settings.yoked:
            chosen = system.select(torch.linspace(0, len(system) - 1, DONORS).long())
            if not isinstance(chosen, Population) or chosen.spec != self.spec:
                raise SettingsError(
                    "the yoked control of interactive probing takes training RNNs of one architecture, found "
                    f"{', '.join(map(str, chosen.specs)) or 'black boxes'}"
                )
            for name, kept in self._kept().weights.items():
                kept.copy_(chosen.weights[name])
        super().standardise(system, examples)

    def _kept(self) -> Population:
        assert self.spec is not None
        weights = {name: self.donors.get_buffer(name.replace(".", "_")) for name in self.spec.shapes}
        return Population(self.spec, weights, self.interface)

    def _donor(self, system: System, first: Float[Tensor, "1 probe 1 input"]) -> Int[Tensor, " rnn"]:
        """Whose interview each RNN's probing inputs come from: a number made of its own first responses."""
        responses = self.interface.output.interpret(run(system, first[0])[0])
        return donor_of(responses.flatten(1), DONORS)
