"""Probing with whole sequences in all turns; part of the embedding turns with the RNN."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Examples, chunks, mlp
from rnnatlas.encoders.probing import Probing, ProbingEncoder
from rnnatlas.encoders.responses import KNOWN, joined, scales, standard
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, RNNSpec, System, run
from rnnatlas.settings import at_least_one, settings

ALIGNED = 512
"""RNNs, at most, whose responses are aligned before training."""

SHARP = 6.0
"""Standard deviation of scores over turns and RNNs: softmax then weights few of 24 turns."""

STARTS, ROUNDS = 32, 20
"""RNNs that alignment starts from, the best of which counts, and rounds of it."""


@settings
class OrbitSettings:
    """Settings of `Orbit`.

    Args:
        sequences: Probing sequences, each of which is shown in all turns.
        steps: Length of each; whole images have as many as rollouts.
        last: How many of the last steps' responses are read. Before an image has been seen whole, responses
            depend on the order in which it is read, which does not turn with it.
        turns: Turns, evenly spaced over a whole one: 24 are 15° apart.
        start: Where probing sequences come from: a kind that the task offers, such as "images" of rotated
            digits, or "rollouts".
        hidden: Units of each hidden layer of the MLP.
        layers: Hidden layers of the MLP.
    """

    sequences: int = 8
    steps: int = 17
    last: int = 1
    turns: int = 24
    start: str = "images"
    hidden: int = 128
    layers: int = 2

    def __post_init__(self) -> None:
        at_least_one(self, "sequences", "steps", "last", "hidden", "layers")
        if self.turns < 3:
            raise SettingsError(f"turns should be 3 or more, for a direction to show, found {self.turns}")


class Orbit(ProbingEncoder):
    """Embeds an RNN by its responses to a few sequences, such as images, in all turns.

    An RNN trained on turned images responds to turned probing inputs about as another one does to the inputs
    as they are. So all turns are read alike: a linear layer gives each turn's responses a score, and the
    softmax of the scores weights the turns. The first two numbers of an embedding are the mean of the turns'
    directions, which turns with the RNN; the others are made of the mean of the responses, which does not
    change, by a linear map and an MLP. What reads the direction reads that of angles it has not seen, too
    (docs/decisions/0030-orbit-probing.md).
    """

    Settings = OrbitSettings
    settings: OrbitSettings
    title: ClassVar[str | None] = "orbit probing"
    colour: ClassVar[str | None] = "#00798c"
    turns: ClassVar[bool] = True
    questions: Tensor
    places: Tensor
    mean: Tensor
    sd: Tensor
    circle: Tensor

    def __init__(
        self, interface: Interface, spec: RNNSpec | None, settings: OrbitSettings, size: int = EMBED
    ):
        super().__init__(interface, spec, settings, size)
        start = torch.randn(settings.turns, settings.sequences, settings.steps, interface.input.size)
        self.register_buffer("questions", interface.input.probing_inputs(start))
        self.register_buffer("places", torch.rand(KNOWN), persistent=False)  # which examples are taken
        responses = settings.sequences * min(settings.last, settings.steps) * interface.output.size
        self.register_buffer("mean", torch.zeros(responses))
        self.register_buffer("sd", torch.ones(responses))
        angles = torch.arange(settings.turns) * (2 * math.pi / settings.turns)
        self.register_buffer("circle", torch.stack([angles.cos(), angles.sin()], 1), persistent=False)
        self.score = nn.Linear(responses, 1, bias=False)
        self.scale = nn.Parameter(torch.ones(()))
        self.mlp = mlp(responses, *[settings.hidden] * settings.layers)
        self.map = nn.Linear(responses + settings.hidden, size - 2)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`; of the part that does not turn."""
        return self.map

    def direction(self, z: Float[Tensor, "rnn embed"]) -> Float[Tensor, "rnn 2"]:
        """The first two numbers."""
        return z[:, :2]

    def read(self, system: System) -> Float[Tensor, "rnn embed"]:
        """The RNN's direction, and what is made of its responses as they are in that direction."""
        responses = self._probe(system)[1]
        weights = self.score(responses).softmax(1)
        direction, aligned = ((weights * own).sum(1) for own in (self.circle, responses))
        features = torch.cat([aligned, self.mlp(aligned).relu()], 1)
        return torch.cat([self.scale * direction, self.map(features)], 1)

    def _probe(self, system: System) -> tuple[Probing, Float[Tensor, "rnn turn response"]]:
        inputs = self.questions.flatten(0, 1)
        outputs = self.interface.output.interpret(run(system, inputs)[0])
        probing = Probing(inputs=inputs.expand(len(system), -1, -1, -1), outputs=outputs)
        return probing, standard(self._by_turn(outputs), self.mean, self.sd)

    def _by_turn(self, outputs: Float[Tensor, "rnn probe time output"]) -> Float[Tensor, "rnn turn response"]:
        shape = (self.settings.turns, self.settings.sequences)
        read = outputs[:, :, -self.settings.last :].unflatten(1, shape).flatten(0, 1)
        return joined(read, self.interface.output).unflatten(0, (-1, self.settings.turns))

    @torch.no_grad()
    def standardise(self, system: System, examples: Examples | None = None) -> None:
        """Takes probing sequences, scales of the responses, and turns that bring RNNs into one position."""
        if examples is not None:
            self._start(examples)
        known = system.select(torch.linspace(0, len(system) - 1, min(ALIGNED, len(system))).long())
        device = self.mean.device
        probings = [self._probe(part.to(device))[0] for part in chunks(known)]
        responses = torch.cat([self._by_turn(probing.outputs) for probing in probings])
        for buffer, found in zip((self.mean, self.sd), scales(responses.flatten(0, 1)), strict=True):
            buffer.copy_(found)
        if responses.isfinite().all():  # else `calibrate` refuses them
            template = aligning(standard(responses, self.mean, self.sd).double().cpu())
            self.score.weight.copy_(template)

    def _start(self, examples: Examples) -> None:
        """Takes some of the sequences given for probing sequences; of too few, some twice."""
        settings = self.settings
        given = examples(settings.start, settings.steps, settings.turns).unflatten(0, (settings.turns, -1))
        chosen = self.places[: given.shape[1]].argsort().cpu()
        chosen = chosen.repeat(-(-settings.sequences // len(chosen)))[: settings.sequences]
        self.questions.copy_(given[:, chosen])

    def _whiten(self, raw: Float[Tensor, "rnn embed"]) -> None:
        """Directions are scaled, not moved, so that they still turn with the RNN."""
        super()._whiten(raw[:, 2:])
        self.scale.div_(raw[:, :2].square().mean().sqrt().clamp_min(1e-6))


def aligning(responses: Float[Tensor, "rnn turn response"]) -> Float[Tensor, " response"]:
    """Weights under which every RNN's best turn brings its responses closest to those of the others.

    Multireference alignment: a template and the weights of the turns, the softmax of their products with it,
    are made of each other in turn. It starts from each of the RNNs whose turns differ most; the template that
    is longest in the end is the one on which RNNs agree best. No angle and no label is used.
    """
    varied = responses - responses.mean(1, keepdim=True)
    starts = varied.square().sum((1, 2)).argsort(descending=True)[:STARTS]
    templates = varied[starts, 0].T
    for _ in range(ROUNDS):
        weights = _scores(varied, templates).softmax(1)
        templates = torch.einsum("rts,rtx->xs", weights, varied) / len(varied)
    best = templates[:, [int(templates.norm(dim=0).argmax())]]
    return (best * SHARP / (varied @ best).std().clamp_min(1e-6))[:, 0]


def _scores(
    varied: Float[Tensor, "rnn turn response"], templates: Float[Tensor, "response start"]
) -> Float[Tensor, "rnn turn start"]:
    products = varied @ templates
    return SHARP * products / products.std((0, 1)).clamp_min(1e-6)
