"""Training steps as one CUDA graph."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Captured:
    """Calls an update of weights as a CUDA graph: one launch a step instead of hundreds.

    Args:
        update: Takes a batch (a dataclass of tensors) and a learning rate, both on the GPU; what it reads and
            writes besides them must stay where it is, as parameters and an optimiser's state do.
        device: The GPU.
    """

    PLAIN = 3
    """Steps that run as they are, so that libraries are set up and kernels compiled before the capture."""

    def __init__(self, update: Callable[[Any, Tensor], None], device: torch.device):
        self.update = update
        self.rate = torch.zeros((), device=device)
        self.inputs = Inputs(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.steps = 0

    def __call__(self, batch: Any, rate: float) -> None:
        """One step."""
        static = self.inputs(batch)
        self.rate.fill_(rate)
        if self.steps < self.PLAIN:
            self._plainly(static)
        else:
            self.graph = self.graph or self._capture(static)
            self.graph.replay()
        self.steps += 1

    def _plainly(self, batch: Any) -> None:
        """Off the default stream, as capturing will be."""
        side = torch.cuda.Stream(self.rate.device)
        side.wait_stream(torch.cuda.current_stream(self.rate.device))
        with torch.cuda.stream(side):
            self.update(batch, self.rate)
        torch.cuda.current_stream(self.rate.device).wait_stream(side)

    def _capture(self, batch: Any) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.rate.device), torch.cuda.graph(graph):
            self.update(batch, self.rate)
        return graph


class Inputs:
    """Batches, each copied to where the first one was put; what a batch shares with the last one stays."""

    def __init__(self, device: torch.device):
        self.device = device
        self.static: Any = None
        self.last: Any = None

    def __call__(self, batch: Any) -> Any:
        """The batch on the device, at the same addresses each time."""
        fields = [field.name for field in dataclasses.fields(batch)]
        if self.static is None:
            copies = {name: getattr(batch, name).to(self.device, copy=True) for name in fields}
            self.static = dataclasses.replace(batch, **copies)
        else:
            for name in fields:
                if getattr(batch, name) is not getattr(self.last, name):
                    getattr(self.static, name).copy_(getattr(batch, name))
        self.last = batch
        return self.static
