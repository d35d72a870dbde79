"""Whether torch's operations may be replaced by others."""

import torch
from torch.autograd import forward_ad


def traced() -> bool:
    """Whether someone traces or transforms torch's operations, and so must see every one of them.

    True inside `torch.compile`, `torch.func` transforms, dispatch modes and forward-mode derivatives; the
    graph of reverse-mode gradients is what a tensor's own `requires_grad` tells of.
    """
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return torch.compiler.is_compiling() or transformed or torch._C._len_torch_dispatch_stack() > 0
