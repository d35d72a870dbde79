"""Invariants of the weights, which RNNs of any architecture have: nothing of what is read is trained."""

import hashlib
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rnnatlas.encoders.base import EMBED, Encoder, Examples, mlp
from rnnatlas.rnn import Interface, Population, RNNSpec, System, populations
from rnnatlas.rnn.invariants import invariant_names, invariants, invariants_known
from rnnatlas.settings import at_least_one, settings

CLIP = 4.0
"""Standard deviations beyond which an invariant is not told from one at this distance."""
CORRELATIONS = 0.3
"""Weight of correlations over units: they are many and noisy, and would make up most of the components."""
REMEMBERED = 2**14
"""RNNs whose invariants are remembered: training reads each hundreds of times."""

_remembered: dict[bytes, Tensor] = {}


@settings
class InvariantsSettings:
    """Settings of `Invariants`.

    Args:
        width: Units of each hidden layer of the MLP.
        layers: Its hidden layers.
    """

    width: int = 128
    layers: int = 2

    def __post_init__(self) -> None:
        at_least_one(self, "width", "layers")


class Invariants(Encoder):
    """Embeds an RNN of any architecture by `rnnatlas.invariants` of its weights.

    They are standardised over the training snapshots, clipped, and read by a linear layer that starts at the
    directions of their first principal components, beside an MLP.
    """

    Settings = InvariantsSettings
    title: ClassVar[str | None] = "invariants of the weights"
    colour: ClassVar[str | None] = "#8a6d00"
    reads_weights = True
    any_architecture = True
    capturable = False
    symmetries: ClassVar[frozenset[str]] = frozenset({"hidden-permutation", "sign-flip", "bias-shift"})

    def __init__(self, interface: Interface, spec: RNNSpec | None, settings: Any, size: int = EMBED):
        super().__init__(interface, spec, settings, size)
        self.scales = Scales()
        count = len(self.scales.mean)
        self.mlp = nn.Sequential(mlp(count, *[settings.width] * settings.layers), nn.Tanh())
        self.head = nn.Linear(count + settings.width, size)

    @property
    def last(self) -> nn.Linear:
        """See `Encoder.last`."""
        return self.head

    def accepts(self, interface: Interface, spec: RNNSpec | None) -> str | None:
        """Why the encoder does not take RNNs of a kind; None where their weights can be read."""
        return super().accepts(self.interface, spec)

    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """A linear layer's outputs for the standardised invariants and what an MLP makes of them."""
        features = self.scales(population)
        return self.head(torch.cat([features, self.mlp(features)], 1))

    @torch.no_grad()
    def standardise(self, system: System, examples: Examples | None = None) -> None:
        """Takes mean and standard deviation of each invariant, and the principal components."""
        self.scales.fit(system)
        features = torch.cat([self.scales(population) for _, population in populations(system)])
        if not features.isfinite().all():
            return  # `calibrate` says so
        weight = self.head.weight[:, : features.shape[1]]
        components = principal_components(features, len(weight))
        weight.zero_()[: len(components)] = components.to(weight)


class Scales(nn.Module):
    """Invariants in standard deviations from their mean over some RNNs, clipped; 0 where an RNN has none."""

    mean: Tensor
    sd: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        names = invariant_names()
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("sd", torch.ones(len(names)))
        self.register_buffer("weight", weights(), persistent=False)

    def forward(self, population: Population) -> Float[Tensor, "rnn feature"]:
        """The scaled invariants, on the device and in the precision of the means."""
        values = _recall(population).to(self.mean.device)
        scaled = ((values - self.mean) / self.sd).clamp(-CLIP, CLIP).to(self.mean) * self.weight
        return scaled.where(invariants_known(population.spec).to(self.mean.device), 0.0)

    @torch.no_grad()
    def fit(self, system: System) -> None:
        """Takes means and standard deviations, each over the RNNs that have the invariant."""
        parts = [population for _, population in populations(system)]
        values = torch.cat([_recall(part) for part in parts])
        known = torch.cat([invariants_known(part.spec).expand(len(part), -1) for part in parts])
        for buffer, found in zip((self.mean, self.sd), moments(values, known), strict=True):
            buffer.copy_(found)


def weights(dtype: torch.dtype = torch.float32) -> Float[Tensor, " feature"]:
    """By what each scaled invariant is multiplied."""
    return torch.tensor([CORRELATIONS if " × " in name else 1.0 for name in invariant_names()], dtype=dtype)


def moments(
    values: Float[Tensor, "rnn feature"], known: Bool[Tensor, "rnn feature"]
) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """Mean and standard deviation of each invariant over RNNs that have it; 1 for what hardly varies."""
    count = known.sum(0).clamp_min(1)
    mean = values.where(known, 0.0).sum(0) / count
    sd = ((values - mean).square().where(known, 0.0).sum(0) / count).sqrt()
    return mean, torch.where(sd > 1e-6, sd, 1.0)


def principal_components(
    features: Float[Tensor, "rnn feature"], most: int
) -> Float[Tensor, "component feature"]:
    """Directions in which features vary most, as many as there are; the largest entry of each is positive."""
    centred = (features - features.mean(0)).double().cpu()
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    chosen = directions[:most][values[:most] > 1e-9 * values[0].clamp_min(1e-9)]
    signs = chosen.gather(1, chosen.abs().argmax(1, keepdim=True)).sign()
    return chosen * signs


def _recall(population: Population) -> Float[Tensor, "rnn feature"]:
    """Invariants, worked out once for the same weights while something is trained, which reads them often."""
    weights = population.flatten()
    if weights.requires_grad or weights.is_meta or not torch.is_grad_enabled():
        return invariants(population)
    name = population.spec.slug.encode()
    rows = weights.cpu().numpy()
    keys = [hashlib.blake2b(name + row.tobytes(), digest_size=16).digest() for row in rows]
    found = {key: _remembered[key] for key in keys if key in _remembered}
    if new := [place for place, key in enumerate(keys) if key not in found]:
        made = dict(zip([keys[place] for place in new], invariants(population.select(new)), strict=True))
        if len(_remembered) + len(made) > REMEMBERED:
            _remembered.clear()
        _remembered.update(made)
        found |= made
    return torch.stack([found[key] for key in keys])
