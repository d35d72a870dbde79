"""Evaluating a trained run: emulation losses and properties, each beside its controls."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Int

from rnnatlas import properties
from rnnatlas.emulation.evaluate import WritesStrings, emulated_performance, losses
from rnnatlas.emulation.model import read_metrics, write_metrics
from rnnatlas.errors import ZooFormatError
from rnnatlas.files import replacing
from rnnatlas.properties import predictors
from rnnatlas.properties.base import Property
from rnnatlas.properties.features import features
from rnnatlas.properties.figures import Figure, loss_figures, property_figures
from rnnatlas.properties.model import PREDICTORS, Model
from rnnatlas.properties.predictors import Predictor, PredictorSettings
from rnnatlas.seeds import stream
from rnnatlas.zoo.splits import ood_half
from rnnatlas.zoo.store import Zoo

LOSSES, PREDICTIONS, EMULATED = "losses.parquet", "predictions.parquet", "emulated.parquet"
HELD_OUT = ("new-runs", "validation", "ood")

LEVELS, NEAREST = 16, 15
"""Emulated performance: levels of performance, and RNNs nearest to each (Herrmann et al. 2024, figure 5)."""

STRINGS = 100
"""Strings sampled for each emulated RNN; their share's standard error is at most .05."""


def evaluate(
    path: Path | str, zoo: Zoo | None = None, settings: PredictorSettings | None = None
) -> list[dict[str, Any]]:
    """Fills a run's folder with figures of held-out RNNs.

    Writes `losses.parquet`, `predictions.parquet` and `emulated.parquet` (a row a snapshot, so that
    several seeds can be taken together later), `predictors.safetensors`, and all figures with their
    definitions to `metrics.json`. What was there of these is replaced.

    Args:
        path: Folder of a finished run.
        zoo: Held-out RNNs; the run's own zoo without it.
        settings: How predictors are trained; the defaults without it.

    Returns:
        The records of `metrics.json`.

    Raises:
        RunFormatError: The run is missing, unfinished or damaged.
        ZooFormatError: The zoo is not the one that the run was trained on, has no task, or none of its
            snapshots is held out.
    """
    model = Model.load(path)
    zoo = Zoo.open(model.settings.zoo) if zoo is None else zoo
    if zoo.task is None:
        raise ZooFormatError(
            f"evaluating needs a zoo with a task and rollouts, but {zoo.path} was imported; "
            "use the zoo of the run"
        )
    if zoo.identity != model.settings.zoo_identity:
        raise ZooFormatError(
            f"the run {path} was trained on the zoo {model.settings.zoo}, but {zoo.path} is another one (its "
            "task, settings or seed differ), so its held-out RNNs may be of languages that were trained on; "
            "give the same zoo"
        )
    condition = model.settings.emulation.where
    splits = [zoo.snapshots(split=split, where=condition) for split in HELD_OUT]
    splits = [table for table in splits if table.num_rows]
    if not splits:
        raise ZooFormatError(
            f"{zoo.path} has no held-out snapshots; expected a split named {', '.join(HELD_OUT)}"
        )
    lost = pa.concat_tables([losses(model, zoo, table) for table in splits])
    predicted, fitted = predictions(model, zoo, zoo.snapshots(where=condition), settings)
    _write(model.path / LOSSES, lost)
    _write(model.path / PREDICTIONS, predicted)
    if isinstance(zoo.task, WritesStrings):
        chosen = by_performance(pa.concat_tables(splits))
        _write(model.path / EMULATED, emulated_performance(model, zoo, chosen, STRINGS))
    kept = [record for record in read_metrics(model.path) if record["name"] == "best validation loss"]
    figures = [*loss_figures([lost]), *property_figures([predicted])]
    records = kept + [_record(figure, model.settings.seed) for figure in figures]
    write_metrics(model.path, records)
    predictors.save(model.path / PREDICTORS, fitted)  # comes last: a run that has them was evaluated
    return records


def predictions(
    model: Model, zoo: Zoo, snapshots: pa.Table, settings: PredictorSettings | None = None
) -> tuple[pa.Table, dict[str, tuple[Property, Predictor]]]:
    """Trains a predictor of every property on every kind of features.

    Training RNNs are those of the split "train" and of half of the OOD tasks (`ood_half`); every sixth of
    their runs says when to stop instead. Residuals on the validation split say how sure a number is.
    Figures are of new runs, validation and the other OOD tasks.

    Returns:
        A row for each held-out snapshot, property and kind of features; and the predictors that read
        embeddings.
    """
    assert zoo.task is not None, "evaluate refuses zoos without a task"
    split = np.asarray(snapshots["split"].to_pylist())
    joins = ood_half(zoo.task, snapshots["task"].to_pylist(), split.tolist(), zoo.card["seed"])
    train, validation = (split == "train") | joins, split == "validation"
    stopping = _stopping(train, snapshots["run"].to_numpy(), model.settings.seed)
    held_out = np.isin(split, HELD_OUT) & ~joins
    found = features(model, zoo, snapshots)
    parts, fitted = [], {}
    for name, kind in properties.registry.items():
        prop = kind.fit(zoo.task, snapshots)
        if prop is None:
            continue
        target = prop.target(zoo.task, snapshots)
        for features_name, own in found.items():
            if features_name == name:  # the step tells the step
                continue
            predictor = predictors.fit(
                prop, own, target, train & ~stopping, stopping, validation, model.settings.seed, settings
            )
            if features_name == "embedding":
                fitted[name] = prop, predictor
            parts.append(_rows(prop, features_name, predictor(own), target, snapshots, held_out))
    return pa.concat_tables(parts, promote_options="default"), fitted


def _stopping(
    train: Bool[np.ndarray, " rnn"], runs: Int[np.ndarray, " rnn"], seed: int
) -> Bool[np.ndarray, " rnn"]:
    """Snapshots of every sixth training run, at least of one."""
    known = stream(seed, "predictor", "stopping").permutation(np.unique(runs[train]))
    return train & np.isin(runs, known[: max(1, len(known) // 6)])


def _rows(
    prop: Property,
    features_name: str,
    outputs: torch.Tensor,
    target: torch.Tensor,
    snapshots: pa.Table,
    chosen: np.ndarray,
) -> pa.Table:
    rows = torch.from_numpy(np.flatnonzero(chosen))
    outputs, target = outputs[rows], target[rows]
    table = snapshots.select(["id", "run", "step", "split"]).filter(pa.array(chosen))
    count = table.num_rows
    table = table.append_column("property", pa.array([prop.name] * count))
    table = table.append_column("predictor", pa.array([features_name] * count))
    for name, values in prop.score(outputs, target).items():
        table = table.append_column(name, pa.array(values.astype(np.float64)))
    for name, values in (("prediction", outputs), ("target", target)):
        table = table.append_column(name, pa.array(values.tolist(), pa.list_(pa.float32())))
    return table


def by_performance(snapshots: pa.Table) -> pa.Table:
    """The snapshots nearest to evenly spaced levels of performance, each once; all where they are few."""
    if snapshots.num_rows <= LEVELS * NEAREST:
        return snapshots
    performance = np.array([metrics["performance"] for metrics in snapshots["metrics"].to_pylist()])
    free = np.ones(len(performance), dtype=bool)
    for level in np.linspace(performance.min(), performance.max(), LEVELS):
        distance = np.where(free, np.abs(performance - level), np.inf)
        free[np.argsort(distance, kind="stable")[:NEAREST]] = False
    return snapshots.filter(pa.array(~free))


def _record(figure: Figure, seed: int) -> dict[str, Any]:
    interval = figure.interval
    ends = {
        name: value if np.isfinite(value) else None
        for name, value in (("low", interval.low), ("high", interval.high))
    }
    return {
        "name": figure.name,
        "split": figure.split,
        "of": figure.of,
        "value": interval.mean if np.isfinite(interval.mean) else None,
        **ends,
        "n_runs": interval.n,
        "n_snapshots": figure.snapshots,
        "seed": seed,
        "definition": f"{figure.definition}; the interval is over RNNs alone, since this is one seed",
    }


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")
