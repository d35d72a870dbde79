"""Making a zoo of checkpoints that others trained."""

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from rnnatlas.errors import CheckpointError
from rnnatlas.files import new_folder
from rnnatlas.importers.base import find, formats
from rnnatlas.rnn import FoundRNN, Population, RNNSpec
from rnnatlas.zoo.format import as_column, shard_name, write_card, write_shard
from rnnatlas.zoo.store import DIVERGED, Zoo

ROWS = 512
"""RNNs in one shard."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file, and the RNNs in it or why it was left out.

    Args:
        path: The file.
        format: Its format; None where it could not be used.
        rnns: The RNNs that it holds.
        skipped: Why it was left out.
    """

    path: Path
    format: str | None
    rnns: Sequence[FoundRNN]
    skipped: str | None = None


def checkpoints(
    paths: Sequence[Path | str], cell: str | None = None, head: str | None = None
) -> Iterator[Checkpoint]:
    """The checkpoints that files, folders (all below them) and globs name, one after the other.

    Args:
        paths: Where to look.
        cell: The cell where a file does not tell ("elman-relu").
        head: Prefix of the linear head's names, where several layers fit; "" for none.

    Raises:
        CheckpointError: There is nothing at a path, or a file that was named directly cannot be used.
            Others that cannot are yielded with the reason.
    """
    for path, direct in _files(paths):
        try:
            format_, rnns = find(path, cell, head)
        except CheckpointError as error:
            if direct:
                raise
            yield Checkpoint(path, None, (), skipped=str(error))
        else:
            yield Checkpoint(path, format_, rnns)


def _files(paths: Sequence[Path | str]) -> list[tuple[Path, bool]]:
    """Each file once, and whether it was named directly."""
    files: dict[Path, bool] = {}
    for given in map(str, paths):
        path = Path(given)
        if path.is_file():
            found, direct = [path], True
        elif path.is_dir():
            found, direct = sorted(path.rglob("*")), False
        else:
            found, direct = sorted(map(Path, glob.glob(given, recursive=True))), False  # noqa: PTH207
            if not found:
                raise CheckpointError(f"there is no file and no folder {given}; check the path")
        known = formats()
        for file in found:
            if direct or (file.is_file() and file.suffix.lower() in known):
                files[file] = files.get(file, False) or direct
    if not files:
        raise CheckpointError(
            f"no checkpoint in {', '.join(map(str, paths))}; file names should end with one of "
            f"{', '.join(formats())}"
        )
    return list(files.items())


def import_checkpoints(
    paths: Sequence[Path | str], out: Path | str, cell: str | None = None, head: str | None = None
) -> tuple[Zoo, list[Checkpoint]]:
    """Makes a zoo of all RNNs in checkpoint files; their task, step and metrics are unknown.

    Args:
        paths: Files, folders, globs.
        out: The zoo's folder, which should not exist yet.
        cell: As for `checkpoints`.
        head: As for `checkpoints`.

    Returns:
        The zoo, and the files that were left out.

    Raises:
        CheckpointError: Nothing could be used, or a file that was named directly could not.
        OutputExists: `out` holds something.
    """
    skipped: list[Checkpoint] = []
    found: list[tuple[Checkpoint, FoundRNN]] = []
    for checkpoint in checkpoints(paths, cell, head):
        found += [(checkpoint, rnn) for rnn in checkpoint.rnns]
        skipped += [checkpoint] if checkpoint.skipped else []
    if not found:
        raise CheckpointError(
            f"none of {len(skipped)} files holds an RNN that can be used; {skipped[0].skipped}"
        )
    out = new_folder(out)
    by_spec: dict[RNNSpec, list[tuple[int, Checkpoint, FoundRNN]]] = {}
    for run, (checkpoint, rnn) in enumerate(found):
        by_spec.setdefault(rnn.spec, []).append((run, checkpoint, rnn))
    for spec, rnns in by_spec.items():
        for number, start in enumerate(range(0, len(rnns), ROWS)):
            write_shard(out / shard_name(spec, number), _rows(spec, rnns[start : start + ROWS]))
    counts = {spec: (-(-len(rnns) // ROWS), len(rnns)) for spec, rnns in by_spec.items()}
    settings = {"paths": [str(path) for path in paths], "cell": cell, "head": head}
    write_card(out, task=None, settings=settings, seed=None, expected=counts, present=counts)
    return Zoo.open(out), skipped


def _rows(spec: RNNSpec, rnns: Sequence[tuple[int, Checkpoint, FoundRNN]]) -> pa.Table:
    stacked = {name: torch.stack([rnn.weights[name].float() for _, _, rnn in rnns]) for name in spec.shapes}
    weights = Population(spec, stacked).flatten().numpy()
    names = [(str(checkpoint.path), rnn.prefix.rstrip(".")) for _, checkpoint, rnn in rnns]
    finite = np.isfinite(weights).all(axis=1)
    return pa.table(
        {
            "id": [f"{path}:{prefix}" if prefix else path for path, prefix in names],
            "run": pa.array([run for run, _, _ in rnns], pa.int32()),
            "step": pa.array([-1] * len(rnns), pa.int32()),
            "health": pa.array(np.where(finite, "ok", DIVERGED).tolist(), pa.string()),
            "source": [path for path, _ in names],
            "format": [checkpoint.format for _, checkpoint, _ in rnns],
            "prefix": [prefix for _, prefix in names],
            "head": pa.array([rnn.head and rnn.head.rstrip(".") for _, _, rnn in rnns], pa.string()),
            "weights": as_column(weights),
        }
    )
