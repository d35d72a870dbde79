"""Snapshots of a zoo in memory, and the batches that training draws from them."""

import dataclasses
from collections.abc import Iterator, Mapping

import pyarrow as pa
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rnnatlas import seeds
from rnnatlas.encoders.base import Encoder
from rnnatlas.errors import RNNSpecMismatch, ZooFormatError
from rnnatlas.rnn import Interface, Mixed, Population, RNNSpec, Tokens
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.store import Zoo

Batch = dict[str, Tensor]
"""stored [rnn, rollout, …], targets [rnn, rollout, time, output] and, for each architecture, `WEIGHTS` and
its slug [rnn, parameter]; of several architectures also `AT` and the slug [rnn]: where its RNNs are."""

WEIGHTS, AT = "weights ", "positions "

SAMPLE, MOST = 512, 100_000
"""RNNs whose rollouts set the scales of inputs and outputs, and at most so many whose weights set others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Weights and rollouts of RNNs, as compact as they are stored."""

    task: Task
    table: pa.Table
    weights: Mapping[RNNSpec, Float[Tensor, "_ _"]]
    """Of each architecture, [rnn, parameter]."""
    where: Int[Tensor, "rnn 2"]
    """Of each snapshot, which of the `weights` has it, and in which row."""
    stored: Shaped[Tensor, "rnn rollout *stored"]
    targets: Float[Tensor, "rnn rollout time output"]

    @classmethod
    def of(cls, zoo: Zoo, table: pa.Table) -> "Snapshots":
        """Reads snapshots of a zoo, as `Zoo.snapshots` chooses them.

        Raises:
            ZooFormatError: The zoo holds no rollouts, because it was imported.
        """
        if zoo.task is None:
            raise ZooFormatError(
                f"emulation needs a zoo with a task and rollouts, but {zoo.path} was imported without "
                "inputs; import it again with --inputs FILE (or --signal values, for noise), or train on a "
                "zoo that was built (rnnatlas zoo build TASK) with as many inputs and outputs, then embed it"
            )
        rollouts = zoo.rollouts(table)
        where = torch.zeros(table.num_rows, 2, dtype=torch.long)
        weights = {}
        for number, (positions, spec, vectors) in enumerate(zoo.weights(table)):
            weights[spec] = torch.from_numpy(vectors)
            where[positions, 0], where[positions, 1] = number, torch.arange(len(positions))
        return cls(
            task=zoo.task,
            table=table,
            weights=weights,
            where=where,
            stored=torch.from_numpy(rollouts.inputs),
            targets=torch.from_numpy(rollouts.outputs),
        )

    def __len__(self) -> int:
        return len(self.where)

    @property
    def specs(self) -> tuple[RNNSpec, ...]:
        """Architectures of the RNNs."""
        return tuple(self.weights)

    @property
    def population(self) -> Population | Mixed:
        """All snapshots, or `MOST` of them, evenly spaced."""
        step = -(-len(self) // MOST)
        return population_of(self._weights(torch.arange(0, len(self), step)), self.task)

    def batch(self, rows: Int[Tensor, " rnn"], rollouts: Int[Tensor, "rnn rollout"]) -> Batch:
        """Some rollouts of some snapshots."""
        pairs = rows.unsqueeze(1), rollouts
        return {
            **self._weights(rows),
            "stored": self.stored[pairs],
            "targets": self.targets[pairs],
        }

    def _weights(self, rows: Int[Tensor, " rnn"]) -> Batch:
        """Weights of some snapshots by architecture, and where its RNNs are if there are several."""
        if len(self.weights) == 1:
            [(spec, weights)] = self.weights.items()
            return {WEIGHTS + spec.slug: weights[self.where[rows, 1]]}
        tensors = {}
        for number, (spec, weights) in enumerate(self.weights.items()):
            at = (self.where[rows, 0] == number).nonzero().squeeze(1)
            if len(at):
                tensors[WEIGHTS + spec.slug] = weights[self.where[rows[at], 1]]
                tensors[AT + spec.slug] = at
        return tensors

    def draw(self, rnns: int, rollouts: int, seed: int, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The batch of a training step, a function of seed and step alone: training can resume anywhere.

        Args:
            rnns: RNNs in the batch.
            rollouts: Rollouts of each.
            seed: The run's.
            step: The training step.
            rank: Which share of the batch, where several devices share it.
            world: How many devices share it.
        """
        stream = seeds.stream(seed, "emulation", step)
        rows = stream.integers(len(self), size=rnns)
        chosen = stream.integers(self.stored.shape[1], size=(rnns, rollouts))
        return self.batch(torch.from_numpy(rows[rank::world]), torch.from_numpy(chosen[rank::world]))

    def in_order(self, rnns: int, rollouts: int | None = None) -> Iterator[Batch]:
        """The first rollouts of every snapshot, or all of them, in batches."""
        first = torch.arange(self.stored.shape[1])[:rollouts]
        for start in range(0, len(self), rnns):
            rows = torch.arange(start, min(start + rnns, len(self)))
            yield self.batch(rows, first.expand(len(rows), -1))

    def outputs(self) -> Float[Tensor, "sample output"]:
        """Outputs at positions that count, of one rollout of evenly spaced snapshots."""
        rows = spaced(len(self))
        batch = {"stored": self.stored[rows, :1], "targets": self.targets[rows, :1]}
        _, targets, mask = unpack(batch, self.task)
        return targets[mask > 0]

    def examples(self, kind: str, steps: int, turns: int = 1) -> Float[Tensor, "sample time input"]:
        """Sequences of so many steps to probe RNNs with.

        Args:
            kind: "rollouts", what evenly spaced snapshots read in one rollout each; "random", numbers or
                tokens drawn at random over their range; or one of the task's own kinds (`Task.probes`).
            steps: Their length. Shorter ones are repeated.
            turns: How many turns each is given in, first all in the first one; see `Task.turned`.

        Raises:
            SettingsError: The task offers no such sequences, or its inputs cannot be turned.
        """
        rollouts = self.task.encode_inputs(self.stored[spaced(len(self)), 0])
        if kind == "rollouts":
            sequences = rollouts
        elif kind == "random":
            random = seeds.torch_generator(0, "probes", steps)
            sequences = self.task.interface.input.random((SAMPLE, steps), random, rollouts)
        else:
            sequences = self.task.probes(kind, steps)
        if turns > 1:
            sequences = self.task.turned(sequences, turns).flatten(0, 1)
        repeats = -(-steps // sequences.shape[1])
        return sequences.repeat(1, repeats, 1)[:, :steps]


def spaced(count: int) -> Int[Tensor, " row"]:
    """At most `SAMPLE` rows, evenly spaced among so many."""
    return torch.linspace(0, count - 1, min(SAMPLE, count)).long()


def accepted(encoder: Encoder, zoo: Zoo, table: pa.Table) -> tuple[pa.Table, list[str]]:
    """The snapshots of architectures that an encoder takes, and for each other one why it does not.

    Args:
        encoder: The encoder.
        zoo: Where the snapshots are.
        table: As `Zoo.snapshots` gives it.

    Raises:
        RNNSpecMismatch: None is left, or the zoo's RNNs read or give out tokens where the encoder was trained
            on numbers, or numbers where it was trained on tokens.
    """
    if zoo.task is not None:
        for what, given, known in zip(
            ("read", "give out"), *map(_kinds, (zoo.task.interface, encoder.interface))
        ):
            if given != known:
                raise RNNSpecMismatch(
                    f"this encoder was trained on RNNs that {what} {known}, but those of {zoo.path} {what} "
                    f"{given}; train one on a zoo of such RNNs"
                )
    slugs = table["spec"].to_pylist()
    specs = {slug: RNNSpec.from_slug(slug) for slug in dict.fromkeys(slugs)}
    reasons = {slug: encoder.accepts(Interface.of(spec), spec) for slug, spec in specs.items()}
    sentences = [
        f"{slugs.count(slug)} snapshots of {specs[slug]}: {reason}"
        for slug, reason in reasons.items()
        if reason is not None
    ]
    kept = [reasons[slug] is None for slug in slugs]
    if sentences and not any(kept):
        raise RNNSpecMismatch(f"no snapshot is left for this encoder; {sentences[0]}")
    return (table.filter(pa.array(kept)) if sentences else table), sentences


def _kinds(interface: Interface) -> list[str]:
    """What RNNs read, and what they give out."""
    signals = (interface.input, interface.output)
    return ["tokens" if isinstance(signal, Tokens) else "numbers" for signal in signals]


def population_of(batch: Mapping[str, Tensor], task: Task) -> Population | Mixed:
    """The RNNs of a batch."""
    groups = []
    for name, weights in batch.items():
        if name.startswith(WEIGHTS):
            slug = name.removeprefix(WEIGHTS)
            population = Population.unflatten(RNNSpec.from_slug(slug), weights, task.interface)
            groups.append((batch.get(AT + slug), population))
    if len(groups) == 1 and groups[0][0] is None:
        return groups[0][1]
    return Mixed(groups)


def unpack(
    batch: Mapping[str, Tensor], task: Task
) -> tuple[
    Float[Tensor, "rnn rollout time input"],
    Float[Tensor, "rnn rollout time output"],
    Float[Tensor, "rnn rollout time"],
]:
    """What the RNNs of a batch read, what they gave out, and the mask of positions that count."""
    # log-probabilities are stored in half precision, whose rounding leaves sums a little off one
    targets = task.interface.output.interpret(batch["targets"].float())
    return task.encode_inputs(batch["stored"]), targets, task.mask(batch["stored"])
