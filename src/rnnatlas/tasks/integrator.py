"""Integrating a noisy stimulus and answering in mid-trial: a task whose outputs are numbers."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn.functional import one_hot

from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, System, Values, run
from rnnatlas.seeds import stream
from rnnatlas.settings import at_least_one, settings
from rnnatlas.tasks.base import Instance, Rollouts, Task

STIMULUS, CUE = 0, 1
"""Channels of the input."""


@settings
class IntegratorSettings:
    """What integrators differ in, and what a trial looks like.

    Args:
        memories: Time constants of the integral, in steps; each RNN has one of them.
        gains: Factors of the integral, as many as memories; each RNN has one of them.
        time: Steps of a trial.
        response: Steps in which the answer counts.
        earliest: First step at which the response period may begin.
        trials: Trials that performance is measured on.
    """

    memories: tuple[int, ...] = (1, 3, 9, 27)
    gains: tuple[int, ...] = (-2, -1, 1, 2)
    time: int = 24
    response: int = 6
    earliest: int = 6
    trials: int = 100

    def __post_init__(self) -> None:
        at_least_one(self, "time", "response", "trials")
        as_many = len(self.memories) == len(self.gains) > 0
        if not as_many or min(self.memories) < 1 or 0 in self.gains:
            raise SettingsError(
                "memories and gains should be as many, memories 1 step or more and no gain 0, found "
                f"{self.memories} and {self.gains}"
            )
        if not 0 <= self.earliest <= self.time - self.response:
            raise SettingsError(
                f"earliest should lie between 0 and time less response, {self.time - self.response}, found "
                f"{self.earliest}"
            )


@dataclasses.dataclass(frozen=True)
class Trials:
    """What RNNs read, what they should give out, and when that counts."""

    inputs: Float[Tensor, "rnn batch time input"]
    targets: Float[Tensor, "rnn batch time output"]
    mask: Float[Tensor, "rnn batch time"]


class Integrator(Task):
    """A leaky integral of white noise, asked for at some time in mid-trial.

    An RNN reads a stimulus x_t (normal, unbounded) and a cue that is 1 in the response period. It should give
    out gain · y_t, y_t = λ y_{t−1} + √(1 − λ²) x_t with λ = exp(−1 / memory), so that y has variance 1 in
    the long run; it starts at 0. Only the response period counts. What RNNs differ in are memory and gain.

    Args:
        settings: Memories, gains and the shape of a trial.
    """

    name: ClassVar[str] = "integrator"
    noun: ClassVar[str] = "integrator"
    reads: ClassVar[str] = "white noise and a cue, drawn for each RNN. They say nothing of the integrator."
    performs: ClassVar[str] = "Share of the variance explained in the response period"
    counted: ClassVar[str] = "the response period"
    input_names: ClassVar[tuple[str, ...]] = ("stimulus", "cue")
    output_names: ClassVar[tuple[str, ...]] = ("answer",)
    Settings: ClassVar[type] = IntegratorSettings
    settings: IntegratorSettings

    def __init__(self, settings: IntegratorSettings | None = None):
        super().__init__(settings or IntegratorSettings())
        self.interface = Interface(Values(2), Values(1))
        self.time = self.settings.time

    # --- instances ---------------------------------------------------------------------------
    @property
    def struct(self) -> pa.StructType:
        """Memory in steps, and gain."""
        return pa.struct([("memory", pa.int32()), ("gain", pa.int32())])

    def instance(self, run: int, seed: int) -> Instance:
        """Pairs of memory and gain, dealt out in rounds, each round in its own random order."""
        pairs = list(itertools.product(self.settings.memories, self.settings.gains))
        round_, place = divmod(run, len(pairs))
        memory, gain = pairs[int(stream(seed, "tasks", round_).permutation(len(pairs))[place])]
        return {"memory": memory, "gain": gain}

    def label(self, instance: Instance) -> str:
        """For people: "memory 9, gain −2"."""
        return f"memory {instance['memory']}, gain {str(instance['gain']).replace('-', '−')}"

    def key(self, instance: Instance) -> tuple[int, int]:
        """Memory and gain."""
        return instance["memory"], instance["gain"]

    def is_ood(self, instances: Sequence[Instance], share: float) -> Bool[np.ndarray, " rnn"]:
        """The `share` of the pairs present that have the longest memory; ties go by the larger gain."""
        keys = [self.key(instance) for instance in instances]
        ranked = sorted(set(keys), reverse=True)
        chosen = set(ranked[: round(share * len(ranked))])
        return np.array([key in chosen for key in keys], dtype=bool)

    def target(self, instances: Sequence[Instance]) -> Float[Tensor, "rnn target"]:
        """Memory and gain, each one-hot, side by side."""
        known = (self.settings.memories, self.settings.gains)
        places = [
            [values.index(value) for values, value in zip(known, self.key(instance), strict=True)]
            for instance in instances
        ]
        codes = torch.tensor(places, dtype=torch.long).reshape(len(instances), 2)
        return one_hot(codes, len(self.settings.memories)).flatten(1).float()

    # --- trials ------------------------------------------------------------------------------
    def _inputs(self, random: np.random.Generator, count: int) -> Float[np.ndarray, "trial time channel"]:
        """Stimulus and cue."""
        inputs = np.zeros((count, self.time, 2), dtype=np.float32)
        inputs[..., STIMULUS] = random.standard_normal((count, self.time), dtype=np.float32)
        begins = random.integers(self.settings.earliest, self.time - self.settings.response + 1, size=count)
        since = np.arange(self.time) - begins[:, None]
        inputs[..., CUE] = (since >= 0) & (since < self.settings.response)
        return inputs

    def _targets(
        self, inputs: Float[Tensor, "rnn batch time channel"], instances: Sequence[Instance]
    ) -> Float[Tensor, "rnn batch time output"]:
        """What each RNN should give out."""
        memory, gain = torch.tensor([self.key(instance) for instance in instances]).float().T.unsqueeze(2)
        decay = (-1 / memory).exp()
        scaled = inputs[..., STIMULUS] * (1 - decay**2).sqrt().unsqueeze(2)
        integral, found = torch.zeros_like(scaled[..., 0]), []
        for step in scaled.unbind(2):
            integral = decay * integral + step
            found.append(gain * integral)
        return torch.stack(found, 2).unsqueeze(3)

    def _trials(
        self, instances: Sequence[Instance], streams: Sequence[np.random.Generator], count: int
    ) -> Trials:
        inputs = torch.from_numpy(np.stack([self._inputs(random, count) for random in streams]))
        return Trials(inputs, self._targets(inputs, instances), self.mask(inputs))

    # --- training ----------------------------------------------------------------------------
    def batches(
        self, instances: Sequence[Instance], batch: int, streams: Sequence[np.random.Generator]
    ) -> Iterator[Trials]:
        """Fresh trials at each step."""
        while True:
            yield self._trials(instances, streams, batch)

    def loss(self, system: System, batch: Trials) -> Float[Tensor, " rnn"]:
        """Squared error in the response period, over the mean squared target there."""
        errors, mask, variance = self._errors(system, batch)
        return (errors * mask).sum((1, 2)) / mask.sum((1, 2)) / variance

    def _errors(self, system: System, batch: Trials) -> tuple[Tensor, Tensor, Tensor]:
        """Squared errors, the mask, and each RNN's mean squared target where it counts."""
        inputs, targets, mask = (
            part.to(system.device, system.dtype) for part in (batch.inputs, batch.targets, batch.mask)
        )
        outputs, _ = run(system, inputs)
        variance = (targets.square().squeeze(3) * mask).sum((1, 2)) / mask.sum((1, 2))
        return (outputs - targets).square().squeeze(3), mask, variance

    # --- what a trained RNN does ---------------------------------------------------------------
    @torch.no_grad()
    def rollouts(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        count: int,
    ) -> Rollouts:
        """Trials drawn for each RNN, and what it gave out at all steps."""
        inputs = np.stack([self._inputs(random, count) for random in streams])
        outputs = self.outputs(system, torch.from_numpy(inputs).to(system.device))
        return Rollouts(inputs=inputs, outputs=self.interface.output.store(outputs))

    @torch.no_grad()
    def metrics(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        trials: int | None = None,
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Share of the variance explained, not below 0 ("performance"), and "loss", the share that is not."""
        loss = self.loss(system, self._trials(instances, streams, trials or self.settings.trials))
        return {"performance": (1 - loss).clamp_min(0).cpu().numpy(), "loss": loss.cpu().numpy()}

    def encode_inputs(
        self, stored: Shaped[Tensor, "*batch time channel"]
    ) -> Float[Tensor, "*batch time channel"]:
        """Stimulus and cue, as they are stored."""
        return self.interface.input.encode(stored)

    def mask(self, stored: Shaped[Tensor, "*batch time channel"]) -> Float[Tensor, "*batch time"]:
        """1 in the response period, which lies in mid-trial."""
        return stored[..., CUE].float()

    def parts(self, stored: Shaped[Tensor, "*batch time channel"]) -> dict[str, Float[Tensor, "*batch time"]]:
        """Steps outside of the response period, where nothing was asked of the RNN."""
        return {"silent": 1 - self.mask(stored)}

    def show(self, stored: Shaped[np.ndarray, "rollout time channel"]) -> list[str]:
        """When each trial asks for an answer."""
        found = []
        for trial in stored:
            steps = np.flatnonzero(trial[:, CUE])
            found.append(f"response at {steps[0] + 1}–{steps[-1] + 1}")
        return found
