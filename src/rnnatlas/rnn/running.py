"""Running populations: the single way in which this package runs RNNs."""

import functools
import logging
import os
from types import ModuleType

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn.backends import eager, kernels, native, triton
from rnnatlas.rnn.population import Population

State = tuple[Tensor, ...]
"""(h, c) for LSTMs, (h,) otherwise, each [layer·direction, rnn, batch, hidden] in torch's order."""


def run(
    population: Population,
    inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
    state: State | None = None,
) -> tuple[Float[Tensor, "rnn batch time output"], State]:
    """Runs each RNN of a population over sequences, as `torch.nn.LSTM`, `GRU` or `RNN` and a head would.

    Args:
        population: N RNNs.
        inputs: Each RNN's own sequences, or sequences that all of them read.
        state: Where to start; None for zeros.

    Returns:
        Outputs of the head, or the last layer's hidden states where there is none, and the last state.

    Raises:
        RNNSpecMismatch: Inputs or state do not fit the population.
    """
    if inputs.ndim not in (3, 4) or inputs.shape[-1] != population.spec.input or 0 in inputs.shape[-3:]:
        raise RNNSpecMismatch(
            f"inputs of {len(population)} RNNs {population.spec} should have shape "
            f"[{len(population)} or shared, batch, time, {population.spec.input}], found {list(inputs.shape)}"
        )
    _check(population, inputs, state, shared=inputs.ndim == 3, batch=inputs.shape[-3])
    return _backend(population, inputs, state).run(population, inputs, state)


def step(
    population: Population,
    inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"],
    state: State | None = None,
) -> tuple[Float[Tensor, "rnn batch output"], State]:
    """One time step of `run`, for inputs that depend on earlier outputs; arguments alike without time.

    Raises:
        RNNSpecMismatch: Inputs or state do not fit, or the RNNs are bidirectional and so need the whole
            sequence at once.
    """
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


def run_lstm(lstm: nn.LSTM, inputs: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch hidden"]:
    """Outputs of one torch LSTM on many sequences, by the compiled backend where that is the faster one.

    That gives each RNN a thread, so it is faster on one thread; torch shares one RNN's products out to all.
    """
    if torch.get_num_threads() > 1:
        return lstm(inputs)[0]
    population, sequences = Population.from_modules([lstm]), inputs.transpose(0, 1).unsqueeze(0)
    if _backend(population, sequences, None) is not native:  # torch's own loop is the faster one for one RNN
        return lstm(inputs)[0]
    outputs, _ = run(population, sequences)
    return outputs[0].transpose(0, 1)


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


@torch.no_grad()
def sample(
    population: Population, uniforms: Float[Tensor, "rnn batch time"], start: int
) -> tuple[UInt8[Tensor, "rnn batch time"], Float[Tensor, "rnn batch time output"]]:
    """Lets each RNN write sequences of tokens, feeding back what it draws.

    Args:
        population: RNNs that read and give out one-hot tokens.
        uniforms: One number from [0, 1) a draw, which picks a token through the inverse of the
            cumulative distribution, so an RNN's rollouts depend on its own random numbers alone.
        start: The token read first (BOS).

    Returns:
        The tokens drawn, and the log-probabilities they were drawn from.

    Raises:
        RNNSpecMismatch: The RNNs' input and output sizes differ.
    """
    size = population.spec.output_size
    if population.spec.input != size:
        raise RNNSpecMismatch(
            f"sampling feeds outputs back, so {population.spec} needs as many inputs as outputs"
        )
    eye = torch.eye(size, dtype=population.dtype, device=population.device)
    token = eye[start].expand(*uniforms.shape[:2], size)
    state, tokens, log_probs = None, [], []
    for uniform in uniforms.unbind(2):
        outputs, state = step(population, token, state)
        log_prob = outputs.log_softmax(-1)
        drawn = draw(log_prob, uniform)
        token = eye[drawn]
        tokens.append(drawn.to(torch.uint8))
        log_probs.append(log_prob)
    return torch.stack(tokens, 2), torch.stack(log_probs, 2)


def draw(
    log_probs: Float[Tensor, "*batch output"], uniforms: Float[Tensor, "*batch"]
) -> Int[Tensor, "*batch"]:
    """Tokens drawn from distributions through the inverse of the cumulative distribution."""
    cumulative = log_probs.exp().cumsum(-1)
    above = (uniforms.unsqueeze(-1) * cumulative[..., -1:] >= cumulative).sum(-1)
    return above.clamp_(max=log_probs.shape[-1] - 1)


def _backend(population: Population, inputs: Tensor, state: State | None) -> ModuleType:
    """The fastest backend that can do it; RNNATLAS_BACKEND=eager asks for the readable one."""
    if os.environ.get("RNNATLAS_BACKEND") == "eager":
        return eager
    if population.device.type == "cuda":
        return triton if triton.applies(population, inputs, state) else eager
    if not native.applies(population, inputs, state):
        return eager
    if isinstance(kernels.library(), str):
        if not torch.compiler.is_compiling():  # which cannot write to the log
            _say_once(backend())
        return eager
    return native


@functools.cache
def _say_once(sentence: str) -> None:
    logging.getLogger("rnnatlas").warning("running on %s", sentence)


def _check(population: Population, inputs: Tensor, state: State | None, shared: bool, batch: int) -> None:
    spec = population.spec
    if not shared and inputs.shape[0] != len(population):
        raise RNNSpecMismatch(
            f"expected inputs for {len(population)} RNNs, found inputs for {inputs.shape[0]}"
        )
    if state is None:
        return
    shape = (spec.layers * spec.directions, len(population), batch, spec.hidden)
    parts = 2 if spec.cell == "lstm" else 1
    if len(state) != parts or any(tuple(part.shape) != shape for part in state):
        raise RNNSpecMismatch(
            f"the state of {len(population)} RNNs {spec} should be {parts} of shape {list(shape)}, "
            f"found {[list(part.shape) for part in state]}"
        )
