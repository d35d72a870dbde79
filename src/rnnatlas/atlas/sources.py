"""Where RNNs to be embedded come from: zoos, and checkpoint files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch

from rnnatlas.atlas.untrained import Untrained
from rnnatlas.emulation.data import accepted
from rnnatlas.errors import CheckpointError, RNNSpecMismatch
from rnnatlas.evaluation.model import Model
from rnnatlas.rnn import FoundRNN, Interface, Mixed, Population
from rnnatlas.rnn.heads import Head
from rnnatlas.zoo.imports import checkpoints, none_usable, passed_over
from rnnatlas.zoo.store import Zoo


@dataclasses.dataclass(frozen=True)
class FileRNNs:
    """RNNs of checkpoint files, of one architecture or several.

    Attributes:
        ids: Path of each one's file, with its place inside where it has one.
        sources: Path of each one's file.
        rnns: The RNNs.
        left_out: What was left out and why, a sentence each.
    """

    ids: list[str]
    sources: list[str]
    rnns: list[FoundRNN]
    left_out: list[str]

    def select(self, positions: Sequence[int]) -> "FileRNNs":
        """Some of the RNNs."""
        ids, sources = ([own[i] for i in positions] for own in (self.ids, self.sources))
        return FileRNNs(ids, sources, [self.rnns[i] for i in positions], [])

    def by_interface(self) -> list[tuple[list[int], "FileRNNs"]]:
        """The RNNs of each input and output size, with their positions: those that can be run together."""
        sizes = [Interface.of(rnn.spec).sizes for rnn in self.rnns]
        places = [[i for i, own in enumerate(sizes) if own == size] for size in dict.fromkeys(sizes)]
        return [(positions, self.select(positions)) for positions in places]

    def population(self) -> Population | Mixed:
        """The RNNs, in their order; of one input and output size."""
        specs = list(dict.fromkeys(rnn.spec for rnn in self.rnns))
        groups: list[tuple[list[int], Population]] = []
        for spec in specs:
            positions = [i for i, rnn in enumerate(self.rnns) if rnn.spec == spec]
            weights = {
                name: torch.stack([self.rnns[i].weights[name].float() for i in positions])
                for name in spec.shapes
            }
            groups.append((positions, Population(spec, weights)))
        return groups[0][1] if len(groups) == 1 else Mixed(groups)


def sort(things: Sequence[Path | str | Zoo]) -> tuple[list[Zoo], list[Path | str]]:
    """Zoos, and all else."""
    zoos, files = [], []
    for thing in things:
        if isinstance(thing, Zoo):
            zoos.append(thing)
        elif "://" in str(thing) or (Path(thing) / "zoo.json").is_file():
            zoos.append(Zoo.open(thing))
        else:
            files.append(thing)
    return zoos, files


def names(zoos: Sequence[Zoo]) -> list[str]:
    """What ids of each zoo begin with: nothing where there is one, the folder's name where that is enough."""
    if len(zoos) == 1:
        return [""]
    paths = [str(zoo.path) if "://" in str(zoo.path) else str(Path(zoo.path).resolve()) for zoo in zoos]
    names = [path.rstrip("/").rpartition("/")[2] for path in paths]
    return [f"{name if names.count(name) == 1 else path}/" for name, path in zip(names, paths, strict=True)]


def snapshots_of(model: Model | Untrained, zoo: Zoo) -> tuple[pa.Table, list[str]]:
    """The snapshots of a zoo that a model takes, and what was left out, a sentence each."""
    snapshots, reasons = zoo.snapshots(), []
    diverged = len(zoo) - snapshots.num_rows
    left_out = [f"{diverged} snapshots of {zoo.path} whose training diverged"] if diverged else []
    if not isinstance(model, Untrained):  # which takes all
        snapshots, reasons = accepted(model.encoder, zoo, snapshots)
    return snapshots, left_out + [f"{zoo.path}: {reason}" for reason in reasons]


def read_files(
    paths: Sequence[Path | str], model: Model | Untrained, cell: str | None = None, head: Head = None
) -> FileRNNs:
    """All RNNs of checkpoint files that an encoder takes.

    Args:
        paths: Files, folders with all below them, globs. What cannot be used is left out, unless its
            file was named directly and holds nothing else.
        model: The encoder.
        cell: As for `embed`.
        head: As for `embed`.

    Raises:
        CheckpointError: No file holds an RNN that can be used, or one named directly does not.
        RNNSpecMismatch: The encoder does not take the architecture of one named directly.
        UnknownName: No cell is called so.
    """
    cells = {spec.cell for spec in model.specs}
    given = cell
    if cell is None and "elman-relu" in cells and "elman-tanh" not in cells:
        cell = "elman-relu"
    usable, files = FileRNNs([], [], [], []), 0
    for checkpoint in checkpoints(paths, cell, head):
        files += 1
        usable.left_out.extend([checkpoint.skipped] if checkpoint.skipped else checkpoint.unclear)
        problems = [_problem(model, checkpoint.path, rnn, given) for rnn in checkpoint.rnns]
        if checkpoint.named and all(problems):
            raise next(filter(None, problems))
        for id, rnn, problem in zip(checkpoint.ids, checkpoint.rnns, problems, strict=True):
            if problem is None:
                usable.ids.append(id)
                usable.sources.append(str(checkpoint.path))
                usable.rnns.append(rnn)
            else:
                usable.left_out.append(str(problem))
    if not usable.rnns:
        raise none_usable(paths, files, usable.left_out[0])
    if others := passed_over(paths):
        usable.left_out.append(others)
    return usable


def _problem(
    model: Model | Untrained, path: Path, rnn: FoundRNN, cell: str | None
) -> CheckpointError | RNNSpecMismatch | None:
    """Why an RNN cannot be embedded, if it cannot."""
    if rnn.not_finite:
        return CheckpointError(
            f"{path}: expected finite weights, found NaN or infinity in {rnn.not_finite}; "
            "the RNN diverged or the file is damaged"
        )
    if rnn.by_hand and cell is None:
        return CheckpointError(f"{path}: {rnn.by_hand}")
    if rnn.question:
        return CheckpointError(f"{path}: {rnn.question}")
    misfit = model.encoder.accepts(Interface.of(rnn.spec), rnn.spec)
    return RNNSpecMismatch(f"{path}: {misfit}") if misfit else None
