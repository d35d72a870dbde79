"""Recurrent neural graph: units send one another messages, whatever the architecture."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.augment import Augment, Augmented
from rnnatlas.encoders.base import EMBED, Examples, chunks, mlp
from rnnatlas.encoders.nodes import NUMBERS, ROLES, SLOTS, Edges, Nodes, edges_of, numbers_of
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import GATES, Interface, Population, RNNSpec, canonical_bias, populations, run
from rnnatlas.settings import at_least_one, settings


@settings
class GraphSettings:
    """Settings of `Graph`.

    Args:
        width: Size of a node's state.
        channels: Features of an edge; each carries its share of a node's state.
        rounds: How often nodes send messages to their neighbours.
        sequences: Probing sequences whose trajectories are features of units and outputs; 0 for an encoder
            that reads weights alone.
        steps: Length of each of them.
        augment: What is drawn at random for each RNN in training: "none", or "all" that the graph does not
            have, signs and scales of hidden units where its cell leaves them open. "permutation" draws
            nothing, as orders are all alike here.
    """

    width: int = 64
    channels: int = 16
    rounds: int = 3
    sequences: int = 0
    steps: int = 16
    augment: Augment = "none"

    def __post_init__(self) -> None:
        at_least_one(self, "width", "channels", "rounds", "steps")
        if self.width % self.channels or self.channels % 2:
            raise SettingsError(
                f"channels should be even and divide width, {self.width}, found {self.channels}"
            )
        if self.sequences < 0:
            raise SettingsError(f"sequences should be 0 or more, found {self.sequences}")


class Graph(Augmented):
    """Embeds RNNs of any cell, width and depth, and any number of directions, as graphs.

    Nodes are inputs, hidden units and outputs; an edge carries a weight a gate, where gates of different
    cells that stand alike are the same feature (`SLOTS`). Nodes send messages along edges and against them:
    states times features of the edge, summed over neighbours (after Kofinas et al. 2024 and Lim et al. 2024,
    who do so for feed-forward networks). Mean, maximum and standard deviation over inputs, hidden units and
    outputs go through an MLP. Inputs and outputs have learned states of their own, and so are told apart;
    hidden units start from their biases, their cell and direction. Weights are divided by their root mean
    square over the training snapshots, one number for each role and slot: zero stays zero, so what is missing
    is like what is zero. Without a head, outputs are hidden states, as if the head were the identity.
    """

    Settings = GraphSettings
    title: ClassVar[str | None] = "recurrent neural graph"
    colour: ClassVar[str | None] = "#005f60"
    reads_weights = True
    any_architecture = True
    symmetries: ClassVar[frozenset[str]] = frozenset({"hidden-permutation", "bias-shift"})
    edge_scale: Tensor
    number_scale: Tensor
    probes: Tensor

    def __init__(self, interface: Interface, spec: RNNSpec | None, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        width, channels, sequences = settings.width, settings.channels, settings.sequences
        inputs, outputs = interface.sizes
        self.register_buffer("edge_scale", torch.ones(len(ROLES), len(SLOTS)))
        self.register_buffer("number_scale", torch.ones(len(NUMBERS)))
        self.lift = nn.Parameter(torch.randn(len(ROLES), len(SLOTS), channels) / 2)
        self.threshold = nn.Parameter(torch.randn(len(ROLES), channels // 2) / 2)
        self.inputs = nn.Parameter(torch.randn(inputs, width))
        self.outputs = nn.Parameter(torch.randn(outputs, width))
        self.cells = nn.Parameter(torch.randn(len(GATES), width))
        self.directions = nn.Parameter(torch.randn(2, width))
        self.numbers = nn.Parameter(torch.randn(len(NUMBERS), width) / len(NUMBERS) ** 0.5)
        if sequences:
            drawn = torch.randn(sequences, settings.steps, inputs)
            self.register_buffer("probes", interface.input.probing_inputs(drawn))
            own = {kind: nn.Linear(2 * sequences, width) for kind in ("hidden", "output")}
            self.traces = nn.ModuleDict(own)
        self.rounds = nn.ModuleList(Round(width, channels) for _ in range(settings.rounds))
        self.norm = nn.LayerNorm(width)
        self.mlp = mlp(3 * 3 * width, 4 * width, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return cast(nn.Linear, self.mlp[-1])

    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """The MLP's outputs for what the nodes of each kind have gathered."""
        kinds = defaultdict(list)
        for nodes, state in self.states(population).items():
            kinds[nodes.kind].append(state)
        return self.mlp(torch.cat([_pooled(torch.cat(kinds[kind], 1)) for kind in sorted(kinds)], 1))

    def states(self, population: Population) -> dict[Nodes, Float[Tensor, "rnn node width"]]:
        """States of all nodes after the last round."""
        population = canonical_bias(population)
        states = self._start(population)
        edges = [(each, self._lifted(each)) for each in edges_of(population)]
        for messages in self.rounds:
            states = messages(states, edges)
        return {nodes: self.norm(state) for nodes, state in states.items()}

    def _lifted(self, edges: Edges) -> Float[Tensor, "rnn channel target source"]:
        """Features of edges: a linear map of their weights, of which half goes through ReLU."""
        scaled = self.lift[edges.role] / self.edge_scale[edges.role].unsqueeze(1)
        lift = torch.stack([scaled[slot] for slot in edges.slots], 1)
        linear, bent = (lift @ edges.weights.flatten(2)).chunk(2, 1)
        bent = (bent + self.threshold[edges.role].unsqueeze(1)).relu()
        return torch.cat([linear, bent], 1).unflatten(2, edges.weights.shape[2:])

    def _start(self, population: Population) -> dict[Nodes, Float[Tensor, "rnn node width"]]:
        """What nodes start from."""
        count = len(population)
        states = {Nodes("input"): self.inputs.expand(count, -1, -1)}
        states[Nodes("output")] = self.outputs.expand(count, -1, -1)
        cell = self.cells[list(GATES).index(population.spec.cell)]
        for nodes, numbers in numbers_of(population).items():
            weights = [self.numbers[place] / self.number_scale[place] for place in numbers]
            known = torch.stack(list(numbers.values()), 2) @ torch.stack(weights)
            states[nodes] = known + (states.get(nodes, cell + self.directions[nodes.direction]))
        for nodes, trace in self._traces(population) if self.settings.sequences else ():
            states[nodes] = states[nodes] + self.traces[nodes.kind](trace)
        return states

    def _traces(self, population: Population) -> Iterator[tuple[Nodes, Float[Tensor, "rnn node summary"]]]:
        """Mean and standard deviation of units and outputs over each probing sequence."""
        spec, probes = population.spec, self.probes.to(population.dtype)
        responses = {Nodes("output"): self.interface.output.interpret(run(population, probes)[0])}
        for layer in range(spec.layers):
            below = dataclasses.replace(spec, layers=layer + 1, output=None, head_bias=True)
            own = Population(below, {name: population.weights[name] for name in below.shapes})
            for direction, part in enumerate(run(own, probes)[0].chunk(spec.directions, -1)):
                responses[Nodes("hidden", layer, direction)] = part
        for nodes, response in responses.items():
            yield nodes, torch.cat(_mean_and_sd(response, 2), 1).transpose(1, 2)

    @torch.no_grad()
    def standardise(self, system: Any, examples: Examples | None = None) -> None:
        """Takes root mean squares over the training snapshots, and some of their rollouts to probe with."""
        squares = defaultdict(list)
        for part in chunks(system):
            for _, population in populations(part):
                for place, values in _scaled(canonical_bias(population)):
                    squares[place].append((values.double().square().sum().item(), values.numel()))
        self.edge_scale.fill_(1)
        self.number_scale.fill_(1)
        for (scale, *place), own in squares.items():
            total, count = map(sum, zip(*own, strict=True))
            # what hardly varies in training must not be blown up elsewhere
            self.get_buffer(scale)[tuple(place)] = root if (root := (total / count) ** 0.5) > 1e-6 else 1
        if self.settings.sequences and examples is not None:
            found = examples("rollouts", self.settings.steps)
            places = torch.linspace(0, len(found) - 1, self.settings.sequences).long()
            self.probes.copy_(found[places.to(found.device)])


class Round(nn.Module):
    """Messages along all edges and against them, then an MLP at each node, both beside a residual path.

    Args:
        width: Size of a node's state.
        channels: Features of an edge; half of them are linear in the weights.
    """

    power: Tensor

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.channels = channels
        self.give = nn.Parameter(torch.randn(2, len(ROLES), width, width) / width**0.5)
        self.take = nn.Parameter(torch.randn(2, len(ROLES), width, width) / width**0.5 / 2)
        self.give_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = mlp(width, 2 * width, width)
        # sums of n weights of either sign grow with √n, sums of what ReLU gives with n
        power = torch.tensor([-0.5, -1.0]).repeat_interleave(channels // 2)
        self.register_buffer("power", power.view(-1, 1, 1), persistent=False)

    def forward(
        self, states: dict[Nodes, Tensor], edges: list[tuple[Edges, Tensor]]
    ) -> dict[Nodes, Float[Tensor, "rnn node width"]]:
        """New states of all nodes."""
        given = {nodes: self.give_norm(state) for nodes, state in states.items()}
        states = dict(states)
        for each, features in edges:
            ways = ((each.source, each.target, features), (each.target, each.source, features.mT))
            for way, (here, there, matrices) in enumerate(ways):
                parts = (given[here] @ self.give[way, each.role]).unflatten(2, (self.channels, -1))
                message = matrices @ (parts.transpose(1, 2) * parts.shape[1] ** self.power)
                taken = message.transpose(1, 2).flatten(2) @ self.take[way, each.role]
                states[there] = states[there] + taken
        return {nodes: state + self.mlp(self.mlp_norm(state)) for nodes, state in states.items()}


def _scaled(population: Population) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """What is divided by its root mean square, with the place where that is kept."""
    for each in edges_of(population):
        for slot, weights in zip(each.slots, each.weights.unbind(1), strict=True):
            yield ("edge_scale", each.role, slot), weights
    for own in numbers_of(population).values():
        for place, values in own.items():
            yield ("number_scale", place), values


def _mean_and_sd(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Of equal values the standard deviation has no slope; the floor makes its gradient zero, not NaN."""
    mean = values.mean(dim)
    variance = (values - mean.unsqueeze(dim)).square().mean(dim)
    return mean, variance.clamp_min(1e-12).sqrt()


def _pooled(states: Float[Tensor, "rnn node width"]) -> Float[Tensor, "rnn summary"]:
    return torch.cat([*_mean_and_sd(states, 1), states.amax(1)], 1)
