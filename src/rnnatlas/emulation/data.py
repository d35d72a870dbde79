"""Snapshots of a zoo in memory, and the batches that training draws from them."""

import dataclasses
from collections.abc import Iterator

import pyarrow as pa
import torch
from jaxtyping import Float, Float16, Int, UInt8
from torch import Tensor

from rnnatlas import seeds
from rnnatlas.errors import ZooFormatError
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.store import Zoo

Batch = dict[str, Tensor]
"""weights [rnn, parameter], stored [rnn, rollout, stored] and targets [rnn, rollout, time, output]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Weights and rollouts of RNNs of one architecture, compact: float32, uint8 and float16."""

    spec: RNNSpec
    task: Task
    table: pa.Table
    weights: Float[Tensor, "rnn parameter"]
    stored: UInt8[Tensor, "rnn rollout stored"]
    targets: Float16[Tensor, "rnn rollout time output"]

    @classmethod
    def of(cls, zoo: Zoo, table: pa.Table) -> "Snapshots":
        """Reads snapshots of a zoo, as `Zoo.snapshots` chooses them.

        Raises:
            ZooFormatError: The zoo holds no rollouts, because it was imported.
            RNNSpecMismatch: The RNNs differ in architecture.
        """
        if zoo.task is None:
            raise ZooFormatError(
                f"emulation needs a zoo with a task and rollouts, but {zoo.path} was imported; "
                "make one with: rnnatlas zoo build"
            )
        population = zoo.population(table)
        rollouts = zoo.rollouts(table)
        return cls(
            spec=population.spec,
            task=zoo.task,
            table=table,
            weights=population.flatten(),
            stored=torch.from_numpy(rollouts.inputs),
            targets=torch.from_numpy(rollouts.outputs),
        )

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def population(self) -> Population:
        """All snapshots; the weights are views."""
        return Population.unflatten(self.spec, self.weights)

    def batch(self, rows: Int[Tensor, " rnn"], rollouts: Int[Tensor, "rnn rollout"]) -> Batch:
        """Some rollouts of some snapshots."""
        pairs = rows.unsqueeze(1), rollouts
        return {
            "weights": self.weights[rows],
            "stored": self.stored[pairs],
            "targets": self.targets[pairs],
        }

    def draw(self, rnns: int, rollouts: int, seed: int, step: int) -> Batch:
        """The batch of a training step, a function of seed and step alone: training can resume anywhere."""
        stream = seeds.stream(seed, "emulation", step)
        rows = stream.integers(len(self), size=rnns)
        chosen = stream.integers(self.stored.shape[1], size=(rnns, rollouts))
        return self.batch(torch.from_numpy(rows), torch.from_numpy(chosen))

    def in_order(self, rnns: int, rollouts: int | None = None) -> Iterator[Batch]:
        """The first rollouts of every snapshot, or all of them, in batches."""
        first = torch.arange(self.stored.shape[1])[:rollouts]
        for start in range(0, len(self), rnns):
            rows = torch.arange(start, min(start + rnns, len(self)))
            yield self.batch(rows, first.expand(len(rows), -1))


def unpack(
    batch: Batch, task: Task
) -> tuple[
    Float[Tensor, "rnn rollout time input"],
    Float[Tensor, "rnn rollout time output"],
    Float[Tensor, "rnn rollout time"],
]:
    """What the RNNs of a batch read, their log-probabilities, and the mask of positions that count."""
    # stored in half precision, whose rounding leaves sums a little off one
    targets = batch["targets"].float().log_softmax(-1)
    return task.encode_inputs(batch["stored"]), targets, task.mask(batch["stored"])
