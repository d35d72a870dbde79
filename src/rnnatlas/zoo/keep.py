"""Writing a zoo of RNNs that others trained, with or without what they do."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from rnnatlas.errors import RNNSpecMismatch, warn
from rnnatlas.files import check_free, making
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.rnn.modules import read_module
from rnnatlas.seeds import stream
from rnnatlas.settings import as_dict, build
from rnnatlas.tasks import trials
from rnnatlas.tasks.recorded import FILE
from rnnatlas.zoo.format import DIVERGED, as_column, shard_name, write_card, write_shard
from rnnatlas.zoo.labels import in_order, read
from rnnatlas.zoo.recording import Recording, RecordSettings, Row, record

ROWS, RECORDED = 512, 128
"""RNNs in one shard, without rollouts and with them."""
RUN_TOGETHER = 16
"""RNNs that are run at a time."""
ABOUT = ("source", "format", "prefix", "head", "notes", "role")
"""Columns of text about an RNN."""


def keep_modules(
    modules: Sequence[nn.Module | tuple[nn.Module, nn.Linear]],
    out: Path,
    inputs: Any = None,
    labels: Any = None,
    **options: Any,
) -> None:
    """Makes a zoo of torch modules; see `Zoo.from_modules`."""
    own = build(RecordSettings, options, "from_modules")
    check_free(out)
    rows = []
    for number, module in enumerate(modules):
        spec, weights = read_module(module)
        finite = all(bool(weight.isfinite().all()) for weight in weights.values())
        rows.append(Row(f"rnn-{number:05d}", number, -1, spec, weights, {"source": "memory"}, finite))
    if not rows:
        raise RNNSpecMismatch("expected at least one RNN, found none")
    known = None if labels is None else in_order(read(labels), len(rows))
    recording = record(rows, inputs, known, own)
    for sentence in recording.left_out:
        warn(f"left out: {sentence}")
    with making(out) as folder:
        write(folder, rows, as_dict(own), recording)


def write(
    folder: Path, rows: Sequence[Row], settings: Mapping[str, Any], recording: Recording | None = None
) -> None:
    """Fills a folder with a zoo.

    Args:
        folder: Where; it is there already.
        rows: The RNNs; of a recording those that it keeps are written.
        settings: How the zoo was made, for its card.
        recording: What the RNNs do; without it the zoo has neither task nor rollouts.
    """
    if recording is not None:
        rows = [rows[place] for place in recording.kept]
    by_spec: dict[RNNSpec, list[int]] = {}
    for place, row in enumerate(rows):
        by_spec.setdefault(row.spec, []).append(place)
    size = RECORDED if recording else ROWS
    own, digest = _digest(rows), hashlib.sha256()
    for spec, places in by_spec.items():
        for number, start in enumerate(range(0, len(places), size)):
            chosen = places[start : start + size]
            table = _table(spec, [rows[place] for place in chosen], chosen, recording)
            digest.update(table["weights"].combine_chunks().flatten().to_numpy().tobytes())
            write_shard(folder / shard_name(spec, number), table, own)
    card: dict[str, Any] = {"task": None, "seed": None, "settings": dict(settings)}
    if recording is not None:
        for array in recording.trials.arrays().values():
            digest.update(array.tobytes())
        digest.update(str([recording.instances, recording.splits]).encode())
        trials.save(folder / FILE, recording.trials)
        card["task"] = {"name": recording.task.name, "settings": as_dict(recording.task.settings)}
        card["seed"] = recording.task.settings.seed
        said = [*recording.remarks, *(f"left out: {sentence}" for sentence in recording.left_out)]
        card["settings"] |= {"contents": digest.hexdigest()[:16], "remarks": said}
    counts = {spec: (-(-len(places) // size), len(places)) for spec, places in by_spec.items()}
    write_card(folder, expected=counts, present=counts, shards_of=own, **card)


def _digest(rows: Sequence[Row]) -> str:
    """Of the names and weights of some RNNs."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.id} {row.spec.slug}".encode(errors="surrogateescape"))
        for weight in row.weights.values():
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _table(
    spec: RNNSpec, rows: Sequence[Row], places: Sequence[int], recording: Recording | None
) -> pa.Table:
    stacked = {
        name: torch.stack([row.weights[name].detach().float().cpu() for row in rows]) for name in spec.shapes
    }
    finite = np.array([row.finite for row in rows])
    done: dict[str, Any] = {}
    if recording is not None:
        done = _done(Population(spec, stacked, recording.task.interface), rows, places, recording)
        for name in ("metrics", "rollout_outputs"):
            finite &= _finite(done[name]) if name in done else True
    columns: dict[str, Any] = {
        "id": [row.id for row in rows],
        "run": pa.array([row.run for row in rows], pa.int32()),
        "step": pa.array([row.step for row in rows], pa.int32()),
        "health": pa.array(np.where(finite, "ok", DIVERGED).tolist(), pa.string()),
        **{name: pa.array([row.about.get(name) for row in rows], pa.string()) for name in ABOUT},
    }
    if recording is not None:
        columns |= _known(recording, places)
        if "metrics" in done:
            names = list(recording.metrics)
            columns["metrics"] = pa.StructArray.from_arrays(
                [pa.array(values.astype(np.float32)) for values in done.pop("metrics").T], names
            )
        columns |= {name: as_column(values) for name, values in done.items()}
    return pa.table({**columns, "weights": as_column(Population(spec, stacked).flatten().numpy())})


def _finite(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(values.reshape(len(values), -1)).all(axis=1))


def _known(recording: Recording, places: Sequence[int]) -> dict[str, pa.Array]:
    """Instance, split and labels of some rows."""
    instances, splits = ([own[place] for place in places] for own in (recording.instances, recording.splits))
    columns: dict[str, pa.Array] = {
        "task": pa.array(instances, recording.task.struct),
        "split": pa.array(splits, pa.string()),
        "seed": pa.array([recording.task.settings.seed] * len(places), pa.int64()),
    }
    if recording.labels is not None:
        own = recording.labels.take(pa.array(places, pa.int64()))
        arrays = [column.combine_chunks() for column in own.columns]
        columns["labels"] = pa.StructArray.from_arrays(arrays, own.column_names)
    return columns


@torch.no_grad()
def _done(
    population: Population, rows: Sequence[Row], places: Sequence[int], recording: Recording
) -> dict[str, np.ndarray]:
    """What RNNs do: rollouts, and metrics [rnn, metric] where there are targets."""
    parts: dict[str, list[np.ndarray]] = {}
    for some in _chunks(range(len(rows)), RUN_TOGETHER):
        system = population.select(list(some))
        names = [(rows[i].run, rows[i].step) for i in some]
        chosen = recording.rows([places[i] for i in some], names)
        rollouts = recording.task.read(system, chosen)
        parts.setdefault("rollout_inputs", []).append(rollouts.inputs)
        parts.setdefault("rollout_outputs", []).append(rollouts.outputs)
        streams = [stream(recording.task.settings.seed, "metrics", *name) for name in names]
        metrics = recording.task.metrics(system, [recording.instances[places[i]] for i in some], streams)
        if metrics:
            parts.setdefault("metrics", []).append(np.stack([metrics[name] for name in recording.metrics], 1))
    return {name: np.concatenate(own) for name, own in parts.items()}


def _chunks(numbers: range, size: int) -> Iterator[range]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
