"""Making an atlas: embedding the RNNs of zoos and of checkpoint files."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from rnnatlas import seeds
from rnnatlas.atlas.index import Atlas, with_places
from rnnatlas.atlas.layouts import place
from rnnatlas.errors import AtlasFormatError, CheckpointError, RNNSpecMismatch
from rnnatlas.evaluation.features import embed_groups
from rnnatlas.evaluation.model import Model
from rnnatlas.rnn import FoundRNN, Population, RNNSpec
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.imports import Checkpoint, checkpoints
from rnnatlas.zoo.store import Zoo

SAMPLES = 5
"""Strings of each RNN that an atlas keeps."""

LAYOUT = "tsne"
PREDICTED = {"task": pa.string(), "step": pa.int64()}
"""Types of predicted properties that are not plain numbers."""


@dataclasses.dataclass(frozen=True)
class Found:
    """RNNs of checkpoint files, of one architecture or several.

    Attributes:
        ids: Path of each one's file, with its place inside where it has one.
        sources: Path of each one's file.
        rnns: The RNNs.
        left_out: Why files in folders were left out, a sentence each.
    """

    ids: list[str]
    sources: list[str]
    rnns: list[FoundRNN]
    left_out: list[str]

    def groups(self) -> list[tuple[np.ndarray, Population]]:
        """One population an architecture, with the positions of its RNNs."""
        specs = list(dict.fromkeys(rnn.spec for rnn in self.rnns))
        groups = []
        for spec in specs:
            positions = [i for i, rnn in enumerate(self.rnns) if rnn.spec == spec]
            weights = {
                name: torch.stack([self.rnns[i].weights[name].float() for i in positions])
                for name in spec.shapes
            }
            groups.append((np.array(positions), Population(spec, weights)))
        return groups


def embed(model: Model, paths: Sequence[Path | str], layout: str = LAYOUT, seed: int = 0) -> Atlas:
    """Embeds all RNNs found at some paths.

    Args:
        model: The encoder, with its predictors where the run was evaluated.
        paths: Zoos, checkpoint files, and folders of them. Snapshots of a zoo that diverged are left out;
            ids of several zoos begin with the zoo's name.
        layout: How places on the map are found.
        seed: Of the layout.

    Raises:
        CheckpointError: A path holds no RNN, or one whose weights are not finite.
        ZooFormatError: A zoo is incomplete, damaged or of another format version.
        RNNSpecMismatch: The encoder does not take an RNN's architecture.
    """
    zoos, files = _sort(paths)
    tables, left_out = [], []
    for zoo, name in zip(zoos, _names(zoos), strict=True):
        tables.append(_from_zoo(model, zoo, name))
        diverged = len(zoo) - tables[-1].num_rows
        left_out += [f"{diverged} snapshots of {zoo.path} whose training diverged"] if diverged else []
    if files:
        found = read(files, model)
        tables.append(_from_files(model, found))
        left_out += found.left_out
    table = pa.concat_tables(tables, promote_options="permissive")
    repeated = _repeated(table["id"].to_pylist())
    if repeated:
        raise CheckpointError(
            f"every entry of an atlas needs an id of its own, found {repeated!r} twice; embed each path once"
        )
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise CheckpointError(
            f"the embedding of {table['id'][int(broken[0])]} is not finite, because this RNN's outputs grow "
            "without bound; leave it out"
        )
    card = {
        "run": str(model.path.resolve()),
        "model": digest(model),
        "encoder": model.settings.encoder,
        "seed": model.settings.seed,
        "sources": [str(path) for path in paths],
        "left_out": left_out,
        "layout": layout,
        "layout_seed": seed,
    }
    return Atlas(card, with_places(table, place(layout, vectors, seed)))


def embed_query(atlas: Atlas, path: Path, model: Model) -> Float[np.ndarray, " embed"]:
    """The embedding of the one RNN of a checkpoint file, made as the atlas's were.

    Raises:
        AtlasFormatError: The atlas was made by another encoder.
        CheckpointError: The file holds no RNN, or several.
    """
    if digest(model) != atlas.card["model"]:
        raise AtlasFormatError(
            f"the atlas was made by another state of the run {model.path}; embed the RNNs again"
        )
    found = read([path], model)
    if len(found.rnns) != 1:
        raise CheckpointError(
            f"{path} holds {len(found.rnns)} RNNs, but a search starts from one; "
            "embed the file and search by id"
        )
    return embed_groups(model, found.groups(), 1).numpy()[0]


def predict(model: Model, paths: Sequence[Path | str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Predicts properties of all RNNs found at some paths; arguments and errors as `embed`.

    Returns:
        For each RNN its `id` and what `Model.predict` gives, and why files were left out.
    """
    zoos, files = _sort(paths)
    found = [read(files, model)] if files else []
    named = [(one.ids, one.groups()) for one in found]
    for zoo, name in zip(zoos, _names(zoos), strict=True):
        snapshots = zoo.snapshots()
        named.append(([name + id for id in snapshots["id"].to_pylist()], _groups(model, zoo, snapshots)))
    predictions = []
    for ids, groups in named:
        vectors = embed_groups(model, groups, len(ids))
        predictions += [{"id": id, **own} for id, own in zip(ids, model.read(vectors), strict=True)]
    return predictions, [reason for one in found for reason in one.left_out]


def digest(model: Model) -> str:
    """Identifies the weights of an encoder."""
    sha = hashlib.sha256()
    for name, value in model.encoder.state_dict().items():
        sha.update(name.encode())
        sha.update(value.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


# --- where RNNs come from --------------------------------------------------------------------------


def _sort(paths: Sequence[Path | str]) -> tuple[list[Zoo], list[Path | str]]:
    """Zoos, and all else."""
    zoos = [path for path in paths if "://" in str(path) or (Path(path) / "zoo.json").is_file()]
    return [Zoo.open(path) for path in zoos], [path for path in paths if path not in zoos]


def _names(zoos: Sequence[Zoo]) -> list[str]:
    """What ids of each zoo begin with: nothing where there is one, the folder's name where that is enough."""
    if len(zoos) == 1:
        return [""]
    paths = [str(zoo.path) if "://" in str(zoo.path) else str(Path(zoo.path).resolve()) for zoo in zoos]
    names = [path.rstrip("/").rpartition("/")[2] for path in paths]
    return [f"{name if names.count(name) == 1 else path}/" for name, path in zip(names, paths, strict=True)]


def read(paths: Sequence[Path | str], model: Model) -> Found:
    """All RNNs of checkpoint files.

    Args:
        paths: Files, folders with all below them, globs. What cannot be used is left out, unless its
            file was named directly.
        model: The encoder that should take them; its RNNs' cell says what files do not tell of relu cells.

    Raises:
        CheckpointError: No file holds an RNN that can be used, or one named directly does not.
        RNNSpecMismatch: The encoder does not take the architecture of one named directly.
    """
    found = Found([], [], [], [])
    cell = model.spec.cell
    for checkpoint in checkpoints(paths, cell if cell == "elman-relu" else None):
        problem = _problem(model, checkpoint)
        if problem is not None:
            if checkpoint.path in map(Path, paths):
                raise problem
            found.left_out.append(str(problem))
            continue
        for rnn in checkpoint.rnns:
            prefix = rnn.prefix.rstrip(".")
            found.ids.append(f"{checkpoint.path}:{prefix}" if prefix else str(checkpoint.path))
            found.sources.append(str(checkpoint.path))
            found.rnns.append(rnn)
    if not found.rnns:
        raise CheckpointError(
            f"none of {len(found.left_out)} files holds an RNN that can be used; {found.left_out[0]}"
        )
    return found


def _problem(model: Model, checkpoint: Checkpoint) -> CheckpointError | RNNSpecMismatch | None:
    """Why a file cannot be embedded, if it cannot."""
    if checkpoint.skipped:
        return CheckpointError(checkpoint.skipped)
    for rnn in checkpoint.rnns:
        for name, weight in rnn.weights.items():
            if not weight.isfinite().all():
                return CheckpointError(
                    f"{checkpoint.path}: expected finite weights, found NaN or infinity in "
                    f"{rnn.prefix}{name}; the RNN diverged or the file is damaged"
                )
    misfit = _misfit(model, [rnn.spec for rnn in checkpoint.rnns])
    return RNNSpecMismatch(f"{checkpoint.path}: {misfit}") if misfit else None


# --- entries ---------------------------------------------------------------------------------------


def _from_zoo(model: Model, zoo: Zoo, name: str) -> pa.Table:
    snapshots = zoo.snapshots()
    if snapshots.num_rows == 0:
        raise CheckpointError(f"zoo {zoo.path} holds no snapshot that can be embedded")
    groups = _groups(model, zoo, snapshots)
    vectors = embed_groups(model, groups, snapshots.num_rows)
    table = snapshots.select(["spec", "run", "step", "split", "task", "metrics"])
    ids = snapshots["id"].to_pylist()
    table = table.add_column(0, "id", pa.array([name + id for id in ids], pa.string()))
    table = table.append_column("source", pa.array([str(zoo.path)] * len(table), pa.string()))
    if zoo.task is not None:
        label = zoo.task.label
        labels = [None if instance is None else label(instance) for instance in table["task"].to_pylist()]
        table = table.append_column("label", pa.array(labels, pa.string()))
        writes = zoo.task.signal == "tokens"  # else rollouts show what RNNs read, not what they do
        strings = _stored(zoo, zoo.task, snapshots) if writes else [[]] * len(table)
    else:
        strings = list(_written(model, groups, ids))
    return _finish(model, table, vectors, strings)


def _from_files(model: Model, found: Found) -> pa.Table:
    groups = found.groups()
    vectors = embed_groups(model, groups, len(found.rnns))
    specs = [rnn.spec.slug for rnn in found.rnns]
    table = pa.table({"id": found.ids, "spec": specs, "source": found.sources})
    return _finish(model, table, vectors, list(_written(model, groups, found.ids)))


def _groups(model: Model, zoo: Zoo, snapshots: pa.Table) -> list[tuple[np.ndarray, Population]]:
    """A zoo's RNNs by architecture, all of which the encoder takes."""
    groups = zoo.groups(snapshots)
    misfit = _misfit(model, [population.spec for _, population in groups])
    if misfit:
        raise RNNSpecMismatch(f"{zoo.path}: {misfit}")
    return groups


def _misfit(model: Model, specs: Sequence[RNNSpec]) -> str | None:
    """Why the encoder does not take one of the architectures, if it does not."""
    for spec in specs:
        try:
            model.encoder.check(spec)
        except RNNSpecMismatch as error:
            return str(error)
    return None


def _finish(model: Model, table: pa.Table, vectors: torch.Tensor, strings: list[list[str]]) -> pa.Table:
    flat = pa.array(vectors.numpy().astype(np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = table.append_column("embedding", column)
    table = table.append_column("samples", pa.array(strings, pa.list_(pa.string())))
    if model.predictors:
        predictions = [_plain(model.task, one) for one in model.read(vectors)]
        kind = pa.struct([(name, PREDICTED.get(name, pa.float64())) for name in model.predictors])
        table = table.append_column("predicted", pa.array(predictions, kind))
    return table


def _plain(task: Task, predicted: dict[str, Any]) -> dict[str, Any]:
    values = {name: prediction["value"] for name, prediction in predicted.items()}
    if values.get("task") is not None:
        values["task"] = task.label(values["task"])
    return values


def _stored(zoo: Zoo, task: Task, snapshots: pa.Table) -> list[list[str]]:
    """The first few stored rollouts of each snapshot, read in chunks to bound memory."""
    rows = snapshots["row"].to_numpy()
    strings = []
    for start in range(0, len(rows), 512):
        inputs = zoo.rollouts(rows[start : start + 512]).inputs[:, :SAMPLES]
        strings += [task.show(own) for own in inputs]
    return strings


def _written(
    model: Model, groups: list[tuple[np.ndarray, Population]], ids: list[str]
) -> Iterator[list[str]]:
    """A few strings that RNNs without rollouts write, where they read and write the task's tokens."""
    written: dict[int, list[str]] = {}
    for positions, population in groups:
        if _speaks(model.task, population.spec):
            streams = [seeds.stream(0, "samples", ids[i]) for i in positions]
            # What a generative task's RNNs write comes from them alone, whatever instance they learned.
            rollouts = model.task.rollouts(population, [], streams, SAMPLES)
            written |= dict(zip(positions.tolist(), map(model.task.show, rollouts.inputs), strict=True))
    for i in range(len(ids)):
        yield written.get(i, [])


def _speaks(task: Task, spec: RNNSpec) -> bool:
    tokens = task.signal == task.outcome == "tokens"
    return tokens and not spec.bidirectional and (spec.input, spec.output_size) == (task.input, task.output)


def _repeated(ids: list[str]) -> str | None:
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            return id
        seen.add(id)
    return None
