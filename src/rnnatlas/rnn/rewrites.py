"""Weights that a state_dict holds in parts (weight_norm, pruning, weight drop, stacks), made whole."""

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

RAW = "weight-dropped: its raw weights are used, as in evaluation"
WEIGHT_NORM = "weights were stored as weight_norm has them"
PRUNED = "pruned: masks are applied"
SPECTRAL = "weights were divided by their spectral norm, as in evaluation"
STACKED = "one of several networks that were stacked in the file"

_PARAMETRIZED = re.compile(
    r"(?P<prefix>(?:.*\.)?)parametrizations\.(?P<name>[^.]+)\.(?P<part>original\d?|0\..+)", re.DOTALL
)
_MATRIX = re.compile(r"(?:.*\.)?weight_(?:ih|hh)(?:_l\d+(?:_reverse)?)?(?:_raw|_orig|_v)?", re.DOTALL)
MOST = 1_000_000
"""Tensors of stacked networks, once they are apart."""


def whole(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors with those that are held in parts made whole, where it is certain how.

    Returns:
        The tensors, in their order; and the names of those that were made → how.
    """
    found = _renamed(tensors)
    made: dict[str, tuple[Tensor, str]] = {}
    places: dict[str, str] = {}
    gone: set[str] = set()
    for name in found:
        for suffix, parts, how, make in _PARTS:
            base = name.removesuffix(suffix)
            if base == name or base in made or (base in found and suffix != "_raw"):
                continue
            given = [found.get(base + part) for part in parts]
            plain = [tensor for tensor in given if tensor is not None and _is_plain(tensor)]
            value = make(*plain) if len(plain) == len(parts) else None
            if value is not None:
                made[base], places[name] = (value, how), base
                gone |= {base, *(base + part for part in parts)}
    result: dict[str, Tensor] = {}
    for name, tensor in found.items():
        if name in places:
            result[places[name]] = made[places[name]][0]
        elif name not in gone:
            result[name] = tensor
    return result, {name: how for name, (_, how) in made.items()}


def unstacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Tensors of networks that were stacked along a first axis, each under its number; None if none were."""
    sizes = {
        tensor.shape[0]
        for name, tensor in tensors.items()
        if _MATRIX.fullmatch(name) and _is_stack(tensor, 3)
    }
    matrices = [tensor for name, tensor in tensors.items() if _MATRIX.fullmatch(name)]
    if len(sizes) != 1 or not all(_is_stack(tensor, 3) for tensor in matrices):
        return None
    [count] = sizes
    if not all(_is_stack(tensor, 1) and tensor.shape[0] == count for tensor in tensors.values()):
        return None
    if not 0 < count * len(tensors) <= MOST:
        return None
    return {f"{number}.{name}": tensor[number] for number in range(count) for name, tensor in tensors.items()}


def _is_plain(tensor: Tensor) -> bool:
    return (
        not tensor.is_nested
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not tensor.is_quantized
        and (tensor.is_floating_point() or tensor.dtype in (torch.bool, torch.uint8))
        and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    )


def _is_stack(tensor: Tensor, axes: int) -> bool:
    return not tensor.is_nested and tensor.layout is torch.strided and tensor.ndim >= axes


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parametrized tensors under names of the older way, where there is one; raw ones beside their matrix."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _PARAMETRIZED.fullmatch(name)
        suffix = _OLDER.get(match["part"]) if match else None
        if match and match["part"] == "original" and f"{name.removesuffix('original')}0._u" not in tensors:
            suffix = None
        inner = re.sub(r"([^.]+)_raw$", r"module.\1", name)
        if match and suffix:
            found[f"{match['prefix']}{match['name']}{suffix}"] = tensor
        elif inner != name and (inner in tensors or inner.replace("weight_hh", "weight_ih") in tensors):
            found[f"{inner}_raw"] = tensor  # as fastai has it
        else:
            found[name] = tensor
    return found


def _normed(g: Tensor, v: Tensor) -> Tensor | None:
    """weight_norm: g v / |v|, the norm over all axes but that of g."""
    if not g.ndim:
        return v * (g / torch.linalg.vector_norm(v))
    if g.ndim != v.ndim or any(one not in (1, other) for one, other in zip(g.shape, v.shape, strict=True)):
        return None
    axes = [axis for axis, length in enumerate(g.shape) if length == 1]
    return v * (g / torch.linalg.vector_norm(v, dim=axes, keepdim=True)) if axes else None


def _masked(weight: Tensor, mask: Tensor) -> Tensor | None:
    return weight * mask if weight.shape == mask.shape else None


def _divided(weight: Tensor, u: Tensor, v: Tensor) -> Tensor | None:
    """spectral_norm: W / uᵀ W v."""
    if weight.ndim != 2 or (*u.shape, *v.shape) != tuple(weight.shape):
        return None
    return weight / torch.dot(u, weight @ v)


_OLDER = {"original0": "_g", "original1": "_v", "original": "_orig", "0._u": "_u", "0._v": "_v"}
"""Parts of parametrized tensors, and what they were called before torch 1.9."""
_PARTS: Sequence[tuple[str, Sequence[str], str, Callable[..., Tensor | None]]] = (
    ("_raw", ["_raw"], RAW, lambda raw: raw),
    ("_v", ["_g", "_v"], WEIGHT_NORM, _normed),
    ("_orig", ["_orig", "_mask"], PRUNED, _masked),
    ("_orig", ["_orig", "_u", "_v"], SPECTRAL, _divided),
)
