"""What an encoder is: a map from the weights of RNNs to embeddings of unit length."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rnnatlas.errors import RNNSpecMismatch, TrainingDiverged
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.rnn.spec import GATES
from rnnatlas.tasks.base import Signal

EMBED = 16
"""Size of an embedding (Herrmann et al. 2024, section 3)."""

TOGETHER = 256
"""RNNs that are embedded together, which bounds memory; they share what does not depend on the RNN."""

FLOOR = 0.03
"""Least spread that whitening assumes, as a share of the largest: narrower directions stay narrower."""


class Encoder(nn.Module, ABC):
    """Embeds RNNs; each RNN's embedding depends on that RNN alone.

    A mechanistic encoder (`reads_weights`) takes RNNs of exactly the architecture it was built for. A
    functionalist one only runs RNNs, so it takes all with the same input and output sizes.

    `symmetries` names those of `rnnatlas.rnn.SYMMETRIES` that leave the embedding, too, as it is, for RNNs
    with a head and outside training, where an encoder may draw some of the others at random.

    On a GPU, a training step is a CUDA graph, which repeats what the GPU did once: `read` may not depend on
    numbers that the CPU draws or reads off tensors (`.item()`, masks as indices), nor copy lists or numbers
    to the GPU at each call.

    Args:
        spec: Architecture of the RNNs.
        signal: What they read.
        outcome: What they give out.
        settings: An instance of the encoder's `Settings`.
    """

    Settings: ClassVar[type]
    reads_weights: ClassVar[bool]
    symmetries: ClassVar[frozenset[str]]

    def __init__(self, spec: RNNSpec, signal: Signal, outcome: Signal, settings: Any):
        super().__init__()
        self.spec = spec
        self.signal = signal
        self.outcome = outcome
        self.settings = settings

    @abstractmethod
    def read(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """Embeddings before they are scaled to unit length."""

    def forward(self, population: Population) -> Float[Tensor, "rnn embed"]:
        """Embeddings of unit length.

        Raises:
            RNNSpecMismatch: The encoder was built for another architecture.
        """
        self.check(population.spec)
        return F.normalize(self.read(population), dim=-1)

    @property
    def last(self) -> nn.Linear | None:
        """The layer that gives out embeddings before they are scaled to unit length; None for controls."""
        return None

    @torch.no_grad()
    def calibrate(self, population: Population) -> None:
        """Whitens embeddings over the training snapshots: mean 0, equal spread in all directions.

        As drawn, embeddings of different RNNs point in nearly the same direction, so the emulator learns
        to do without them and may never start to use them (docs/decisions/0006-initialisation.md).

        Args:
            population: All training snapshots, on the encoder's device or not.

        Raises:
            TrainingDiverged: Their embeddings are not finite.
        """
        if self.last is None:
            return
        raw = torch.cat([self.read(chunk.to(self.last.weight.device)) for chunk in chunks(population)])
        if not raw.isfinite().all():
            raise TrainingDiverged(
                "embeddings of training RNNs are not finite before training has begun; look for broken "
                "snapshots with: rnnatlas zoo verify"
            )
        centre = raw.mean(0)
        # on the CPU: directions have no sign of their own, and a GPU would give them another
        variances, directions = torch.linalg.eigh((raw - centre).double().T.cov(correction=0).cpu())
        if variances[-1] < 1e-14:  # all alike: nothing to spread out
            return
        spread = variances.clamp_min(variances[-1] * FLOOR**2).sqrt()
        whiten = (directions / spread).T.to(raw)
        self.last.weight.copy_(whiten @ self.last.weight)
        self.last.bias.copy_(whiten @ (self.last.bias - centre))

    def check(self, spec: RNNSpec) -> None:
        """Makes sure that RNNs of this architecture can be embedded.

        Raises:
            RNNSpecMismatch: They cannot.
        """
        sizes = (spec.input, spec.output_size) == (self.spec.input, self.spec.output_size)
        if self.reads_weights and spec != self.spec:
            raise RNNSpecMismatch(
                f"this encoder was built for {self.spec}, found {spec}; train one on a zoo of such RNNs"
            )
        if not sizes:
            raise RNNSpecMismatch(
                f"this encoder was built for RNNs with {self.spec.input} inputs and {self.spec.output_size} "
                f"outputs, found {spec}; train one on a zoo of such RNNs"
            )


def chunks(population: Population, size: int = TOGETHER) -> Iterator[Population]:
    """The RNNs, some at a time, which bounds memory."""
    return (population.select(slice(i, i + size)) for i in range(0, len(population), size))


def mean_and_spread(values: Tensor, dim: int | None = None) -> tuple[Tensor, Tensor]:
    """What standardises values, along one dimension or all together; spread 1 for what hardly varies.

    A feature that hardly varies in training must not be blown up elsewhere.
    """
    spread = values.std(dim, correction=0)
    return values.mean(dim), torch.where(spread > 1e-6, spread, 1.0)


@torch.no_grad()
def remember(cell: nn.RNNBase, steps: int) -> None:
    """Draws the biases of an LSTM's forget gates so that its units remember for up to so many steps.

    As torch draws them, a unit forgets half of its state each step: what it heard at the start of a
    sequence is gone after ten, and so is the gradient. Here the times after which units forget are uniform
    from 2 steps on (Tallec & Ollivier 2018, equation 16). Cells other than LSTMs stay as they are.
    """
    if cell.mode != "LSTM":
        return
    forget = GATES["lstm"].index("f")
    rows = slice(forget * cell.hidden_size, (forget + 1) * cell.hidden_size)
    for name, bias in cell.named_parameters():
        if name.startswith("bias_ih"):
            bias[rows] = torch.empty(cell.hidden_size).uniform_(1, max(2, steps)).log_()
        elif name.startswith("bias_hh"):
            bias[rows] = 0


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them."""
    layers: list[nn.Module] = []
    for size, following in itertools.pairwise(sizes):
        layers += [nn.Linear(size, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
