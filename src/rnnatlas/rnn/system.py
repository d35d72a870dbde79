"""What is embedded, run and emulated: anything that reads a sequence and gives one out, many side by side."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn.signals import Interface, Tokens, draw
from rnnatlas.rnn.spec import RNNSpec

Index = Int[Tensor, " chosen"] | Bool[Tensor, " rnn"] | Sequence[int] | slice
"""Which of the RNNs: positions in any order, a mask, or a slice."""


@runtime_checkable
class System(Protocol):
    """RNNs, or whatever behaves like them, run side by side.

    `Population` (one architecture), `Mixed` (several), `BlackBox` (any stateful function) and
    `Emulation` (an emulator, conditioned on embeddings) are systems. Whoever reads weights asks for a
    population; everyone else takes a system.

    Attributes:
        interface: What it reads and gives out.
        specs: Architectures of the RNNs whose weights can be read; none for black boxes and emulations.
        device: Where it computes.
        dtype: In which precision.
    """

    @property
    def interface(self) -> Interface: ...  # noqa: D102
    @property
    def specs(self) -> tuple[RNNSpec, ...]: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102

    def __len__(self) -> int: ...

    def run(
        self,
        inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "rnn batch time output"], Any]:
        """Outputs on each RNN's own sequences, or on sequences that all share, and the last state."""
        ...

    def step(
        self, inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"], state: Any = None
    ) -> tuple[Float[Tensor, "rnn batch output"], Any]:
        """One time step of `run`, for inputs that depend on earlier outputs."""
        ...

    def select(self, index: Index) -> "System":
        """The RNNs at the positions given, in that order."""
        ...

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "System":
        """The same on another device or in another precision."""
        ...


def run(
    system: System,
    inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
    state: Any = None,
) -> tuple[Float[Tensor, "rnn batch time output"], Any]:
    """Runs each RNN of a system over sequences, as `torch.nn.LSTM`, `GRU` or `RNN` and a head would.

    Args:
        system: N RNNs.
        inputs: Each RNN's own sequences, or sequences that all of them read.
        state: Where to start, as an earlier call gave it; None for the initial state.

    Returns:
        Outputs (of the head, or the last layer's hidden states where there is none) and the last state.

    Raises:
        RNNSpecMismatch: Inputs or state do not fit the system.

    Example:
        >>> import rnnatlas as ra, torch
        >>> population = ra.Population.from_modules([torch.nn.GRU(3, 8), torch.nn.GRU(3, 8)])
        >>> outputs, state = ra.run(population, torch.zeros(4, 10, 3))
        >>> outputs.shape
        torch.Size([2, 4, 10, 8])
    """
    return _check(system, inputs).run(inputs, state)


def step(
    system: System,
    inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"],
    state: Any = None,
) -> tuple[Float[Tensor, "rnn batch output"], Any]:
    """One time step of `run`, for inputs that depend on earlier outputs; arguments alike without time.

    Raises:
        RNNSpecMismatch: Inputs or state do not fit, or the RNNs are bidirectional and so need the whole
            sequence at once.
    """
    return _check(system, inputs).step(inputs, state)


@torch.no_grad()
def sample(
    system: System, uniforms: Float[Tensor, "rnn batch time"], start: int | Int[Tensor, "rnn batch"]
) -> tuple[Shaped[Tensor, "rnn batch time"], Float[Tensor, "rnn batch time output"]]:
    """Lets each RNN write sequences of tokens, feeding back what it draws.

    Args:
        system: RNNs that read and give out one-hot tokens.
        uniforms: One number from [0, 1) a draw, which picks a token through the inverse of the
            cumulative distribution, so an RNN's rollouts depend on its own random numbers alone.
        start: The token read first (BOS), or that of each sequence.

    Returns:
        The tokens drawn, in the smallest unsigned integers that hold them, and the log-probabilities they
        were drawn from.

    Raises:
        RNNSpecMismatch: The RNNs' input and output sizes differ.
    """
    size, outputs_size = _check(system, uniforms).interface.sizes
    if size != outputs_size:
        raise RNNSpecMismatch(
            f"sampling feeds outputs back, so RNNs need as many inputs as outputs, found {size} inputs and "
            f"{outputs_size} outputs"
        )
    eye = torch.eye(size, dtype=system.dtype, device=system.device)
    kind = torch.from_numpy(np.empty(0, Tokens(size).dtype)).dtype
    token = eye[start].expand(*uniforms.shape[:2], size)
    state, tokens, log_probs = None, [], []
    for uniform in uniforms.unbind(2):
        outputs, state = system.step(token, state)
        log_prob = outputs.log_softmax(-1)
        drawn = draw(log_prob, uniform)
        token = eye[drawn]
        tokens.append(drawn.to(kind))
        log_probs.append(log_prob)
    return torch.stack(tokens, 2), torch.stack(log_probs, 2)


def positions(index: Index, count: int, device: torch.device | str | None = None) -> Int[Tensor, " chosen"]:
    """The positions that an index names among `count` RNNs: positions in any order, a mask, or a slice.

    Raises:
        RNNSpecMismatch: A mask of another length, positions that are no whole numbers, or none of these RNNs.
    """
    if isinstance(index, slice):
        return torch.tensor(range(count)[index], dtype=torch.long, device=device)
    chosen = torch.as_tensor(index, device=device).reshape(-1)
    if chosen.dtype is torch.bool and len(chosen) == count:
        return chosen.nonzero().squeeze(1)
    whole = not len(chosen) or not (chosen.is_floating_point() or chosen.dtype is torch.bool)
    looked_at = chosen.is_cpu and len(chosen) > 0  # a GPU would be waited for, and checks them itself
    if not whole or (looked_at and not -count <= chosen.min() <= chosen.max() < count):
        raise RNNSpecMismatch(
            f"positions of {count} RNNs should be whole numbers below {count}, or a mask of {count}, found "
            f"{chosen.tolist()[:8]}"
        )
    return chosen.long() % count if looked_at else chosen.long()


def check_system(system: Any) -> System:
    """Makes sure that something is a system.

    Raises:
        RNNSpecMismatch: It is something else, such as a list of modules or a numpy array.
    """
    if not all(hasattr(system, name) for name in ("interface", "run", "step", "select")):
        raise RNNSpecMismatch(
            f"expected RNNs to run, found {type(system).__name__}; make a population of torch modules with "
            "Population.from_modules([…]), or Mixed.from_modules([…]) where architectures differ"
        )
    return system


def _check(system: Any, inputs: Any) -> System:
    """Makes sure that something is a system, and what it should read a tensor.

    Raises:
        RNNSpecMismatch: It is something else.
    """
    check_system(system)
    if not isinstance(inputs, Tensor):
        raise RNNSpecMismatch(
            f"inputs of RNNs should be a torch tensor, found {type(inputs).__name__}; convert them with "
            "torch.as_tensor(inputs, dtype=torch.float32)"
        )
    return system
