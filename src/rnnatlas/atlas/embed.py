"""Making an atlas: embedding the RNNs of zoos and of checkpoint files."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from rnnatlas import seeds
from rnnatlas.atlas.index import Atlas, with_places
from rnnatlas.atlas.layouts import place
from rnnatlas.atlas.sources import FileRNNs, names, read_files, snapshots_of, sort
from rnnatlas.atlas.untrained import ENCODER, Basis, Untrained, check_encoder
from rnnatlas.errors import AtlasFormatError, CheckpointError, RNNSpecMismatch
from rnnatlas.evaluation.model import Model
from rnnatlas.properties.base import Classes
from rnnatlas.rnn import System, check_system, groups
from rnnatlas.rnn.heads import Head
from rnnatlas.tasks.base import Task
from rnnatlas.zoo import networks
from rnnatlas.zoo.format import RECORDED
from rnnatlas.zoo.store import Zoo

SAMPLES = 5
"""Strings of each RNN that an atlas keeps."""

PART = 8192
"""Snapshots of a zoo that are in memory at a time."""

LAYOUT = "tsne"
PREDICTED = {"task": pa.string(), "step": pa.int64()}
"""Types of predicted properties that are not plain numbers."""


FromZoo = Callable[[Model | Untrained, Zoo, pa.Table, str], pa.Table]
"""What makes entries of snapshots of a zoo, as `from_zoo` does."""

Thing = Path | str | Zoo | System
"""What can be embedded: a zoo or where it is, checkpoint files, folders of them, or RNNs in memory."""


def embed(
    model: Model | str,
    things: Thing | Sequence[Thing],
    layout: str = LAYOUT,
    seed: int = 0,
    cell: str | None = None,
    head: Head = None,
    separate: bool = False,
    per_architecture: bool = False,
    by_zoo: "FromZoo | None" = None,
) -> Atlas:
    """Embeds all RNNs of zoos, checkpoint files and systems.

    Args:
        model: The encoder, with its predictors where the run was evaluated. Or "invariants": then RNNs of all
            sizes are embedded by principal components of `rnnatlas.invariants`, standardised over themselves.
        things: Zoos or where they are, checkpoint files, folders of them, and systems. Snapshots of a zoo
            that diverged are left out; ids of several zoos begin with the zoo's name, those of RNNs in memory
            are numbers.
        layout: How places on the map are found.
        seed: Of the layout.
        cell: The cell where files do not tell; "elman-relu" by default where the run has such RNNs alone.
        head: Prefix of the linear head's names in files, where several layers fit; "" for none.
        separate: Whether each RNN of a file is an entry of its own; else RNNs of one file are one network and
            one entry, whose direction is the mean of theirs.
        per_architecture: Whether invariants are standardised over the RNNs of each architecture of which
            there are eight or more, so that the architecture itself does not count.
        by_zoo: What embeds snapshots of a zoo in the place of `from_zoo`.

    Raises:
        CheckpointError: A path holds no RNN, or one whose weights are not finite.
        UnknownName: No cell is called so.
        ZooFormatError: A zoo is incomplete, damaged or of another format version.
        RNNSpecMismatch: The encoder does not take an RNN's architecture, or a thing is none of these.
        SettingsError: There is no run, and the encoder is another one.

    Example:
        >>> import rnnatlas as ra, torch
        >>> model = ra.load("run")
        >>> pair = (torch.nn.GRU(4, 8), torch.nn.Linear(8, 4))
        >>> atlas = ra.embed(model, ["zoo", ra.Population.from_modules([pair])])
        >>> len(atlas)
        41
        >>> atlas.map("map.html")
    """
    if isinstance(model, str):
        check_encoder(model)
        made_by = Untrained()
    else:
        made_by = model
    things = list(things) if isinstance(things, Sequence) and not isinstance(things, str) else [things]
    for thing in things:
        if not isinstance(thing, (Path, str, Zoo)):
            check_system(thing)
    systems = [thing for thing in things if isinstance(thing, System)]
    paths = [thing for thing in things if not isinstance(thing, System)]
    zoos, files = sort(paths)
    tables, left_out = _from_zoos(made_by, zoos, by_zoo or from_zoo)
    if files:
        from_files = read_files(files, made_by, cell, head)
        tables.append(_from_files(made_by, from_files))
        left_out += from_files.left_out
    if systems:
        from_systems, reasons = _from_systems(made_by, systems)
        tables += from_systems
        left_out += reasons
    table = pa.concat_tables(tables, promote_options="permissive")
    known, reasons = finite(table["id"].to_pylist(), _vectors(table))
    table, left_out = table.filter(pa.array(known)), left_out + reasons
    if isinstance(made_by, Untrained):
        table = _by_components(made_by, table, per_architecture)
    groups = networks.members(table["network"].to_pylist())
    if not separate:
        table = _joined(table)
    repeated = _repeated(table["id"].to_pylist())
    if repeated:
        raise CheckpointError(
            f"every entry of an atlas needs an id of its own, found {repeated!r} twice; embed each path once"
        )
    vectors = _vectors(table)
    card = {
        **_made_by(made_by, table.num_rows),
        "sources": [str(thing.path if isinstance(thing, Zoo) else thing) for thing in things],
        "left_out": left_out,
        "cell": cell,
        "separate": separate,
        "networks": None if separate else networks.said(groups),
        "layout": layout,
        "layout_seed": seed,
    }
    basis = made_by.basis if isinstance(made_by, Untrained) else None
    return Atlas(card, with_places(table, place(layout, vectors, seed)), basis=basis)


def _made_by(model: Model | Untrained, count: int) -> dict[str, Any]:
    """What an atlas's card says of where embeddings of so many RNNs come from."""
    if isinstance(model, Untrained):
        return {
            "run": None,
            "model": digest(model),
            "encoder": ENCODER,
            "seed": None,
            "basis": model.said(count),
        }
    own = {"run": str(model.path.resolve()), "model": digest(model)}
    return {**own, "encoder": model.settings.encoder, "seed": model.settings.seed}


def _by_components(model: Untrained, table: pa.Table, per_architecture: bool) -> pa.Table:
    """Entries whose embeddings are invariants with principal components of these, which the model keeps."""
    specs = table["spec"].to_pylist()
    values = _vectors(table)
    whole = torch.tensor(values, dtype=torch.float64)
    model.basis = Basis.fit(whole, specs, per_architecture)
    found = model.basis(whole, specs).float().numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), found.shape[1])
    return table.set_column(table.column_names.index("embedding"), "embedding", column)


def embed_query(
    atlas: Atlas, path: Path, model: Model | Untrained, cell: str | None = None, head: Head = None
) -> tuple[Float[np.ndarray, " embed"], str | None]:
    """The embedding of the one RNN of a checkpoint file, made as the atlas's were; and a remark on the RNN.

    `cell` and `head` are those of `embed`.

    Raises:
        AtlasFormatError: The atlas was made by another encoder.
        CheckpointError: The file holds no RNN, or several and the atlas keeps such apart.
    """
    if digest(model) != atlas.card["model"]:
        made = (
            "with other scales"
            if isinstance(model, Untrained)
            else f"by another state of the run {model.path}"
        )
        raise AtlasFormatError(f"the atlas was made {made}; embed the RNNs again")
    query = read_files([path], model, cell, head)
    if len(query.rnns) != 1 and (len(set(query.sources)) > 1 or atlas.card.get("separate", True)):
        raise CheckpointError(
            f"{path} holds {len(query.rnns)} RNNs, but a search starts from one; "
            "embed the file and search by id"
        )
    vectors = np.concatenate([model.embed(own.population()).numpy() for _, own in query.by_interface()])
    known, _ = finite(query.ids, vectors)
    return _mean(vectors[known]), "; ".join(filter(None, [rnn.remark for rnn in query.rnns])) or None


def embed_file(model: Model | Untrained, path: Path, cell: str | None = None, head: Head = None) -> pa.Table:
    """The row that the network of a checkpoint file has in an atlas, but for places; arguments as `embed`.

    Raises:
        CheckpointError: The file holds no RNN.
    """
    return _joined(_from_files(model, read_files([path], model, cell, head)))


def finite(ids: Sequence[str], vectors: Float[np.ndarray, "rnn embed"]) -> tuple[np.ndarray, list[str]]:
    """Which embeddings are finite, and what to say of the others.

    Raises:
        CheckpointError: None is.
    """
    known = np.array(np.isfinite(vectors).all(axis=1))
    broken = [str(ids[row]) for row in np.flatnonzero(~known).tolist()]
    why = "is not finite, because this RNN's outputs grow without bound"
    if broken and not known.any():
        raise CheckpointError(f"the embedding of {broken[0]} {why}; leave it out")
    more = f"; nor are those of {len(broken) - 1} others" if len(broken) > 1 else ""
    return known, [f"the embedding of {broken[0]} {why}{more}"] if broken else []


def _vectors(table: pa.Table) -> np.ndarray:
    return table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)


def digest(model: Model | Untrained) -> str:
    """Identifies the weights of an encoder."""
    sha = hashlib.sha256()
    own = model.basis if isinstance(model, Untrained) else model.encoder
    for name, value in own.state_dict().items() if own is not None else ():
        sha.update(name.encode())
        sha.update(value.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def notes(snapshots: pa.Table) -> pa.ChunkedArray:
    """Remarks on a zoo's snapshots, which imported ones may have."""
    if "notes" in snapshots.column_names:
        return snapshots["notes"]
    return pa.chunked_array([pa.nulls(snapshots.num_rows, pa.string())])


# --- entries ---------------------------------------------------------------------------------------


def _from_zoos(
    model: Model | Untrained, zoos: Sequence[Zoo], by_zoo: "FromZoo"
) -> tuple[list[pa.Table], list[str]]:
    """A table for each zoo, and what was left out of them, a sentence each."""
    tables, left_out = [], []
    for zoo, name in zip(zoos, names(zoos), strict=True):
        snapshots, reasons = snapshots_of(model, zoo)
        left_out += reasons
        tables.append(by_zoo(model, zoo, snapshots, name))
    return tables, left_out


def from_zoo(model: Model | Untrained, zoo: Zoo, snapshots: pa.Table, name: str) -> pa.Table:
    """Entries of snapshots of a zoo, whose ids begin with `name`."""
    if snapshots.num_rows == 0:
        raise CheckpointError(f"zoo {zoo.path} holds no snapshot that can be embedded")
    tables = []
    for start in range(0, snapshots.num_rows, PART):
        tables.append(_entries(model, zoo, snapshots.slice(start, PART), name))
        if snapshots.num_rows > PART:
            zoo.forget()
    return pa.concat_tables(tables, promote_options="default")


def _entries(model: Model | Untrained, zoo: Zoo, snapshots: pa.Table, name: str) -> pa.Table:
    """Entries of few enough snapshots for memory."""
    rnns = zoo.population(snapshots)
    vectors = model.embed(rnns)
    columns = ["spec", "run", "step", "split", "task", "metrics", "labels", "role"]
    if zoo.card["task"] and zoo.card["task"]["name"] == RECORDED:  # whose instances are told by id and labels
        columns.remove("task")
    table = snapshots.select([name for name in columns if name in snapshots.column_names])
    ids = snapshots["id"].to_pylist()
    table = table.add_column(0, "id", pa.array([name + id for id in ids], pa.string()))
    table = table.append_column("source", pa.array([str(zoo.path)] * len(table), pa.string()))
    own = [file and name + file for file in networks.network_of(snapshots)]
    table = table.append_column("network", pa.array(own, pa.string()))
    table = table.append_column("notes", notes(snapshots))
    if zoo.task is not None:
        label = zoo.task.label
        labels = [  # an imported network that is in no group has none
            None if instance is None or instance.get("group", "") is None else label(instance)
            for instance in snapshots["task"].to_pylist()
        ]
        table = table.append_column("label", pa.array(labels, pa.string()))
        strings = _stored(zoo, zoo.task, snapshots) if zoo.task.generates else [[]] * len(table)
    else:
        strings = _written(model, rnns, ids)
    return _finish(model, table, rnns, vectors, strings)


def _from_files(model: Model | Untrained, files: FileRNNs) -> pa.Table:
    tables, order = [], []
    for positions, own in files.by_interface():
        rnns = own.population()
        several = [file if files.sources.count(file) > 1 else None for file in own.sources]
        table = pa.table(
            {
                "id": own.ids,
                "spec": [rnn.spec.slug for rnn in own.rnns],
                "source": own.sources,
                "network": pa.array(several, pa.string()),
                "notes": pa.array([rnn.remark for rnn in own.rnns], pa.string()),
            }
        )
        tables.append(_finish(model, table, rnns, model.embed(rnns), _written(model, rnns, own.ids)))
        order += positions
    return pa.concat_tables(tables).take(pa.array(np.argsort(order)))


def _from_systems(model: Model | Untrained, systems: Sequence[System]) -> tuple[list[pa.Table], list[str]]:
    """RNNs in memory, numbered in their order, and why some of them are left out."""
    tables, left_out, first = [], [], 0
    for system in systems:
        for positions, group in groups(system):
            [spec] = group.specs or (None,)
            if reason := model.encoder.accepts(group.interface, spec):
                left_out.append(f"{len(group)} RNNs in memory: {reason}")
                continue
            ids = [f"rnn-{first + position:05d}" for position in positions.tolist()]
            table = pa.table(
                {
                    "id": ids,
                    "spec": pa.array([spec and spec.slug] * len(ids), pa.string()),
                    "source": ["memory"] * len(ids),
                    "network": pa.nulls(len(ids), pa.string()),
                }
            )
            tables.append(_finish(model, table, group, model.embed(group), _written(model, group, ids)))
        first += len(system)
    if not tables:
        raise RNNSpecMismatch(left_out[0])
    return tables, left_out


def _finish(
    model: Model | Untrained, table: pa.Table, rnns: System, vectors: torch.Tensor, strings: list[list[str]]
) -> pa.Table:
    flat = pa.array(vectors.numpy().astype(np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = table.append_column("embedding", column)
    table = table.append_column("samples", pa.array(strings, pa.list_(pa.string())))
    like = model.likeness(rnns)
    for name, kind in (("ood_score", pa.float64()), ("in_distribution", pa.bool_())):
        table = table.append_column(name, pa.array([own[name] for own in like], kind))
    if not isinstance(model, Untrained) and model.predictors:
        predictions = [_plain(model.task, one) for one in model.read(vectors)]
        kind = pa.struct(
            [
                (name, _predicted(name, isinstance(prop, Classes)))
                for name, (prop, _) in model.predictors.items()
            ]
        )
        table = table.append_column("predicted", pa.array(predictions, kind))
    return table


def _joined(table: pa.Table) -> pa.Table:
    """One row a network; one of several RNNs is as likely as the least likely of them."""
    names = table["network"].to_pylist()
    groups = networks.members(names)
    one = networks.joined(table, groups, names).drop_columns("network")
    if "rnns" not in one.column_names:
        return one
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    means = np.stack([_mean(vectors[own]) for own in groups])
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(means.reshape(-1)), means.shape[1])
    scores, within = table["ood_score"].to_pylist(), table["in_distribution"].to_pylist()
    columns = {
        "embedding": embedding,
        "samples": [strings or [] for strings in one["samples"].to_pylist()],
        "ood_score": [None if None in (s := [scores[i] for i in own]) else max(s) for own in groups],
        "in_distribution": [None if None in (w := [within[i] for i in own]) else all(w) for own in groups],
    }
    for name, values in columns.items():
        field = table.schema.field(name)
        one = one.set_column(one.column_names.index(name), field, pa.array(values, field.type))
    return one


def _mean(vectors: Float[np.ndarray, "rnn embed"]) -> Float[np.ndarray, " embed"]:
    """The mean direction of some embeddings, as long as they are on average."""
    if len(vectors) == 1:
        return vectors[0]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = (vectors / np.where(lengths > 0, lengths, 1)).mean(0)
    return mean / (np.linalg.norm(mean) or 1) * lengths.mean()


def _predicted(name: str, of_classes: bool) -> pa.DataType:
    """Arrow type of what is predicted."""
    return PREDICTED.get(name, pa.string() if of_classes else pa.float64())


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
        inputs = zoo.rollout_inputs(rows[start : start + 512])[:, :SAMPLES]
        strings += [task.show(own) for own in inputs]
    return strings


def _written(model: Model | Untrained, rnns: System, ids: list[str]) -> list[list[str]]:
    """A few strings that RNNs without rollouts write, where they read and write the task's tokens."""
    task = model.task
    written: list[list[str]] = [[] for _ in ids]
    for positions, group in groups(rnns):
        whole = any(spec.bidirectional for spec in group.specs)  # who reads from both ends writes nothing
        if (
            task is not None
            and task.generates
            and group.interface.sizes == task.interface.sizes
            and not whole
        ):
            streams = [seeds.stream(0, "samples", ids[i]) for i in positions.tolist()]
            # What a generative task's RNNs write comes from them alone, whatever instance they learned.
            rollouts = task.rollouts(group, [], streams, SAMPLES)
            for i, own in zip(positions.tolist(), rollouts.inputs, strict=True):
                written[i] = task.show(own)
    return written


def _repeated(ids: list[str]) -> str | None:
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            return id
        seen.add(id)
    return None
