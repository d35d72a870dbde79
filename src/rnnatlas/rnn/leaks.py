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
        tensors: All tensors; α is `alpha_l0` and so on, or `alpha` for all, one number or one a hidden unit.
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
        if stored is None and given is None:
            raise CheckpointError(
                f"{where} should have its α as {prefix}alpha, one number or {spec.hidden}, found none; "
                f"give it with the cell, as in --cell {spec.cell}:0.2"
            )
        alpha = torch.tensor(given) if stored is None else plain(tensors, stored, where)
        found[name] = (stored or f"{prefix}alpha", _each(alpha, stored, spec, given, where))
        said = f"α = {given:g}, as given" if stored is None else f"α of {shown(stored)}"
        ours &= stored == f"{prefix}{name}" and alpha.ndim == 1
    return found, None if ours else said


def _each(alpha: Tensor, stored: str | None, spec: RNNSpec, given: float | None, where: str) -> Tensor:
    """One α as one number a hidden unit."""
    if alpha.numel() != 1 and (tuple(alpha.shape) != (spec.hidden,)):
        raise CheckpointError(
            f"{where} should have one number or {spec.hidden} in {stored}, found shape {list(alpha.shape)}"
        )
    if not bool(((alpha > 0) & (alpha <= 1)).all()):
        raise CheckpointError(
            f"{where} should have numbers above 0 and at most 1 in {stored}, found "
            f"{float(alpha.min()):.3g} to {float(alpha.max()):.3g}"
        )
    if given is not None and not torch.allclose(alpha.double(), torch.tensor(given).double(), atol=1e-6):
        raise CheckpointError(
            f"{where} has other numbers in {stored} than the α of {given:g} that was given with the cell; "
            f"give {spec.cell} alone"
        )
    return alpha.reshape(1).repeat(spec.hidden) if alpha.numel() == 1 else alpha
