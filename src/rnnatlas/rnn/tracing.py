"""Whether torch's operations may be replaced by others, and what others lack."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from rnnatlas.errors import RNNAtlasError


def traced() -> bool:
    """Whether someone traces or transforms torch's operations, and so must see every one of them.

    True inside `torch.compile`, `torch.func` transforms, dispatch modes and forward-mode derivatives; the
    graph of reverse-mode gradients is what a tensor's own `requires_grad` tells of.
    """
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return torch.compiler.is_compiling() or transformed or torch._C._len_torch_dispatch_stack() > 0


def first_derivatives_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For the `backward` of a function whose gradients have none themselves: refuses `create_graph`.

    torch's `once_differentiable` refuses at the second derivative, but `torch.autograd.grad` with
    `allow_unused`, or of a sum with other terms, goes past it and leaves the term out.
    """

    @functools.wraps(backward)
    def once(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise RNNAtlasError(
                "compiled backends give first derivatives alone, found create_graph=True; set the "
                "environment variable RNNATLAS_BACKEND=eager for second ones"
            )
        return backward(ctx, *gradients)

    return once
