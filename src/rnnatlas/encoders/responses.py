"""Probing with whole sequences, whose responses are read directly."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Examples, chunks, mlp
from rnnatlas.encoders.probing import Probing, ProbingEncoder
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
        hidden: Units of each hidden layer of the MLP.
        layers: Hidden layers of the MLP.
    """

    sequences: int = 8
    steps: int = 22
    start: str = "rollouts"
    learned: bool = False
    hidden: int = 128
    layers: int = 2

    def __post_init__(self) -> None:
        at_least_one(self, "sequences", "steps", "hidden", "layers")


class Responses(ProbingEncoder):
    """Embeds an RNN by all its responses to a few whole sequences, read by an MLP.

    Responses (log-probabilities of tokens, or numbers) are standardised, each by its own mean and standard
    deviation over the training snapshots, and joined. The embedding is a linear map of them and of what an
    MLP makes of them; the map starts as their principal components (docs/decisions/0024-responses.md).
    Nothing is recurrent but the RNN, which runs over its probing sequences in one go.
    """

    Settings = ResponsesSettings
    settings: ResponsesSettings
    title: ClassVar[str | None] = "responses"
    colour: ClassVar[str | None] = "#a3163e"
    questions: Tensor
    places: Tensor
    mean: Tensor
    sd: Tensor

    def __init__(
        self, interface: Interface, spec: RNNSpec | None, settings: ResponsesSettings, size: int = EMBED
    ):
        super().__init__(interface, spec, settings, size)
        start = torch.randn(settings.sequences, settings.steps, interface.input.size)
        if settings.learned:
            self.questions = nn.Parameter(start)
        else:
            self.register_buffer("questions", interface.input.probing_inputs(start))
        self.register_buffer("places", torch.rand(KNOWN), persistent=False)  # which examples are taken
        responses = settings.sequences * settings.steps * interface.output.size
        self.register_buffer("mean", torch.zeros(responses))
        self.register_buffer("sd", torch.ones(responses))
        self.mlp = mlp(responses, *[settings.hidden] * settings.layers)
        self.map = nn.Linear(responses + settings.hidden, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return self.map

    def read(self, system: System) -> Float[Tensor, "rnn embed"]:
        """The map of responses and of what the MLP makes of them."""
        responses = self._probe(system)[1]
        return self.map(torch.cat([responses, self.mlp(responses).relu()], 1))

    def _probe(self, system: System) -> tuple[Probing, Float[Tensor, "rnn response"]]:
        inputs = self.questions
        if self.settings.learned:
            inputs = self.interface.input.probing_inputs(inputs * LOGIT_SCALE)
        outputs = self.interface.output.interpret(run(system, inputs)[0])
        probing = Probing(inputs=inputs.expand(len(system), -1, -1, -1), outputs=outputs)
        return probing, standard(self._joined(outputs), self.mean, self.sd)

    def _joined(self, outputs: Float[Tensor, "rnn probe time output"]) -> Float[Tensor, "rnn response"]:
        return joined(outputs, self.interface.output)

    @torch.no_grad()
    def standardise(self, system: System, examples: Examples | None = None) -> None:
        """Takes probing sequences, scales of the responses to them, and their principal components."""
        if examples is not None:
            self._start(examples(self.settings.start, self.settings.steps))
        known = system.select(torch.linspace(0, len(system) - 1, min(KNOWN, len(system))).long())
        parts = [part.to(self.mean.device) for part in chunks(known)]
        responses = torch.cat([self._joined(self._probe(part)[0].outputs) for part in parts])
        for buffer, found in zip((self.mean, self.sd), scales(responses), strict=True):
            buffer.copy_(found)
        responses = standard(responses, self.mean, self.sd)
        if responses.isfinite().all():  # else `calibrate` refuses them
            self._start_map(responses)

    def _start(self, given: Float[Tensor, "sample time input"]) -> None:
        """Takes some of the sequences given for probing sequences; of too few, some twice."""
        chosen = self.places[: len(given)].argsort().cpu()
        chosen = chosen.repeat(-(-self.settings.sequences // len(chosen)))[: self.settings.sequences]
        inputs = given[chosen].to(self.questions)
        self.questions.copy_(
            self.interface.input.raw(inputs, LOGIT_SCALE) if self.settings.learned else inputs
        )

    def _start_map(self, responses: Float[Tensor, "rnn response"]) -> None:
        """Makes the embedding the responses' principal components, with a little of what the MLP makes."""
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
    responses: Float[Tensor, "rnn response"], mean: Float[Tensor, " response"], sd: Float[Tensor, " response"]
) -> Float[Tensor, "rnn response"]:
    """Standardised responses, with large ones drawn in."""
    return LARGEST * ((responses - mean) / sd / LARGEST).tanh()
