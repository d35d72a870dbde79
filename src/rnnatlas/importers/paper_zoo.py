"""Zoos in the layout of Herrmann et al. (2024): a folder of .npy files, one row of each a snapshot.

`parameters` [snapshot, parameter], `sequences` and `logits` [snapshot, rollout, time, …], `tasks`; of
languages `num_step_correct`, of rotated digits `num_step` and `accuracy_losses`; settings in `args.json`.
All are mapped, not loaded.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import one_hot

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import kinds
from rnnatlas.importers.base import Importer
from rnnatlas.rnn import FoundRNN, Population, RNNSpec, run
from rnnatlas.rnn.heads import Head

LANGUAGES, DIGITS = "formal-languages", "tiled-mnist"
SAMPLED = 1000
"""Strings that `num_step_correct` counts."""
CLASSES = 10
TOLERANCE = 0.005
"""Mean difference of probabilities from those stored: in half precision, perhaps made with TF32."""
LONGEST = 1 << 20
"""Bytes of args.json."""


@dataclasses.dataclass(frozen=True)
class PaperZoo:
    """Arrays of such a zoo, each mapped from its file; rows are snapshots.

    Args:
        task: LANGUAGES or DIGITS.
        spec: The architecture.
        settings: What `args.json` says.
        parameters: Weights in the order of `spec.shapes`, the one of `torch.nn.Module.parameters`.
        inputs: Tokens, or tiles of normalised images after zeros.
        outputs: Log-probabilities of tokens, or logits of digits.
        tasks: The numbers m of each letter but the first (b, c, d); or angles in degrees.
        run: Number of the training run.
        step: Named step; the released code takes snapshots after one update more.
        figures: What was measured by the released code: "counted", the share of strings with the right
            counts, whatever their order; or "performance", "training_loss", "validation_loss" and
            "weight_decay".
    """

    task: str
    spec: RNNSpec
    settings: dict[str, Any]
    parameters: Float[np.ndarray, "snapshot parameter"]
    inputs: Shaped[np.ndarray, "snapshot rollout *read"]
    outputs: Float[np.ndarray, "snapshot rollout time output"]
    tasks: Shaped[np.ndarray, "snapshot number"]
    run: Int[np.ndarray, " snapshot"]
    step: Int[np.ndarray, " snapshot"]
    figures: dict[str, Float[np.ndarray, " snapshot"]]

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def letters(self) -> int:
        """Letters of the alphabet, without BOS and EOS."""
        return self.spec.input - 2

    def read(self, rows: slice) -> tuple[np.ndarray, Bool[np.ndarray, "snapshot rollout"]]:
        """What some RNNs read, and which strings were repaired.

        The released code overwrites the first token, BOS, of strings that never end by EOS. They are
        repaired, since what was read first is certain.
        """
        inputs = np.array(self.inputs[rows])
        if self.task != LANGUAGES:
            return inputs, np.zeros(inputs.shape[:2], bool)
        repaired = inputs[..., 0] == self.letters + 1
        inputs[..., 0] = np.where(repaired, self.letters, inputs[..., 0])
        return inputs, repaired

    def population(self, rows: slice) -> Population:
        """Some of the RNNs."""
        return Population.unflatten(self.spec, torch.from_numpy(np.array(self.parameters[rows], np.float32)))


def is_paper_zoo(path: Path) -> bool:
    """Whether a folder is such a zoo."""
    parameters = path / "parameters.npy"
    return parameters.is_file() and kinds.kind_of(parameters) == kinds.PAPER_ZOO


def read(folder: Path) -> PaperZoo:
    """The zoo in a folder.

    Raises:
        CheckpointError: A file is missing or damaged, sizes do not fit one another, or the parameters are in
            another order than torch's.
    """
    settings = _settings(folder)
    parameters, sequences = _array(folder, "parameters", "f", 2), _array(folder, "sequences", "iuf", None)
    outputs, tasks = _array(folder, "logits", "f", 4), _array(folder, "tasks", "iuf", 2)
    task = LANGUAGES if (folder / "num_step_correct.npy").is_file() else DIGITS
    numbers = _array(folder, "num_step_correct" if task == LANGUAGES else "num_step", "iuf", 2)
    figures = _figures(folder, task, numbers)
    lengths = {len(each) for each in (parameters, sequences, outputs, tasks, numbers, *figures.values())}
    if len(lengths) != 1 or not len(parameters):
        raise CheckpointError(f"expected arrays of as many rows, one a snapshot, found {sorted(lengths)}")
    if task == LANGUAGES:
        tasks = tasks[:, 1:]
    spec = _spec(task, settings, sequences, outputs, tasks)
    if parameters.shape[1] != spec.parameters:
        raise CheckpointError(
            f"expected {spec.parameters} parameters of {spec}, as args.json and the other files say, found "
            f"{parameters.shape[1]}"
        )
    step = np.array(numbers[:, 1], np.int64)
    zoo = PaperZoo(task, spec, settings, parameters, sequences, outputs, tasks, _runs(numbers), step, figures)
    _check(zoo)
    return zoo


class PaperZooImporter(Importer):
    """Zoos of many snapshots in .npy files, of the paper that this package implements."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = (kinds.PAPER_ZOO,)

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`; RNNs are called by run and step, and the first one's note is about all."""
        zoo = read(path.parent)
        sizes = [math.prod(shape) for shape in zoo.spec.shapes.values()]
        found = []
        for number, row in enumerate(zoo.parameters):
            parts = torch.from_numpy(np.asarray(row, np.float32)).split(sizes)
            shaped = zip(zoo.spec.shapes.items(), parts, strict=True)
            weights = {name: part.view(shape) for (name, shape), part in shaped}
            odd = next((name for name, weight in weights.items() if not weight.isfinite().all()), None)
            notes = (*([] if number else [_what(zoo)]), *([f"weights are not finite: {odd}"] if odd else []))
            place = f"run-{zoo.run[number]:05d}-step-{zoo.step[number]:05d}."
            found.append(FoundRNN(place, "linear.", zoo.spec, weights, odd, notes))
        return found, {}


def _what(zoo: PaperZoo) -> str:
    return (
        f"first of {len(zoo)} snapshots of a zoo ({zoo.task}) in the layout of Herrmann et al. (2024); "
        "parameters taken in torch's order, with which stored outputs of the first, middle and last come out"
    )


# --- files ---------------------------------------------------------------------------------------------


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "args.json"
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_bytes()[:LONGEST])
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError("expected settings in args.json, found something else")
    return settings


def _array(folder: Path, name: str, types: str, axes: int | None) -> np.ndarray:
    path = folder / f"{name}.npy"
    if not path.is_file():
        raise CheckpointError(
            f"there is no {name}.npy beside parameters.npy; put all files of the zoo together"
        )
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, SyntaxError):
        raise CheckpointError(
            f"expected an array in {name}.npy, found something else or a part of one"
        ) from None
    if (
        array.dtype.kind not in types
        or array.ndim not in ((3, 4) if axes is None else (axes,))
        or not array.size
    ):
        raise CheckpointError(
            f"expected numbers on {axes or '3 or 4'} axes in {name}.npy, found {array.dtype} of shape "
            f"{array.shape}"
        )
    return array


def _figures(folder: Path, task: str, numbers: np.ndarray) -> dict[str, np.ndarray]:
    if task == LANGUAGES:
        names, columns = ["counted"], numbers[:, 2:] / SAMPLED
    else:
        names = ["performance", "training_loss", "validation_loss", "weight_decay"]
        columns = _array(folder, "accuracy_losses", "f", 2)
    if columns.shape[1] != len(names) or numbers.shape[1] < 2:
        raise CheckpointError(
            f"expected run, step and {', '.join(names)} of each snapshot, found {numbers.shape[1]} numbers "
            f"and {columns.shape[1]} figures"
        )
    return {name: np.array(column, np.float64) for name, column in zip(names, columns.T, strict=True)}


def _spec(
    task: str, settings: dict[str, Any], sequences: np.ndarray, outputs: np.ndarray, tasks: np.ndarray
) -> RNNSpec:
    """The architecture, of which the arrays have to be."""
    size = outputs.shape[-1]
    read = size if task == LANGUAGES else sequences.shape[-1]
    time = outputs.shape[2] + (task == LANGUAGES)
    shape = (*outputs.shape[:2], time, *([] if task == LANGUAGES else [read]))
    wanted = size - 3 if task == LANGUAGES else 1
    if sequences.shape != shape or tasks.shape[1] != wanted or (task == DIGITS and size != CLASSES):
        raise CheckpointError(
            f"expected sequences of shape {shape}, found {sequences.shape}, with {tasks.shape[1]} numbers a "
            f"task and {size} outputs, which do not fit one another"
        )
    if task == LANGUAGES and not settings.get("one_hot_input", 1):
        raise CheckpointError("its RNNs read a token as one number (one_hot_input 0), which is not supported")
    sizes = {"hidden": settings.get("rnn_hidden_size", 32), "layers": settings.get("rnn_num_layers", 2)}
    if any(type(each) is not int or not 0 < each <= 1 << 20 for each in sizes.values()):
        raise CheckpointError(f"expected sizes in args.json, found {sizes}")
    return RNNSpec(cell="lstm", input=read, output=size, **sizes)


def _runs(numbers: np.ndarray) -> Int[np.ndarray, " snapshot"]:
    """Runs one after the other, each with growing steps; in zoos that were joined, numbers begin anew."""
    new = (numbers[1:, 0] != numbers[:-1, 0]) | (numbers[1:, 1] <= numbers[:-1, 1])
    return np.concatenate([[0], np.cumsum(new)]).astype(np.int64)


# --- what the arrays mean ---------------------------------------------------------------------------------


@torch.no_grad()
def _check(zoo: PaperZoo) -> None:
    """Makes sure of the order of parameters: the first, middle and last RNN give out what is stored."""
    for row in {0, len(zoo) // 2, len(zoo) - 1}:
        inputs, _ = zoo.read(slice(row, row + 1))
        given = _encoded(zoo, inputs[0, :4])
        expected = torch.from_numpy(np.array(zoo.outputs[row, :4], np.float32))
        population = zoo.population(slice(row, row + 1))
        if not all(bool(weight.isfinite().all()) for weight in population.weights.values()):
            continue
        outputs, _ = run(population, given)
        differs = (outputs[0].softmax(-1) - expected.softmax(-1)).abs().mean().item()
        if not differs <= TOLERANCE:
            raise CheckpointError(
                "expected parameters in torch's order (of each layer weight_ih, weight_hh, bias_ih, bias_hh; "
                f"then the head), found that row {row} gives out other probabilities than logits.npy has (by "
                f"{differs:.2g} on average)"
            )


def _encoded(zoo: PaperZoo, inputs: np.ndarray) -> Tensor:
    if zoo.task == DIGITS:
        return torch.from_numpy(np.array(inputs, np.float32))
    tokens = torch.from_numpy(np.array(inputs, np.int64))
    if not bool(((tokens >= 0) & (tokens < zoo.spec.input)).all()) or not bool(
        (tokens[:, 0] == zoo.letters).all()
    ):
        raise CheckpointError(
            f"expected strings of tokens from 0 to {zoo.letters + 1} that begin with BOS, found others"
        )
    return one_hot(tokens[:, :-1], zoo.spec.input).float()
