"""Training steps of RNNs a second: a zoo's own training loop against `nn.LSTM`, one RNN at a time."""

import dataclasses
import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from rnnatlas.benchmarks.base import Benchmark, Row, Show, matrix_product, quartiles, shown
from rnnatlas.benchmarks.running import operations_each
from rnnatlas.errors import RNNAtlasError
from rnnatlas.executors.base import limited
from rnnatlas.rnn import RecurrentNetwork
from rnnatlas.tasks.base import Instance
from rnnatlas.tasks.formal_languages import FormalLanguages, Strings
from rnnatlas.zoo.train import Chunk, ZooSettings, train

AT_ONCE = 4
"""Steps between two looks at the clock; fewer, and what `train` gives out at each would count."""

ZOO, LITERAL, ALONE, PRODUCT = "zoo training", "zoo training, all strings", "nn.LSTM", "matrix product"
WAYS = {"a process a core": "process", "one process, default threads": "threads"}


class LiteralLanguages(FormalLanguages):
    """Batches as drawn, each string as often as it was drawn: the work that `nn.LSTM` does."""

    def batches(
        self, instances: Sequence[Instance], batch: int, streams: Sequence[np.random.Generator]
    ) -> Iterator[Strings]:
        """Uniform draws of strings."""
        tables, inputs, targets = self._tables(instances)
        rnn, weights = torch.arange(len(tables)).unsqueeze(1), torch.full((len(tables), batch), 1 / batch)
        while True:
            drawn = [own.integers(len(table), size=batch) for own, table in zip(streams, tables, strict=True)]
            chosen = rnn, torch.from_numpy(np.stack(drawn))
            yield Strings(inputs[chosen], targets[chosen], weights)


class Alone:
    """One `nn.LSTM` with a head, trained on the strings of one language as a zoo's RNNs are.

    It gets what makes its own step faster: fused AdamW, and cross-entropy with tokens first.
    """

    def __init__(self, settings: ZooSettings, task: FormalLanguages):
        self.module = RecurrentNetwork(settings.spec(task))
        self.optimiser = torch.optim.AdamW(
            self.module.parameters(), lr=settings.rate(0), weight_decay=settings.weight_decay, fused=True
        )
        stored = torch.from_numpy(task.strings(task.instance(0, 0)))
        self.inputs, self.targets = task.encode_inputs(stored), stored[..., 1:].long()
        self.batch = settings.batch

    def step(self) -> None:
        """One update."""
        drawn = torch.randint(len(self.inputs), (self.batch,))
        outputs, _ = self.module(self.inputs[drawn])
        loss = _cross_entropy(outputs, self.targets[drawn])
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def _cross_entropy(outputs: Float[Tensor, "batch time output"], targets: Tensor) -> Tensor:
    return cross_entropy(outputs.flatten(0, 1).T.contiguous().unsqueeze(0), targets.flatten().unsqueeze(0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZooTraining(Benchmark):
    """RNN-steps per second of the paper's RNNs.

    Args:
        settings: The zoo; its snapshots do not matter.
        workers: Processes for "a process a core"; None for as many as there are cores.
        rounds: Turns of each contender.
        seconds: How long a turn lasts.
    """

    settings: ZooSettings = dataclasses.field(default_factory=ZooSettings)
    workers: int | None = None
    rounds: int = 5
    seconds: float = 1.0

    note: ClassVar[str] = (
        "Whole training steps of LSTMs of 2 × 32, batch 32, 41 steps: RNN-steps a second of wall-clock time "
        "and a second of one core's processor time, median (quartiles); × compares wall-clock time. Zoo "
        "training is the loop of rnnatlas zoo build, which runs each different string of a batch once, "
        "weighted; with all strings it does the same work as nn.LSTM. Share of peak: operations of matrix "
        "products a core-second, over those of a 1024 × 1024 product run the same way. Other programs that "
        "run meanwhile make threads wait for each other, so one process with several suffers most."
    )

    def measure(self, show: Show) -> list[Row]:
        """See `Benchmark.measure`."""
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        with _a_process_a_core(self.settings, self.workers) as serve:
            here = steppers(self.settings)
            turns = [(name, way) for way in WAYS for name in here]
            for number in range(self.rounds * len(turns)):
                name, way = turns[number % len(turns)]
                show(number / self.rounds / len(turns), f"{name}, {way}")
                one = WAYS[way] == "threads"
                rates = rate(*here[name], self.seconds) if one else serve(name, self.seconds)
                found.setdefault((name, way), []).append(rates)
        return [self._row(name, way, values) for (name, way), values in found.items()]

    def _row(self, name: str, way: str, values: list[tuple[float, float]]) -> Row:
        wall, processor = zip(*values, strict=True)
        return {
            "contender": name,
            "way": way,
            "per_second": quartiles(wall),
            "per_core_second": quartiles(processor),
            "operations": operations(name, self.settings),
        }

    @staticmethod
    def table(rows: Sequence[Row]) -> list[dict[str, str]]:
        """See `Benchmark.table`."""
        return [
            {
                "what": row["contender"],
                "how": row["way"],
                "RNN-steps/s": shown(row["per_second"]),
                "a core-second": shown(row["per_core_second"]),
                **{f"× nn.LSTM, {way}": f"{speed_up(rows, row, way):.1f}" for way in WAYS},
                "share of peak": f"{share_of_peak(rows, row):.2f}",
            }
            for row in rows
            if row["contender"] != PRODUCT
        ]


def speed_up(rows: Sequence[Row], row: Row, way: str, figure: str = "per_second") -> float:
    """How many times as fast as `nn.LSTM` run in one of the ways."""
    return row[figure]["median"] / find(rows, ALONE, way)[figure]["median"]


def share_of_peak(rows: Sequence[Row], row: Row) -> float:
    """Operations a core-second, as a share of those of a large product run the same way."""
    peak = find(rows, PRODUCT, row["way"])
    own, best = (each["operations"] * each["per_core_second"]["median"] for each in (row, peak))
    return own / best


def find(rows: Sequence[Row], contender: str, way: str) -> Row:
    """The row of a contender run in one of the ways."""
    return next(row for row in rows if (row["contender"], row["way"]) == (contender, way))


def operations(name: str, settings: ZooSettings) -> float:
    """Floating-point operations in matrix products of one step of one RNN."""
    if name == PRODUCT:
        return matrix_product()[1]
    task = FormalLanguages.from_settings({})
    strings = task.settings.largest_n + 1 if name == ZOO else settings.batch
    return strings * task.time * operations_each(settings.spec(task), backward=True)


Stepper = tuple[Callable[[], Any], int]
"""Makes some steps, and how many."""


def steppers(settings: ZooSettings) -> dict[str, Stepper]:
    """Each contender, warmed up."""
    alone = Alone(settings, FormalLanguages.from_settings({}))  # type: ignore[arg-type]
    made: dict[str, Stepper] = {
        ZOO: _training(settings, FormalLanguages),
        LITERAL: _training(settings, LiteralLanguages),
        ALONE: (alone.step, 1),
        PRODUCT: (matrix_product()[0], 1),
    }
    for step, _ in made.values():
        step()
    return made


def _training(settings: ZooSettings, task: type[FormalLanguages]) -> Stepper:
    """A chunk of a zoo under training, which goes from one snapshot to the next, and begins again."""
    settings = dataclasses.replace(settings, snapshots=tuple(range(0, 4001, AT_ONCE)))
    runs = range(settings.runs_per_shard)
    chunk = Chunk(task.from_settings({}), settings, 0, runs, ["train"] * len(runs))
    training = itertools.chain.from_iterable(train(chunk) for _ in itertools.count())
    next(training)
    return lambda: next(training), AT_ONCE * len(runs)


def rate(step: Callable[[], Any], steps: int, seconds: float) -> tuple[float, float]:
    """Steps per second, and per second of processor time."""
    wall, processor, done = time.perf_counter(), time.process_time(), 0
    while not done or time.perf_counter() - wall < seconds:
        step()
        done += steps
    return done / (time.perf_counter() - wall), done / (time.process_time() - processor)


@contextmanager
def _a_process_a_core(
    settings: ZooSettings, workers: int | None
) -> Iterator[Callable[[str, float], tuple[float, float]]]:
    """Processes of one thread, ready; gives what makes all of them run a contender, and their rates."""
    import joblib

    context, pipes, processes = multiprocessing.get_context("spawn"), [], []
    try:
        for _ in range(workers or joblib.cpu_count()):
            pipe, other = context.Pipe()
            process = context.Process(target=_serve, args=(other, settings), daemon=True)
            process.start()
            other.close()  # so that a process that is gone is missed
            pipes.append(pipe)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()

        def serve(name: str, seconds: float) -> tuple[float, float]:
            for pipe in pipes:
                pipe.send((name, seconds))
            wall, processor = zip(*[pipe.recv() for pipe in pipes], strict=True)
            return sum(wall), sum(processor) / len(processor)

        yield serve
    except (EOFError, ConnectionError):
        raise RNNAtlasError(
            "a process of the benchmark was killed, often for lack of memory; close other programs and run "
            "it again"
        ) from None
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve(pipe: Connection, settings: ZooSettings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first stops the others
    with limited(1):
        ready = steppers(settings)
        pipe.send(None)
        while True:
            name, seconds = pipe.recv()
            pipe.send(rate(*ready[name], seconds))
