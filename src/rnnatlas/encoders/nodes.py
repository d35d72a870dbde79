"""RNNs of any architecture as graphs: units are nodes, weights are edges."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.rnn import Population, RNNSpec

ROLES = ("input", "recurrent", "below", "across", "head")
"""What an edge is: from an input, within a layer, from the layer below (same direction, other direction), to
an output."""

SLOTS = ("gnh", "fz", "i", "or")
"""Gates that stand alike: candidates of the state, what keeps the old one, what lets the new one in, and what
lets it be read."""

NUMBERS = (
    *(f"{kind} {slot}" for kind in ("bias", "loop") for slot in range(len(SLOTS))),
    *("bias_hh", "alpha", "h0", "c0", "head bias"),
)
"""What there is one of a unit or an output: biases (two of the GRU's candidate), weights from a unit to
itself, α, initial states."""


class Nodes(NamedTuple):
    """Nodes that are alike: "input", "output", or the "hidden" units of a layer and direction."""

    kind: str
    layer: int = 0
    direction: int = 0


class Edges(NamedTuple):
    """All edges from some nodes to others.

    Args:
        source: Where they come from.
        target: Where they go.
        role: What they are, by its place in `ROLES`.
        slots: For each gate its place in `SLOTS`.
        weights: The weights, scaled so that those of new RNNs have a variance of 1 at any width.
    """

    source: Nodes
    target: Nodes
    role: int
    slots: tuple[int, ...]
    weights: Float[Tensor, "rnn gate target source"]


def edges_of(population: Population) -> Iterator[Edges]:
    """All edges of RNNs."""
    spec, weights = population.spec, population.weights
    gates, scale = (len(spec.gates), spec.hidden), (3 * spec.hidden) ** 0.5
    for number, suffix in enumerate(spec.suffixes):
        layer, direction = divmod(number, spec.directions)
        own, slots = Nodes("hidden", layer, direction), slots_of(spec)
        within = weights[f"weight_hh_{suffix}"].unflatten(1, gates) * scale
        yield Edges(own, own, ROLES.index("recurrent"), slots, within)
        into = weights[f"weight_ih_{suffix}"].unflatten(1, gates) * scale
        if layer == 0:
            yield Edges(Nodes("input"), own, ROLES.index("input"), slots, into)
            continue
        for source, part in enumerate(into.chunk(spec.directions, 3)):
            role = ROLES.index("below" if source == direction else "across")
            yield Edges(Nodes("hidden", layer - 1, source), own, role, slots, part)
    width = spec.hidden * spec.directions
    if spec.output is None:
        head = torch.eye(width, dtype=population.dtype, device=population.device).repeat(
            len(population), 1, 1
        )
    else:
        head = weights["head.weight"]
    for direction, part in enumerate((head * (3 * width) ** 0.5).unsqueeze(1).chunk(spec.directions, 3)):
        last = Nodes("hidden", spec.layers - 1, direction)
        yield Edges(last, Nodes("output"), ROLES.index("head"), (0,), part)


def numbers_of(population: Population) -> dict[Nodes, dict[int, Float[Tensor, "rnn node"]]]:
    """For nodes what there is one of each, by its place in `NUMBERS`.

    Args:
        population: RNNs with canonical biases, of which `bias_hh` is read for GRUs alone.
    """
    spec, weights = population.spec, population.weights
    gates = (len(spec.gates), spec.hidden)
    found: dict[Nodes, dict[str, Tensor]] = {}
    for number, suffix in enumerate(spec.suffixes):
        own = {kind: weights[f"{kind}_{suffix}"] for kind in spec.vectors}
        loops = weights[f"weight_hh_{suffix}"].unflatten(1, gates).diagonal(dim1=2, dim2=3)
        own |= {f"loop {slot}": loops[:, gate] for gate, slot in enumerate(slots_of(spec))}
        if spec.bias:
            biases = weights[f"bias_ih_{suffix}"].unflatten(1, gates)
            own |= {f"bias {slot}": biases[:, gate] for gate, slot in enumerate(slots_of(spec))}
        if spec.bias and spec.cell == "gru":  # the reset gate scales the candidate's `bias_hh` alone
            own["bias_hh"] = weights[f"bias_hh_{suffix}"].unflatten(1, gates)[:, spec.gates.index("n")]
        found[Nodes("hidden", *divmod(number, spec.directions))] = own
    if "head.bias" in weights:
        found[Nodes("output")] = {"head bias": weights["head.bias"]}
    return {
        nodes: {NUMBERS.index(name): values for name, values in own.items()} for nodes, own in found.items()
    }


def slots_of(spec: RNNSpec) -> tuple[int, ...]:
    """For each gate its place in `SLOTS`."""
    return tuple(next(place for place, alike in enumerate(SLOTS) if gate in alike) for gate in spec.gates)
