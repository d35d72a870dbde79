"""What functionalist encoders share: probing, and, for two of them, reading responses step by step."""

import dataclasses
from abc import abstractmethod
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Encoder, Examples, chunks, mean_and_sd, mlp
from rnnatlas.encoders.reader import Reader
from rnnatlas.rnn import SYMMETRIES, Interface, RNNSpec, System, Tokens, Values, run
from rnnatlas.settings import above_zero, at_least_one, settings


@settings
class ProbingSettings:
    """Settings of the functionalist encoders; the paper's for formal languages by default.

    Args:
        sequences: Probing sequences that run side by side (the paper's M).
        steps: Length of a probing sequence (the paper's L).
        width: Units of each cell of the reader, and size of an encoded response.
        layers: Residual cells of the reader, on top of one another.
        reader: Kind of its cells.
        hidden: Units of the MLPs that generate probing inputs and make the embedding.
        logit_scale: Factor before the softmax or sigmoid that makes a probing input; large ones make
            probing inputs nearly one-hot from the start.
    """

    sequences: int = 1
    steps: int = 22
    width: int = 256
    layers: int = 2
    reader: Literal["lstm", "gru"] = "lstm"
    hidden: int = 128
    logit_scale: float = 1.0

    def __post_init__(self) -> None:
        at_least_one(self, "sequences", "steps", "width", "layers", "hidden")
        above_zero(self, "logit_scale")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probing:
    """Probing inputs and what RNNs responded."""

    inputs: Float[Tensor, "rnn probe time input"]
    outputs: Float[Tensor, "rnn probe time output"]


class ProbingEncoder(Encoder):
    """Embeds an RNN by its responses to probing inputs; never sees its weights or hidden units."""

    reads_weights = False
    symmetries: ClassVar[frozenset[str]] = frozenset(SYMMETRIES)

    @abstractmethod
    def _probe(self, system: System) -> tuple[Probing, Float[Tensor, "rnn feature"]]:
        """Probing inputs and responses, and what the embedding is made of."""

    @torch.no_grad()
    def probe(self, system: System) -> Probing:
        """Probing inputs shown to each RNN and its responses, tokens as probabilities, for a closer look.

        Raises:
            RNNSpecMismatch: The encoder does not take the system.
        """
        self.check(system)
        probing = self._probe(system)[0]
        tokens = isinstance(self.interface.output, Tokens)
        return dataclasses.replace(probing, outputs=probing.outputs.exp()) if tokens else probing


class StepwiseReading(ProbingEncoder):
    """Reads responses one step after the other, as both probing encoders of the paper do.

    Responses (log-probabilities of tokens, or numbers), standardised by mean and standard deviation over the
    training snapshots, are joined over all probing sequences at a step, projected (linear, sigmoid) and read
    by a residual recurrent reader between a learned BOS and a learned EOS input; an MLP makes the embedding
    of what the reader gives out last (Herrmann et al. 2024, section 3).

    Probing inputs are distributions over tokens, numbers within the range of the RNNs' inputs, or, where
    that is unbounded, numbers whose mean and scale are learned from those of the inputs in rollouts.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, interface: Interface, spec: RNNSpec | None, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        reads, gives = interface.sizes
        width, hidden, sequences = settings.width, settings.hidden, settings.sequences
        self.generator = mlp(width, hidden, hidden, sequences * reads)
        scales = () if isinstance(interface.output, Tokens) else (gives,)
        self.register_buffer("mean", torch.zeros(scales))
        self.register_buffer("sd", torch.ones(scales))
        self.response = nn.Linear(sequences * gives, width)
        self.bos = nn.Parameter(torch.rand(width))
        self.eos = nn.Parameter(torch.rand(width))
        self.reader = Reader(settings.reader, width, settings.layers, settings.steps)
        self.head = mlp(width, hidden, hidden, size)
        self.location = self.scale = None
        if isinstance(interface.input, Values) and not interface.input.bounded:
            self.location = nn.Parameter(torch.zeros(reads))
            self.scale = nn.Parameter(torch.ones(reads))

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return cast(nn.Linear, self.head[-1])

    def read(self, system: System) -> Float[Tensor, "rnn embed"]:
        """The embedding head, on what the reader gives out last."""
        return self.head(self._probe(system)[1])

    def _inputs(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch probe input"]:
        """Probing inputs, generated from hidden states of the reader or learned vectors in their place."""
        raw = self.generator(hidden).unflatten(-1, (self.settings.sequences, self.interface.input.size))
        if self.location is not None:
            return self.location + self.scale * raw
        return self.interface.input.probing_inputs(raw * self.settings.logit_scale)

    @torch.no_grad()
    def standardise(self, system: System, examples: Examples | None = None) -> None:
        """Takes mean and standard deviation of responses, and of inputs that are unbounded."""
        if self.location is not None and self.scale is not None and examples is not None:
            inputs = examples("rollouts", self.settings.steps).flatten(0, 1)
            for parameter, found in zip((self.location, self.scale), mean_and_sd(inputs, 0), strict=True):
                parameter.copy_(found)
        device = self.mean.device
        responses = torch.cat([self._probe(chunk.to(device))[0].outputs for chunk in chunks(system)])
        if self.mean.ndim:
            mean, sd = mean_and_sd(responses.flatten(0, -2), 0)
        else:
            mean, sd = mean_and_sd(responses)
        self.mean.copy_(mean)
        self.sd.copy_(sd)

    def _encode(self, responses: Float[Tensor, "*batch probe output"]) -> Float[Tensor, "*batch width"]:
        """The encoded responses of all probing sequences at a step."""
        return self.response(((responses - self.mean) / self.sd).flatten(-2)).sigmoid()

    def _probe_all(
        self, system: System, inputs: Float[Tensor, "*rnn probe time input"]
    ) -> tuple[Probing, Float[Tensor, "rnn width"]]:
        """Shows probing inputs, the same to all RNNs or each its own, whole sequences at a time."""
        responses = self.interface.output.interpret(run(system, inputs)[0])
        encoded = self._encode(responses.permute(2, 0, 1, 3))
        ends = [end.expand(1, len(system), -1) for end in (self.bos, self.eos)]
        last = self.reader(torch.cat([ends[0], encoded, ends[1]]))[-1]
        return Probing(inputs=inputs.expand(len(system), -1, -1, -1), outputs=responses), last


def donor_of(responses: Float[Tensor, "rnn response"], donors: int) -> Int[Tensor, " rnn"]:
    """Which of so many others stands in for each RNN in a yoked control: its own, but as good as random."""
    return ((responses.detach().double().sum(1) * 1e3).frac().abs() * donors).long()
