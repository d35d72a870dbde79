"""Tensors of a state_dict whose numbers can be read as they are."""

from collections.abc import Mapping

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def matrix(tensors: Mapping[str, Tensor], name: str, where: str) -> tuple[int, int]:
    """The shape of a matrix that holds something."""
    tensor = plain(tensors, name, where)
    if tensor.ndim != 2 or not tensor.numel():
        raise CheckpointError(f"{where} should have a matrix {name}, found shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    return rows, columns


def check(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], where: str) -> None:
    """Refuses a tensor that is missing, odd or of another shape."""
    found = tuple(plain(tensors, name, where, f" of shape {shape}").shape)
    if found != shape:
        raise CheckpointError(f"{where} should have {name} of shape {shape}, found {found}")


def plain(tensors: Mapping[str, Tensor], name: str, where: str, what: str = "") -> Tensor:
    """A tensor whose numbers can be read as they are."""
    if name not in tensors:
        raise CheckpointError(f"{where} has no {name}{what}")
    if oddity := oddity_of(tensors[name]):
        raise CheckpointError(
            f"{where} should have plain floating-point numbers in {name}, found {oddity}; save it as float32"
        )
    return tensors[name]


def oddity_of(tensor: Tensor) -> str | None:
    """What is odd about a tensor, if its numbers cannot be read as they are."""
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_quantized:
        return "a quantised tensor"
    if tensor.layout is not torch.strided:
        return "a sparse tensor"
    if tensor.is_meta:
        return "a tensor without its data (of device meta)"
    if tensor.dtype not in _FLOATS:
        return f"numbers of type {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"fewer numbers than its shape {tuple(tensor.shape)} has (an expanded tensor)"
    return None
