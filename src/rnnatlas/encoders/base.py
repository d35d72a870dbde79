"""What an encoder is: a map from RNNs to embeddings of unit length."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rnnatlas.errors import RNNSpecMismatch, SettingsError, TrainingDiverged
from rnnatlas.rnn import Interface, Population, RNNSpec, System, by_population, groups
from rnnatlas.rnn.spec import GATES

EMBED = 16
"""Size of an embedding where nothing else is said (Herrmann et al. 2024, section 3)."""

Examples = Callable[..., Float[Tensor, "sample time input"]]
"""Sequences to probe RNNs with, by their kind, steps and, if any, turns; see `Snapshots.examples`."""

TOGETHER = 256
"""RNNs that are embedded together, which bounds memory; they share what does not depend on the RNN."""

FLOOR = 0.03
"""Least standard deviation that whitening assumes, as a share of the largest: narrower directions stay so."""


class Encoder(nn.Module, ABC):
    """Embeds RNNs; each RNN's embedding depends on that RNN alone.

    A mechanistic encoder (`reads_weights`) reads populations, of one architecture or of `any_architecture`. A
    functionalist one only runs RNNs, so it takes any system with the same input and output sizes. `accepts`
    says what an encoder takes.

    `symmetries` names those of `rnnatlas.rnn.SYMMETRIES` that leave the embedding, too, as it is, for RNNs
    with a head and outside training, where an encoder may draw some of the others at random.

    `title` and `colour` (#rrggbb) are its name for people and its colour in figures; without them it goes by
    its name in the registry and gets a spare colour.

    On a GPU, a training step is a CUDA graph, which repeats what the GPU did once: `read` may not depend on
    numbers that the CPU draws or reads off tensors (`.item()`, masks as indices), nor copy lists or numbers
    to the GPU at each call. An encoder that has to do so says that it is not `capturable`.

    Args:
        interface: What the RNNs read and give out.
        spec: Their architecture, for encoders that read the weights of one; others do not look at it.
        settings: An instance of the encoder's `Settings`.
        size: Numbers of an embedding.
    """

    Settings: ClassVar[type]
    title: ClassVar[str | None] = None
    colour: ClassVar[str | None] = None
    reads_weights: ClassVar[bool]
    symmetries: ClassVar[frozenset[str]]
    capturable: ClassVar[bool] = True
    any_architecture: ClassVar[bool] = False
    turns: ClassVar[bool] = False
    """Whether it probes with inputs in several turns, which few tasks have (`Task.turns`)."""

    def __init__(self, interface: Interface, spec: RNNSpec | None, settings: Any, size: int = EMBED):
        super().__init__()
        self.interface = interface
        self.spec = spec
        self.settings = settings
        self.size = size

    @abstractmethod
    def read(self, system: Any) -> Float[Tensor, "rnn embed"]:
        """Embeddings before they are scaled to unit length, of a population where weights are read."""

    def forward(self, system: System) -> Float[Tensor, "rnn embed"]:
        """Embeddings of unit length.

        Raises:
            RNNSpecMismatch: The encoder does not take one of the RNNs; see `accepts`.
        """
        self.check(system)
        return functional.normalize(self._read(system), dim=-1)

    def _read(self, system: System) -> Float[Tensor, "rnn embed"]:
        if isinstance(system, Population) or not self.reads_weights:
            return self._checked(system)
        return by_population(system, self._checked)  # an encoder may take several architectures

    def _checked(self, system: System) -> Float[Tensor, "rnn embed"]:
        """What `read` gives.

        Raises:
            SettingsError: It is no tensor of that shape.
        """
        z, expected = self.read(system), (len(system), self.size)
        if not isinstance(z, Tensor) or tuple(z.shape) != expected:
            found = f"one of shape {[*z.shape]}" if isinstance(z, Tensor) else f"{type(z).__name__}"
            raise SettingsError(
                f"the encoder {type(self).__name__} should read {expected[0]} RNNs into a tensor of shape "
                f"{[*expected]}, found {found}; let its `read` give `self.size` numbers for each RNN"
            )
        return z

    def accepts(self, interface: Interface, spec: RNNSpec | None) -> str | None:
        """Why the encoder does not take RNNs of a kind; None where it takes them.

        Args:
            interface: What they read and give out.
            spec: Their architecture; None for systems whose weights cannot be read.
        """
        inputs, outputs = self.interface.sizes
        if self.reads_weights and spec is None:
            return "this encoder reads weights, which a black box does not show; use one that probes RNNs"
        if interface.sizes != self.interface.sizes:
            found = spec or "{} inputs and {} outputs".format(*interface.sizes)
            return (
                f"this encoder was built for RNNs with {inputs} inputs and {outputs} outputs, found {found}; "
                "train one on a zoo that was built with such RNNs"
            )
        if self.reads_weights and not self.any_architecture and spec != self.spec:
            return (
                f"this encoder was built for {self.spec}, found {spec}; train one on a zoo of such RNNs, or "
                "use one that probes RNNs"
            )
        return None

    def extra_loss(self, system: System, z: Float[Tensor, "rnn embed"]) -> Float[Tensor, " rnn"] | None:
        """What is minimised beside the emulation loss, of each RNN, in training alone; None for nothing."""
        return None

    def direction(self, z: Float[Tensor, "rnn embed"]) -> Float[Tensor, "rnn 2"] | None:
        """The part of embeddings that turns with the RNNs; None if there is none."""
        return None

    @property
    @abstractmethod
    def last(self) -> nn.Linear | None:
        """The layer that gives out embeddings before they are scaled to unit length; None for controls."""

    @torch.no_grad()
    def calibrate(self, system: System, examples: Examples | None = None) -> None:
        """Whitens embeddings over the training snapshots: mean 0, equal variance in all directions.

        As drawn, embeddings of different RNNs point in nearly the same direction, so the emulator learns
        to do without them and may never start to use them (docs/decisions/0006-initialisation.md).

        Args:
            system: All training snapshots, on the encoder's device or not.
            examples: Sequences of inputs, such as those of their rollouts, for encoders that ask for such.

        Raises:
            TrainingDiverged: Their embeddings are not finite.
        """
        self.standardise(system, examples)
        if self.last is None:
            return
        raw = torch.cat([self._read(chunk.to(self.last.weight.device)) for chunk in chunks(system)])
        if not raw.isfinite().all():
            raise TrainingDiverged(
                "embeddings of training RNNs are not finite before training has begun; look for broken "
                "snapshots with: rnnatlas zoo verify"
            )
        self._whiten(raw)

    def _whiten(self, raw: Float[Tensor, "rnn embed"]) -> None:
        """Changes the last layer such that what it gives out, so far `raw`, is white."""
        assert self.last is not None
        if getattr(self.last, "bias", None) is None or self.last.weight.shape[0] != raw.shape[1]:
            raise SettingsError(
                f"`last` of the encoder {type(self).__name__} should be a linear layer with a bias that "
                f"has {raw.shape[1]} outputs, found {self.last}; name that layer, or None"
            )
        mean = raw.mean(0)
        # on the CPU: directions have no sign of their own, and a GPU would give them another
        variances, directions = torch.linalg.eigh((raw - mean).double().T.cov(correction=0).cpu())
        if variances[-1] < 1e-14:  # all alike: nothing to whiten
            return
        sd = variances.clamp_min(variances[-1] * FLOOR**2).sqrt()
        whiten = (directions / sd).T.to(raw)
        self.last.weight.copy_(whiten @ self.last.weight)
        self.last.bias.copy_(whiten @ (self.last.bias - mean))

    def standardise(self, system: Any, examples: Examples | None = None) -> None:
        """Sets the scales of what the encoder reads; arguments as `calibrate`."""

    def check(self, system: System) -> None:
        """Makes sure that the RNNs of a system can be embedded.

        Raises:
            RNNSpecMismatch: They cannot; see `accepts`.
        """
        for _, group in groups(system):
            for spec in group.specs or (None,):
                if reason := self.accepts(group.interface, spec):
                    raise RNNSpecMismatch(reason)


def chunks(system: Any, size: int = TOGETHER) -> Iterator[Any]:
    """The RNNs, some at a time, which bounds memory."""
    return (system.select(slice(i, i + size)) for i in range(0, len(system), size))


def mean_and_sd(values: Tensor, dim: int | None = None) -> tuple[Tensor, Tensor]:
    """What standardises values, along one dimension or all together; sd 1 for what hardly varies.

    A feature that hardly varies in training must not be blown up elsewhere.
    """
    sd = values.std(dim, correction=0)
    return values.mean(dim), torch.where(sd > 1e-6, sd, 1.0)


@torch.no_grad()
def chrono_initialise(cell: nn.RNNBase, steps: int) -> None:
    """Chrono initialisation: forget-gate biases of an LSTM for memory of up to so many steps.

    As torch draws them, a unit forgets half of its state each step: what it read at the start of a
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
