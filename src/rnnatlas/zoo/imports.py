"""Making a zoo of checkpoints that others trained."""

import dataclasses
import glob
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import torch

from rnnatlas.errors import CheckpointError, UnknownName
from rnnatlas.files import check_free, making
from rnnatlas.importers import kinds, registry
from rnnatlas.importers.base import find, format_of
from rnnatlas.importers.shards import index_of
from rnnatlas.registry import nearest
from rnnatlas.rnn import GATES, FoundRNN, Population, RNNSpec
from rnnatlas.rnn.heads import Head
from rnnatlas.rnn.recognise import ASSUMED_TANH, is_printable
from rnnatlas.zoo.format import as_column, shard_name, write_card, write_shard
from rnnatlas.zoo.store import DIVERGED, Zoo

ROWS = 512
"""RNNs in one shard."""
SUFFIXES = 5
"""Kinds of other files that are counted by name."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file, and the RNNs in it or why it was left out.

    Args:
        path: The file.
        format: Its format; None where it could not be used.
        rnns: The RNNs that it holds.
        skipped: Why it was left out.
        unclear: Why other RNNs in it were left out, a sentence each.
        named: Whether it was named directly.
    """

    path: Path
    format: str | None
    rnns: Sequence[FoundRNN]
    skipped: str | None = None
    unclear: Sequence[str] = ()
    named: bool = False

    @property
    def ids(self) -> list[str]:
        """Each RNN's id: the path, with its place in the file where it has one."""
        return [f"{self.path}:{rnn.place}" if rnn.place else str(self.path) for rnn in self.rnns]


def checkpoints(
    paths: Sequence[Path | str], cell: str | None = None, head: Head = None
) -> Iterator[Checkpoint]:
    """The checkpoints that files, folders (all below them) and globs name, one after the other.

    Args:
        paths: Where to look.
        cell: The cell where a file does not tell ("elman-relu").
        head: Prefix of the linear head's names, where several layers fit; "" for none;
            "PREFIX=NAME" for the RNN at one prefix.

    Raises:
        CheckpointError: There is nothing at a path, or a file that was named directly cannot be used.
            Others that cannot are yielded with the reason.
        UnknownName: No cell is called so.
    """
    if cell is not None and cell not in GATES:
        raise UnknownName(f"no cell is called {cell!r}; {nearest(cell, GATES)}")
    files, _ = _files(paths)
    seen: dict[bytes, str] = {}
    for path, named in files:
        try:
            format_, rnns, unclear = find(path, cell, head)
        except CheckpointError as error:
            if named:
                raise
            yield Checkpoint(path, None, (), skipped=str(error))
        else:
            found = Checkpoint(path, format_, rnns, unclear=unclear, named=named)
            same = [_first(seen, id, rnn) for id, rnn in zip(found.ids, rnns, strict=True)]
            yield dataclasses.replace(
                found,
                rnns=[
                    dataclasses.replace(rnn, notes=(*rnn.notes, f"same weights as {other}")) if other else rnn
                    for rnn, other in zip(rnns, same, strict=True)
                ],
            )


def _first(seen: dict[bytes, str], id: str, rnn: FoundRNN) -> str | None:
    """The RNN with the same weights that was seen before, if there was one."""
    digest = hashlib.sha256(str(rnn.spec).encode())
    for weight in rnn.weights.values():
        digest.update(weight.float().contiguous().numpy().tobytes())
    first = seen.setdefault(digest.digest(), id)
    return first if first != id else None


def passed_over(paths: Sequence[Path | str]) -> str | None:
    """How many files of folders and globs are of no supported format, by suffix; None for none."""
    _, others = _files(paths)
    return f"passed over files that are no checkpoints: {_by_suffix(others)}" if others else None


def assumed(remarks: Iterable[str | None]) -> str | None:
    """How many RNNs were read as their file does not tell, by the remarks on them; None for none."""
    count = sum(ASSUMED_TANH in (remark or "") for remark in remarks)
    return f"{count} RNN{'s' * (count > 1)} with one gate: {ASSUMED_TANH}" if count else None


def _by_suffix(files: Sequence[Path]) -> str:
    """The most frequent suffixes with their counts: ".h5 (3), .txt (1)"."""
    suffixes = [path.suffix.lower() if is_printable(path.suffix) else "" for path in files]
    counts = Counter(suffix or "without a suffix" for suffix in suffixes).most_common()
    rest = sum(count for _, count in counts[SUFFIXES:])
    shown = [f"{suffix} ({count})" for suffix, count in counts[:SUFFIXES]]
    return ", ".join(shown + [f"others ({rest})"] * (rest > 0))


def _files(paths: Sequence[Path | str]) -> tuple[list[tuple[Path, bool]], list[Path]]:
    """Each checkpoint file once, with whether it was named directly; and files of other formats."""
    files: dict[Path, tuple[Path, bool]] = {}
    others: dict[Path, Path] = {}
    for given in map(str, paths):
        path = Path(given)
        named = path.is_file()
        if named:
            candidates = [path]
        elif path.is_dir():
            candidates = sorted(path.rglob("*"))
        else:
            candidates = sorted(map(Path, glob.glob(given, recursive=True)))  # noqa: PTH207
            if not candidates:
                raise CheckpointError(f"there is no file and no folder {given}; check the path")
        parts = set() if named else _parts(candidates)
        for file in filter(Path.is_file, candidates):
            real = file.resolve()
            if named or (real not in parts and _is_checkpoint(file)):
                first, before = files.get(real, (file, False))
                files[real] = (first, before or named)
            elif real not in parts:
                others[real] = file
    if not files:
        found = f", found {_by_suffix(list(others.values()))}" if others else ""
        raise CheckpointError(
            f"no checkpoint in {', '.join(map(str, paths))}; expected files of one of the formats "
            f"{', '.join(registry)}{found}"
        )
    return list(files.values()), list(others.values())


def _is_checkpoint(file: Path) -> bool:
    try:
        return kinds.kind_of(file) != kinds.JSON and format_of(file) is not None
    except (CheckpointError, OSError):
        return True  # and why it cannot be read is said when it is


def _parts(files: Iterable[Path]) -> set[Path]:
    """Files that others stand for: the shards that an index names, the parts of a distributed checkpoint."""
    parts: set[Path] = set()
    for file in files:
        if file.name.endswith(".index.json") and file.is_file():
            parts |= {(file.parent / name).resolve() for name in (index_of(file) or {}).values()}
        elif file.name.endswith(kinds.DCP_SUFFIX) and (file.parent / ".metadata").is_file():
            parts.add(file.resolve())
    return parts


def import_checkpoints(
    paths: Sequence[Path | str], out: Path | str, cell: str | None = None, head: Head = None
) -> tuple[Zoo, list[Checkpoint]]:
    """Makes a zoo of all RNNs in checkpoint files; their task, step and metrics are unknown.

    Args:
        paths: Files, folders, globs.
        out: The zoo's folder, which should not exist yet; it appears whole or not at all.
        cell: As for `checkpoints`.
        head: As for `checkpoints`.

    Returns:
        The zoo, and the files of which something was left out.

    Raises:
        CheckpointError: Nothing could be used, or a file that was named directly could not.
        OutputExists: `out` holds something.
        UnknownName: No cell is called so.
    """
    check_free(Path(out))
    incomplete: list[Checkpoint] = []
    by_spec: dict[RNNSpec, list[_Row]] = {}
    count = 0
    for checkpoint in checkpoints(paths, cell, head):
        incomplete += [checkpoint] if checkpoint.skipped or checkpoint.unclear else []
        for id, rnn in zip(checkpoint.ids, checkpoint.rnns, strict=True):
            by_spec.setdefault(rnn.spec, []).append(_Row(count, id, checkpoint, rnn))
            count += 1
    if not count:
        raise none_usable(paths, len(incomplete), str(incomplete[0].skipped))
    shards = {spec: (-(-len(rows) // ROWS), len(rows)) for spec, rows in by_spec.items()}
    settings = {"paths": [str(path) for path in paths], "cell": cell, "head": head}
    with making(out) as folder:
        for spec, rows in by_spec.items():
            for number, start in enumerate(range(0, len(rows), ROWS)):
                write_shard(folder / shard_name(spec, number), _table(spec, rows[start : start + ROWS]))
        write_card(folder, task=None, settings=settings, seed=None, expected=shards, present=shards)
    return Zoo.open(out), incomplete


def none_usable(paths: Sequence[Path | str], files: int, reason: str) -> CheckpointError:
    """What to say where every checkpoint file was left out, the first of them for the reason given."""
    others = passed_over(paths)
    return CheckpointError(
        f"none of {files} files holds an RNN that can be used; {reason}" + (f" ({others})" if others else "")
    )


class _Row(NamedTuple):
    run: int
    id: str
    checkpoint: Checkpoint
    rnn: FoundRNN


def _table(spec: RNNSpec, rows: Sequence[_Row]) -> pa.Table:
    stacked = {name: torch.stack([row.rnn.weights[name].float() for row in rows]) for name in spec.shapes}
    health = [DIVERGED if row.rnn.not_finite else "ok" for row in rows]
    return pa.table(
        {
            "id": [row.id for row in rows],
            "run": pa.array([row.run for row in rows], pa.int32()),
            "step": pa.array([-1] * len(rows), pa.int32()),
            "health": pa.array(health, pa.string()),
            "source": [str(row.checkpoint.path) for row in rows],
            "format": [row.checkpoint.format for row in rows],
            "prefix": [row.rnn.place for row in rows],
            "head": pa.array([row.rnn.head and row.rnn.head.rstrip(".") for row in rows], pa.string()),
            "notes": pa.array([row.rnn.remark for row in rows], pa.string()),
            "weights": as_column(Population(spec, stacked).flatten().numpy()),
        }
    )
