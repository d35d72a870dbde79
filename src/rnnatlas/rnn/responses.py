"""How RNNs move when they read noise, slow noise, an impulse and one-hot vectors, in a few numbers."""

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.rnn.population import Population

BATCH, TIME = 8, 32
INPUTS = ("noise", "slow noise", "impulse", "one-hot")
_MOMENTS = ("size", "change", "variance over trials", "memory")
RESPONSES = tuple(
    f"{of} on {inputs}: {moment}"
    for inputs in INPUTS
    for of, moments in (("states", (*_MOMENTS, "dimension")), ("outputs", _MOMENTS))
    for moment in moments
)
"""What `responses_of` gives."""


@torch.no_grad()
def responses_of(population: Population) -> Float[Tensor, "rnn feature"]:
    """Moments of the last layer's hidden states and of the outputs, which any order of units leaves alone."""
    columns = []
    for inputs in _inputs(population.spec.input):
        read = inputs.to(population.device, population.dtype)
        states, outputs = population.without_head().run(read)[0], population.run(read)[0]
        states, outputs = (part.nan_to_num(0.0, 1e30, -1e30).clamp(-1e30, 1e30) for part in (states, outputs))
        columns += [_moments(states), _dimension(states).unsqueeze(1), _moments(outputs)]
    return torch.cat(columns, 1)


def _inputs(size: int) -> list[Float[Tensor, "trial time input"]]:
    """In the order of `INPUTS`; those of fewer channels do not depend on there being more."""
    made = []
    for channel in range(size):
        generator = torch.Generator().manual_seed(channel)
        made.append(torch.randn(BATCH, TIME, generator=generator, dtype=torch.float64))
    white = torch.stack(made, 2)
    slow = [white[:, 0]]
    for step in range(1, TIME):
        slow.append(0.9 * slow[-1] + (1 - 0.9**2) ** 0.5 * white[:, step])
    impulse = torch.zeros_like(white)
    impulse[:, 0] = white[:, 0]
    chosen = white.argmax(2)
    return [white, torch.stack(slow, 1), impulse, torch.nn.functional.one_hot(chosen, size).to(white)]


def _moments(values: Float[Tensor, "rnn trial time output"]) -> Float[Tensor, "rnn feature"]:
    """Size, change from step to step, variance over trials, and memory.

    The first three are logarithms of root mean squares; memory is the correlation of what deviates from the
    mean over trials with itself four steps later.
    """
    apart = values - values.mean(1, keepdim=True)
    sizes = [
        (part.square().mean((1, 2, 3)) + 1e-12).log() / 2 for part in (values, values.diff(dim=2), apart)
    ]
    early, late = apart[:, :, :-4], apart[:, :, 4:]
    norms = (early.square().sum((1, 2, 3)) * late.square().sum((1, 2, 3))).sqrt()
    return torch.stack([*sizes, (early * late).sum((1, 2, 3)) / (norms + 1e-12)], 1)


def _dimension(values: Float[Tensor, "rnn trial time hidden"]) -> Float[Tensor, " rnn"]:
    """Participation ratio of hidden states, as a share of the hidden units."""
    states = values.flatten(1, 2)
    states = states / (states.abs().amax((1, 2), keepdim=True) + 1e-12)
    states = states - states.mean(1, keepdim=True)
    covariance = states.mT @ states / states.shape[1]
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace.square() / (covariance.square().sum((-2, -1)) + 1e-24) / values.shape[-1]
