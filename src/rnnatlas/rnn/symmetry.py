"""What may be done to an RNN's weights without changing what it computes."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from rnnatlas.rnn.population import Population
from rnnatlas.rnn.spec import RNNSpec


def canonical_bias(population: Population) -> Population:
    """The same function with all of each bias in `bias_ih` and zeros in `bias_hh`.

    Gates add up both biases, so only their sum means something. The GRU's candidate gate keeps both:
    its reset gate scales `bias_hh` alone.
    """
    spec, weights = population.spec, dict(population.weights)
    if not spec.bias:
        return population
    summed = spec.hidden * (spec.gates.index("n") if spec.cell == "gru" else len(spec.gates))
    for suffix in spec.suffixes:
        own, recurrent = weights[f"bias_ih_{suffix}"], weights[f"bias_hh_{suffix}"]
        moved = F.pad(recurrent[:, :summed], (0, recurrent.shape[1] - summed))
        weights[f"bias_ih_{suffix}"] = own + moved
        weights[f"bias_hh_{suffix}"] = recurrent - moved
    return Population(spec, weights)


def random_permutations(
    spec: RNNSpec, generators: Sequence[torch.Generator]
) -> Int[Tensor, "rnn layer hidden"]:
    """One reordering of hidden units for each RNN, layer and direction; one generator an RNN."""
    layers = spec.layers * spec.directions
    return torch.stack(
        [
            torch.stack([torch.randperm(spec.hidden, generator=generator) for _ in range(layers)])
            for generator in generators
        ]
    )


def permute_hidden(population: Population, permutations: Int[Tensor, "rnn layer hidden"]) -> Population:
    """Reorders hidden units: new unit i of a layer is its old unit `permutations[…, i]`.

    Rows of every gate and the columns of all that read the layer move together, so outputs stay as
    they are; hidden states, where they are the outputs of RNNs without a head, move along.
    """
    spec = population.spec
    weights = dict(population.weights)
    below = None  # where the columns that read the layer below went
    for layer in range(spec.layers):
        order = permutations[:, layer * spec.directions : (layer + 1) * spec.directions]
        for direction in range(spec.directions):
            suffix = spec.suffixes[layer * spec.directions + direction]
            units = order[:, direction]
            rows = torch.cat([units + gate * spec.hidden for gate in range(len(spec.gates))], 1)
            for name in [name for name in weights if name.endswith(f"_{suffix}")]:
                weights[name] = _take(weights[name], rows, 1)
            weights[f"weight_hh_{suffix}"] = _take(weights[f"weight_hh_{suffix}"], units, 2)
            if below is not None:
                weights[f"weight_ih_{suffix}"] = _take(weights[f"weight_ih_{suffix}"], below, 2)
        offsets = torch.arange(spec.directions, device=order.device).unsqueeze(1) * spec.hidden
        below = (order + offsets).flatten(1)
    if spec.output is not None and below is not None:
        weights["head.weight"] = _take(weights["head.weight"], below, 2)
    return Population(spec, weights)


def _take(weight: Tensor, index: Tensor, dim: int) -> Tensor:
    """Each RNN's own choice along one dimension."""
    index = index.to(weight.device)
    shape = [1] * weight.ndim
    shape[0], shape[dim] = index.shape
    expanded = list(weight.shape)
    expanded[dim] = index.shape[1]
    return torch.gather(weight, dim, index.view(shape).expand(expanded))
