"""Calls on a GPU as CUDA graphs."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class Captured:
    """Calls a function as a CUDA graph: one launch instead of hundreds or thousands.

    Args:
        function: Takes tensors by name, of the same shapes each time, and gives a tensor or nothing; what
            else it reads and writes on the GPU must stay where it is, as parameters and an optimiser's state
            do.
        device: The GPU.
    """

    PLAIN = 3
    """Calls that run as they are, so that libraries are set up and kernels compiled before the capture."""

    def __init__(self, function: Callable[..., Tensor | None], device: torch.device):
        self.function = function
        self.device = device
        self.inputs = Inputs(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: Tensor | None = None
        self.calls = 0

    def __call__(self, **tensors: Tensor) -> Tensor | None:
        """What the function gives; the next call writes over it."""
        static = self.inputs(tensors)
        if self.calls < self.PLAIN:
            self.result = self._plainly(static)
        else:
            self.graph = self.graph or self._capture(static)
            self.graph.replay()
        self.calls += 1
        return self.result

    def _plainly(self, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Off the default stream, as capturing will be."""
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            result = self.function(**tensors)
        torch.cuda.current_stream(self.device).wait_stream(side)
        return result

    def _capture(self, tensors: Mapping[str, Tensor]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(graph):
            self.result = self.function(**tensors)
        return graph


class Inputs:
    """Tensors, each copied to where the first of its name was put; what was there last time stays."""

    def __init__(self, device: torch.device):
        self.device = device
        self.static: dict[str, Tensor] = {}
        self.last: Mapping[str, Tensor] = {}

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors on the device, at the same addresses each time."""
        for name, tensor in tensors.items():
            if name not in self.static:
                self.static[name] = tensor.to(self.device, copy=True)
            elif tensor is not self.last[name]:
                assert tensor.shape == self.static[name].shape, f"{name} has another shape than before"
                self.static[name].copy_(tensor)
        self.last = tensors
        return self.static
