"""What both functionalist encoders share: asking, hearing the answers, and reading them."""

import dataclasses
from abc import abstractmethod
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Encoder, chunks, mean_and_spread, mlp
from rnnatlas.encoders.reader import Reader
from rnnatlas.rnn import SYMMETRIES, Population, RNNSpec, run
from rnnatlas.settings import above_zero, at_least_one, settings
from rnnatlas.tasks.base import Signal, Values


@settings
class ProbingSettings:
    """Settings of the functionalist encoders; the paper's for formal languages by default.

    Args:
        sequences: Probing sequences that run side by side (the paper's M).
        steps: Length of a probing sequence (the paper's L).
        width: Units of each cell of the reader, and size of what it reads.
        layers: Residual cells of the reader, on top of one another.
        reader: Kind of its cells.
        hidden: Units of the MLPs that make questions and the embedding.
        logit_scale: Factor before the softmax or sigmoid that makes a probing input; large ones make
            questions nearly one-hot from the start.
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
    """What a functionalist encoder asked and was answered."""

    inputs: Float[Tensor, "rnn probe time input"]
    outputs: Float[Tensor, "rnn probe time output"]


class ProbingEncoder(Encoder):
    """Embeds an RNN by its answers to probing inputs; never sees its weights or hidden units.

    Answers (log-probabilities of tokens), standardised by one mean and spread over the training snapshots,
    are joined over all probing sequences at a step, projected (linear, sigmoid) and read by a residual
    recurrent reader between a learned BOS and a learned EOS input; an MLP makes the embedding of what the
    reader gives out last (Herrmann et al. 2024, section 3).

    Raises:
        RNNSpecMismatch: From the constructor, where the RNNs cannot be probed in this way.
    """

    reads_weights = False
    symmetries: ClassVar[frozenset[str]] = frozenset(SYMMETRIES)
    centre: Tensor
    scale: Tensor

    def __init__(self, spec: RNNSpec, signal: Signal, outcome: Signal, settings: Any):
        super().__init__(spec, signal, outcome, settings)
        width, hidden, sequences = settings.width, settings.hidden, settings.sequences
        self.question = mlp(width, hidden, hidden, sequences * spec.input)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.hear = nn.Linear(sequences * spec.output_size, width)
        self.bos = nn.Parameter(torch.rand(width))
        self.eos = nn.Parameter(torch.rand(width))
        self.reader = Reader(settings.reader, width, settings.layers, settings.steps)
        self.conclude = mlp(width, hidden, hidden, EMBED)

    @abstractmethod
    def _ask(self, population: Population) -> tuple[Probing, Float[Tensor, "rnn width"]]:
        """The whole interview, and what the reader gives out at its end."""

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return cast(nn.Linear, self.conclude[-1])

    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """The MLP's conclusion from what the reader gives out last."""
        return self.conclude(self._ask(population)[1])

    @torch.no_grad()
    def probe(self, population: Population) -> Probing:
        """Probing inputs shown to each RNN and its answers, tokens as probabilities, for a closer look."""
        self.check(population.spec)
        asked = self._ask(population)[0]
        return dataclasses.replace(asked, outputs=asked.outputs.exp()) if self.outcome == "tokens" else asked

    def _inputs(self, thought: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch probe input"]:
        """Probing inputs: distributions over tokens, or numbers in the range of the RNNs' data."""
        logits = self.question(thought).unflatten(-1, (self.settings.sequences, self.spec.input))
        logits = logits * self.settings.logit_scale
        if self.signal == "tokens":
            return logits.softmax(-1)
        values = logits.sigmoid()
        if isinstance(self.signal, Values):
            return self.signal.low + (self.signal.high - self.signal.low) * values
        return values

    @torch.no_grad()
    def calibrate(self, population: Population) -> None:
        """Takes mean and spread of the training snapshots' answers, then spreads embeddings out."""
        device = self.centre.device
        answers = torch.cat([self._ask(chunk.to(device))[0].outputs for chunk in chunks(population)])
        centre, scale = mean_and_spread(answers)
        self.centre.copy_(centre)
        self.scale.copy_(scale)
        super().calibrate(population)

    def _answers(self, outputs: Float[Tensor, "*batch output"]) -> Float[Tensor, "*batch output"]:
        """Answers to be heard: tokens as log-probabilities, which tell apart what is nearly sure."""
        return outputs.log_softmax(-1) if self.outcome == "tokens" else outputs

    def _heard(self, answers: Float[Tensor, "*batch probe output"]) -> Float[Tensor, "*batch width"]:
        """What the reader hears of the answers of all probing sequences at a step."""
        return self.hear(((answers - self.centre) / self.scale).flatten(-2)).sigmoid()

    def _probe_all(
        self, population: Population, inputs: Float[Tensor, "probe time input"]
    ) -> tuple[Probing, Float[Tensor, "rnn width"]]:
        """Shows the same probing inputs to all RNNs, whole sequences at a time."""
        answers = self._answers(run(population, inputs)[0])
        heard = self._heard(answers.permute(2, 0, 1, 3))
        ends = [end.expand(1, len(population), -1) for end in (self.bos, self.eos)]
        last = self.reader(torch.cat([ends[0], heard, ends[1]]))[-1]
        return Probing(inputs=inputs.expand(len(population), -1, -1, -1), outputs=answers), last
