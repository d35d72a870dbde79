"""What becomes of small changes of RNNs' states: Jacobians, their eigenvalues, Lyapunov exponents."""

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import running
from rnnatlas.rnn.backends import eager
from rnnatlas.rnn.mixed import populations
from rnnatlas.rnn.population import Population
from rnnatlas.rnn.running import State
from rnnatlas.rnn.spec import RNNSpec
from rnnatlas.rnn.system import System, check_system

LEAST = 1e-7
"""What shrinks to less than this share in a step counts as this: float32 resolves no less."""
NUMBERS = 2**24
"""Numbers that are held at a time, about."""


@torch.no_grad()
def lyapunov(
    system: System,
    inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
    count: int | None = None,
    skip: int = 0,
) -> Float[Tensor, "rnn exponent"]:
    """Lyapunov exponents of driven RNNs, largest first: at what rates small changes of their states grow.

    Logarithms of growth per step along orthogonal directions, which the QR method follows (Benettin et al.
    1980; of RNNs Engelken et al. 2023; as features of RNNs Vogt et al. 2024), mean over sequences. The state
    is that of all layers, h and of LSTMs c. Exponents of short sequences depend a little on the directions at
    first, which are random but the same for all RNNs; `skip` lets these settle.

    Args:
        system: RNNs whose weights can be read, of any architectures that read forwards.
        inputs: As `run` takes them.
        count: How many of the largest exponents to follow; all, or of several architectures as many as the
            smallest state has numbers, without it.
        skip: First steps that do not count.

    Raises:
        RNNSpecMismatch: RNNs are bidirectional, or their weights cannot be read; inputs do not fit, or are
            not longer than `skip`; or there are not so many exponents.

    Example:
        >>> import rnnatlas as ra, torch
        >>> population = ra.Population.from_modules([torch.nn.LSTM(3, 8) for _ in range(2)])
        >>> ra.lyapunov(population, torch.randn(4, 20, 3)).shape
        torch.Size([2, 16])
    """
    _check(system)
    least = min(state_size(population.spec) for _, population in populations(system))
    count = least if count is None else count
    if not 1 <= count <= least:
        raise RNNSpecMismatch(
            f"RNNs whose states have {least} numbers have 1 to {least} exponents, found count={count}"
        )
    own = _own(system, inputs, 3)
    if not 0 <= skip < own.shape[2]:
        raise RNNSpecMismatch(f"inputs should be longer than the {skip} steps to skip, found {own.shape[2]}")
    parts = populations(system)
    found = [_exponents(part, own[at.to(own.device)], count, skip) for at, part in parts]
    order = torch.cat([at for at, _ in parts]).argsort()
    return torch.cat(found)[order]


@torch.no_grad()
def jacobians(
    population: Population,
    inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"],
    state: State | None = None,
) -> Float[Tensor, "rnn batch state state"]:
    """Of one step, in the state before it: how far each number of the state after it follows each before.

    Numbers of a state stand layer by layer, h before c: what is above the layers' blocks is zero, so all
    eigenvalues are those of the blocks.

    Args:
        population: The RNNs.
        inputs: What they read in this step, as `step` takes it.
        state: The state before it, as `run` gives it; the initial one without it.

    Raises:
        RNNSpecMismatch: RNNs are bidirectional or their weights cannot be read, or inputs do not fit.
    """
    _check(population)
    outputs, _ = running.step(population, inputs, state)  # which checks what it is given
    own = _own(population, inputs, 2)
    start = _start(population, outputs.shape[1], state)
    basis = torch.eye(start.shape[2], dtype=start.dtype, device=start.device)
    _, changes = _push(population, own, start, basis.expand(*start.shape[:2], -1, -1))
    return changes.mT


def log_moduli(
    population: Population, jacobians: Float[Tensor, "rnn batch state state"]
) -> Float[Tensor, "rnn batch state"]:
    """Logarithms of moduli of the eigenvalues of `jacobians`, increasing; NaN of what is not finite."""
    size = state_size(population.spec) // population.spec.layers
    blocks = torch.stack(
        [jacobians[..., i : i + size, i : i + size] for i in range(0, jacobians.shape[-1], size)]
    )
    finite = jacobians.isfinite().flatten(2).all(2)
    values = torch.linalg.eigvals(blocks.where(finite[..., None, None], 0.0)).abs().clamp_min(LEAST).log()
    moduli = values.movedim(0, 2).flatten(2).sort(-1).values
    return moduli.where(finite.unsqueeze(2), torch.nan)


def state_size(spec: RNNSpec) -> int:
    """How many numbers there are in a state of all layers."""
    return spec.layers * len(spec.state) * spec.hidden


def _check(system: System) -> None:
    check_system(system)
    if sum(len(population) for _, population in populations(system)) != len(system):
        raise RNNSpecMismatch("Jacobians are worked out from weights, which a black box does not show")
    for spec in system.specs:
        if spec.bidirectional:
            raise RNNSpecMismatch(f"{spec} reads sequences from both ends, so it has no state that goes on")


def _own(system: System, inputs: Tensor, shared: int) -> Tensor:
    """Inputs of each RNN."""
    own = inputs.expand(len(system), *inputs.shape) if inputs.ndim == shared else inputs
    if own.ndim != shared + 1 or len(own) != len(system):
        raise RNNSpecMismatch(
            f"inputs of {len(system)} RNNs should have {shared + 1} axes, the first of {len(system)}, or be "
            f"shared, found {list(inputs.shape)}"
        )
    return own


def _exponents(
    population: Population, inputs: Float[Tensor, "rnn batch time input"], count: int, skip: int
) -> Float[Tensor, "rnn exponent"]:
    """See `lyapunov`, of one population, some RNNs at a time."""
    running.run(population, inputs[:, :, :1], None)  # which checks them
    size = state_size(population.spec)
    drawn = torch.randn(size, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    directions = torch.linalg.qr(drawn).Q.mT.to(population.device, population.dtype)
    together = max(1, NUMBERS // (8 * inputs.shape[1] * count * size))
    parts = [slice(first, first + together) for first in range(0, len(population), together)]
    return torch.cat([_grow(population.select(rows), inputs[rows], directions, skip) for rows in parts])


def _grow(
    population: Population,
    inputs: Float[Tensor, "rnn batch time input"],
    directions: Float[Tensor, "exponent state"],
    skip: int,
) -> Float[Tensor, "rnn exponent"]:
    state = _start(population, inputs.shape[1], None)
    directions = directions.expand(*state.shape[:2], -1, -1)
    total = state.new_zeros(directions.shape[:3])
    for step, read in enumerate(inputs.unbind(2)):
        state, changes = _push(population, read, state, directions)
        q, r = torch.linalg.qr(changes.mT)
        directions = q.mT
        if step >= skip:
            total += r.diagonal(dim1=-2, dim2=-1).abs().clamp_min(LEAST).log()
    mean = total.mean(1) / (inputs.shape[2] - skip)
    return mean.sort(-1, descending=True).values


def _push(
    population: Population,
    inputs: Float[Tensor, "rnn batch input"],
    state: Float[Tensor, "rnn batch state"],
    directions: Float[Tensor, "rnn batch direction state"],
) -> tuple[Float[Tensor, "rnn batch state"], Float[Tensor, "rnn batch direction state"]]:
    """A step's state, and what changes of the state before it become: each is a sequence of its own."""
    count = directions.shape[2]
    read = inputs.repeat_interleave(count, 1)
    before = _unflatten(population, state.repeat_interleave(count, 1))
    tangents = _unflatten(population, directions.flatten(1, 2))
    after, changes = torch.func.jvp(lambda *parts: eager.step(population, read, parts)[1], before, tangents)[
        :2
    ]
    return _flatten(after)[:, ::count], _flatten(changes).unflatten(1, (-1, count))


def _start(population: Population, batch: int, state: State | None) -> Float[Tensor, "rnn batch state"]:
    return _flatten(eager._stack(eager._unstack(population, batch, state)))


def _flatten(state: State) -> Float[Tensor, "rnn batch state"]:
    """Layer by layer, the parts of a state."""
    return torch.stack(state, 1).permute(2, 3, 0, 1, 4).flatten(2)


def _unflatten(population: Population, state: Float[Tensor, "rnn batch state"]) -> State:
    spec = population.spec
    parts = state.unflatten(2, (spec.layers, len(spec.state), spec.hidden)).permute(3, 2, 0, 1, 4)
    return tuple(part.contiguous() for part in parts)
