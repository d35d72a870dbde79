"""What each encoder costs: milliseconds a training step, RNNs embedded a second."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from rnnatlas import encoders, seeds
from rnnatlas.benchmarks.base import Benchmark, Row, Show, digits, on_backend, shown, take_turns
from rnnatlas.emulation.data import Snapshots
from rnnatlas.emulation.emulator import Emulator
from rnnatlas.emulation.model import EmulationSettings, RunSettings, TaskSettings, make_parts
from rnnatlas.encoders.base import TOGETHER, Encoder
from rnnatlas.executors.base import limited
from rnnatlas.rnn import Population
from rnnatlas.settings import as_dict, build, preset
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.train import ZooSettings

TORCH, OURS = "emulator alone, torch.nn.LSTM", "emulator alone"
MANY = 8
"""Probing sequences of interactive probing that are timed as well, where a preset has fewer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoders(Benchmark):
    """Every encoder of the registry, at the sizes of some presets.

    Args:
        presets: Where sizes come from.
        seconds: How long each contender is run; a step that takes longer is run three times nevertheless.
    """

    presets: Sequence[str] = ("demo", "paper")
    seconds: float = 2.0

    note: ClassVar[str] = (
        "One thread, processor time, median (quartiles); beside it all cores, wall-clock time. A training "
        "step embeds, emulates and learns: divergence, backward, clipping, AdamW. The emulator alone is a "
        "step without an encoder: once as one would write it, on torch.nn.LSTM and to the end of all "
        "sequences, and once as it is here; × is how many times as long as the former a step takes. "
        f"Embedding is forward alone, {TOGETHER} RNNs at a time. The RNNs are untrained, their rollouts "
        "training strings. Encoders that a preset does not name have their default settings, which are the "
        "paper's."
    )

    def measure(self, show: Show) -> list[Row]:
        """See `Benchmark.measure`."""
        rows: list[Row] = []
        with torch.random.fork_rng(devices=[]):
            for number, name in enumerate(self.presets):
                sizes = Sizes(name)
                models = sizes.trainings()
                steps = _steps(models, sizes)
                embedders = {encoder: sizes.embedder(model.encoder) for encoder, model in models.items()}
                with limited(1):
                    show(number / len(self.presets), f"training steps, {name}")
                    training = take_turns(steps, self.seconds)
                    show((number + 0.4) / len(self.presets), f"embedding, {name}")
                    embedding = take_turns(embedders, self.seconds)
                show((number + 0.6) / len(self.presets), f"training steps on all cores, {name}")
                together = take_turns(steps, self.seconds)
                for what, seconds in training.items():
                    row = {"preset": name, "rnns": str(sizes.spec), "what": what, "step_seconds": seconds}
                    row["step_seconds_all_cores"] = together[what]
                    if what in models:
                        row["embed_seconds"], row["embedded"] = embedding[what], TOGETHER
                        weights = models[what].encoder.parameters()
                        row["parameters"] = sum(weight.numel() for weight in weights)
                    rows.append(row)
        return rows

    @staticmethod
    def table(rows: Sequence[Row]) -> list[dict[str, str]]:
        """See `Benchmark.table`."""
        return [
            {
                "preset": row["preset"],
                "what": row["what"],
                "ms a training step": shown(row["step_seconds"], 1e3),
                "×": f"{times_emulator(rows, row):.2f}",
                "ms, all cores": shown(row["step_seconds_all_cores"], 1e3),
                "×, all cores": f"{times_emulator(rows, row, 'step_seconds_all_cores'):.2f}",
                "RNNs embedded a second": _embedded(row),
                "parameters": f"{row['parameters']:,}" if "parameters" in row else "",
            }
            for row in rows
        ]


def _embedded(row: Row) -> str:
    return digits(row["embedded"] / row["embed_seconds"]["median"]) if "embedded" in row else ""


def times_emulator(rows: Sequence[Row], row: Row, seconds: str = "step_seconds") -> float:
    """How many times as long as one of the emulator alone, on torch.nn.LSTM, a training step takes."""
    alone = next(other for other in rows if (other["preset"], other["what"]) == (row["preset"], TORCH))
    return row[seconds]["median"] / alone[seconds]["median"]


class Sizes:
    """What a preset trains encoders on, with random weights and rollouts.

    Args:
        name: The preset.
    """

    def __init__(self, name: str):
        self.chosen = preset(name, FormalLanguages.name)
        self.task = FormalLanguages(build(FormalLanguages.Settings, self.chosen["task"], "task"))
        self.spec = build(ZooSettings, self.chosen["zoo"]).spec(self.task)
        self.emulation = build(EmulationSettings, self.chosen["emulation"])
        generators = [torch.Generator().manual_seed(seed) for seed in range(TOGETHER)]
        self.population = Population.initialise(self.spec, generators)
        torch.manual_seed(0)
        self.snapshots = Snapshots(
            task=self.task,
            table=pa.table({}),
            weights={self.spec: self.population.flatten()},
            where=torch.stack([torch.zeros(TOGETHER, dtype=torch.long), torch.arange(TOGETHER)], 1),
            stored=torch.from_numpy(np.stack([self._strings(run) for run in range(TOGETHER)])),
            targets=torch.randn(TOGETHER, 4, self.task.time, self.spec.output_size).log_softmax(-1).half(),
        )

    def _strings(self, run: int) -> UInt8[np.ndarray, "rollout stored"]:
        """Training strings, since how long they are decides how far the emulator runs."""
        strings = self.task.strings(self.task.instance(run, 0))
        return strings[seeds.stream(0, "benchmark", run).integers(len(strings), size=4)]

    def training(self, encoder: str, settings: Any = None) -> Any:
        """Encoder and emulator as training starts with them; the preset's settings without others."""
        from rnnatlas.emulation.fit import Training

        run = RunSettings(
            encoder=encoder,
            seed=0,
            zoo="",
            zoo_identity="",
            specs=(self.spec.slug,),
            task=TaskSettings(name=self.task.name, settings=as_dict(self.task.settings)),
            encoder_settings=self.chosen["encoders"].get(encoder, {})
            if settings is None
            else as_dict(settings),
            emulation=self.emulation,
        )
        parts = make_parts([self.spec], self.task, run)
        return Training(*parts, self.snapshots, self.snapshots, self.emulation, 0, Path())

    def trainings(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Every encoder or those named, and interactive probing with `MANY` sequences where it has fewer."""
        found = {encoder: self.training(encoder) for encoder in names or encoders.registry}
        if "interactive" in found and (settings := found["interactive"].encoder.settings).sequences < MANY:
            changed = dataclasses.replace(settings, sequences=MANY)
            found[f"interactive, M = {MANY}"] = self.training("interactive", changed)
        return found

    def embedder(self, encoder: Encoder) -> Callable[[], Any]:
        """Embeds all RNNs, as a trained encoder does; the one given goes on training."""
        trained = copy.deepcopy(encoder).eval()
        return torch.no_grad()(lambda: trained(self.population))


def _steps(models: Mapping[str, Any], sizes: Sizes) -> dict[str, Callable[[], None]]:
    """One training step of the emulator alone, and of each encoder."""
    return {
        TORCH: _in_torch(sizes.training(encoders.CONTROL), sizes),
        OURS: stepper(sizes.training(encoders.CONTROL), sizes),
        **{encoder: stepper(training, sizes) for encoder, training in models.items()},
    }


def stepper(training: Any, sizes: Sizes, captured: bool = False) -> Callable[[], None]:
    """One training step, as Lightning makes it of `Training` where that is; as a CUDA graph or plainly."""
    optimizer, settings = training.configure_optimizers(), sizes.emulation
    numbers = itertools.count()

    def step() -> None:
        batch = sizes.snapshots.draw(settings.rnns, settings.rollouts, 0, next(numbers))
        batch = {name: tensor.to(training.device) for name, tensor in batch.items()}
        if captured:
            training.learn(batch)
        else:
            loss = training.loss(batch).mean()
            optimizer.zero_grad()
            loss.backward()
        training.configure_gradient_clipping(optimizer)
        optimizer.step()

    return step


class _Whole(nn.Module):
    """The emulator as one would write it: torch's own LSTM, which runs all sequences to their end."""

    def __init__(self, emulator: Emulator):
        super().__init__()
        self.emulator = emulator
        self.standardise = emulator.standardise

    def forward(self, z: Tensor, inputs: Tensor, lengths: Tensor) -> Tensor:
        own = self.emulator
        projected = own.input(inputs.flatten(0, 1).transpose(0, 1))
        condition = own.embedding(z).repeat_interleave(inputs.shape[1], 0)
        projected = torch.cat([projected[:1] + condition, projected[1:]])
        outputs = own.output(own.lstm(projected)[0]).log_softmax(-1)
        return outputs.transpose(0, 1).unflatten(0, inputs.shape[:2])


def _in_torch(training: Any, sizes: Sizes) -> Callable[[], None]:
    """The same with the emulator's LSTM as torch runs it."""
    training.emulator = _Whole(training.emulator)
    step = stepper(training, sizes)

    def stepping() -> None:
        with on_backend("eager"):
            step()

    return stepping
