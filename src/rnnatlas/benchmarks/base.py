"""What a benchmark is, and timing that a busy machine does not mislead."""

import contextlib
import os
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

Row = dict[str, Any]
"""One row of figures for JSON: what was measured, and spreads by name."""

Show = Callable[[float, str], None]
"""Called with the share that is done and what comes next."""

TURN = 0.01
"""Seconds that a turn lasts at least, so that what ran before it has left the caches for most of it."""

PRODUCT = 1024
"""Rows and columns of matrices whose product stands for what the machine can do; larger are no faster."""


class Benchmark(ABC):
    """Measures one claim.

    Its fields say what is tried and for how long; their defaults take a minute or two on two cores.
    """

    note: ClassVar[str]
    """What is measured and what the columns of the table say, in a few sentences."""

    @abstractmethod
    def measure(self, show: Show) -> list[Row]:
        """Takes the figures."""

    @staticmethod
    @abstractmethod
    def table(rows: Sequence[Row]) -> list[dict[str, str]]:
        """The figures for people: in each row, a cell for each column by its title."""


def take_turns(
    contenders: Mapping[str, Callable[[], Any]], seconds: float, least: int = 3
) -> dict[str, dict[str, float]]:
    """Median and quartiles of seconds a call, for each of some contenders that take turns.

    So that whatever else the machine does meets all of them alike. With one thread it is the processor's time
    that counts, which other processes take no part of.

    Args:
        contenders: Functions by name.
        seconds: How long each is run; those that are slow stop taking part before the others.
        least: Turns that each gets in any case.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    calls = {name: _calls_a_turn(contender) for name, contender in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    used = dict.fromkeys(contenders, 0.0)
    while going := [name for name in contenders if used[name] < seconds or len(times[name]) < least]:
        for name in going:
            wall, start = time.perf_counter(), clock()
            for _ in range(calls[name]):
                contenders[name]()
            times[name].append((clock() - start) / calls[name])
            used[name] += time.perf_counter() - wall
    return {name: quartiles(values) for name, values in times.items()}


def _calls_a_turn(contender: Callable[[], Any]) -> int:
    for _ in range(2):  # the first call warms up; where it was long, it needs no second
        start = time.perf_counter()
        contender()
        if (took := time.perf_counter() - start) > 10 * TURN:
            return 1
    return max(1, round(TURN / took))


@contextlib.contextmanager
def on_backend(name: str) -> Iterator[None]:
    """With what `RNNATLAS_BACKEND` names, such as "eager"; "" for the usual backend."""
    before = os.environ.get("RNNATLAS_BACKEND")
    os.environ["RNNATLAS_BACKEND"] = name
    try:
        yield
    finally:
        del os.environ["RNNATLAS_BACKEND"]
        if before is not None:
            os.environ["RNNATLAS_BACKEND"] = before


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, and of how many values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high, "count": len(values)}


def matrix_product() -> tuple[Callable[[], Any], float]:
    """A large product, whose rate stands for what the machine can do, and its floating-point operations."""
    a, b = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
    return (lambda: a @ b), 2.0 * PRODUCT**3


def shown(figures: Mapping[str, float], factor: float = 1.0) -> str:
    """Figures for people: the median and, in parentheses, the quartiles."""
    low, median, high = (digits(figures[key] * factor) for key in ("low", "median", "high"))
    return f"{median} ({low}–{high})"


def digits(value: float) -> str:
    """A number with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
