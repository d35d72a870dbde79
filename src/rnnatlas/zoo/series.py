"""Which checkpoints are of one run: steps in names of files or said inside, and networks of several RNNs."""

import dataclasses
import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from math import gcd
from pathlib import Path

from rnnatlas.rnn import FoundRNN

WORDS = (
    "global_step|steps|step|iterations|iteration|iters|iter|updates|update|epochs|epoch|ep"
    "|ckpt|checkpoint|snapshot"
)
"""What a number of updates follows in a name; of several the first counts."""
_STEP = re.compile(rf"(?<![a-z])({WORDS})([-_= .]*)(\d+)", re.IGNORECASE)
_METRIC = re.compile(r"[a-z_]*(loss|acc|accuracy|score|reward)[-_=]-?\d+(\.\d+)?", re.IGNORECASE)
_OTHER = re.compile(
    r"(?<![a-z])(seed|run|net|network|rnn|id|fold|subject|animal|rank|hidden|h|layer|lr|size|gpu|shard)"
    r"[-_= .]*$"
)
"""What a number follows that is no step."""
_PLAIN = re.compile(r"\d+")
_UNNUMBERED = re.compile(
    rf"(?<![a-z])(({WORDS})[-_. ]*)?(best|last|final|latest|init|initial)(?![a-z])", re.IGNORECASE
)
"""What stands in a name for a step."""
LEAST_STRIDE = 10
"""Numbers after no such word are steps where all are multiples of so large a number: 500, 1000, 1500."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an RNN's run is known from.

    Args:
        run: Number of the run.
        step: Updates; −1 where they are not known.
        said: "file" or "name", which tells the step; None for neither.
    """

    run: int
    step: int
    said: str | None = None


@dataclasses.dataclass(frozen=True)
class _Read:
    """A file by its name: what it shares with others of its run, and the step that it says."""

    key: str
    step: int | None
    by_word: bool


def _read(path: Path) -> _Read:
    name = path.stem
    found = list(_STEP.finditer(name))
    if found:
        best = min(found, key=lambda match: WORDS.index(match[1].lower()))
        key = _METRIC.sub("#", _STEP.sub("#", name))
        return _Read(f"{path.parent}/{key}", int(best[3]), True)
    if _UNNUMBERED.search(name):
        return _Read(f"{path.parent}/{_METRIC.sub('#', _UNNUMBERED.sub('#', name))}", None, True)
    numbers = [match for match in _PLAIN.finditer(name) if not _OTHER.search(name[: match.start()].lower())]
    if not numbers:
        return _Read(str(path), None, False)
    last = numbers[-1]
    return _Read(f"{path.parent}/{name[: last.start()]}#{name[last.end() :]}", int(last[0]), False)


def origins(paths: Sequence[Path], rnns: Sequence[FoundRNN], separate: bool = False) -> list[Origin]:
    """The run and the step of each RNN.

    RNNs of one file are parts of one network and share its run. Files of one folder, whose names differ in a
    step alone (`step_100`, `ckpt-000100`, `epoch=3-step=1200`; `model_500`, `model_1000` where numbers are
    multiples of ten or more), or that say themselves at which step they were saved, share a run if they hold
    the same architectures at different steps.

    Args:
        paths: File of each RNN.
        rnns: The RNNs.
        separate: Whether each RNN is a run of its own.
    """
    inside: dict[Path, list[FoundRNN]] = defaultdict(list)
    for path, rnn in zip(paths, rnns, strict=True):
        inside[path].append(rnn)
    names = {path: _read(path) for path in inside}
    alike: dict[tuple, list[Path]] = defaultdict(list)
    for path, own in inside.items():
        alike[names[path].key, tuple((rnn.place, rnn.spec) for rnn in own)].append(path)
    run_of: dict[Path, int] = {}
    step_of: dict[Path, tuple[int, str | None]] = {}
    for group in alike.values():
        steps = _steps(group, names, inside)
        step_of |= steps
        together = _is_series(group, names, steps)
        for path in group:
            run_of[path] = run_of[group[0]] if together and path != group[0] else len(run_of)
    if separate:
        return [Origin(number, *step_of[path]) for number, path in enumerate(paths)]
    order = {run: place for place, run in enumerate(dict.fromkeys(run_of[path] for path in paths))}
    return [Origin(order[run_of[path]], *step_of[path]) for path in paths]


def _steps(
    group: Sequence[Path], names: dict[Path, _Read], inside: dict[Path, list[FoundRNN]]
) -> dict[Path, tuple[int, str | None]]:
    """The step that each file says, inside or by its name."""
    numbers = [step for path in group if (step := names[path].step) is not None]
    regular = len(set(numbers)) > 1 and gcd(*numbers) >= LEAST_STRIDE
    found: dict[Path, tuple[int, str | None]] = {}
    for path in group:
        said, read = inside[path][0].step, names[path]
        if said is not None:
            found[path] = said, "file"
        elif read.step is not None and (read.by_word or regular):
            found[path] = read.step, "name"
        else:
            found[path] = -1, None
    return found


def _is_series(
    group: Sequence[Path], names: dict[Path, _Read], steps: dict[Path, tuple[int, str | None]]
) -> bool:
    """Whether files whose names differ in a number or in a word like "best" are of one run.

    Where no word says that the number is a step, it should grow with the step that is said inside.
    """
    if all(names[path].by_word or steps[path][1] == "name" for path in group):
        return True
    ordered = sorted(group, key=lambda path: names[path].step or 0)
    rising = [steps[path][0] for path in ordered]
    return len(group) > 2 and all(one < other for one, other in itertools.pairwise(rising))


def said(origins: Sequence[Origin]) -> str | None:
    """How many series there are, of how many snapshots, and from what their steps are known."""
    steps: dict[int, set[int]] = defaultdict(set)
    sources: dict[int, str | None] = {}
    for origin in origins:
        steps[origin.run].add(origin.step)
        sources[origin.run] = origin.said
    series = [run for run, own in steps.items() if len(own) > 1]
    if not series:
        return None
    count = sum(len(steps[run]) for run in series)
    kinds = {"file": "their files", "name": "names of files"}
    told = " and ".join(kinds[kind] for kind in kinds if kind in {sources[run] for run in series})
    many = f"{len(series)} series" if len(series) > 1 else "one series"
    return f"{many} of checkpoints, {count} snapshots, steps from {told}; --separate keeps them apart"
