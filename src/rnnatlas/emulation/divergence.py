"""How far an emulator's outputs are from those of the RNN it imitates; one number a position.

Of tokens, functions take the log-probabilities of the RNN (p) and of the emulator (q), in nats where
logarithms are involved (Herrmann et al. 2024, section 4 and appendix). Of numbers, they take the outputs of
both, standardised over the zoo's (`Emulator.standardise`).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def total_variation(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """½ Σ|p − q|: the largest difference that the two make in the probability of any event."""
    return 0.5 * (target.exp() - prediction.exp()).abs().sum(-1)


def kl(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """Σ p (log p − log q)."""
    return (target.exp() * (target - prediction)).sum(-1)


def reverse_kl(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """Σ q (log q − log p)."""
    return kl(prediction, target)


def jensen_shannon(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """½ KL(p, m) + ½ KL(q, m), where m is the mean of both; at most log 2."""
    middle = torch.logaddexp(target, prediction) - math.log(2)
    return 0.5 * (kl(target, middle) + kl(prediction, middle))


def cross_entropy(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """−Σ p log q."""
    return -(target.exp() * prediction).sum(-1)


def cosine(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """One minus the cosine of the angle between p and q."""
    return 1 - F.cosine_similarity(target.exp(), prediction.exp(), dim=-1)


def l2(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """Σ (p − q)²: squared, so that its slope exists where p = q."""
    return (target.exp() - prediction.exp()).square().sum(-1)


def mse(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """Mean squared difference: 1 for who always gives out the zoo's mean."""
    return (target - prediction).square().mean(-1)


def l1(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """Mean absolute difference."""
    return (target - prediction).abs().mean(-1)


def cosine_of_numbers(
    target: Float[Tensor, "*batch output"], prediction: Float[Tensor, "*batch output"]
) -> Float[Tensor, "*batch"]:
    """One minus the cosine of the angle between the outputs."""
    return 1 - F.cosine_similarity(target, prediction, dim=-1)


ALL = "all positions"
"""What `masked_mean` is over without a mask, in words."""


def last_counted(mask: Float[Tensor, "*batch time"]) -> Int[Tensor, "*batch"]:
    """How many steps there are up to the last one that counts; a mask may leave out any."""
    steps = torch.arange(1, mask.shape[-1] + 1, device=mask.device)
    return ((mask > 0) * steps).amax(-1)


def masked_mean(
    values: Float[Tensor, "rnn rollout time"], mask: Float[Tensor, "rnn rollout time"] | None
) -> Float[Tensor, " rnn"]:
    """Mean over the positions of an RNN's rollouts; with a mask over those where it is 1.

    The loss of a set of RNNs is the mean of theirs, so an RNN weighs the same however long its strings.
    """
    if mask is None:
        return values.mean((1, 2))
    return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)
