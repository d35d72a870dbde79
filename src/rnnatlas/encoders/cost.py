"""What an encoder costs: parameters, and operations and time to embed one RNN of many."""

import dataclasses
import statistics
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rnnatlas.encoders import registry
from rnnatlas.encoders.base import TOGETHER, Encoder
from rnnatlas.rnn import Interface, Population, RNNSpec, System, Tokens

PAPER = RNNSpec(cell="lstm", input=6, hidden=32, layers=2, output=6)
"""The LSTMs of Herrmann et al. 2024 that write formal languages."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What an encoder costs.

    Args:
        parameters: Numbers that training changes.
        flops: Floating-point operations to embed one RNN of `TOGETHER`, of matrix products alone: two for
            each multiplication and addition. What else is done, such as sorting, is not counted.
        queries: Steps at which an RNN is shown an input; 0 where weights alone are read.
    """

    parameters: int
    flops: int
    queries: int


@torch.no_grad()
def cost(name: str, spec: RNNSpec = PAPER, settings: Any = None) -> Cost:
    """What an encoder costs, without running it, if it can do with shapes alone.

    Args:
        name: Its name in the registry.
        spec: Architecture of the RNNs.
        settings: An instance of the encoder's `Settings`; None for its defaults.

    Raises:
        RNNSpecMismatch: The encoder does not take such RNNs.
    """
    try:
        encoder, flops = _counted(name, spec, settings, "meta")
    except (RuntimeError, TypeError):  # one from outside may need numbers, too
        encoder, flops = _counted(name, spec, settings, "cpu")
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    shown = getattr(encoder.settings, "sequences", 0) * getattr(encoder.settings, "steps", 0)
    shown *= getattr(encoder.settings, "turns", 1)
    return Cost(parameters=parameters, flops=round(flops / TOGETHER), queries=shown)


def _counted(name: str, spec: RNNSpec, settings: Any, device: str) -> tuple[Encoder, int]:
    """The encoder, and its operations for `TOGETHER` RNNs, on a device; on "meta" there are only shapes."""
    kind = registry[name]
    with (
        torch.random.fork_rng(devices=[]),
        torch.device(device),
    ):  # where torch's own RNNs, too, are made of products that can be counted
        interface = Interface(Tokens(spec.input), Tokens(spec.output_size))
        encoder = kind(interface, spec, settings or kind.Settings()).eval()
        # the counter takes a view of a parameter for something to go back through
        encoder.requires_grad_(False)
        population = Population.unflatten(spec, torch.zeros(TOGETHER, spec.parameters))
    with FlopCounterMode(display=False) as counter:
        encoder(population)
    return encoder, counter.get_total_flops()


@torch.no_grad()
def milliseconds(encoder: Encoder, system: System, passes: int = 3) -> float:
    """Processor time to embed one of several RNNs that are embedded together, in milliseconds.

    It is summed over threads, so other work on the machine does not count; the median of a few passes.
    """
    taken = []
    for _ in range(passes):
        start = time.process_time()
        encoder(system)
        taken.append(time.process_time() - start)
    return 1e3 * statistics.median(taken) / len(system)
