"""Inputs that users give for RNNs of their own: reading and checking them, and noise where there are none."""

import csv
import dataclasses
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Shaped

from rnnatlas.errors import DataError, reason, warn
from rnnatlas.files import check_regular
from rnnatlas.rnn import Interface, Signal, Tokens, Values
from rnnatlas.seeds import stream

ARRAYS = ("inputs", "mask", "targets")
IGNORED = -100
"""Class that torch's cross-entropy leaves out unless it is told another."""
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, csv.Error, EOFError, LookupError, NotImplementedError),
    *(OverflowError, RecursionError, SyntaxError, TypeError, tokenize.TokenError),
)
"""What NumPy and others raise of damaged files, beside errors of their own."""
FORMS = "an .npy or .npz file of arrays, or a .csv or .parquet file of token sequences"


@dataclasses.dataclass(frozen=True)
class Trials:
    """What RNNs read, where it counts what they give out, and what they should.

    Args:
        inputs: Token numbers [trial, time], or numbers [trial, time, channel].
        mask: Whether a position counts; None where all do.
        targets: Classes [trial, time] or numbers [trial, time, output]; None where they are not known.
        notes: What was assumed, a sentence each.
    """

    inputs: Shaped[np.ndarray, "trial time *channel"]
    mask: Bool[np.ndarray, "trial time"] | None = None
    targets: Shaped[np.ndarray, "trial time *output"] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def time(self) -> int:
        """Steps of a trial."""
        return self.inputs.shape[1]

    @property
    def are_tokens(self) -> bool:
        """Whether RNNs read one-hot tokens."""
        return self.inputs.ndim == 2

    def as_numbers(self) -> "Trials":
        """The same with token numbers as numbers of one channel."""
        inputs = self.inputs[..., None] if self.are_tokens else self.inputs
        return dataclasses.replace(self, inputs=inputs.astype(np.float32))

    def as_classes(self) -> "Trials | None":
        """The same with targets as classes, if all are whole and all that are negative are one number.

        Where that one stands there is no class, and outputs do not count.

        Raises:
            DataError: A trial has no step that counts.
        """
        if self.targets is None or self.targets.ndim != 3 or self.targets.shape[2] != 1:
            return None
        targets = self.targets[..., 0]
        below = np.unique(targets[targets < 0])
        if len(below) != 1 or (targets % 1 != 0).any():
            return None
        counts = targets >= 0
        note = (
            f"at {int((~counts).sum())} of {counts.size} positions the target is {below[0]:.0f}, which is no "
            "class, so they do not count (ignore_index of torch)"
        )
        mask = counts if self.mask is None else counts & self.mask
        _check_counting(mask, "the inputs")
        classes = np.where(counts, targets, 0).astype(np.int64)
        return dataclasses.replace(self, mask=mask, targets=classes, notes=(*self.notes, note))

    def interface(self, sizes: tuple[int, int]) -> Interface | str:
        """What RNNs of these sizes read and give out in such trials, or why such RNNs cannot."""
        reads, gives = sizes
        if self.are_tokens and self.inputs.max() >= reads:
            return f"tokens go up to {self.inputs.max()}"
        if not self.are_tokens and self.inputs.shape[2] != reads:
            return f"the inputs have {self.inputs.shape[2]} channels"
        output: Signal = Tokens(gives) if self.are_tokens and gives == reads else Values(gives)
        if self.targets is not None and self.targets.ndim == 2 and gives > 1:
            if self.targets.max() >= gives:
                return f"targets are classes up to {self.targets.max()}"
            output = Tokens(gives)
        elif self.targets is not None:
            width = self.targets.shape[2] if self.targets.ndim == 3 else 1
            if width != gives:
                return f"the targets have {width} numbers a step"
            output = Values(gives)
        return Interface(Tokens(reads) if self.are_tokens else Values(reads), output)

    def arrays(self) -> dict[str, np.ndarray]:
        """What there is, by name."""
        return {name: getattr(self, name) for name in ARRAYS if getattr(self, name) is not None}


def read(given: Any, signal: str | None = None) -> Trials:
    """Trials from a file, an array or a tensor, or a mapping of arrays.

    Args:
        given: Where they are, or they themselves; .npz files and mappings have `inputs` and may have `mask`
            and `targets`.
        signal: "tokens" or "values"; None to tell: whole numbers [trial, time] are tokens.

    Raises:
        DataError: They cannot be read, are empty, not finite, or their shapes do not fit one another.
    """
    name = str(given) if isinstance(given, (str, Path)) else "the inputs"
    arrays = _named(_arrays(Path(given)) if isinstance(given, (str, Path)) else given, name)
    inputs = _numbers(arrays["inputs"], f"inputs of {name}" if name != "the inputs" else name)
    if inputs.ndim not in (2, 3) or not inputs.size:
        raise DataError(
            f"{name} should hold inputs [trial, time, channel], or token numbers [trial, time], found an "
            f"array of shape {list(inputs.shape)}"
        )
    if not inputs.any():
        warn(f"expected inputs that vary, found only zeros in {name}; RNNs are run on these all the same")
    inputs = _as_signal(inputs, signal, name)
    mask, targets = arrays.get("mask"), arrays.get("targets")
    found = Trials(
        inputs,
        None if mask is None else _mask(mask, inputs, name),
        None if targets is None else _targets(targets, inputs, name),
    )
    ignores = found.targets is not None and found.targets.min() == IGNORED
    return (found.as_classes() or found) if ignores else found


def load(file: Any) -> Trials:
    """Trials that `save` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return Trials(**{name: archive[name] for name in ARRAYS if name in archive})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"the inputs of a zoo of recorded RNNs cannot be read ({reason(error)}); copy the zoo again"
        ) from None


def save(path: Path, trials: Trials) -> None:
    """Writes trials as an .npz file."""
    np.savez_compressed(path, allow_pickle=False, **trials.arrays())


def noise(trials: int, time: int, channels: int, seed: int) -> Trials:
    """Numbers for RNNs of which nothing is known: white noise and smooth noise, mixed anew in each trial.

    x = √w · white + √(1 − w) · smooth with w uniform in [0, 1]; smooth noise is an autoregressive process of
    first order, whose time constant is log-uniform between 2 steps and the length of a trial. Each channel of
    each trial has variance 1 and mean 0.
    """
    random = stream(seed, "recorded", "noise")
    white, drive = random.standard_normal((2, trials, time, channels))
    share = random.random((trials, 1, 1))
    constant = 2 * (max(time, 3) / 2) ** random.random((trials, 1))
    decay = np.exp(-1 / constant)
    smooth = np.empty_like(drive)
    smooth[:, 0] = drive[:, 0]
    for step in range(1, time):
        smooth[:, step] = decay * smooth[:, step - 1] + np.sqrt(1 - decay**2) * drive[:, step]
    return Trials((np.sqrt(share) * white + np.sqrt(1 - share) * smooth).astype(np.float32))


# --- files ---------------------------------------------------------------------------------------------


def _arrays(path: Path) -> Any:
    try:
        check_regular(path)
        if path.suffix in (".npy", ".npz"):
            loaded = np.load(path, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        if path.suffix == ".parquet":
            return _padded(_lists(pq.read_table(path)))
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return _padded(_rows(file, path))
    except (OSError, ValueError, pa.ArrowException, *DAMAGED) as error:
        if isinstance(error, DataError):
            raise
        pickled = "allow_pickle" in str(error)
        why = "it holds Python objects instead of numbers" if pickled else reason(error)
        raise DataError(f"inputs should be in {FORMS}, but {path} cannot be read ({why})") from None
    raise DataError(f"inputs should be in {FORMS}, found {path}")


def _rows(lines: Any, path: Path) -> list[list[int]]:
    """One sequence of whole numbers a line, of any length; a first line of other words is a header."""
    found: list[list[int]] = []
    for number, line in enumerate(csv.reader(lines)):
        cells = [word for cell in line for word in cell.split()]
        try:
            found += [[int(cell) for cell in cells]] if cells else []
        except ValueError:
            if number:
                raise DataError(
                    f"{path} should hold a sequence of whole token numbers a line, found {line[:8]} in line "
                    f"{number + 1}"
                ) from None
    return found


def _lists(table: pa.Table) -> list[list[int]]:
    """One sequence a row: of the one column of lists, or of all columns side by side."""
    lists = [name for name in table.column_names if pa.types.is_nested(table.schema.field(name).type)]
    if lists:
        column = "inputs" if "inputs" in lists else lists[0]
        rows = table[column].to_pylist()
    else:
        rows = [list(row.values()) for row in table.to_pylist()]
    return [[int(value) for value in row if value is not None] for row in rows]


def _padded(rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Sequences of one length or several, whose ends are padding that does not count."""
    rows = [row for row in rows if row]
    longest = max(map(len, rows), default=0)
    inputs = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.arange(longest) < np.array([len(row) for row in rows]).reshape(-1, 1)
    inputs[mask] = [value for row in rows for value in row]
    return {"inputs": inputs} if mask.all() else {"inputs": inputs, "mask": mask}


# --- arrays --------------------------------------------------------------------------------------------


def _named(given: Any, name: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {"inputs": given}
    if "inputs" not in given and len(given) == 1:
        [(key, values)] = given.items()
        warn(f"{name} should hold an array `inputs`, found `{key}` alone, which is taken as the inputs")
        return {"inputs": values}
    if "inputs" not in given:
        raise DataError(f"{name} should hold an array `inputs`, found {', '.join(map(str, given)) or 'none'}")
    others = [str(key) for key in given if key not in ARRAYS]
    if others:
        warn(
            f"arrays of {name} that are neither inputs nor mask nor targets are left out: {', '.join(others)}"
        )
    return {key: given[key] for key in ARRAYS if key in given}


def _numbers(values: Any, name: str) -> np.ndarray:
    values = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} should be an array of numbers, found one of {array.dtype}")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise DataError(f"{name} should be finite, found {count} numbers that are NaN or infinite; mend them")
    return array


def _whole(array: np.ndarray) -> bool:
    return bool(array.min() >= 0 and (array.dtype.kind != "f" or (array == np.floor(array)).all()))


def _as_signal(inputs: np.ndarray, signal: str | None, name: str) -> np.ndarray:
    """Inputs in the shape that says what they are."""
    if signal == "tokens" and inputs.ndim == 3:
        if not (np.isin(inputs, (0, 1)).all() and (inputs.sum(2) == 1).all()):
            raise DataError(
                "tokens should be whole numbers [trial, time], or one-hot [trial, time, token], found "
                f"others in {name}; for numbers give --signal values"
            )
        return inputs.argmax(2).astype(np.int64)
    if inputs.ndim == 2 and signal != "values" and _whole(inputs):
        return inputs.astype(np.int64)
    if signal == "tokens":
        raise DataError(f"tokens should be whole numbers from 0, found others in {name}")
    inputs = inputs if inputs.ndim == 3 else inputs[..., None]
    return inputs.astype(np.float32)


def _mask(given: Any, inputs: np.ndarray, name: str) -> np.ndarray:
    mask = _numbers(given, "mask")
    if mask.shape != inputs.shape[:2]:
        raise DataError(
            f"the mask of {name} should have shape [trial, time] = {list(inputs.shape[:2])}, as its inputs "
            f"have, found {list(mask.shape)}"
        )
    if not np.isin(mask, (0, 1)).all():
        raise DataError(f"the mask of {name} should hold 0 and 1 alone, found {mask.min()} to {mask.max()}")
    _check_counting(mask, name)
    return mask.astype(bool)


def _check_counting(mask: np.ndarray, name: str) -> None:
    empty = int((mask.max(1) == 0).sum())
    if empty:
        raise DataError(
            f"each trial of {name} should have a step that counts, found {empty} without; leave them out"
        )


def _targets(given: Any, inputs: np.ndarray, name: str) -> np.ndarray:
    targets = _numbers(given, "targets")
    if targets.ndim not in (2, 3) or targets.shape[:2] != inputs.shape[:2] or not targets.size:
        raise DataError(
            f"the targets of {name} should be classes [trial, time] or numbers [trial, time, output] with "
            f"[trial, time] = {list(inputs.shape[:2])}, as its inputs have, found shape {list(targets.shape)}"
        )
    if targets.ndim == 2 and targets.dtype.kind in "iub" and _whole(targets):
        return targets.astype(np.int64)
    return (targets if targets.ndim == 3 else targets[..., None]).astype(np.float32)
