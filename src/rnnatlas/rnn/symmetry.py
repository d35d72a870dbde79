"""What may be done to an RNN's weights without changing what it computes from its initial state.

Outputs stay as they are. Hidden states move along, learned initial ones among them; they are the outputs of
RNNs without a head.
`docs/decisions/0011-symmetries.md` says why these hold.
"""

import dataclasses
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn.population import Population
from rnnatlas.rnn.spec import RNNSpec

CANDIDATE = {"lstm": "g", "gru": "n"}
"""The gate whose sign is the state's; the others are sigmoids, which say how much. Elsewhere it is "h"."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Symmetry:
    """A group of changes of weights that leaves outputs as they are.

    Args:
        applies: Whether RNNs of an architecture have it.
        change: Draws a change of its own for each RNN of such a population, and makes it; without a
            generator by torch's own, on the population's device.
    """

    applies: Callable[[RNNSpec], bool]
    change: Callable[[Population, torch.Generator | None], Population]


def permute_hidden(population: Population, permutations: Int[Tensor, "rnn layer hidden"]) -> Population:
    """Reorders hidden units: new unit i of a layer is its old unit `permutations[…, i]`.

    Rows of every gate move together with the columns of all that read the layer, and with what else there
    is of a unit: its α, its initial state.

    Args:
        population: The RNNs.
        permutations: One for each layer and direction, in the order of `spec.suffixes`.
    """
    spec, weights = population.spec, dict(population.weights)
    order = permutations.to(population.device)
    gates = torch.arange(len(spec.gates), device=population.device).view(-1, 1) * spec.hidden
    for layer, suffix in enumerate(spec.suffixes):
        rows = (order[:, layer].unsqueeze(1) + gates).flatten(1)
        for name in _rows(spec, suffix):
            weights[name] = _take_rows(weights[name], rows)
        for kind in spec.vectors:
            weights[f"{kind}_{suffix}"] = weights[f"{kind}_{suffix}"].gather(1, order[:, layer])
    for name, layers in _columns(spec):
        read = order[:, layers]
        offsets = torch.arange(read.shape[1], device=population.device).view(-1, 1) * spec.hidden
        columns = (read + offsets).flatten(1).unsqueeze(1)
        weights[name] = weights[name].gather(2, columns.expand_as(weights[name]))
    return Population(spec, weights)


def flip_signs(population: Population, signs: Float[Tensor, "rnn layer hidden"]) -> Population:
    """Turns the sign of hidden units where `signs` is −1 and leaves them where it is 1.

    Raises:
        RNNSpecMismatch: The cell is a relu, which is not odd.
    """
    _require("sign-flip", population.spec)
    return _rescale(population, signs, signs)


def scale_units(population: Population, scales: Float[Tensor, "rnn layer hidden"]) -> Population:
    """Multiplies hidden units by positive numbers, which those who read the units divide by.

    Raises:
        RNNSpecMismatch: The cell is not a relu, so it bends what is scaled.
    """
    _require("relu-scaling", population.spec)
    return _rescale(population, scales, scales.reciprocal())


def shift_biases(population: Population, shift: Float[Tensor, "rnn layer gate hidden"]) -> Population:
    """Adds something to `bias_ih` and takes it from `bias_hh`.

    Args:
        population: The RNNs.
        shift: For each gate that adds up both biases: all, but for the GRU's candidate gate, whose
            reset gate scales `bias_hh` alone.

    Raises:
        RNNSpecMismatch: The RNNs have no biases.
    """
    _require("bias-shift", population.spec)
    spec, weights = population.spec, dict(population.weights)
    shift = shift.to(population.device)
    for layer, suffix in enumerate(spec.suffixes):
        own, recurrent = (weights[f"bias_{kind}_{suffix}"] for kind in ("ih", "hh"))
        added = F.pad(shift[:, layer].flatten(1), (0, own.shape[1] - shift.shape[2] * spec.hidden))
        weights[f"bias_ih_{suffix}"] = own + added
        weights[f"bias_hh_{suffix}"] = recurrent - added
    return Population(spec, weights)


def canonical_bias(population: Population) -> Population:
    """The same function with all of each bias in `bias_ih` and zeros in `bias_hh`.

    Only the sum of both means something, but in the GRU's candidate gate, which keeps both.
    """
    spec = population.spec
    if not spec.bias:
        return population
    summed = spec.hidden * _summed(spec)
    biases = torch.stack([population.weights[f"bias_hh_{suffix}"] for suffix in spec.suffixes], 1)
    return shift_biases(population, biases[..., :summed].unflatten(2, (-1, spec.hidden)))


def random_permutations(
    spec: RNNSpec,
    count: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Int[Tensor, "rnn layer hidden"]:
    """One reordering of hidden units for each of `count` RNNs, each layer and each direction.

    Args:
        spec: The architecture.
        count: Number of RNNs.
        generator: Where random numbers come from, one of the device; None for torch's own.
        device: Where they are drawn; the CPU without it.
    """
    shape = (count, len(spec.suffixes), spec.hidden)
    return torch.rand(shape, generator=generator, device=device).argsort(-1)


def _permuted(population: Population, generator: torch.Generator | None) -> Population:
    device = _device(population, generator)
    order = random_permutations(population.spec, len(population), generator, device)
    return permute_hidden(population, order)


def _flipped(population: Population, generator: torch.Generator | None) -> Population:
    normal = _normal(population, generator)[:, :, 0]
    return flip_signs(population, torch.ones_like(normal).copysign(normal))


def _shifted(population: Population, generator: torch.Generator | None) -> Population:
    return shift_biases(population, _normal(population, generator)[:, :, : _summed(population.spec)])


def _scaled(population: Population, generator: torch.Generator | None) -> Population:
    return scale_units(population, (_normal(population, generator)[:, :, 0] / 2).exp())


SYMMETRIES = {
    "hidden-permutation": Symmetry(applies=lambda spec: True, change=_permuted),
    "sign-flip": Symmetry(applies=lambda spec: spec.activation == "tanh", change=_flipped),
    "bias-shift": Symmetry(applies=lambda spec: spec.bias, change=_shifted),
    "relu-scaling": Symmetry(applies=lambda spec: spec.activation == "relu", change=_scaled),
}
"""Every symmetry that RNNs of some architecture have."""


def _require(name: str, spec: RNNSpec) -> None:
    if not SYMMETRIES[name].applies(spec):
        names = ", ".join(name for name, symmetry in SYMMETRIES.items() if symmetry.applies(spec))
        raise RNNSpecMismatch(f"{name} is no symmetry of {spec}; it has {names}")


def _normal(
    population: Population, generator: torch.Generator | None
) -> Float[Tensor, "rnn layer gate hidden"]:
    """Normal random numbers for every unit's gates."""
    spec = population.spec
    shape = (len(population), len(spec.suffixes), len(spec.gates), spec.hidden)
    drawn = torch.randn(shape, generator=generator, device=_device(population, generator))
    return drawn.to(population.device, population.dtype)


def _device(population: Population, generator: torch.Generator | None) -> torch.device:
    """Where random numbers are drawn."""
    return population.device if generator is None else generator.device


def _summed(spec: RNNSpec) -> int:
    """How many gates, from the first, add up both biases; the GRU's candidate comes last."""
    return spec.gates.index("n") if spec.cell == "gru" else len(spec.gates)


def _rows(spec: RNNSpec, suffix: str) -> list[str]:
    """Parameters whose rows are the gates of a layer's units."""
    kinds = ("weight_ih", "weight_hh") + (("bias_ih", "bias_hh") if spec.bias else ())
    return [f"{kind}_{suffix}" for kind in kinds]


def _columns(spec: RNNSpec) -> Iterator[tuple[str, slice]]:
    """Parameters whose columns read hidden units, and the layers (and directions) they read."""
    below = slice(0, 0)
    for first in range(0, len(spec.suffixes), spec.directions):
        here = slice(first, first + spec.directions)
        for layer in range(here.start, here.stop):
            yield f"weight_hh_{spec.suffixes[layer]}", slice(layer, layer + 1)
            if first:
                yield f"weight_ih_{spec.suffixes[layer]}", below
        below = here
    if spec.output is not None:
        yield "head.weight", below


def _take_rows(
    weight: Float[Tensor, "rnn row *column"], rows: Int[Tensor, "rnn row"]
) -> Float[Tensor, "rnn row *column"]:
    """Each RNN's own choice of rows, all copied at once: a few times as fast as `gather`."""
    offsets = torch.arange(len(weight), device=weight.device).unsqueeze(1) * weight.shape[1]
    return weight.flatten(0, 1).index_select(0, (rows + offsets).flatten()).view_as(weight)


def _rescale(population: Population, rows: Tensor, columns: Tensor) -> Population:
    """Multiplies the candidate gate's rows and initial states, and all columns that read the units."""
    spec, weights = population.spec, dict(population.weights)
    rows, columns = rows.to(population.device), columns.to(population.device)
    candidate = spec.gates.index(CANDIDATE.get(spec.cell, "h"))
    for layer, suffix in enumerate(spec.suffixes):
        factors = rows.new_ones(len(population), len(spec.gates), spec.hidden)
        factors[:, candidate] = rows[:, layer]
        for name in _rows(spec, suffix):
            weight = weights[name]
            weights[name] = weight * factors.flatten(1).view(*weight.shape[:2], *[1] * (weight.ndim - 2))
        for kind in set(spec.vectors) - {"alpha"}:
            weights[f"{kind}_{suffix}"] = weights[f"{kind}_{suffix}"] * rows[:, layer]
    for name, layers in _columns(spec):
        weights[name] = weights[name] * columns[:, layers].flatten(1).unsqueeze(1)
    return Population(spec, weights)
