"""Running populations: checks of what comes in, and which backend does the work."""

import functools
import os
from types import ModuleType

import torch
from torch import Tensor

from rnnatlas.errors import RNNSpecMismatch, warn
from rnnatlas.rnn.backends import Stacked, eager, kernels, native, triton

State = tuple[Tensor, ...]
"""(h, c) for LSTMs, (h,) otherwise, each [layer·direction, rnn, batch, hidden] in torch's order."""


def run(population: Stacked, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
    """See `rnnatlas.run`, of a population."""
    if inputs.ndim not in (3, 4) or inputs.shape[-1] != population.spec.input or 0 in inputs.shape[-3:]:
        raise RNNSpecMismatch(
            f"inputs of {len(population)} RNNs {population.spec} should have shape "
            f"[{len(population)} or shared, batch, time, {population.spec.input}], found {list(inputs.shape)}"
        )
    _check(population, inputs, state, shared=inputs.ndim == 3, batch=inputs.shape[-3])
    return _backend(population, inputs, state).run(population, inputs, state)


def step(population: Stacked, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
    """See `rnnatlas.step`, of a population."""
    if population.spec.bidirectional:
        raise RNNSpecMismatch(
            f"{population.spec} reads sequences from both ends, so it cannot go step by step"
        )
    if inputs.ndim not in (2, 3) or inputs.shape[-1] != population.spec.input or 0 in inputs.shape[-2:]:
        raise RNNSpecMismatch(
            f"inputs of a step of {len(population)} RNNs {population.spec} should have shape "
            f"[{len(population)} or shared, batch, {population.spec.input}], found {list(inputs.shape)}"
        )
    _check(population, inputs, state, shared=inputs.ndim == 2, batch=inputs.shape[-2])
    return _backend(population, inputs, state).step(population, inputs, state)


def backend() -> str:
    """What runs float32 RNNs on this machine, for people: "native (avx512)", or "eager" and why."""
    if os.environ.get("RNNATLAS_BACKEND") == "eager":
        return "eager (RNNATLAS_BACKEND asks for it)"
    loaded = kernels.library()
    cpu = (
        f"eager (the compiled backend is not in use: {loaded})"
        if isinstance(loaded, str)
        else f"native ({kernels.instruction_set()})"
    )
    return f"{cpu}; triton on the GPU" if torch.cuda.is_available() and triton.installed() else cpu


def _backend(population: Stacked, inputs: Tensor, state: State | None) -> ModuleType:
    """The fastest backend that can do it; RNNATLAS_BACKEND=eager asks for the readable one."""
    if os.environ.get("RNNATLAS_BACKEND") == "eager":
        return eager
    if inputs.is_cuda:
        return triton if triton.applies(population, inputs, state) else eager
    if not native.applies(population, inputs, state):
        return eager
    if isinstance(kernels.library(), str):
        _say_once(backend())
        return eager
    return native


@functools.cache
def _say_once(sentence: str) -> None:
    warn(f"running on {sentence}")


def _check(population: Stacked, inputs: Tensor, state: State | None, shared: bool, batch: int) -> None:
    spec = population.spec
    weight = next(iter(population.weights.values()))
    if not shared and inputs.shape[0] != len(population):
        raise RNNSpecMismatch(
            f"expected inputs for {len(population)} RNNs, found inputs for {inputs.shape[0]}"
        )
    if (inputs.dtype, inputs.device.type) != (weight.dtype, weight.device.type):
        raise RNNSpecMismatch(
            f"inputs should be {weight.dtype} on {weight.device}, as the weights of these RNNs are, found "
            f"{inputs.dtype} on {inputs.device}; convert them with inputs.to(population.device, "
            "population.dtype)"
        )
    if state is None:
        return
    shape = (spec.layers * spec.directions, len(population), batch, spec.hidden)
    parts = len(spec.state)
    if len(state) != parts or any(tuple(part.shape) != shape for part in state):
        raise RNNSpecMismatch(
            f"the state of {len(population)} RNNs {spec} should be {parts} of shape {list(shape)}, "
            f"found {[list(part.shape) for part in state]}"
        )
