"""Deep weight-space network: layers that commute with reorderings of hidden units."""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.augment import Augment, Augmented
from rnnatlas.encoders.base import EMBED, Examples, mean_and_sd, mlp
from rnnatlas.encoders.equivariant import Equivariant, Features, Part, Rectified, parts
from rnnatlas.rnn import Interface, Population, RNNSpec, canonical_bias
from rnnatlas.settings import at_least_one, settings


@settings
class DWSSettings:
    """Settings of `DWS`.

    Args:
        lifted: Channels of each weight before the first equivariant layer.
        channels: Channels of each tensor after each of them.
        layers: Equivariant layers.
        width: Hidden units of the MLP that makes the embedding.
        augment: What is drawn at random for each RNN in training: "none", or "all" that the layers do not
            commute with, signs and scales of hidden units where its cell leaves them open. "permutation"
            draws nothing, as orders are all alike here.
    """

    lifted: int = 16
    channels: int = 48
    layers: int = 4
    width: int = 128
    augment: Augment = "none"

    def __post_init__(self) -> None:
        at_least_one(self, "lifted", "channels", "layers", "width")


class DWS(Augmented):
    """Embeds an RNN by layers that treat its weights as they treat one another.

    Each weight, its gates as channels, becomes a vector of channels by a linear layer and ReLU, one for
    each kind of tensor and, where inputs and outputs are distinguished, for each of these. Equivariant
    layers with ReLU between them follow, complete for reorderings of hidden units, inputs and outputs
    (docs/decisions/0010-dws.md); means over each tensor go through an MLP (Herrmann et al. 2024, section
    3, after Navon et al. 2023). Weights are standardised by one mean and standard deviation a tensor over
    the training snapshots, which breaks no symmetry.
    """

    Settings = DWSSettings
    title: ClassVar[str | None] = "equivariant network (DWS)"
    colour: ClassVar[str | None] = "#8c6bb1"
    reads_weights = True
    symmetries: ClassVar[frozenset[str]] = frozenset({"hidden-permutation", "bias-shift"})
    mean: Tensor
    sd: Tensor

    def __init__(self, interface: Interface, spec: RNNSpec, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        self.parts = parts(spec)
        self.register_buffer("mean", torch.zeros(len(self.parts)))
        self.register_buffer("sd", torch.ones(len(self.parts)))
        blank = features(Population.unflatten(spec, torch.zeros(1, spec.parameters)))
        self.lifts = nn.ModuleDict(
            {_lift_name(part): Lift(part, blank[part].shape[1:], settings.lifted) for part in self.parts}
        )
        channels = [settings.lifted] + [settings.channels] * settings.layers
        self.layers = nn.ModuleList(Equivariant(self.parts, pair) for pair in itertools.pairwise(channels))
        self.mlp = mlp(len(self.parts) * settings.channels, settings.width, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return cast(nn.Linear, self.mlp[-1])

    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """The MLP's outputs for the means over each tensor after the last layer."""
        raw = features(population)
        state: Features = {}
        for part, mean, sd in zip(self.parts, self.mean, self.sd, strict=True):
            state[part] = self.lifts[_lift_name(part)]((raw[part] - mean) / sd).relu_()
        for layer in self.layers:
            state = {part: Rectified.apply(entries) for part, entries in layer(state).items()}
        return self.mlp(torch.cat([state[part].flatten(1, -2).mean(1) for part in self.parts], 1))

    @torch.no_grad()
    def standardise(self, population: Population, examples: Examples | None = None) -> None:
        """Takes each tensor's mean and standard deviation over the training snapshots."""
        for index, entries in enumerate(features(population).values()):
            self.mean[index], self.sd[index] = mean_and_sd(entries)


class Lift(nn.Module):
    """A linear layer from gates to channels, one for each input or output that a tensor reaches.

    Args:
        part: The tensor.
        shape: Its shape for one RNN, gates last.
        channels: Channels that come out.
    """

    def __init__(self, part: Part, shape: Sequence[int], channels: int):
        super().__init__()
        own_axis = [name in ("input", "output") for name in part.axes]
        positions = [size if apart else 1 for size, apart in zip(shape[:-1], own_axis, strict=True)]
        self.axis = own_axis.index(True) if any(own_axis) else 0
        self.weight = nn.Parameter(torch.randn(max(positions), shape[-1], channels) / shape[-1] ** 0.5)
        self.bias = nn.Parameter(torch.randn(*positions, channels))

    def forward(self, entries: Float[Tensor, "rnn *axes gate"]) -> Float[Tensor, "rnn *axes channel"]:
        """Channels of each weight."""
        if len(self.weight) == 1:
            return entries @ self.weight[0] + self.bias
        by_position = entries.movedim(self.axis + 1, 0)
        lifted = torch.einsum("p...g,pgc->p...c", by_position, self.weight)
        return lifted.movedim(0, self.axis + 1) + self.bias


def _lift_name(part: Part) -> str:
    """Tensors whose lift is one and the same; those that inputs or outputs reach have their own."""
    fixed = any(axis in ("input", "output") for axis in part.axes)
    return f"{part.kind} {part.layer if fixed else ''} {part.direction} {part.source}"


def features(population: Population) -> Features:
    """Each tensor of weights [rnn, its axes, gate]; a bias is the sum of both where only that matters."""
    population = canonical_bias(population)
    return {part: _entries(population, part) for part in parts(population.spec)}


def _entries(population: Population, part: Part) -> Tensor:
    spec, weights = population.spec, population.weights
    if part.kind == "head bias":
        return weights["head.bias"].unsqueeze(-1)
    columns = slice(part.source * spec.hidden, (part.source + 1) * spec.hidden)
    if part.kind == "head":
        return weights["head.weight"][:, :, columns].unsqueeze(-1)
    suffix = spec.suffixes[part.layer * spec.directions + part.direction]
    gates = (len(spec.gates), spec.hidden)
    if part.kind == "bias":
        own = weights[f"bias_ih_{suffix}"].unflatten(1, gates)
        if spec.cell == "gru":  # the reset gate scales the candidate's `bias_hh` alone
            candidate = weights[f"bias_hh_{suffix}"].unflatten(1, gates)[:, spec.gates.index("n") :]
            own = torch.cat([own, candidate], 1)
        return own.movedim(1, -1)
    if part.kind in spec.vectors:
        return weights[f"{part.kind}_{suffix}"].unsqueeze(-1)
    if part.kind == "recurrent":
        return weights[f"weight_hh_{suffix}"].unflatten(1, gates).movedim(1, -1)
    weight = weights[f"weight_ih_{suffix}"].unflatten(1, gates).movedim(1, -1)
    return weight if part.kind == "input" else weight[:, :, columns]
