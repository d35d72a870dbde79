"""What encoders that read every single weight share: rows of weights, and their scale."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.encoders.augment import Augmented
from rnnatlas.encoders.base import EMBED, Examples, mean_and_sd
from rnnatlas.rnn import Interface, Population, RNNSpec, canonical_bias


class RowEncoder(Augmented):
    """Reads RNNs row by row: all that a gate of a hidden unit, or an output of the head, is computed from.

    Biases are canonical, so a shift between the two is not seen. Each tensor is standardised by one mean
    and standard deviation over the training snapshots: statistics of single weights would tell hidden units
    apart. Nothing here is invariant to reordering hidden units, so orders are drawn in training
    (`settings.augment`).
    """

    reads_weights = True
    symmetries: ClassVar[frozenset[str]] = frozenset({"bias-shift"})
    mean: Tensor
    sd: Tensor

    def __init__(self, interface: Interface, spec: RNNSpec, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        self.register_buffer("mean", torch.zeros(len(spec.shapes)))
        self.register_buffer("sd", torch.ones(len(spec.shapes)))

    def rows(self, population: Population) -> list[Float[Tensor, "rnn row column"]]:
        """Standardised rows of each layer and direction, then of the head."""
        population = canonical_bias(population)
        scales = zip(population.weights.items(), self.mean, self.sd, strict=True)
        weights = {name: (weight - mean) / sd for (name, weight), mean, sd in scales}
        return rows(Population(population.spec, weights))

    @torch.no_grad()
    def standardise(self, population: Population, examples: Examples | None = None) -> None:
        """Takes each tensor's mean and standard deviation over the training snapshots."""
        for index, weight in enumerate(canonical_bias(population).weights.values()):
            self.mean[index], self.sd[index] = mean_and_sd(weight)


def rows(population: Population) -> list[Float[Tensor, "rnn row column"]]:
    """Rows of each layer and direction (inputs, recurrent, bias), then of the head (weights, bias).

    What there is one of a unit, α and initial states, stands in the row of each of its gates.

    Args:
        population: RNNs with canonical biases, of which `bias_hh` is read for GRUs alone.
    """
    spec, weights = population.spec, population.weights
    biases = ("bias_ih", "bias_hh") if spec.cell == "gru" else ("bias_ih",)
    matrices = []
    for suffix in spec.suffixes:
        columns = [weights[f"{kind}_{suffix}"] for kind in ("weight_ih", "weight_hh")]
        columns += [weights[f"{kind}_{suffix}"].unsqueeze(2) for kind in biases if spec.bias]
        gates = len(spec.gates)
        columns += [weights[f"{kind}_{suffix}"].repeat(1, gates).unsqueeze(2) for kind in spec.vectors]
        matrices.append(torch.cat(columns, 2))
    if spec.output is not None:
        columns = [weights["head.weight"]]
        columns += [weights["head.bias"].unsqueeze(2)] if spec.head_bias else []
        matrices.append(torch.cat(columns, 2))
    return matrices


def row_shapes(spec: RNNSpec) -> list[tuple[int, int]]:
    """Number of rows and of columns of each matrix that `rows` gives."""
    blank = Population.unflatten(spec, torch.zeros(1, spec.parameters))
    return [(matrix.shape[1], matrix.shape[2]) for matrix in rows(blank)]
