"""Behaviour and weights in one embedding."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.encoders.base import EMBED, Examples, mlp
from rnnatlas.encoders.invariants import Scales
from rnnatlas.encoders.responses import Responses, ResponsesSettings
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, RNNSpec, System, by_population
from rnnatlas.settings import settings


@settings
class HybridSettings(ResponsesSettings):
    """Settings of `Hybrid`: those of `Responses`, and one more.

    Args:
        decode: Weight of the second objective beside the emulation loss; 0 for emulation alone.
    """

    decode: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.decode >= 0:
            raise SettingsError(f"decode should be 0 or more, found {self.decode}")


class Hybrid(Responses):
    """Embeds an RNN of any architecture by its responses and by invariants of its weights.

    Emulation needs nothing of the weights that does not show in what an RNN does, and so throws away how
    long it has been trained, and at what scale. Here a small decoder also has to find the invariants in the
    embedding (mean squared error of standardised ones), which keeps that.
    """

    Settings = HybridSettings
    settings: HybridSettings
    title: ClassVar[str | None] = "responses and invariants"
    colour: ClassVar[str | None] = "#5b2a86"
    reads_weights = True
    any_architecture = True
    capturable = False
    symmetries: ClassVar[frozenset[str]] = frozenset({"hidden-permutation", "sign-flip", "bias-shift"})

    def __init__(
        self, interface: Interface, spec: RNNSpec | None, settings: HybridSettings, size: int = EMBED
    ):
        scales = Scales()
        super().__init__(interface, spec, settings, size, beside=len(scales.mean))
        self.scales = scales
        self.decoder = mlp(size, settings.hidden, len(scales.mean)) if settings.decode else None

    def _features(self, system: System) -> Float[Tensor, "rnn feature"]:
        return torch.cat([super()._features(system), self._invariants(system)], 1)

    def _invariants(self, system: System) -> Float[Tensor, "rnn invariant"]:
        return by_population(system, self.scales)

    @torch.no_grad()
    def standardise(self, system: System, examples: Examples | None = None) -> None:
        """See `Responses.standardise`; takes scales of the invariants, too."""
        self.scales.fit(system)
        super().standardise(system, examples)

    def extra_loss(self, system: System, z: Float[Tensor, "rnn embed"]) -> Float[Tensor, " rnn"] | None:
        """How far the invariants that the decoder finds in embeddings are from those of the RNNs."""
        if self.decoder is None:
            return None
        difference = self.decoder(z) - self._invariants(system)
        return self.settings.decode * difference.square().mean(1)
