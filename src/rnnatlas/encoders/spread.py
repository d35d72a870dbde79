"""What equivariant layers do to whole matrices, a few RNNs at a time, with gradients written out."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

PIECE = 2**18
"""Numbers that are worked on at a time on a CPU: 1 MB, so that they stay in a core's cache."""


class Summed(NamedTuple):
    """A tensor of weights of each RNN, and the vectors that sum up a matrix (None for a bias).

    Args:
        entries: [rnn, its axes, channel].
        rows: Mean of each row.
        columns: Mean of each column.
        diagonal: The diagonal of a matrix whose dimensions run along one axis.
    """

    entries: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None
    diagonal: Tensor | None = None

    @property
    def mean(self) -> Float[Tensor, "rnn channel"]:
        """The mean of all entries."""
        return (self.entries if self.rows is None else self.rows).mean(1)


def summed_up(entries: Float[Tensor, "rnn row column channel"], square: bool) -> Summed:
    """Matrices with their means, and with their diagonals if they are square."""
    return Summed(*cast(tuple[Tensor, ...], Summaries.apply(entries, square)))


def spread(
    entries: Float[Tensor, "rnn row column channel"],
    weights: tuple[Tensor, Tensor | None],
    vectors: tuple[Tensor, Tensor, Tensor | None],
    rectified: bool,
) -> Summed:
    """Products of entries, and of transposed ones, with weights; vectors added to rows, columns, diagonal.

    Args:
        entries: The matrices.
        weights: Of each entry, and of its transpose; None for matrices that are not square.
        vectors: What is added to rows, columns and the diagonal.
        rectified: Whether ReLU follows.

    Returns:
        What comes out, with its own means.
    """
    return Summed(*cast(tuple[Tensor, ...], Spread.apply(entries, *weights, *vectors, rectified)))


class Summaries(Function):
    """Means along either dimension, and the diagonal of square tensors.

    Written out, as `Spread`, because torch's own gradients make several passes over the largest tensors
    for each of them. The entries pass through, so that their gradient comes back here to be added to.
    """

    @staticmethod
    def forward(ctx: Any, entries: Tensor, square: bool) -> tuple[Tensor | None, ...]:
        """Entries, rows, columns and the diagonal, if there is one."""
        ctx.set_materialize_grads(False)
        ctx.shape = entries.shape
        return entries.view_as(entries), *_means(_sums(entries, square), entries.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outcome: Tensor | None) -> tuple[Tensor | None, None]:
        """The gradient in the entries."""
        if all(gradient is None for gradient in outcome):
            return None, None
        return _gradient(ctx.shape, slice(None), outcome), None


class Spread(Function):
    """See `spread`.

    With each entry a row of channels, X W + X' V = (X + X') (W + V) / 2 + (X - X') (W - V) / 2. The first
    term is symmetric, the second antisymmetric: one triangle of each will do, half of the products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        entries: Tensor,
        own: Tensor,
        transposed: Tensor | None,
        rows: Tensor,
        columns: Tensor,
        diagonal: Tensor | None,
        rectified: bool,
    ) -> tuple[Tensor | None, ...]:
        """The entries that come out, and their means."""
        ctx.set_materialize_grads(False)
        outcome = entries.new_empty(*entries.shape[:3], own.shape[1])
        halves = _halves(own, transposed)
        sums = []
        for few in _pieces(outcome):
            out = outcome[few]
            apart = _taken_apart(entries[few], len(halves))
            _put_together([part @ half for part, half in zip(apart, halves, strict=True)], out)
            out.add_(rows[few].unsqueeze(2)).add_(columns[few].unsqueeze(1))
            if diagonal is not None:
                _diagonal(out).add_(diagonal[few])
            if rectified:
                out.relu_()
            sums.append(_sums(out, diagonal is not None))
        ctx.save_for_backward(entries, own, transposed, outcome if rectified else None)
        return outcome, *_means(_joined(sums), outcome.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients in all of them."""
        if all(gradient is None for gradient in gradients):
            return (None,) * 7
        entries, own, transposed, outcome = ctx.saved_tensors
        d_entries = entries.new_empty(entries.shape)
        halves = [half.T for half in _halves(own, transposed)]
        d_halves = [torch.zeros_like(own) for _ in halves]
        sums = []
        for few in _pieces(entries):
            out = _gradient((*entries[few].shape[:3], own.shape[1]), few, gradients)
            if outcome is not None:
                out = torch.ops.aten.threshold_backward(out, outcome[few], 0)
            sums.append(_sums(out, transposed is not None))
            apart = _taken_apart(out, len(halves))
            _put_together([part @ half for part, half in zip(apart, halves, strict=True)], d_entries[few])
            if transposed is not None:  # the diagonal is in both triangles
                apart[0][:, -out.shape[1] :] *= 0.5
            for d_half, given, part in zip(
                d_halves, _taken_apart(entries[few], len(halves)), apart, strict=True
            ):
                d_half.addmm_(given.flatten(0, 1).T, part.flatten(0, 1))
        if transposed is None:
            return d_entries, d_halves[0], None, *_joined(sums), None
        even, odd = d_halves
        return d_entries, (even + odd) / 2, (even - odd) / 2, *_joined(sums), None


def _halves(own: Tensor, transposed: Tensor | None) -> list[Tensor]:
    """Weights of what `_taken_apart` gives."""
    return [own] if transposed is None else [(own + transposed) / 2, (own - transposed) / 2]


def _pieces(entries: Tensor) -> list[slice]:
    size = len(entries)
    if entries.device.type == "cpu":
        size = max(1, PIECE // max(1, entries[:1].numel()))
    return [slice(start, start + size) for start in range(0, len(entries), max(1, size))]


def _taken_apart(entries: Float[Tensor, "rnn row column channel"], terms: int) -> list[Tensor]:
    """All entries [rnn, entry, channel], or the upper triangles of X + X' and X - X', diagonal last."""
    flat = entries.flatten(1, 2)
    if terms == 1:
        return [flat]
    upper, lower, _ = _places(entries.shape[1], entries.device)
    above, below = flat.index_select(1, upper), flat.index_select(1, lower)
    odd = above - below
    return [above.add_(below), odd]


def _put_together(terms: list[Tensor], outcome: Float[Tensor, "rnn row column channel"]) -> None:
    """The sum of all terms, each all entries or an upper triangle, as matrices."""
    flat = outcome.view(len(outcome), -1, outcome.shape[-1])
    if len(terms) == 1:
        flat.copy_(terms[0])
        return
    even, odd = terms
    both = torch.cat([even + odd, even.sub_(odd)], 1)
    torch.index_select(both, 1, _places(outcome.shape[1], outcome.device)[2], out=flat)


@cache
def _places(
    size: int, device: torch.device
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"], Int[Tensor, " entry"]]:
    """Where the upper triangle is in a flat matrix, where the lower one, and where each entry is in both."""
    row, column = torch.triu_indices(size, size, 1, device=device)
    own = torch.arange(size, device=device)
    row, column = torch.cat([row, own]), torch.cat([column, own])
    upper, lower = row * size + column, column * size + row
    places = torch.empty(size * size, dtype=torch.long, device=device)
    numbers = torch.arange(len(upper), device=device)
    places[lower], places[upper] = numbers + len(upper), numbers
    places[own * (size + 1)] = numbers[len(upper) - size :]
    return upper, lower, places


def _gradient(shape: Sequence[int], few: slice, gradients: Sequence[Tensor | None]) -> Tensor:
    """The gradient in entries, from those in them and in their means, of a few RNNs."""
    entries, rows, columns, diagonal = (None if each is None else each[few] for each in gradients)
    size = shape[1:3]
    known = next(each for each in (entries, rows, columns, diagonal) if each is not None)
    total = known.new_zeros(shape) if entries is None else entries.clone()
    if rows is not None:
        total.add_((rows / size[1]).unsqueeze(2))
    if columns is not None:
        total.add_((columns / size[0]).unsqueeze(1))
    if diagonal is not None:
        _diagonal(total).add_(diagonal)
    return total


def _sums(entries: Tensor, square: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Of each row, of each column, and the diagonal of square matrices."""
    return entries.sum(2), entries.sum(1), _diagonal(entries).contiguous() if square else None


def _means(sums: Sequence[Tensor | None], shape: Sequence[int]) -> list[Tensor | None]:
    rows, columns, diagonal = sums
    assert rows is not None
    assert columns is not None
    return [rows / shape[2], columns / shape[1], diagonal]


def _joined(pieces: list[tuple[Tensor | None, ...]]) -> list[Tensor | None]:
    """Vectors of all RNNs, from those of a few each."""
    return [None if each[0] is None else torch.cat(cast(Any, each)) for each in zip(*pieces, strict=True)]


def _diagonal(entries: Float[Tensor, "rnn axis axis channel"]) -> Float[Tensor, "rnn axis channel"]:
    """A view."""
    return entries.diagonal(dim1=1, dim2=2).transpose(1, 2)
