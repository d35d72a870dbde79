"""Zoos in the layout of Herrmann, Faccio & Schmidhuber (2024): a folder of arrays, a row a snapshot."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rnnatlas.errors import CheckpointError, reason
from rnnatlas.files import check_free, making
from rnnatlas.rnn import RNNSpec
from rnnatlas.seeds import stream
from rnnatlas.settings import as_dict
from rnnatlas.zoo.format import AS_STATED, DIVERGED, as_column, shard_name, write_card, write_shard
from rnnatlas.zoo.published_rows import Digits, Languages, log_probs, times_off
from rnnatlas.zoo.splits import SplitSettings, assign
from rnnatlas.zoo.store import Zoo

FILES = ("parameters", "sequences", "logits", "tasks")
LANGUAGES, DIGITS = ("num_step_correct",), ("num_step", "accuracy_losses")
CELLS, LAYERS, HIDDEN = ("lstm", "gru", "elman-tanh"), (1, 2, 3, 4), range(1, 1025)
"""Architectures that numbers of parameters are compared with."""
NAMES = {
    "hidden": ("hidden", "hidden_size", "hidden_dim", "hidden_units", "n_hidden", "num_hidden", "nhid"),
    "layers": ("layers", "num_layers", "n_layers", "nlayers", "lstm_layers", "rnn_layers", "depth"),
}
"""What args.json may call sizes."""
UNLIKE = 0.1
"""Share of an RNN's rollouts that may be further off."""
ROWS, RUN_TOGETHER, ROLLOUTS = 128, 16, 8
"""Rows of a shard, those run at a time, and rollouts that an architecture is tried on."""


def is_published(path: Path | str) -> bool:
    """Whether a folder holds the arrays of such a zoo."""
    return all((Path(path) / f"{name}.npy").is_file() for name in FILES)


def import_published(folder: Path | str, out: Path | str, seed: int = 0, progress: bool = False) -> Zoo:
    """Makes a zoo of such a folder, with its tasks, steps, figures and rollouts.

    Every RNN is run on the stored sequences, and has to give out the stored outputs.

    Args:
        folder: The arrays.
        out: The zoo's folder, which should not exist yet; it appears whole or not at all.
        seed: Of splits, and of strings that are sampled.
        progress: Whether to show a bar.

    Raises:
        CheckpointError: Arrays cannot be read, do not fit one another, or could mean several things; or no
            architecture gives out what is stored.
        OutputExists: `out` holds something.
    """
    check_free(Path(out))
    arrays, args = _read(Path(folder))
    rows = Languages(arrays) if LANGUAGES[0] in arrays else Digits(arrays)
    spec, read_as = _architecture(arrays, rows, args)
    rows.remarks.insert(0, read_as)
    importing = _Importing(arrays["parameters"], rows, spec, seed, str(folder))
    shards, own = range(0, len(rows.step), ROWS), importing.own
    with making(out) as made:
        for start in track(shards, "checking", console=Console(stderr=True), disable=not progress):
            write_shard(made / shard_name(spec, start // ROWS), importing.table(start), own)
        settings = {
            "paths": [str(folder)],
            "layout": "Herrmann et al. (2024)",
            "contents": importing.digest.hexdigest()[:16],
            "remarks": [*rows.remarks, *importing.remarks],
        }
        settings |= {} if rows.measured else {AS_STATED: True}
        task = {"name": rows.task.name, "settings": as_dict(rows.task.settings)}
        counts = {spec: (len(shards), len(rows.step))}
        write_card(
            made, task=task, settings=settings, seed=seed, expected=counts, present=counts, shards_of=own
        )
        Zoo.open(made)  # what cannot be opened is not kept
    return Zoo.open(out)


def _read(folder: Path) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays by name, mapped into memory, and what args.json says, if it does."""
    kinds = [own for own in (LANGUAGES, DIGITS) if all((folder / f"{name}.npy").is_file() for name in own)]
    if len(kinds) != 1:
        raise CheckpointError(
            f"{folder} should hold either num_step_correct.npy (languages) or num_step.npy and "
            f"accuracy_losses.npy (digits) beside parameters.npy, found {'both' if kinds else 'neither'}"
        )
    arrays: dict[str, np.ndarray] = {}
    for name in (*FILES, *kinds[0]):
        try:
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(
                f"{folder / name}.npy should be an array of numbers, but cannot be read ({reason(error)})"
            ) from None
    shapes = {name: array.shape for name, array in arrays.items()}
    alike = {shape[:1] for shape in shapes.values()}
    numbers = all(array.dtype.kind in "fiu" and array.size for array in arrays.values())
    if len(alike) > 1 or alike == {()} or len(shapes["parameters"]) != 2 or not numbers:
        listed = ", ".join(f"{name} {list(shape)} of {arrays[name].dtype}" for name, shape in shapes.items())
        raise CheckpointError(f"arrays of {folder} should have numbers in a row a snapshot, found {listed}")
    try:
        args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        args = {}
    return arrays, args


# --- the architecture -----------------------------------------------------------------------------------


def _architecture(
    arrays: Mapping[str, np.ndarray], rows: Languages | Digits, args: Any
) -> tuple[RNNSpec, str]:
    """The architecture that gives out what is stored, in three rows; and how it is known."""
    count, (reads, gives) = arrays["parameters"].shape[1], rows.task.interface.sizes
    said = {kind: found for kind, names in NAMES.items() if (found := _sizes(args, names))}
    tried = _candidates(count, reads, gives)
    tried.sort(key=lambda spec: -sum(getattr(spec, kind) in own for kind, own in said.items()))
    if not tried:
        raise CheckpointError(
            f"parameters.npy has {count} numbers a row, as no LSTM, GRU or Elman network of 1 to 4 layers "
            f"has that reads {reads} numbers and has a linear head of {gives}"
        )
    places = np.unique([0, len(rows.step) // 2, len(rows.step) - 1])
    given, expected = rows.given(places)[:, :ROLLOUTS], rows.expected(places)[:, :ROLLOUTS]
    vectors = torch.from_numpy(np.array(arrays["parameters"][places], np.float32))
    apart = []
    for spec in tried:
        outputs = log_probs(rows.population(spec, vectors), rows.inputs(given))
        sound = ~rows.overwritten(given) & outputs.isfinite().all(-1).all(-1)
        if not sound.any() or (times_off(outputs, expected)[sound] <= 1).float().mean() > 1 - UNLIKE:
            own = [f"{kind} {getattr(spec, kind)}" for kind in said if getattr(spec, kind) in said[kind]]
            known = f"{count} parameters" + (f" and args.json ({', '.join(own)})" if own else "")
            return spec, f"read as {spec} in the order of torch's state_dict, from {known}"
        apart.append(f"{spec} by up to {(outputs - expected)[sound].abs().max():.2g}")
    raise CheckpointError(
        "weights in the order of torch's state_dict (LSTM, then Linear) should give out what logits.npy "
        f"holds, found outputs that differ: {', '.join(apart[:3])}; nothing was imported"
    )


def _sizes(args: Any, names: tuple[str, ...]) -> set[int]:
    """All whole numbers that go by one of some names, at whatever depth that is not absurd."""
    found, inside = set(), [args]
    for _ in range(1000):
        if not inside:
            break
        one = inside.pop()
        if isinstance(one, list):
            inside += one
        elif isinstance(one, dict):
            inside += one.values()
            found |= {value for key, value in one.items() if key.lower() in names and type(value) is int}
    return found


def _candidates(count: int, reads: int, gives: int) -> list[RNNSpec]:
    """Architectures of so many parameters."""
    found = []
    for cell, layers in itertools.product(CELLS, LAYERS):
        spec = partial(RNNSpec, cell=cell, input=reads, layers=layers, output=gives)
        sizes = [spec(hidden=hidden) for hidden in HIDDEN]
        found += [one for one in sizes if one.parameters == count]
    return found


# --- rows -----------------------------------------------------------------------------------------------


class _Importing:
    """Rows on their way into a zoo, with what was found in them so far."""

    def __init__(
        self, parameters: np.ndarray, rows: Languages | Digits, spec: RNNSpec, seed: int, source: str
    ):
        self.parameters, self.rows, self.spec = parameters, rows, spec
        self.seed, self.source = seed, source
        self.splits = assign(rows.task, rows.instances, seed, SplitSettings())
        self.digest = hashlib.sha256(str((rows.run.tolist(), rows.step.tolist(), rows.instances)).encode())
        self.off = 0.0
        self.performance: list[np.ndarray] = []

    @property
    def own(self) -> str:
        """Digest of what is known of all rows before they are looked at."""
        digest = self.digest.copy()
        for start in range(0, len(self.parameters), ROWS):
            digest.update(np.ascontiguousarray(self.parameters[start : start + ROWS]).tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def table(self, start: int) -> pa.Table:
        """The rows of a shard."""
        every = np.arange(start, min(start + ROWS, len(self.rows.step)))
        parts = [self._some(every[i : i + RUN_TOGETHER]) for i in range(0, len(every), RUN_TOGETHER)]
        notes = [note for part in parts for note in part.pop("notes")]
        done = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        arrays = {name: done.pop(name) for name in ("weights", "rollout_inputs", "rollout_outputs")}
        self.digest.update(arrays["weights"].tobytes() + arrays["rollout_inputs"].tobytes())
        self.performance.append(done["performance"])
        metrics = {name: values.astype(np.float32) for name, values in done.items()}
        finite = np.isfinite(arrays["weights"]).all(1)
        for values in (arrays["rollout_outputs"], metrics["performance"]):
            finite &= np.isfinite(values.reshape(len(every), -1)).all(1)
        instances, splits = ([own[i] for i in every] for own in (self.rows.instances, self.splits))
        return pa.table(
            {
                "id": [f"row-{i:05d}" for i in every],
                "run": pa.array(self.rows.run[every], pa.int32()),
                "step": pa.array(self.rows.step[every], pa.int32()),
                "task": pa.array(instances, self.rows.task.struct),
                "split": pa.array(splits, pa.string()),
                "seed": pa.array([self.seed] * len(every), pa.int64()),
                "health": pa.array(np.where(finite, "ok", DIVERGED).tolist(), pa.string()),
                "source": pa.array([self.source] * len(every), pa.string()),
                "notes": pa.array(notes, pa.string()),
                "metrics": pa.StructArray.from_arrays(list(map(pa.array, metrics.values())), list(metrics)),
                **{name: as_column(values) for name, values in arrays.items()},
            }
        )

    def _some(self, places: np.ndarray) -> dict[str, Any]:
        """What is kept of some rows."""
        rows, instances = self.rows, [self.rows.instances[i] for i in places]
        vectors = torch.from_numpy(np.array(self.parameters[places], np.float32))
        system, given, expected = (
            rows.population(self.spec, vectors),
            rows.given(places),
            rows.expected(places),
        )
        self._check(places, log_probs(system, rows.inputs(given)), expected, rows.overwritten(given))
        mended, notes = rows.mend(system, given, expected, self._streams("rollouts", places))
        stored = rows.stored(mended)
        figures = {name: values[places] for name, values in rows.metrics.items()}
        if rows.measured:
            figures = rows.task.metrics(system, instances, self._streams("metrics", places)) | figures
        return {
            "weights": system.flatten().numpy(),
            "rollout_inputs": stored.numpy(),
            "rollout_outputs": rows.task.interface.output.store(rows.task.outputs(system, stored)),
            "notes": notes,
            **figures,
        }

    @property
    def remarks(self) -> list[str]:
        """What was found, a sentence each."""
        said = f"outputs of the weights differ from those stored by at most {self.off:.2g}"
        return [said, *self.rows.found(np.concatenate(self.performance))]

    def _streams(self, name: str, places: np.ndarray) -> list[np.random.Generator]:
        return [stream(self.seed, name, int(self.rows.run[i]), int(self.rows.step[i])) for i in places]

    def _check(
        self,
        places: np.ndarray,
        outputs: Float[Tensor, "rnn rollout time output"],
        expected: Float[Tensor, "rnn rollout time output"],
        overwritten: Bool[Tensor, "rnn rollout"],
    ) -> None:
        """Makes sure that RNNs of finite weights give out what is stored on strings that are whole."""
        judged = ~overwritten & torch.from_numpy(np.isfinite(self.parameters[places]).all(1))[:, None]
        wrong = judged & (times_off(outputs, expected) > 1)
        gaps = torch.where(judged, (outputs - expected).abs().flatten(2).amax(-1), 0.0)
        for place, row in enumerate(places):
            if wrong[place].sum() > UNLIKE * judged[place].sum():
                raise CheckpointError(
                    f"row {row} of parameters.npy, read as {self.spec}, should give out what logits.npy "
                    f"holds, found outputs that differ by up to {gaps[place].max():.2g}; nothing was imported"
                )
        self.off = max(self.off, float(gaps.nan_to_num().max()))
