"""Training a chunk of a zoo's runs side by side, as one population."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from rnnatlas.captured import Captured
from rnnatlas.errors import SettingsError
from rnnatlas.executors.base import limited
from rnnatlas.registry import nearest
from rnnatlas.rnn import GATES, Population, RNNSpec
from rnnatlas.seeds import stream, torch_generator
from rnnatlas.settings import as_dict, at_least_one, settings
from rnnatlas.tasks.base import BLOCK, Instance, Task
from rnnatlas.zoo.format import as_column, made_from
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.store import DIVERGED

MOST_RUNS = 100_000_000


@settings
class Range:
    """Whole numbers from `low` to `high`, both included, of which each run draws one."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise SettingsError(f"a range should have 1 <= low <= high, found {self.low} to {self.high}")


@settings
class Architecture:
    """What an architecture has of its own; None for what the zoo's settings say.

    Args:
        cell: As in `ZooSettings`; so are the others.
        hidden: Hidden units a layer.
        layers: Stacked layers.
    """

    cell: str | tuple[str, ...] | None = None
    hidden: int | Range | tuple[int, ...] | None = None
    layers: int | Range | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _check_architecture(self)


@settings
class ZooSettings:
    """How many RNNs a zoo holds and how they are trained; the defaults are the paper's.

    Args:
        runs: RNNs, each trained once from its own initialisation.
        cell: "lstm", "gru", "elman-tanh", "elman-relu", "leaky-tanh" or "leaky-relu", or a list from which
            each run draws one.
        hidden: Hidden units a layer: a number, or a list or a range from which each run draws one.
        layers: Stacked layers: a number, a list or a range.
        architectures: Architectures of which each run draws one; none where `cell`, `hidden` and `layers`
            say all.
        batch: Training sequences a step.
        learning_rate: Pairs (step, rate), between which the rate is linear; constant before and after.
        weight_decay: Decoupled from the gradient, as AdamW has it; for tasks whose instances name none.
        snapshots: Numbers of updates after which an RNN is kept; 0 is the initialisation. The last one
            ends the training.
        rollouts: Rollouts kept with each snapshot.
        runs_per_shard: Runs that are trained side by side and written as one file.
        split: Which runs serve for what.
    """

    runs: int = 1000
    cell: str | tuple[str, ...] = "lstm"
    hidden: int | Range | tuple[int, ...] = 32
    layers: int | Range | tuple[int, ...] = 2
    architectures: tuple[Architecture, ...] = ()
    batch: int = 32
    learning_rate: tuple[tuple[int, float], ...] = ((0, 0.01), (10_000, 0.003), (20_000, 0.0003))
    weight_decay: float = 1e-4
    snapshots: tuple[int, ...] = (0, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
    rollouts: int = 100
    runs_per_shard: int = 20
    split: SplitSettings = SplitSettings()

    def __post_init__(self) -> None:
        _check_architecture(self)
        at_least_one(self, "runs", "batch", "rollouts", "runs_per_shard")
        if self.runs > MOST_RUNS:
            raise SettingsError(f"runs should be at most {MOST_RUNS} a zoo, found {self.runs}; build several")
        for name, steps in (
            ("snapshots", self.snapshots),
            ("learning_rate", [s for s, _ in self.learning_rate]),
        ):
            if not steps or min(steps) < 0 or list(steps) != sorted(set(steps)):
                raise SettingsError(f"{name} should have steps that rise from 0 or more, found {list(steps)}")
        for name, values in (
            ("learning_rate", [rate for _, rate in self.learning_rate]),
            ("weight_decay", [self.weight_decay]),
        ):
            if not all(0 <= value < np.inf for value in values):
                raise SettingsError(f"{name} should be finite and not negative, found {values}")

    @property
    def _architectures(self) -> list[dict[str, Any]]:
        """Cell, hidden and layers of each architecture, as far as they are not drawn."""
        zoo = {name: getattr(self, name) for name in ("cell", "hidden", "layers")}
        own = [
            {name: value for name, value in vars(one).items() if value is not None}
            for one in self.architectures
        ]
        return [{**zoo, **one} for one in own] or [zoo]

    @property
    def _drawn(self) -> bool:
        """Whether anything is left open."""
        several = [len(_choices(value)) for one in self._architectures for value in one.values()]
        return len(self._architectures) > 1 or max(several) > 1

    def spec(self, task: Task, run: int = 0, seed: int = 0) -> RNNSpec:
        """A run's architecture; what is left open is drawn from the run's own stream."""
        random = stream(seed, "architecture", run) if self._drawn else None
        drawn = _draw(random, self._architectures)
        values = {name: _draw(random, _choices(value)) for name, value in drawn.items()}
        inputs, outputs = task.interface.sizes
        return RNNSpec(input=inputs, output=outputs, **values)

    @property
    def steps(self) -> int:
        """Updates of a run."""
        return self.snapshots[-1]

    def rate(self, step: int) -> float:
        """Learning rate of the update that comes after `step` updates."""
        steps, rates = zip(*self.learning_rate, strict=True)
        return float(np.interp(step, steps, rates))


def _check_architecture(settings: ZooSettings | Architecture) -> None:
    """Makes sure that cells, hidden and layers are such as RNNs can have.

    Raises:
        SettingsError: They are not.
    """
    for name in ("cell", "hidden", "layers"):
        value = getattr(settings, name)
        choices = [] if value is None else _choices(value)
        if len(choices) == 0 and value is not None:
            raise SettingsError(f"{name} should name at least one, found an empty list")
        for cell in choices if name == "cell" else ():
            if cell not in GATES:
                raise SettingsError(f"cell {cell!r} is unknown; {nearest(cell, GATES)}")
        if name != "cell" and choices and min(choices) < 1:
            raise SettingsError(f"{name} should be 1 or more, found {value}")


def _choices(value: Any) -> Sequence[Any]:
    """What a setting leaves open."""
    if isinstance(value, Range):
        return range(value.low, value.high + 1)
    return value if isinstance(value, tuple) else (value,)


def _draw(random: np.random.Generator | None, choices: Sequence[Any]) -> Any:
    return choices[0] if random is None else choices[int(random.integers(len(choices)))]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some runs of a zoo, all of one architecture, to be trained side by side.

    Everything random about a run comes from streams named by (zoo seed, run), so it does not matter which
    runs share a chunk or which process trains it: not even for the last bit, on a CPU and with cells that the
    compiled backend runs.
    """

    task: Task
    settings: ZooSettings
    seed: int
    runs: Sequence[int]
    splits: Sequence[str]

    @functools.cached_property
    def spec(self) -> RNNSpec:
        """The architecture of all runs."""
        specs = {self.settings.spec(self.task, run, self.seed) for run in self.runs}
        assert len(specs) == 1, "who makes chunks puts runs of one architecture together"
        return specs.pop()

    @property
    def zoo(self) -> str:
        """Which zoo they are of."""
        task = {"name": self.task.name, "settings": as_dict(self.task.settings)}
        return made_from(task, as_dict(self.settings), self.seed)

    @property
    def instances(self) -> list[Instance]:
        """What each run is trained on."""
        return [self.task.instance(run, self.seed) for run in self.runs]

    def streams(self, name: str, *path: int) -> list[np.random.Generator]:
        """One random stream a run."""
        return [stream(self.seed, name, run, *path) for run in self.runs]


def initialise(chunk: Chunk) -> Population:
    """The runs' RNNs before training."""
    generators = [torch_generator(chunk.seed, "init", run) for run in chunk.runs]
    return Population.initialise(chunk.spec, generators)


def train(
    chunk: Chunk, beat: Callable[[int], None] = lambda updates: None, device: str = "cpu"
) -> Iterator[tuple[int, Population]]:
    """Trains the runs; yields (updates done, population) for each snapshot.

    The loss is the sum of the runs' own losses, so no run's gradient depends on another run.

    Args:
        chunk: The runs.
        beat: Called after every step with the number of RNN updates that it made.
        device: "cpu" or "cuda".
    """
    settings = chunk.settings
    population = initialise(chunk).to(device)
    for weight in population.parameters():
        weight.requires_grad_()
    update = _Update(chunk, population)
    step_on = _CapturedUpdate(update, population.device) if device == "cuda" else update
    batches = chunk.task.batches(chunk.instances, settings.batch, chunk.streams("batches"))
    for step in range(settings.steps + 1):
        if step in settings.snapshots:
            yield step, population.detach().clone()
        if step < settings.steps:
            step_on(next(batches), settings.rate(step))
            beat(len(chunk.runs))


class _Update:
    """AdamW steps, with each RNN's own weight decay."""

    def __init__(self, chunk: Chunk, population: Population):
        self.task, self.population = chunk.task, population
        own = [instance.get("weight_decay", chunk.settings.weight_decay) for instance in chunk.instances]
        self.decays = torch.tensor(own, dtype=torch.float32, device=population.device)
        self.weights = _in_one(list(population.parameters()))
        self.optimiser = torch.optim.AdamW(
            [self.weights],
            lr=chunk.settings.rate(0),
            weight_decay=0.0,
            fused=True,
            capturable=population.device.type == "cuda",
        )

    def __call__(self, batch: Any, rate: float | Tensor) -> None:
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.zero_grad(set_to_none=False)
        self.task.loss(self.population, batch).sum().backward()
        with torch.no_grad():
            for weight in self.population.parameters():
                weight.mul_((1 - rate * self.decays).view(-1, *[1] * (weight.ndim - 1)))
        self.optimiser.step()


def _in_one(weights: Sequence[Tensor]) -> Tensor:
    """Moves weights and their gradients into one tensor, for AdamW.

    It works through vectors of numbers, but through those left over at the end of a tensor one by one, with
    other rounding: so nothing but padding is there, and no RNN's numbers depend on which others are trained
    with it.
    """
    sizes = [-(-weight.numel() // BLOCK) * BLOCK for weight in weights]
    values, gradients = weights[0].new_zeros(2, sum(sizes)).unbind()
    for weight, *places in zip(weights, values.split(sizes), gradients.split(sizes), strict=True):
        own, gradient = (place[: weight.numel()].view_as(weight) for place in places)
        own.copy_(weight.detach())
        weight.data, weight.grad = own, gradient
    values.grad = gradients
    return values


class _CapturedUpdate:
    """Updates as a CUDA graph, which reads the learning rate from memory."""

    def __init__(self, update: _Update, device: torch.device):
        self.update, self.captured = update, Captured(self._on_tensors, device)
        self.kind: Any = None

    def __call__(self, batch: Any, rate: float) -> None:
        self.kind = type(batch)
        self.captured(**vars(batch), rate=torch.tensor(rate))

    def _on_tensors(self, rate: Tensor, **tensors: Tensor) -> None:
        self.update(self.kind(**tensors), rate)


def snapshots_table(
    chunk: Chunk, beat: Callable[[int], None] = lambda updates: None, device: str = "cpu"
) -> pa.Table:
    """Trains the runs and gives their snapshots as rows of a shard, run after run."""
    with limited(1):
        parts = [_snapshot(chunk, step, population) for step, population in train(chunk, beat, device)]
    rows = {name: _interleave([part[name] for part in parts]) for name in parts[0]}
    instances = [instance for instance in chunk.instances for _ in parts]
    splits = [split for split in chunk.splits for _ in parts]
    run, step, weights = rows.pop("run"), rows.pop("step"), rows.pop("weights")
    rollouts = {name: rows.pop(name) for name in ("rollout_inputs", "rollout_outputs")}
    metrics = {name: values.astype(np.float32) for name, values in rows.items()}
    # a finite RNN may give out what half precision calls infinite, and its loss would be NaN
    parts_of_a_snapshot = (weights, rollouts["rollout_outputs"], *metrics.values())
    finite = np.logical_and.reduce([_finite(values) for values in parts_of_a_snapshot])
    return pa.table(
        {
            "id": [f"run-{a:05d}-step-{b:05d}" for a, b in zip(run, step, strict=True)],
            "run": run,
            "step": step,
            "task": pa.array(instances, chunk.task.struct),
            "split": pa.array(splits, pa.string()),
            "seed": pa.array([chunk.seed] * len(run), pa.int64()),
            "health": pa.array(np.where(finite, "ok", DIVERGED).tolist(), pa.string()),
            "metrics": pa.StructArray.from_arrays(list(map(pa.array, metrics.values())), list(metrics)),
            "weights": as_column(weights),
            **{name: as_column(values) for name, values in rollouts.items()},
        }
    )


def _finite(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(values.reshape(len(values), -1)).all(axis=1))


def _snapshot(chunk: Chunk, step: int, population: Population) -> Mapping[str, np.ndarray]:
    """What is kept of the runs after a number of updates; all of it can be made again from the weights."""
    task, instances = chunk.task, chunk.instances
    rollouts = task.rollouts(population, instances, chunk.streams("rollouts", step), chunk.settings.rollouts)
    return {
        "run": np.array(chunk.runs, dtype=np.int32),
        "step": np.full(len(chunk.runs), step, dtype=np.int32),
        "weights": population.flatten().cpu().numpy(),
        "rollout_inputs": rollouts.inputs,
        "rollout_outputs": rollouts.outputs,
        **task.metrics(population, instances, chunk.streams("metrics", step)),
    }


def _interleave(parts: list[np.ndarray]) -> np.ndarray:
    """[step][run, …] as [run · step, …]."""
    return np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])
