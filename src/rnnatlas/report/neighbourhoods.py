"""Whether near embeddings do the same task equally well, beside raw weights (Herrmann et al., figs. 6, 7)."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from rnnatlas.emulation.data import accepted
from rnnatlas.evaluation.emulations import keys
from rnnatlas.evaluation.features import raw_weights, weight_components
from rnnatlas.evaluation.roles import clusters
from rnnatlas.intervals import bootstrap, correlation, difference, ranks
from rnnatlas.report.checks import Check, Checks, bare, counted, embedded, find, some, verdict
from rnnatlas.report.claims import Claim
from rnnatlas.report.experiment import Results
from rnnatlas.report.published import PUBLISHED
from rnnatlas.report.words import name
from rnnatlas.rnn import populations

NEAREST = 5
"""Neighbours that are looked at."""
PAIRS = 1 << 22
"""Pairs of snapshots that are looked at together, so that memory does not grow with their square."""

SAME, SILHOUETTE = "neighbours of the same task", "silhouette of tasks"
DEGREES = "degrees to neighbours"
OF_TASK, OF_STEP = "performance among neighbours within a task", "performance among neighbours within a step"
EMBEDDING, RAW, CHANCE = "embedding", "raw weights", "chance"

_OTHERS = f"the {NEAREST} nearest snapshots of other runs (by cosine)"
DEFINITIONS = {
    SAME: f"share of {_OTHERS} that have the snapshot's task",
    SILHOUETTE: "(b − a) / max(a, b): a is the mean cosine distance to snapshots of other runs of the same "
    "task, b that to those of the nearest other task",
    DEGREES: f"mean angle, in degrees, between the snapshot's task and those of {_OTHERS}",
    OF_TASK: f"rank correlation, within each task, of performance and its mean over {_OTHERS} of the same "
    "task; part of it is training progress",
    OF_STEP: f"rank correlation, within each training step, of performance and its mean over {_OTHERS}",
}
TITLES = {
    SAME: "neighbours of the same task",
    DEGREES: "degrees to neighbours",
    SILHOUETTE: "silhouette of tasks",
    OF_TASK: "gradient of performance, within a task",
    OF_STEP: "gradient of performance, within a step",
}
LOWER = {DEGREES: True}

Space = list[tuple[Int[np.ndarray, " some"], Float[np.ndarray, "some feature"]]]
"""Vectors of snapshots, of length 1, and their positions; those of different blocks are not near."""


@dataclasses.dataclass(frozen=True)
class _Known:
    """What is known of snapshots: rows of a table, and which are asked about."""

    table: pa.Table
    asked: Int[np.ndarray, " asked"]
    runs: Int[np.ndarray, " rnn"]
    tasks: Int[np.ndarray, " rnn"]
    angles: Float[np.ndarray, " rnn"] | None
    performance: Float[np.ndarray, " rnn"] | None


def checks(results: Results) -> list[Check]:
    """Both, by encoder and held-out split: of embeddings, of raw weights, and by chance."""
    found: list[Check] = []
    raw: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
    for encoder, models in results.models.items():
        chosen = some(models)
        first = next(iter(chosen.values()))
        snapshots, _ = accepted(
            first.encoder, results.zoo, results.zoo.snapshots(where=first.settings.emulation.where)
        )
        known = _known(results, snapshots)
        if known is None:
            continue
        rnns = results.zoo.population(snapshots)
        rows = tuple(snapshots["row"].to_pylist())
        if rows not in raw:
            blocks = [(at.numpy(), _unit(raw_weights(own).numpy())) for at, own in populations(rnns)]
            raw[rows] = _measured(blocks, known)
        spaces = [
            _measured([(np.arange(len(rnns)), _unit(z.numpy()))], known)
            for model in chosen.values()
            for [z] in [embedded(model, rnns)]
        ]
        own = {measure: np.stack([one[measure] for one in spaces]) for measure in spaces[0]}
        others = {measure: values[None] for measure, values in raw[rows].items()}
        for split in results.splits:
            found += _of_split(split, known, own, others, {"encoder": encoder, "seeds": tuple(chosen)})
    return found


def _known(results: Results, snapshots: pa.Table) -> _Known | None:
    """None where no two runs can be compared."""
    table = keys(results.zoo.task, snapshots)
    held_out = np.isin(np.asarray(table["split"].to_pylist()), results.splits)
    _, tasks = np.unique(table["task"].to_pylist(), return_inverse=True)
    runs = table["run"].to_numpy()
    if len(np.unique(runs)) < 3 or not held_out.any():
        return None
    structs = snapshots["task"].to_pylist()
    angles = np.array([one["angle"] for one in structs]) if "angle" in structs[0] else None
    metrics = snapshots["metrics"]
    performance = None
    if metrics.null_count == 0:
        performance = metrics.combine_chunks().field("performance").to_numpy().astype(np.float64)
    return _Known(table, np.flatnonzero(held_out), runs, tasks, angles, performance)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _similarity(space: Space, asked: np.ndarray, count: int) -> Float[np.ndarray, "asked rnn"]:
    found = np.full((len(asked), count), -1.0, dtype=np.float32)
    for positions, vectors in space:
        _, here, there = np.intersect1d(asked, positions, return_indices=True)
        found[np.ix_(here, positions)] = vectors[there] @ vectors.T
    return found


# --- measures ----------------------------------------------------------------------------------------


def _measured(space: Space, known: _Known) -> dict[str, Float[np.ndarray, " asked"]]:
    """One figure a snapshot asked about, by measure; of performance, what neighbours predict."""
    parts: dict[str, list[np.ndarray]] = {}
    count = len(known.runs)
    for asked in np.array_split(known.asked, -(-len(known.asked) * count // PAIRS)):
        others = known.runs[asked][:, None] != known.runs
        similarity = _similarity(space, asked, count)
        for measure, values in _of_chunk(similarity, others, asked, known):
            parts.setdefault(measure, []).append(values)
    return {measure: np.concatenate(values) for measure, values in parts.items()}


def _of_chunk(
    similarity: Float[np.ndarray, "asked rnn"],
    others: Bool[np.ndarray, "asked rnn"],
    asked: Int[np.ndarray, " asked"],
    known: _Known,
) -> Iterator[tuple[str, Float[np.ndarray, " asked"]]]:
    same = known.tasks[asked][:, None] == known.tasks
    near = _nearest(np.where(others, similarity, -np.inf))
    if known.angles is not None:
        apart = np.abs((known.angles[asked][:, None] - known.angles + 180) % 360 - 180)
        yield DEGREES, _mean_of(apart, near)
        yield CHANCE, (apart * others).sum(axis=1) / others.sum(axis=1)
    else:
        yield SAME, _mean_of(same, near)
        yield CHANCE, (same & others).sum(axis=1) / others.sum(axis=1)
        yield SILHOUETTE, _silhouette(similarity, others, asked, known.tasks)
    if known.performance is not None:
        performance = np.broadcast_to(known.performance, similarity.shape)
        yield OF_STEP, _mean_of(performance, near)
        if known.angles is None:
            yield OF_TASK, _mean_of(performance, _nearest(np.where(others & same, similarity, -np.inf)))


def _nearest(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the nearest of each row, and which of them count."""
    size = min(NEAREST, similarity.shape[1])
    found = np.argpartition(-similarity, size - 1, axis=1)[:, :size]
    return found, np.isfinite(np.take_along_axis(similarity, found, axis=1))


def _mean_of(values: np.ndarray, near: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    found, count = near
    with np.errstate(invalid="ignore"):
        return (np.take_along_axis(values, found, axis=1) * count).sum(axis=1) / count.sum(axis=1)


def _silhouette(
    similarity: np.ndarray, others: np.ndarray, asked: np.ndarray, tasks: np.ndarray
) -> Float[np.ndarray, " asked"]:
    """NaN for a snapshot whose task no other run has."""
    member = np.eye(tasks.max() + 1, dtype=np.float32)[tasks]
    counts = others.astype(np.float32) @ member
    with np.errstate(invalid="ignore", divide="ignore"):
        distances = ((1 - similarity) * others).astype(np.float32) @ member / counts
    rows = np.arange(len(asked))
    own = distances[rows, tasks[asked]].copy()
    distances[rows, tasks[asked]] = np.inf
    nearest = np.where(counts > 0, distances, np.inf).min(axis=1)
    return (nearest - own) / np.maximum(nearest, own)


# --- figures -----------------------------------------------------------------------------------------


def _of_split(
    split: str,
    known: _Known,
    own: Mapping[str, np.ndarray],
    raw: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
) -> Iterator[Check]:
    """Figures of one split: [seed, asked] of the embedding, [1, asked] of raw weights."""
    of_split = np.asarray(known.table["split"].to_pylist())[known.asked] == split
    chance = float(raw[CHANCE][:, of_split].mean()) if of_split.any() else 0.0
    for measure in [measure for measure in own if measure != CHANCE]:
        rows = np.flatnonzero(of_split & np.isfinite(own[measure]).all(axis=0))
        if len(rows) < 2 or chance == 0:  # no two runs have one task
            continue
        table = known.table.take(pa.array(known.asked[rows]))
        shared = {"name": measure, "split": split, "definition": DEFINITIONS[measure], **about,
                  "lower_is_better": LOWER.get(measure, False), **counted(table)}  # fmt: skip
        a, b = own[measure][:, rows], raw[measure][:, rows]
        if measure in (OF_TASK, OF_STEP):
            assert known.performance is not None, "else there is no such measure"
            intervals = _correlations(a, b, known.performance[known.asked[rows]], measure, table)
        else:
            intervals = _means(a, b, measure, table)
        yield Check(of=EMBEDDING, interval=intervals[0], **shared)
        yield Check(of=RAW, interval=intervals[1], **shared)
        yield Check(of=EMBEDDING, versus=(about["encoder"], RAW), interval=intervals[2], **shared)
        if measure in (SAME, DEGREES):
            yield Check(of=CHANCE, interval=bare(chance, intervals[0].n), **shared)


def _means(a: np.ndarray, b: np.ndarray, measure: str, table: pa.Table) -> tuple[Any, Any, Any]:
    together = clusters(table)
    bounds = {SAME: (0.0, 1.0), SILHOUETTE: (-1.0, 1.0), DEGREES: (0.0, 180.0)}[measure]
    own, raw = (bootstrap(values, together, bounds=bounds) for values in (a, b))
    return own, raw, difference(a, b, together)


def _correlations(
    a: np.ndarray, b: np.ndarray, performance: np.ndarray, measure: str, table: pa.Table
) -> tuple[Any, Any, Any]:
    groups = np.asarray(table["task" if measure == OF_TASK else "step"].to_pylist())
    a, b, y = (ranks(values, groups) for values in (a, b, performance[None]))
    together = clusters(table)
    wide = np.broadcast_to(y, a.shape)
    return (
        correlation(a, wide, together, groups),
        correlation(b, y, together, groups),
        correlation(a, wide, together, groups, versus=np.broadcast_to(b, a.shape)),
    )


# --- what they say -----------------------------------------------------------------------------------


def claims(checks: Checks, task: str, split: str) -> Iterable[Claim]:
    """The paper's findings on maps, which are of interactive probing."""
    encoder = "interactive"
    if task not in PUBLISHED:
        return
    for measure, text in (
        (SAME, "cluster by task more than raw weights"),
        (DEGREES, "lie near those of RNNs of similar angles more than raw weights"),
        (OF_TASK, "have a gradient of performance within a task that raw weights lack"),
    ):
        own, raw, chance = (find(checks, measure, split, encoder, of) for of in (EMBEDDING, RAW, CHANCE))
        gap = find(checks, measure, split, encoder, EMBEDDING, (encoder, RAW))
        if own is None or raw is None or gap is None:
            continue
        if measure in LOWER:
            gap = dataclasses.replace(gap, mean=-gap.mean, low=-gap.high, high=-gap.low)
        seeds = next(len(check.seeds) for check in checks if check.encoder == encoder)
        beside = "" if chance is None else f", by chance {chance}"
        evidence = f"{measure} on {split}: {own}, of raw weights {raw}{beside}; paired difference {gap}"
        yield Claim(f"embeddings of {name(encoder)} {text}", verdict([gap], seeds), evidence)


# --- the map of raw weights --------------------------------------------------------------------------


def map_of_raw_weights(results: Results) -> pa.Table | None:
    """Entries of the atlas that are of the zoo, placed as the atlas places them but by their raw weights.

    Their first principal components, one block of columns for each architecture.
    """
    from rnnatlas.atlas.index import with_places
    from rnnatlas.atlas.layouts import place

    atlas = results.atlas
    if atlas is None or "id" not in atlas.table.column_names:
        return None
    rows = {name: row for row, name in enumerate(results.zoo.table["id"].to_pylist())}
    kept = [place for place, name in enumerate(atlas.ids) if name in rows]
    if len(kept) < 2:
        return None
    table = atlas.table.take(pa.array(kept))
    rnns = results.zoo.population(np.array([rows[name] for name in table["id"].to_pylist()]))
    components = weight_components(rnns, np.ones(len(kept), dtype=bool), 0).double().numpy()
    layout, seed = atlas.card.get("layout", "tsne"), atlas.card.get("layout_seed", 0)
    return with_places(table, place(layout, components, seed))
