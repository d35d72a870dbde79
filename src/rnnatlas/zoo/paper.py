"""Zoos in the layout of Herrmann et al. (2024), kept as zoos of ours: tasks, steps, metrics and rollouts."""

import itertools
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError, SettingsError
from rnnatlas.importers.paper_zoo import LANGUAGES, PaperZoo, read
from rnnatlas.settings import as_dict
from rnnatlas.tasks.base import Instance
from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings
from rnnatlas.tasks.tiled_mnist import UNKNOWN, TiledMNIST, TiledMNISTSettings
from rnnatlas.tasks.tiles import untiled
from rnnatlas.zoo.format import DIVERGED, as_column, shard_name, write_card, write_shard
from rnnatlas.zoo.splits import SplitSettings, assign
from rnnatlas.zoo.verify import MEASURED

ROWS = 400
"""Snapshots in one shard, about: shards hold whole runs."""
SEED = 0
"""Of splits."""
COUNTED = (
    "metrics.counted is the share of 1000 strings that the released code takes to belong, by counts alone, "
    "whatever their order; performance is the share of the stored rollouts that belong, order included"
)
LATE = "step is the one that the files name; the released code takes each snapshot one update later"
LOGITS = "rollout_outputs were made again, since logits.npy is rounded to half precision"


def keep_paper_zoo(path: Path, folder: Path) -> None:
    """Fills a folder, which is there already, with the zoo at a path.

    Raises:
        CheckpointError: Its files do not fit one another.
    """
    try:
        zoo = read(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    task, instances = _task(zoo)
    first = np.flatnonzero(np.diff(zoo.run, prepend=-1))
    by_run = assign(task, [instances[row] for row in first], SEED, SplitSettings())
    splits = [by_run[run] for run in zoo.run]
    shards = _shards(first, len(zoo))
    repaired = 0
    for number, rows in enumerate(shards):
        table, mended = _table(zoo, task, rows, instances[rows], splits[rows])
        write_shard(folder / shard_name(zoo.spec, number), table)
        repaired += mended
    settings: dict[str, Any] = {"paths": [str(path)], MEASURED: True, "args": zoo.settings}
    settings["remarks"] = [LATE, COUNTED if zoo.task == LANGUAGES else LOGITS]
    if repaired:
        settings["remarks"].append(
            f"{repaired} rollouts that never end had lost their BOS, which was put back"
        )
    counts = {zoo.spec: (len(shards), len(zoo))}
    card = {"name": task.name, "settings": as_dict(task.settings)}
    write_card(folder, task=card, settings=settings, seed=SEED, expected=counts, present=counts)


def _task(zoo: PaperZoo) -> tuple[FormalLanguages | TiledMNIST, list[Instance]]:
    """What the RNNs were trained on."""
    try:
        if zoo.task == LANGUAGES:
            shifts = np.array(zoo.tasks, np.int64)
            names = string.ascii_lowercase[1 : zoo.letters]
            settings = FormalLanguagesSettings(
                tokens=zoo.letters,
                smallest=min(-3, int(shifts.min())),
                largest=max(2, int(shifts.max())),
                length=zoo.inputs.shape[2],
                largest_n=int(zoo.settings.get("max_n", 10)) - 1,
            )
            return FormalLanguages(settings), [dict(zip(names, own.tolist(), strict=True)) for own in shifts]
        tile = round(zoo.spec.input**0.5)
        task = TiledMNIST(TiledMNISTSettings(tile=tile))
    except (SettingsError, TypeError, ValueError) as error:
        raise CheckpointError(f"its settings fit no task of this package: {error}") from None
    if (task.interface.sizes[0], task.time) != (zoo.spec.input, zoo.inputs.shape[2]):
        raise CheckpointError(
            f"expected {task.time} tiles of {tile}×{tile} an image, found sequences of shape "
            f"{zoo.inputs.shape[2:]}"
        )
    pairs = zip(zoo.tasks[:, 0].tolist(), zoo.figures["weight_decay"].tolist(), strict=True)
    return task, [{"angle": float(angle) % 360, "weight_decay": decay} for angle, decay in pairs]


def _shards(first: np.ndarray, count: int) -> list[slice]:
    """Rows of whole runs, `ROWS` or a few more at a time."""
    ends = [0]
    for start in [*first.tolist()[1:], count]:
        if start - ends[-1] >= ROWS or start == count:
            ends.append(start)
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _table(
    zoo: PaperZoo,
    task: FormalLanguages | TiledMNIST,
    rows: slice,
    instances: list[Instance],
    splits: list[str],
) -> tuple[pa.Table, int]:
    """Some snapshots, and how many of their rollouts were repaired."""
    given, mended = zoo.read(rows)
    weights = np.array(zoo.parameters[rows], np.float32)
    if isinstance(task, FormalLanguages):
        inputs, outputs = given.astype(np.uint8), np.array(zoo.outputs[rows], np.float16)
        scores = task.score(inputs[..., 1:], instances)
        metrics = {**scores, "counted": zoo.figures["counted"][rows]}
    else:
        inputs = _pixels(given, task)
        with torch.no_grad():
            outputs = task.interface.output.store(
                task.outputs(zoo.population(rows), torch.from_numpy(inputs))
            )
        own = {name: zoo.figures[name][rows] for name in ("performance", "validation_loss", "training_loss")}
        metrics = {**own, "generalisation_gap": own["validation_loss"] - own["training_loss"]}
    finite = [
        np.isfinite(each.reshape(len(weights), -1)).all(1) for each in (weights, outputs, *metrics.values())
    ]
    run, step = zoo.run[rows], zoo.step[rows]
    columns: Mapping[str, Any] = {
        "id": [f"run-{a:05d}-step-{b:05d}" for a, b in zip(run, step, strict=True)],
        "run": pa.array(run, pa.int32()),
        "step": pa.array(step, pa.int32()),
        "task": pa.array(instances, task.struct),
        "split": pa.array(splits, pa.string()),
        "seed": pa.array([SEED] * len(weights), pa.int64()),
        "health": pa.array(np.where(np.logical_and.reduce(finite), "ok", DIVERGED).tolist(), pa.string()),
        "format": pa.array(["paper_zoo"] * len(weights), pa.string()),
        "notes": pa.nulls(len(weights), pa.string()),
        "metrics": pa.StructArray.from_arrays(
            [pa.array(each.astype(np.float32)) for each in metrics.values()], list(metrics)
        ),
        "weights": as_column(weights),
        "rollout_inputs": as_column(inputs),
        "rollout_outputs": as_column(outputs),
    }
    return pa.table(columns), int(mended.sum())


def _pixels(given: np.ndarray, task: TiledMNIST) -> np.ndarray:
    """Normalised tiles after zeros as `TiledMNIST` stores images, which are whole numbers.

    Raises:
        CheckpointError: They are no images, or were normalised otherwise.
    """
    tiles: Tensor = torch.from_numpy(given[:, :, 1:].astype(np.float32))
    images = untiled(tiles * task.sd + task.mean).flatten(2) * 255
    whole = images.round()
    if not bool((images - whole).abs().max() < 0.3) or whole.min() < 0 or whole.max() > 255:
        raise CheckpointError(
            f"expected images normalised with mean {task.mean} and standard deviation {task.sd}, found others"
        )
    about = torch.tensor([1, UNKNOWN]).expand(*whole.shape[:2], 2)
    return torch.cat([about, whole], -1).byte().numpy()
