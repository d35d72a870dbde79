"""In training, encoders may read each RNN as another one of the many that compute the same."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from rnnatlas.encoders.base import Encoder
from rnnatlas.rnn import SYMMETRIES, Mixed, Population, System, populations

Augment = Literal["none", "permutation", "all"]
"""Which symmetries of the weights are drawn in training: none, orders of hidden units, or every one."""

NAMES = {"none": (), "permutation": ("hidden-permutation",), "all": tuple(SYMMETRIES)}
"""The symmetries that are drawn."""


class Augmented(Encoder):
    """Reads RNNs that are changed at random in training, in ways that leave their outputs as they are.

    Each RNN gets a change of its own whenever it is seen in training, and none afterwards (Herrmann et al.
    2024, section 3, of orders of hidden units). `settings.augment` says which of `rnnatlas.rnn.SYMMETRIES`
    are drawn. Those that an embedding has anyway (`symmetries`) are left out, as they would change nothing.
    Without a head, hidden states are the outputs, so such RNNs stay as they are.
    """

    def forward(self, system: System) -> Float[Tensor, "rnn embed"]:
        """See `Encoder.forward`; in training, of RNNs that are changed at random."""
        self.check(system)
        if self.training and self.settings.augment != "none":
            system = self._drawn(system)
        return super().forward(system)

    def _drawn(self, system: System) -> System:
        if not isinstance(system, Population):
            return Mixed([(index, self._drawn(population)) for index, population in populations(system)])
        if system.spec.output is None:
            return system
        for name in NAMES[self.settings.augment]:
            symmetry = SYMMETRIES[name]
            if name not in self.symmetries and symmetry.applies(system.spec):
                # torch's own generator, which training seeds for each step
                system = symmetry.change(system, None)
        return system
