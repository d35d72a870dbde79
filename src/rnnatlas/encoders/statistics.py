"""Layer-wise statistics: the weights of each gate, summarised."""

import math
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Encoder, Examples, chunks, mean_and_sd, mlp
from rnnatlas.rnn import Interface, Population, RNNSpec, canonical_bias
from rnnatlas.rnn.tracing import traced
from rnnatlas.settings import at_least_one, settings

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@settings
class StatisticsSettings:
    """Settings of `Statistics`.

    Args:
        width: Units of each hidden layer of the MLP. 744 gives the published 1.25 M parameters for LSTMs
            of two layers; 768, the published width, would give 1.33 M with these features.
        layers: Hidden layers of the MLP.
    """

    width: int = 744
    layers: int = 3

    def __post_init__(self) -> None:
        at_least_one(self, "width", "layers")


class Statistics(Encoder):
    """Embeds an RNN by summary statistics of its weights.

    Mean, standard deviation and five quantiles of each gate's input weights, recurrent weights and bias
    in each layer, of α and initial states where there are such, and of the head, go through an MLP (Herrmann
    et al. 2024, section 3, layer-wise statistics; features after Unterthiner et al. 2020). Each feature is
    standardised by its mean and standard deviation over the training snapshots; a feature is the same
    however hidden units are ordered, so that breaks no symmetry.
    """

    Settings = StatisticsSettings
    title: ClassVar[str | None] = "layer-wise statistics"
    colour: ClassVar[str | None] = "#b5651d"
    reads_weights = True
    symmetries: ClassVar[frozenset[str]] = frozenset({"hidden-permutation", "bias-shift"})
    mean: Tensor
    sd: Tensor

    def __init__(self, interface: Interface, spec: RNNSpec, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        vectors = Population.unflatten(spec, torch.zeros(1, spec.parameters))
        features = statistics(vectors).shape[1]
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))
        self.mlp = mlp(features, *[settings.width] * settings.layers, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return cast(nn.Linear, self.mlp[-1])

    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """The MLP's outputs for the standardised statistics."""
        return self.mlp((statistics(population) - self.mean) / self.sd)

    @torch.no_grad()
    def standardise(self, population: Population, examples: Examples | None = None) -> None:
        """Takes each feature's mean and standard deviation over the training snapshots."""
        features = torch.cat([statistics(part) for part in chunks(population)])
        mean, sd = mean_and_sd(features, 0)
        self.mean.copy_(mean)
        self.sd.copy_(sd)


def statistics(population: Population) -> Float[Tensor, "rnn feature"]:
    """Mean, standard deviation and quantiles of each gate's weights and biases, and of the head's."""
    parts = [_summary(vectors) for vectors in _vectors(population)]
    return torch.cat(parts, 1)


def _vectors(population: Population) -> list[Float[Tensor, "rnn gate weight"]]:
    """The weights that are summarised together, the head's as if of one gate."""
    spec, weights = population.spec, canonical_bias(population).weights
    gates = (len(spec.gates), spec.hidden)
    vectors = []
    for suffix in spec.suffixes:
        names = [f"weight_ih_{suffix}", f"weight_hh_{suffix}", f"bias_ih_{suffix}"]
        vectors += [weights[name].unflatten(1, gates).flatten(2) for name in names if name in weights]
        if spec.bias and spec.cell == "gru":  # the candidate gate alone keeps its second bias
            vectors.append(weights[f"bias_hh_{suffix}"].unflatten(1, gates)[:, -1:])
        vectors += [weights[f"{kind}_{suffix}"].unsqueeze(1) for kind in spec.vectors]
    return vectors + [weights[name].flatten(1).unsqueeze(1) for name in weights if name.startswith("head.")]


def _summary(vectors: Float[Tensor, "rnn gate weight"]) -> Float[Tensor, "rnn feature"]:
    ordered = _sort(vectors)
    # numbers of Python, since indices in a tensor would be copied to a GPU, which a CUDA graph cannot repeat
    places = [quantile * (vectors.shape[-1] - 1) for quantile in QUANTILES]
    quantiles = torch.stack(
        [
            torch.lerp(ordered[..., math.floor(place)], ordered[..., math.ceil(place)], place % 1)
            for place in places
        ],
        -1,
    )
    mean = vectors.mean(-1, keepdim=True)
    # `Tensor.var` is not vectorised on the CPU and takes 15 times as long
    variance = (vectors - mean).square().mean(-1, keepdim=True)
    # of equal weights the standard deviation has no slope; the floor makes its gradient zero, not NaN
    return torch.cat([mean, variance.clamp_min(1e-12).sqrt(), quantiles], -1).flatten(1)


def _sort(vectors: Float[Tensor, "rnn gate weight"]) -> Float[Tensor, "rnn gate weight"]:
    """Sorted weights; by numpy, which takes about 1/20 of torch's time, where nobody needs a gradient."""
    known = vectors.is_cpu and vectors.dtype in (torch.float32, torch.float64)
    if known and not vectors.requires_grad and not traced():
        return torch.from_numpy(np.sort(vectors.numpy(), -1))
    return vectors.sort(-1).values
