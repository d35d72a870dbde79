"""Whether a torch module computes what its RNN and its linear head do: it is run once, on random inputs."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rnnatlas.errors import RNNSpecMismatch, warn
from rnnatlas.rnn import running
from rnnatlas.rnn.spec import RNNSpec

BATCH, TIME = 2, 5
TOLERANCE, ROUGH = 1e-4, 0.03
"""Of outputs, as a share of the largest; ROUGH in half precision and on a GPU, which may round more."""
_PLAIN = (nn.LSTM, nn.GRU, nn.RNN, nn.Linear)
CONTAINERS = (nn.ModuleDict, nn.ModuleList)
"""Modules that cannot be run."""


@dataclasses.dataclass(frozen=True)
class _One:
    """A single RNN as backends take it."""

    spec: RNNSpec
    weights: Mapping[str, Tensor]

    def __len__(self) -> int:
        return 1


def is_plain(*modules: nn.Module) -> bool:
    """Whether modules are torch's own, without hooks or parametrizations, so it is known what they do."""
    return all(type(each) in _PLAIN and not is_changed(each) for each in modules)


def is_changed(module: nn.Module) -> bool:
    """Whether hooks or parametrizations change what a module computes."""
    return bool(module._forward_hooks or module._forward_pre_hooks or parametrize.is_parametrized(module))


def compare(
    module: nn.Module | tuple[nn.Module, nn.Linear],
    rnn: nn.Module,
    spec: RNNSpec,
    weights: Mapping[str, Tensor],
) -> None:
    """Makes sure that a module gives out what its RNN and head alone do, on whatever reaches the RNN.

    The last time step of it, or time before batch, will do. Layers in front of the RNN do not matter. Where
    the module cannot be run on numbers or tokens, it says so.

    Raises:
        RNNSpecMismatch: It gives out something else.
    """
    name = type(module).__name__ if isinstance(module, nn.Module) else type(rnn).__name__
    if any(weight.is_meta or not bool(weight.isfinite().all()) for weight in weights.values()):
        return
    ran = _ran(module, rnn, spec)
    if ran is None:
        warn(
            f"{name} could not be run on random numbers or tokens, so whether it does more than its {spec} "
            "is not known"
        )
        return
    read, given = ran
    one = _One(spec, {key: weight.detach().float()[None] for key, weight in weights.items()})
    with torch.no_grad():
        own, _ = running.run(one, read.float()[None], None)
    exact = next(iter(weights.values())).dtype in (torch.float32, torch.float64) and not read.is_cuda
    found = list(_differences(own[0], given))
    if not found:
        shapes = ", ".join(str(list(each.shape)) for each in given) or "none"
        raise RNNSpecMismatch(
            f"{name} gives out tensors of shapes {shapes} for {BATCH} sequences of {TIME} steps, not what "
            f"its {spec} gives out; pass (RNN, linear head) if only these are meant"
        )
    if not min(found) <= (TOLERANCE if exact else ROUGH):
        raise RNNSpecMismatch(
            f"{name} gives out other numbers than its {spec} alone, by {min(found):.2g} of the largest on "
            "random inputs; pass (RNN, linear head), without hooks, if only these are meant"
        )


def _ran(
    module: nn.Module | tuple[nn.Module, nn.Linear], rnn: nn.Module, spec: RNNSpec
) -> tuple[Tensor, list[Tensor]] | None:
    """What an RNN read [batch, time, input] while its module ran, and all that the module gave out."""
    module, rnn = _copied(module, rnn)
    whole = [module] if isinstance(module, nn.Module) else list(module)
    states = [(each, each.training) for part in whole for each in part.modules()]
    function = module if isinstance(module, nn.Module) else _joined(*module)
    read: list[Any] = []
    handle = rnn.register_forward_pre_hook(lambda _, args: read.append(args[0] if args else None))
    try:
        for each, _ in states:
            each.training = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for inputs in _attempts(whole, rnn, spec):
                read.clear()
                try:
                    given = list(_tensors(function(inputs)))
                except Exception:  # whatever a forward has against these inputs
                    continue
                found = _sequence(read, rnn)
                if found is not None:
                    return found, given
    finally:
        handle.remove()
        for each, training in states:
            each.training = training
    return None


def _copied(module: Any, rnn: nn.Module) -> tuple[Any, nn.Module]:
    """A copy that shares all tensors, since running may change what a module remembers."""
    memo: dict[int, Any] = {}
    for part in [module] if isinstance(module, nn.Module) else module:
        for each in part.modules():
            held = [*each._parameters.values(), *vars(each).values()]
            memo |= {id(value): value for value in held if isinstance(value, Tensor)}
    try:
        return copy.deepcopy((module, rnn), memo)
    except Exception:  # whatever a module has against being copied
        return module, rnn


def _joined(rnn: nn.Module, head: nn.Module) -> Callable[[Tensor], Any]:
    return lambda inputs: head(rnn(inputs)[0])


def _attempts(whole: list[nn.Module], rnn: nn.Module, spec: RNNSpec) -> Iterator[Tensor]:
    """Inputs that a module may take: vectors of the size of the RNN or of a layer in front, or tokens."""
    parameter = next(rnn.parameters())
    batch_first = getattr(rnn, "batch_first", True)
    shape = (BATCH, TIME) if batch_first else (TIME, BATCH)
    layers = [each for part in whole for each in part.modules()]
    sizes = [spec.input, *(each.in_features for each in layers if isinstance(each, nn.Linear))]
    for size in dict.fromkeys(sizes):
        yield torch.randn(*shape, size, dtype=parameter.dtype, device=parameter.device)
    counts = [each.num_embeddings for each in layers if isinstance(each, nn.Embedding)]
    if counts:
        yield torch.randint(min(counts), shape, device=parameter.device)


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        if given.is_floating_point():
            yield given.detach()
    elif isinstance(given, (tuple, list)):
        for each in given:
            yield from _tensors(each)
    elif isinstance(given, Mapping):
        yield from _tensors(list(given.values()))


def _sequence(read: list[Any], rnn: nn.Module) -> Tensor | None:
    """What an RNN read, step by step or at once; None where it read nothing, or no plain sequences."""
    if not read or not all(isinstance(each, Tensor) and each.ndim == 3 for each in read):
        return None
    try:
        joined = torch.cat(read, 1 if getattr(rnn, "batch_first", True) else 0)
    except RuntimeError:
        return None
    return joined if getattr(rnn, "batch_first", True) else joined.transpose(0, 1)


def _differences(own: Tensor, given: list[Tensor]) -> Iterator[float]:
    """By how much tensors that may be an RNN's outputs differ from them, as a share of the largest."""
    swapped = own.transpose(0, 1)
    forms = [own, swapped, own[:, -1], own.flatten(0, 1), swapped.flatten(0, 1)]
    forms += [form.squeeze(-1) for form in forms if own.shape[-1] == 1]
    for form in forms:
        for each in given:
            if each.shape == form.shape:
                yield float((each.float() - form).abs().max() / form.abs().max().clamp_min(1e-3))
