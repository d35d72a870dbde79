"""Embedding RNNs of any sizes by invariants of their weights, without a run: they set scales themselves."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.checked import Kind, load_tensors, save_tensors
from rnnatlas.encoders.invariants import CLIP, moments, principal_components, weights
from rnnatlas.errors import AtlasFormatError, CheckpointError, SettingsError
from rnnatlas.rnn import Interface, RNNSpec, System, by_population, groups
from rnnatlas.rnn.invariants import invariants, invariants_known

ENCODER = "invariants"
BASIS = "invariants.safetensors"
_BASIS = Kind("means and components of invariants", AtlasFormatError, "embed the RNNs again")
COMPONENTS = 64
"""Principal components at most."""
FEWEST = 8
"""RNNs from which an architecture has means and standard deviations of its own, where that is asked for."""


class Basis(nn.Module):
    """Means, standard deviations and principal components of the invariants of some RNNs.

    Args:
        arrays: `mean` and `sd` [architecture, feature], the first of all RNNs; `centre` [feature] of what is
            standardised; `components` [component, feature].
        own: Architectures that the others are of.
    """

    mean: Tensor
    sd: Tensor
    centre: Tensor
    components: Tensor

    def __init__(self, arrays: dict[str, Tensor], own: Sequence[str] = ()):
        super().__init__()
        self.own = tuple(own)
        for name in ("mean", "sd", "centre", "components"):
            self.register_buffer(name, arrays[name])

    @classmethod
    def fit(
        cls, values: Float[Tensor, "rnn feature"], specs: Sequence[str], per_architecture: bool = False
    ) -> "Basis":
        """The basis of RNNs.

        Args:
            values: Their invariants.
            specs: Their architectures.
            per_architecture: Whether architectures of `FEWEST` RNNs or more are standardised by themselves.

        Raises:
            CheckpointError: The RNNs do not differ.
        """
        counts = Counter(specs)
        own = [spec for spec in sorted(counts) if counts[spec] >= FEWEST] if per_architecture else []
        members = [torch.ones(len(specs), dtype=torch.bool)]
        members += [torch.tensor([other == spec for other in specs]) for spec in own]
        known = _known(specs)
        scales = [moments(values[rows], known[rows]) for rows in members]
        mean, sd = (torch.stack(parts) for parts in zip(*scales, strict=True))
        nothing = values.new_zeros(values.shape[1])
        basis = cls({"mean": mean, "sd": sd, "centre": nothing, "components": nothing[None]}, own)
        scaled = basis.scaled(values, specs)
        basis.centre = scaled.mean(0)
        basis.components = principal_components(scaled, COMPONENTS)
        if not len(basis.components):
            raise CheckpointError(
                "without a run RNNs are compared with one another, so two that differ are needed, found "
                f"{len(specs)} in all; give more"
            )
        return basis

    def scaled(
        self, values: Float[Tensor, "rnn feature"], specs: Sequence[str]
    ) -> Float[Tensor, "rnn feature"]:
        """Invariants in standard deviations from their mean, clipped; 0 where an RNN has none."""
        rows = [1 + self.own.index(spec) if spec in self.own else 0 for spec in specs]
        scaled = ((values - self.mean[rows]) / self.sd[rows]).clamp(-CLIP, CLIP)
        return (scaled * weights(values.dtype)).where(_known(specs), 0.0)

    def forward(
        self, values: Float[Tensor, "rnn feature"], specs: Sequence[str]
    ) -> Float[Tensor, "rnn component"]:
        """Principal components."""
        return (self.scaled(values, specs) - self.centre) @ self.components.T

    def save(self, path: Path) -> None:
        """Writes it."""
        save_tensors(path, self.state_dict(), {"own": json.dumps(self.own)})

    @classmethod
    def load(cls, path: Path) -> "Basis":
        """Reads what `save` wrote.

        Raises:
            AtlasFormatError: It is not there, or damaged.
        """
        arrays, metadata = load_tensors(path, _BASIS)
        with _BASIS.reading(path):
            own = json.loads(metadata["own"])
            features, texts = arrays["centre"].shape, all(isinstance(name, str) for name in own)
            shapes = [arrays[name].shape[1:] for name in ("mean", "sd", "components")]
            if not texts or shapes != [features] * 3 or len(arrays["mean"]) != 1 + len(own):
                raise ValueError("its arrays do not fit one another")
            return cls(arrays, own)


class Untrained:
    """What stands in a run's place: takes RNNs of all sizes, and predicts nothing.

    Args:
        basis: What makes embeddings of invariants; without it the invariants are the embeddings.
    """

    predictors: ClassVar[dict[str, Any]] = {}
    specs: ClassVar[list[RNNSpec]] = []
    reference = None
    task = None

    def __init__(self, basis: Basis | None = None):
        self.basis = basis

    @property
    def encoder(self) -> "Untrained":
        """What says which RNNs are taken."""
        return self

    def accepts(self, interface: Interface, spec: RNNSpec | None) -> str | None:
        """Why RNNs of a kind are not taken; None where they are."""
        return "invariants are read off weights, which a black box does not show" if spec is None else None

    @torch.no_grad()
    def embed(self, system: System) -> Float[Tensor, "rnn embed"]:
        """Invariants or, with a basis, their principal components."""
        values = by_population(system, invariants)
        if self.basis is None:
            return values
        specs = [""] * len(values)
        for positions, group in groups(system):
            for place in positions.tolist():
                specs[place] = group.specs[0].slug
        return self.basis(values, specs).float()

    def likeness(self, system: System) -> list[dict[str, Any]]:
        """Not known."""
        return [{"ood_score": None, "in_distribution": None}] * len(system)

    def said(self, count: int) -> str:
        """What embeddings of so many RNNs are based on, in a sentence."""
        assert self.basis is not None
        own = self.basis.own
        scales = f"over the {count} RNNs of this atlas"
        if own:
            kinds = ", ".join(str(RNNSpec.from_slug(spec)) for spec in own)
            scales += f", those of {kinds} by themselves"
        return (
            f"based on {len(self.basis.components)} principal components of invariants of the weights "
            f"(spectra, and moments over hidden units), standardised {scales}; nothing was trained or run"
        )


def check_encoder(name: str) -> None:
    """Makes sure that RNNs can be embedded by an encoder without a run.

    Raises:
        SettingsError: They cannot.
    """
    if name != ENCODER:
        raise SettingsError(
            f"without a run RNNs are embedded by the encoder {ENCODER!r} alone, found {name!r}; for others "
            "train a run with: rnnatlas train"
        )


def _known(specs: Sequence[str]) -> Tensor:
    return torch.stack([invariants_known(RNNSpec.from_slug(spec)) for spec in specs])
