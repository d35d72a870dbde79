"""Ways of running stacked RNNs: a readable one, one compiled for the CPU, one for GPUs."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from rnnatlas.rnn.spec import RNNSpec


@runtime_checkable
class Stacked(Protocol):
    """What a backend reads of a population: the architecture, and each parameter stacked over the RNNs."""

    @property
    def spec(self) -> RNNSpec: ...  # noqa: D102
    @property
    def weights(self) -> Mapping[str, Tensor]: ...  # noqa: D102

    def __len__(self) -> int: ...
