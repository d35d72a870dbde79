"""What singular values and eigenvalues say of matrices of any size, in as many numbers for each."""

import torch
from jaxtyping import Float
from torch import Tensor

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
PLACES = tuple(f"{quantile:.0%}" for quantile in QUANTILES)
STARTS = 64
"""Starts of a tail that are tried at most."""

SINGULAR = (*(f"log singular value {place}" for place in PLACES), "stable rank", "effective rank", "tail")
"""What `of_singular_values` gives."""
EIGEN = (*(f"log eigenvalue {place}" for place in PLACES), "share above 1", "largest real part")
"""What `of_eigenvalues` gives."""


def quantiles(
    values: Float[Tensor, "*batch value"], at: tuple[float, ...] = QUANTILES
) -> Float[Tensor, "*batch place"]:
    """Quantiles along the last dimension, between neighbours by lines."""
    ordered = values.sort(-1).values
    places = [quantile * (values.shape[-1] - 1) for quantile in at]
    low, high = ([int(place) + up * (place % 1 > 0) for place in places] for up in (0, 1))
    share = torch.tensor([place % 1 for place in places]).to(values)
    return torch.lerp(ordered[..., low], ordered[..., high], share)


def of_singular_values(matrices: Float[Tensor, "rnn row column"]) -> Float[Tensor, "rnn feature"]:
    """Quantiles of log singular values, stable and effective rank, and the exponent of the tail.

    Ranks are shares of the largest that such matrices can have. The stable one is the squared Frobenius norm
    over the squared spectral norm, the effective one the exponential of the entropy of singular values over
    their sum (Roy and Vetterli 2007).
    """
    values = torch.linalg.svdvals(matrices)
    squares, count = values.square(), values.shape[-1]
    stable = squares.sum(-1) / (squares.amax(-1) + 1e-24) / count
    shares = values / (values.sum(-1, keepdim=True) + 1e-12)
    effective = (-shares * (shares + 1e-12).log()).sum(-1).exp() / count
    ranks = torch.stack([stable, effective, log_exponent(squares)], -1)
    return torch.cat([quantiles((values + 1e-6).log()), ranks], -1)


def of_eigenvalues(matrices: Float[Tensor, "rnn row row"]) -> Float[Tensor, "rnn feature"]:
    """Quantiles of log magnitudes, the share of magnitudes above 1, and asinh of the largest real part.

    The last quantile is the spectral radius. Logarithms have a floor, since eigenvalues that are zero
    together are known to about 1e-8 only.
    """
    values, size = _eigenvalues(matrices)
    magnitudes = values.abs() * size
    above = (magnitudes > 1).to(magnitudes).mean(-1)
    real = (values.real.amax(-1) * size[..., 0]).asinh()
    return torch.cat([quantiles((magnitudes + 1e-3).log()), torch.stack([above, real], -1)], -1)


def log_radius(matrices: Float[Tensor, "rnn row row"]) -> Float[Tensor, " rnn"]:
    """Logarithm of the spectral radius."""
    values, size = _eigenvalues(matrices)
    return (values.abs().amax(-1) * size[..., 0] + 1e-3).log()


def _eigenvalues(matrices: Float[Tensor, "rnn row row"]) -> tuple[Tensor, Float[Tensor, "rnn 1"]]:
    """Complex eigenvalues of matrices over their largest entry, and that."""
    size = matrices.detach().abs().amax((-2, -1))
    size = torch.where(size > 0, size, 1.0)
    return torch.linalg.eigvals(matrices / size[..., None, None]), size[..., None]


def log_exponent(values: Float[Tensor, "rnn value"]) -> Float[Tensor, " rnn"]:
    """Logarithm of the exponent of a power law fitted to the tail; 0 for fewer than four values.

    By maximum likelihood; the tail starts where the Kolmogorov–Smirnov distance to the law is least (Clauset,
    Shalizi and Newman 2009, as WeightWatcher does with squared singular values), but holds a quarter of the
    values, and three, at least.
    """
    count = values.shape[-1]
    if count < 4:
        return values.sum(-1) * 0
    floor = 1e-12 * values.detach().amax(-1, keepdim=True) + 1e-24
    logs = (values + floor).log().sort(-1).values
    most = count - max(3, count // 4)
    starts = sorted({round(i * most / (STARTS - 1)) for i in range(STARTS)})
    tails = (logs.unsqueeze(-2) - logs[..., starts].unsqueeze(-1)).clamp_min(0)
    rank = torch.arange(count, device=values.device) - torch.tensor(starts, device=values.device)[:, None]
    length = (count - torch.tensor(starts, device=values.device)).to(values)
    rate = length / (tails.sum(-1) + 1e-3 * length)
    law = 1 - (-rate.detach().unsqueeze(-1) * tails.detach()).exp()
    gaps = torch.maximum(
        (law - rank / length[:, None]).abs(), (law - (rank + 1) / length[:, None]).abs()
    ).where(rank >= 0, 0.0)
    best = gaps.amax(-1).argmin(-1, keepdim=True)
    return rate.gather(-1, best).squeeze(-1).log1p()
