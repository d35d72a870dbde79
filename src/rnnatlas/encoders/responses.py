"""Probing with whole sequences, whose responses are read directly."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Examples, chunks, mlp
from rnnatlas.encoders.probing import Probing, ProbingEncoder, donor_of
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, RNNSpec, Signal, System, Tokens, run
from rnnatlas.settings import at_least_one, settings

LEAST = -12.0
"""Log-probabilities below this are taken for it: what is less likely hardly ever happens."""

NARROW = 0.25
"""Least standard deviation that a response is divided by, as a share of that of all responses."""

LARGEST = 3.0
"""Standardised responses stay within plus and minus this."""

KNOWN = 2048
"""RNNs, at most, whose responses principal components are taken of."""

DONORS = 64
"""RNNs whose responses may stand in for another's."""

LOGIT_SCALE = 5.0
"""Factor before the softmax or sigmoid of probing inputs that are learned: tokens are nearly one-hot."""


@settings
class ResponsesSettings:
    """Settings of `Responses`.

    Args:
        sequences: Probing sequences (M).
        steps: Length of each (L).
        start: What probing sequences are at first: "rollouts", inputs that training RNNs read in theirs;
            "random"; or a kind that the task offers, such as "counting" of formal languages.
        learned: Whether training changes them. Without it they are real inputs that can be read, and RNNs
            need no gradients.
        rounds: 2 to show half of the sequences first, and let what an MLP makes of the responses shift the
            others: interaction in two runs instead of one at each step.
        control: Of two rounds; "yoked": responses of another RNN shift the second half; "decoy": nothing
            shifts it, though all is read as before.
        hidden: Units of each hidden layer of the MLP.
        layers: Hidden layers of the MLP.
    """

    sequences: int = 8
    steps: int = 22
    start: str = "rollouts"
    learned: bool = False
    rounds: int = 1
    control: Literal["yoked", "decoy"] | None = None
    hidden: int = 128
    layers: int = 2

    def __post_init__(self) -> None:
        at_least_one(self, "sequences", "steps", "hidden", "layers")
        if self.rounds not in (1, 2) or self.rounds > self.sequences:
            raise SettingsError(f"rounds should be 1, or 2 for 2 sequences or more, found {self.rounds}")
        if self.control is not None and (self.rounds == 1 or self.learned):
            raise SettingsError("a control is one of two rounds whose first inputs are not learned")


class Responses(ProbingEncoder):
    """Embeds an RNN by all its responses to a few whole sequences, read by an MLP.

    Responses (log-probabilities of tokens, or numbers) are standardised, each by its own mean and standard
    deviation over the training snapshots, and joined. The embedding is a linear map of them and of what an
    MLP makes of them; the map starts as their principal components (docs/decisions/0024-responses.md).
    Nothing is recurrent but the RNN, which runs over its probing sequences in one go.
    """

    Settings = ResponsesSettings
    settings: ResponsesSettings
    title: ClassVar[str | None] = "direct responses"
    colour: ClassVar[str | None] = "#a3163e"
    questions: Tensor
    places: Tensor
    mean: Tensor
    sd: Tensor
    donors: Tensor

    def __init__(
        self,
        interface: Interface,
        spec: RNNSpec | None,
        settings: ResponsesSettings,
        size: int = EMBED,
        beside: int = 0,
    ):
        super().__init__(interface, spec, settings, size)
        one = settings.steps * interface.output.size
        start = torch.randn(settings.sequences, settings.steps, interface.input.size)
        if settings.learned:
            self.questions = nn.Parameter(start)
        else:
            self.register_buffer("questions", interface.input.probing_inputs(start))
        self.register_buffer("places", torch.rand(KNOWN), persistent=False)  # which examples are taken
        self.register_buffer("mean", torch.zeros(settings.sequences * one))
        self.register_buffer("sd", torch.ones(settings.sequences * one))
        self.first = settings.sequences  # sequences of the first round
        hidden = [settings.hidden] * settings.layers
        if settings.rounds == 2:
            self.first = settings.sequences // 2
            self.descriptor = mlp(self.first * one, *hidden)
            self.shift = nn.Linear(settings.hidden, start[self.first :].numel())
            self.register_buffer("donors", torch.zeros(DONORS, self.first * one))
            beside += settings.hidden
        self.mlp = mlp(settings.sequences * one + beside, *hidden)
        self.map = nn.Linear(settings.sequences * one + beside + settings.hidden, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return self.map

    def read(self, system: System) -> Float[Tensor, "rnn embed"]:
        """The map of what is read of an RNN and of what the MLP makes of that."""
        features = self._features(system)
        return self.map(torch.cat([features, self.mlp(features).relu()], 1))

    def _features(self, system: System) -> Float[Tensor, "rnn feature"]:
        """All that is read of an RNN: its responses, and what else a subclass reads beside them."""
        return self._probe(system)[1]

    def _probe(self, system: System) -> tuple[Probing, Float[Tensor, "rnn feature"]]:
        first, inputs = self.first, self.questions
        if self.settings.rounds == 1:
            shown = self._shown(inputs)
            outputs = self._run(system, shown)
            probing = Probing(inputs=shown.expand(len(system), -1, -1, -1), outputs=outputs)
            return probing, self._standard(outputs)
        shown = self._shown(inputs[:first])
        outputs = self._run(system, shown)
        responses = self._standard(outputs)
        descriptor = self.descriptor(responses).relu()
        shift = self.shift(self._shifting(responses, descriptor)).unflatten(1, inputs[first:].shape)
        raw = inputs[first:] if self.settings.learned else self._raw(inputs[first:])
        shifted = self.interface.input.probing_inputs((raw + shift) * LOGIT_SCALE)
        probing = Probing(
            inputs=torch.cat([shown.expand(len(system), -1, -1, -1), shifted], 1),
            outputs=torch.cat([outputs, self._run(system, shifted)], 1),
        )
        return probing, torch.cat([self._standard(probing.outputs), descriptor], 1)

    def _shifting(
        self, responses: Float[Tensor, "rnn response"], descriptor: Float[Tensor, "rnn hidden"]
    ) -> Float[Tensor, "rnn hidden"]:
        """What shifts the second round's inputs: what was made of the first, or a control in its place."""
        if self.settings.control is None:
            return descriptor
        if self.settings.control == "decoy":
            return torch.zeros_like(descriptor)
        donors = standard(self.donors, self.mean[: self.donors.shape[1]], self.sd[: self.donors.shape[1]])
        return self.descriptor(donors[donor_of(responses, DONORS)]).relu()

    def _shown(self, inputs: Float[Tensor, "probe time input"]) -> Float[Tensor, "probe time input"]:
        return self.interface.input.probing_inputs(inputs * LOGIT_SCALE) if self.settings.learned else inputs

    def _raw(self, inputs: Float[Tensor, "probe time input"]) -> Float[Tensor, "probe time input"]:
        return self.interface.input.raw(inputs, LOGIT_SCALE)

    def _run(self, system: System, inputs: Float[Tensor, "*rnn probe time input"]) -> Tensor:
        return self.interface.output.interpret(run(system, inputs)[0])

    def _joined(self, outputs: Float[Tensor, "rnn probe time output"]) -> Float[Tensor, "rnn response"]:
        return joined(outputs, self.interface.output)

    def _standard(self, outputs: Float[Tensor, "rnn probe time output"]) -> Float[Tensor, "rnn response"]:
        """Standardised responses to the first sequences, or to all."""
        responses = self._joined(outputs)
        count = responses.shape[1]
        return standard(responses, self.mean[:count], self.sd[:count])

    @torch.no_grad()
    def standardise(self, system: System, examples: Examples | None = None) -> None:
        """Takes probing sequences, scales of the responses to them, and their principal components."""
        if examples is not None:
            self._start(examples(self.settings.start, self.settings.steps))
        known = system.select(torch.linspace(0, len(system) - 1, min(KNOWN, len(system))).long())
        parts = [part.to(self.mean.device) for part in chunks(known)]
        for _ in range(
            self.settings.rounds
        ):  # responses of the second round depend on the scales of the first
            responses = torch.cat([self._joined(self._probe(part)[0].outputs) for part in parts])
            for buffer, found in zip((self.mean, self.sd), scales(responses), strict=True):
                buffer.copy_(found)
            if self.settings.rounds == 2:
                places = torch.linspace(0, len(responses) - 1, DONORS).long()
                self.donors.copy_(responses[places, : self.donors.shape[1]])
        features = torch.cat([self._features(part) for part in parts])
        if features.isfinite().all():  # else `calibrate` refuses them
            self._start_map(features)

    def _start(self, given: Float[Tensor, "sample time input"]) -> None:
        """Takes some of the sequences given for probing sequences; of too few, some twice."""
        chosen = self.places[: len(given)].argsort().cpu()
        chosen = chosen.repeat(-(-self.settings.sequences // len(chosen)))[: self.settings.sequences]
        inputs = given[chosen].to(self.questions)
        self.questions.copy_(self._raw(inputs) if self.settings.learned else inputs)

    def _start_map(self, responses: Float[Tensor, "rnn feature"]) -> None:
        """Makes the embedding the features' principal components, with a little of what the MLP makes."""
        # on the CPU: components have no sign of their own, and a GPU would give them another
        centred = (responses - responses.mean(0)).double().cpu()
        _, _, components = torch.linalg.svd(centred, full_matrices=False)
        components = components[: len(self.map.weight)].to(responses)
        self.map.weight[: len(components), : responses.shape[1]] = components


def joined(outputs: Float[Tensor, "rnn probe time output"], signal: Signal) -> Float[Tensor, "rnn response"]:
    """All responses of an RNN, side by side; tiny probabilities of tokens are all taken for the same."""
    return (outputs.clamp(min=LEAST) if isinstance(signal, Tokens) else outputs).flatten(1)


def scales(
    responses: Float[Tensor, "rnn response"],
) -> tuple[Float[Tensor, " response"], Float[Tensor, " response"]]:
    """Mean of each response over RNNs, and standard deviation, which is not taken for very small."""
    least = max(NARROW * float(responses.std(correction=0)), 1e-6)
    return responses.mean(0), responses.std(0, correction=0).clamp(min=least)


def standard(
    responses: Float[Tensor, "*rnn response"],
    mean: Float[Tensor, " response"],
    sd: Float[Tensor, " response"],
) -> Float[Tensor, "*rnn response"]:
    """Standardised responses, with large ones drawn in."""
    return LARGEST * ((responses - mean) / sd / LARGEST).tanh()
