"""α of leaky RNNs, h ← (1 − α)·h + α·φ(W x + U h + b): found among tensors, or given with the cell."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError, UnknownName
from rnnatlas.registry import nearest
from rnnatlas.rnn.heads import shown
from rnnatlas.rnn.plain import plain
from rnnatlas.rnn.spec import GATES, RNNSpec

DT, TAU = "dt", "tau"
"""Names of tensors whose quotient is α, where no tensor is α itself."""
LEAKY = "a leaky RNN, h ← (1 − α)·h + α·tanh(…), is read with --cell leaky-tanh or leaky-relu"


def parse_cell(cell: str | None) -> tuple[str | None, float | None]:
    """A cell as users give it, "gru" or "leaky-relu:0.2", as its name and α.

    Raises:
        UnknownName: No cell is called so, or it has no such α.
    """
    if cell is None:
        return None, None
    name, colon, text = cell.partition(":")
    if name not in GATES:
        raise UnknownName(f"no cell is called {name!r}; {nearest(name, GATES)}")
    if not colon:
        return name, None
    if not name.startswith("leaky-"):
        raise UnknownName(f"only leaky cells have an alpha, as in leaky-relu:0.2, found {cell!r}")
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if not 0 < alpha <= 1:
        raise UnknownName(f"alpha should be above 0 and at most 1, as in {name}:0.2, found {cell!r}")
    return name, alpha


def equation(spec: RNNSpec) -> str:
    """What an RNN with one gate computes, for people."""
    candidate = f"{spec.activation}(W x + U h + b)"
    return f"h ← (1 − α)·h + α·{candidate}" if "alpha" in spec.vectors else f"h ← {candidate}"


def leaks(
    tensors: Mapping[str, Tensor], prefix: str, spec: RNNSpec, given: float | None, where: str
) -> tuple[dict[str, tuple[str, Tensor]], str | None]:
    """α of each layer and direction of a leaky RNN.

    Args:
        tensors: All tensors; α is `alpha_l0` and so on, or for all of them `alpha` or, without it, `dt` over
            `tau`; one number or one a hidden unit.
        prefix: What the RNN's names start with.
        spec: Its architecture.
        given: α where tensors do not say it.
        where: The RNN, for a sentence.

    Returns:
        Name in `RNNSpec.shapes` → what the file calls it, and its numbers; and where α is from, where
        it is not named as ours.

    Raises:
        CheckpointError: There is none, it does not fit, or tensors and user say different ones.
    """
    found: dict[str, tuple[str, Tensor]] = {}
    ours, said = True, ""
    for name in spec.fixed:
        stored = next((key for key in (f"{prefix}{name}", f"{prefix}alpha") if key in tensors), None)
        told = _told(tensors, prefix, stored, where)
        if told is None and given is None:
            raise CheckpointError(
                f"{where} should have its α as {prefix}alpha, one number or {spec.hidden}, or as {prefix}dt "
                f"and {prefix}tau, found none; give it with the cell, as in --cell {spec.cell}:0.2"
            )
        alpha, origin = told or (torch.tensor(given), None)
        found[name] = (stored or f"{prefix}alpha", _each(alpha, origin, spec, given, where))
        said = f"α = {given:g}, as given" if origin is None else f"α of {origin}"
        ours &= stored == f"{prefix}{name}" and alpha.ndim == 1
    return found, None if ours else said


def _told(
    tensors: Mapping[str, Tensor], prefix: str, stored: str | None, where: str
) -> tuple[Tensor, str] | None:
    """α as tensors say it, and which."""
    if stored is not None:
        return plain(tensors, stored, where), shown(stored)
    step, constant = f"{prefix}{DT}", f"{prefix}{TAU}"
    if step not in tensors or constant not in tensors:
        return None
    both = {name: tensors[name] for name in (step, constant)}
    both = {name: each if each.is_floating_point() else each.float() for name, each in both.items()}
    alpha = plain(both, step, where) / plain(both, constant, where)
    return alpha, f"{shown(step)} / {shown(constant)}"


def _each(alpha: Tensor, origin: str | None, spec: RNNSpec, given: float | None, where: str) -> Tensor:
    """One α as one number a hidden unit."""
    if alpha.numel() != 1 and (tuple(alpha.shape) != (spec.hidden,)):
        raise CheckpointError(
            f"{where} should have one number or {spec.hidden} in {origin}, found shape {list(alpha.shape)}"
        )
    if not bool(((alpha > 0) & (alpha <= 1)).all()):
        raise CheckpointError(
            f"{where} should have a leak above 0 and at most 1 in {origin}, found "
            f"{float(alpha.min()):.3g} to {float(alpha.max()):.3g}"
        )
    if given is not None and not torch.allclose(alpha.double(), torch.tensor(given).double(), atol=1e-6):
        raise CheckpointError(
            f"{where} has another α in {origin} than {given:g}, which was given with the cell; "
            f"give {spec.cell} alone"
        )
    return alpha.reshape(1).repeat(spec.hidden) if alpha.numel() == 1 else alpha
