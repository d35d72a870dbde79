"""Flattened weights: all of them as one vector."""

from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.augment import Augment
from rnnatlas.encoders.base import EMBED, mlp
from rnnatlas.encoders.rows import RowEncoder, row_shapes
from rnnatlas.rnn import Interface, Population, RNNSpec
from rnnatlas.settings import at_least_one, settings


@settings
class FlatSettings:
    """Settings of `Flat`; the paper's by default.

    Args:
        width: Units of each hidden layer of the MLP.
        layers: Hidden layers of the MLP.
        augment: What is drawn at random for each RNN in training: "none", "permutation" (the order of its
            hidden units) or "all" (signs and scales as well, where its cell leaves them open).
    """

    width: int = 128
    layers: int = 3
    augment: Augment = "permutation"

    def __post_init__(self) -> None:
        at_least_one(self, "width", "layers")


class Flat(RowEncoder):
    """Embeds an RNN by an MLP that reads all its weights as one vector.

    After Herrmann et al. 2024, section 3, flattened weights. The MLP has to learn from random orders of
    hidden units that they mean nothing.
    """

    Settings = FlatSettings
    title: ClassVar[str | None] = "flattened weights"
    colour: ClassVar[str | None] = "#e69f00"

    def __init__(self, interface: Interface, spec: RNNSpec, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        weights = sum(rows * columns for rows, columns in row_shapes(spec))
        self.mlp = mlp(weights, *[settings.width] * settings.layers, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return cast(nn.Linear, self.mlp[-1])

    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """The MLP's outputs for the standardised weights."""
        return self.mlp(torch.cat([matrix.flatten(1) for matrix in self.rows(population)], 1))
