"""Making a zoo of checkpoints that others trained."""

import dataclasses
import glob
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rnnatlas.errors import CheckpointError, warn
from rnnatlas.files import check_free, making
from rnnatlas.folders import FILES, mistaken, within
from rnnatlas.importers import kinds, registry
from rnnatlas.importers.base import find, format_of
from rnnatlas.importers.shards import index_of
from rnnatlas.rnn import FoundRNN
from rnnatlas.rnn.heads import Head
from rnnatlas.rnn.leaks import parse_cell
from rnnatlas.rnn.recognise import ASSUMED_TANH
from rnnatlas.rnn.spec import GATES
from rnnatlas.settings import as_dict, build
from rnnatlas.texts import is_printable
from rnnatlas.zoo.keep import write
from rnnatlas.zoo.labels import of_files, read
from rnnatlas.zoo.recording import RecordSettings, Row, record
from rnnatlas.zoo.series import Origin, origins, said
from rnnatlas.zoo.store import Zoo

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
        cell: The cell where a file does not tell ("elman-relu", or "leaky-relu:0.2" with the α of files that
            hold none).
        head: Prefix of the linear head's names, where several layers fit; "" for none;
            "PREFIX=NAME" for the RNN at one prefix.

    Raises:
        CheckpointError: There is nothing at a path, or a file that was named directly cannot be used.
            Others that cannot are yielded with the reason.
        UnknownName: No cell is called so, or it has no such α.
    """
    name, _ = parse_cell(cell)
    files, _ = _files(paths)
    seen: dict[bytes, str] = {}
    gates: set[int] = set()
    for path, named in files:
        try:
            format_, rnns, unclear = find(path, cell, head)
        except CheckpointError as error:
            if named:
                raise
            yield Checkpoint(path, None, (), skipped=str(error))
        else:
            gates |= {len(rnn.spec.gates) for rnn in rnns}
            found = Checkpoint(path, format_, rnns, unclear=unclear, named=named)
            same = [_first(seen, id, rnn) for id, rnn in zip(found.ids, rnns, strict=True)]
            yield dataclasses.replace(
                found,
                rnns=[
                    dataclasses.replace(rnn, notes=(*rnn.notes, f"same weights as {other}")) if other else rnn
                    for rnn, other in zip(rnns, same, strict=True)
                ],
            )

    if name is not None and len(GATES[name]) == 1 and gates and 1 not in gates:
        warn(f"no RNN has one gate, so --cell {cell} changed nothing")


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
            if said := mistaken(path, FILES):
                raise CheckpointError(said)
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
        if said := next(filter(None, (within(path, FILES) for path in paths)), None):
            raise CheckpointError(said)
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
    paths: Sequence[Path | str],
    out: Path | str,
    cell: str | None = None,
    head: Head = None,
    *,
    inputs: Any = None,
    labels: Any = None,
    separate: bool = False,
    **options: Any,
) -> tuple[Zoo, list[Checkpoint]]:
    """Makes a zoo of all RNNs in checkpoint files.

    With inputs or labels, or an option of `RecordSettings`, their task is `recorded`: what they give out on
    inputs is kept, and encoders can be trained on the zoo. Else task and metrics are unknown.

    Args:
        paths: Files, folders, globs.
        out: The zoo's folder, which should not exist yet; it appears whole or not at all.
        cell: As for `checkpoints`.
        head: As for `checkpoints`.
        inputs: As for `trials.read`.
        labels: As for `labels.read`; rows name files.
        separate: Whether each RNN is a run of its own; else RNNs of one file share one, and so do those of a
            series of checkpoints.
        options: Of `RecordSettings`.

    Returns:
        The zoo, and the files of which something was left out.

    Raises:
        CheckpointError: Nothing could be used, or a file that was named directly could not.
        DataError: Inputs or labels cannot be used, or fit no RNN.
        OutputExists: `out` holds something.
        UnknownName: No cell is called so, or no label to group by.
    """
    check_free(Path(out))
    options = {name: one for name, one in options.items() if one is not None}
    own = build(RecordSettings, options, "import")
    incomplete: list[Checkpoint] = []
    found: list[tuple[Checkpoint, str, FoundRNN]] = []
    for checkpoint in checkpoints(paths, cell, head):
        incomplete += [checkpoint] if checkpoint.skipped or checkpoint.unclear else []
        found += [(checkpoint, *pair) for pair in zip(checkpoint.ids, checkpoint.rnns, strict=True)]
    if not found:
        raise none_usable(paths, len(incomplete), str(incomplete[0].skipped))
    runs = origins([checkpoint.path for checkpoint, _, _ in found], [rnn for *_, rnn in found], separate)
    rows = [_row(*one, origin, separate) for one, origin in zip(found, runs, strict=True)]
    known = None
    if labels is not None:
        files = [str(row.about["source"]) for row in rows]
        roots = [str(path) for path in paths if Path(path).is_dir()]
        known = of_files(read(labels), files, [row.id for row in rows], [row.run for row in rows], roots)
    asked = inputs is not None or labels is not None or bool(options)
    recording = record(rows, inputs, known, own) if asked else None
    settings = {"paths": [str(path) for path in paths], "cell": cell, "head": head}
    settings |= {"separate": separate, **as_dict(own)} if asked else {}
    if series := said(runs):
        settings["series"] = series
    with making(out) as folder:
        write(folder, rows, settings, recording)
        Zoo.open(folder)  # what cannot be opened is not kept, to be in the way of the next try
    return Zoo.open(out), incomplete


def _row(checkpoint: Checkpoint, id: str, rnn: FoundRNN, origin: Origin, separate: bool) -> Row:
    about = {
        "source": str(checkpoint.path),
        "format": checkpoint.format,
        "prefix": rnn.place,
        "head": rnn.head and rnn.head.rstrip("."),
        "notes": rnn.remark,
        "role": rnn.place if len(checkpoint.rnns) > 1 and not separate else None,
    }
    return Row(id, origin.run, origin.step, rnn.spec, rnn.weights, about, not rnn.not_finite)


def none_usable(paths: Sequence[Path | str], files: int, reason: str) -> CheckpointError:
    """What to say where every checkpoint file was left out, the first of them for the reason given."""
    others = passed_over(paths)
    return CheckpointError(
        next(filter(None, (within(path, FILES) for path in paths)), None)
        or f"none of {files} files holds an RNN that can be used; {reason}"
        + (f" ({others})" if others else "")
    )
