"""From a folder of anyone's checkpoints, or a list of modules, to groups, a map and a report."""

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from rnnatlas.atlas.layouts import place
from rnnatlas.errors import RNNAtlasError, RNNSpecMismatch
from rnnatlas.exploration import learned as learning
from rnnatlas.exploration.behaviour import behaviour
from rnnatlas.exploration.found import DISTANCES, MAP, TABLE, Exploration
from rnnatlas.exploration.page import write_report
from rnnatlas.exploration.structure import coordinates, explain, groups, odd_ones
from rnnatlas.files import check_free, replacing
from rnnatlas.properties.labels import label
from rnnatlas.rnn.system import System
from rnnatlas.seeds import stream
from rnnatlas.zoo import networks
from rnnatlas.zoo.imports import assumed, import_checkpoints, passed_over
from rnnatlas.zoo.store import Zoo

MOST = 3000
"""RNNs that are compared pair by pair; of more, so many drawn at random."""
FEWEST_TO_LEARN = 12
"""RNNs from which an encoder learns at least."""


def explore(
    things: Any,
    out: Path | str,
    *,
    inputs: Any = None,
    labels: Any = None,
    group: str | None = None,
    train: bool = True,
    seed: int = 0,
    cell: str | None = None,
    head: Any = None,
    separate: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Exploration:
    """Compares RNNs by what they do, finds groups, and writes a report; then trains an encoder on them.

    The report is there after the first part, which trains nothing, and is written again after the second.

    Args:
        things: Checkpoint files, folders and globs; or torch modules.
        out: Folder for all that is made; it should not exist yet.
        inputs: Trials that RNNs read, as `import_checkpoints` takes them; without any, defaults that the
            report names.
        labels: What is known of the RNNs, as `import_checkpoints` takes it.
        group: Label of what belongs together, which cross-validation does not part.
        train: Whether to train an encoder.
        seed: Decides everything random.
        cell: As for `import_checkpoints`.
        head: As for `import_checkpoints`.
        separate: As for `import_checkpoints`; without it RNNs of one file are one network.
        progress: Whether to show bars.
        say: Is told what was found as soon as it is.

    Raises:
        CheckpointError: Nothing could be read.
        OutputExists: `out` holds something.
        DataError: Inputs or labels do not fit the RNNs.
        RNNSpecMismatch: Modules cannot be read, or something else was given, such as a black box.
        RNNAtlasError: Fewer than two RNNs can be compared.

    Example:
        >>> import rnnatlas as ra, torch
        >>> modules = [torch.nn.GRU(2, 4 + i % 3) for i in range(6)] + [torch.nn.LSTM(2, 5) for _ in range(4)]
        >>> found = ra.explore(modules, "explored", inputs=torch.randn(20, 15, 2), train=False)
        >>> found.distances.shape
        (10, 10)
    """
    out = Path(out)
    check_free(out)
    with _whole(out):
        zoo, left_out = _zoo(things, out / "zoo", inputs, labels, group, seed, cell, head, separate)
        found = compare(zoo, out, left_out, seed)
        _save(found)
        write_report(found)
    say(f"{_first_sentence(found)} ({found.seconds:.0f} s; {found.report})")
    if remark := assumed(_notes(found.rows)):
        say(remark)
    if train and found.rows.num_rows >= FEWEST_TO_LEARN:
        found = _learn(found, seed, progress)
        _save(found)
        write_report(found)
    elif train:
        say(f"{found.rows.num_rows} RNNs are too few to train an encoder on; {FEWEST_TO_LEARN} would do")
    return found


@contextmanager
def _whole(out: Path) -> Iterator[None]:
    """Leaves no zoo without a report where the block ends early, so that the same call works again."""
    try:
        yield
    except BaseException:
        shutil.rmtree(out / "zoo", ignore_errors=True)
        with suppress(OSError):  # there is something in it that people can use
            out.rmdir()
        raise


def compare(zoo: Zoo, out: Path, left_out: Sequence[str] = (), seed: int = 0) -> Exploration:
    """The first part of `explore`, of a zoo with trials; trains nothing and writes nothing."""
    began = time.perf_counter()
    assert zoo.task is not None, "explore imports RNNs with trials"
    rows, left_out = zoo.snapshots().sort_by([("run", "ascending"), ("step", "ascending")]), list(left_out)
    if (diverged := len(zoo) - rows.num_rows) > 0:
        left_out.append(f"{diverged} RNNs whose weights or outputs are not finite")
    of = networks.members(networks.network_of(rows))
    if len(of) > MOST:
        left_out.append(f"{len(of) - MOST} RNNs drawn at random, since {MOST} are compared at most")
        drawn = np.sort(stream(seed, "explore", "rnns").permutation(len(of))[:MOST])
        rows = rows.take([row for place in drawn for row in of[place]])
        of = networks.members(networks.network_of(rows))
    if len(of) < 2:
        raise RNNAtlasError(f"comparing takes at least two RNNs, found {len(of)} that can be run")
    system: System = zoo.population(rows)
    trials = zoo.task.trials  # type: ignore[attr-defined]
    did = behaviour(system, trials.inputs, trials.mask, seed)
    roles = rows["role"].to_pylist() if "role" in rows.column_names else [None] * rows.num_rows
    distances = networks.between(did.distances, of, roles)
    odd = odd_ones(distances)
    labels = {
        name: [networks.agreed([values[i] for i in own]) for own in of]
        for name, values in _labels(zoo, rows).items()
    }
    return Exploration(
        folder=out,
        zoo=zoo,
        rows=networks.joined(rows, of, networks.network_of(rows)),
        members=[[rows["row"][i].as_py() for i in own] for own in of],
        labels=labels,
        behaviour=did,
        distances=distances,
        places=place("pca", coordinates(_saturated(distances), 2)),
        odd=odd,
        groups=groups(distances, odd, seed),
        explained=explain(distances, labels, seed),
        left_out=left_out,
        remarks=[*filter(None, [networks.said(of)]), *_remarks(zoo, rows)],
        seconds=time.perf_counter() - began,
    )


def _saturated(distances: Float[np.ndarray, "rnn rnn"]) -> Float[np.ndarray, "rnn rnn"]:
    """Distances d as d / (d + median)."""
    different = distances[distances > 0]
    return distances / (distances + np.median(different)) if len(different) else distances


def _zoo(
    things: Any,
    out: Path,
    inputs: Any,
    labels: Any,
    group: str | None,
    seed: int,
    cell: str | None,
    head: Any,
    separate: bool,
) -> tuple[Zoo, list[str]]:
    """The RNNs as a zoo with trials, and what was left out of it."""
    things = [things] if isinstance(things, (str, Path, System)) else list(things)
    if system := next((thing for thing in things if isinstance(thing, System)), None):
        raise RNNSpecMismatch(
            f"explore takes checkpoint files, folders and torch modules, found {system!r}; of a Population "
            "give to_modules(), a BlackBox is embedded by a trained run: ra.embed(ra.load(run), [box])"
        )
    if things and all(isinstance(thing, (str, Path)) for thing in things):
        others = passed_over(things)  # before there is a zoo, which may lie in a folder of theirs
        zoo, incomplete = import_checkpoints(
            things,
            out,
            cell=cell,
            head=head,
            inputs=inputs,
            labels=labels,
            separate=separate,
            group=group,
            seed=seed,
        )
        left_out = [sentence for file in incomplete for sentence in (file.skipped, *file.unclear) if sentence]
        return zoo, left_out + ([others] if others else [])
    return Zoo.from_modules(things, out=out, inputs=inputs, labels=labels, group=group, seed=seed), []


def _labels(zoo: Zoo, rows: pa.Table) -> dict[str, list[Any]]:
    """What is known of each RNN: its labels, its architecture, and how well it does."""
    labels: dict[str, list[Any]] = {}
    if "labels" in rows.column_names:
        for field in rows.schema.field("labels").type:
            labels[field.name] = label(rows, field.name)
    specs = {spec.slug: spec for spec in zoo.specs}
    of_rows = [specs[slug] for slug in rows["spec"].to_pylist()]
    known: dict[str, list[Any]] = {
        "cell": [spec.cell for spec in of_rows],
        "units": [spec.hidden for spec in of_rows],
        "layers": [spec.layers for spec in of_rows],
    }
    if "metrics" in rows.column_names and pa.types.is_struct(rows.schema.field("metrics").type):
        known["performance"] = [row and row.get("performance") for row in rows["metrics"].to_pylist()]
    return labels | {name: values for name, values in known.items() if values not in labels.values()}


def _remarks(zoo: Zoo, rows: pa.Table) -> list[str]:
    """What to know of the zoo, and notes on what was read, with how many RNNs each is about."""
    made = zoo.card["settings"]
    counted = [f"{count} RNN{'s' * (count > 1)}: {note}" for note, count in Counter(_notes(rows)).items()]
    return [*filter(None, [made.get("series"), *made.get("remarks", [])]), *counted]


def _notes(rows: pa.Table) -> list[str]:
    return [note for note in rows["notes"].to_pylist() if note] if "notes" in rows.column_names else []


def _learn(found: Exploration, seed: int, progress: bool) -> Exploration:
    """The second part: an encoder, its embeddings and what they predict, and the interactive map."""
    learned = learning.learn(found.zoo, found.rows, found.folder / "run", seed, progress)
    learned.atlas.save(found.folder / "atlas")
    learned.atlas.map(found.folder / MAP)
    statistics = learning.weight_statistics(found.zoo.population([i for own in found.members for i in own]))
    ends = np.cumsum([len(own) for own in found.members])[:-1]
    features = {
        "embedding": learned.z,
        "behaviour": coordinates(found.distances, learning.COMPONENTS),
        "weights": np.stack([own.mean(axis=0) for own in np.split(statistics, ends)]),
    }
    task = found.zoo.task
    assert task is not None, "explore imports RNNs with trials"
    together = np.array([str(task.key(instance)) for instance in found.rows["task"].to_pylist()])
    predicted = learning.predict(features, found.labels, together, seed)
    return dataclasses.replace(found, learned=learned, predicted=predicted)


def _save(found: Exploration) -> None:
    """The table of RNNs and their distances, for people and other programs."""
    import pyarrow.csv as csv

    columns: dict[str, Any] = {
        "id": found.rows["id"].to_pylist(),
        "group": None if found.groups is None else [int(group) + 1 or None for group in found.groups.of],
        "unlike_all_others": found.odd.tolist(),
        "x": found.places[:, 0].tolist(),
        "y": found.places[:, 1].tolist(),
    }
    columns = {name: values for name, values in columns.items() if values is not None}
    columns |= {name if name not in columns else f"labels.{name}": v for name, v in found.labels.items()}
    found.folder.mkdir(parents=True, exist_ok=True)
    with replacing(found.folder / TABLE) as path:
        csv.write_csv(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
    with replacing(found.folder / DISTANCES) as path, path.open("wb") as file:
        np.save(file, found.distances.astype(np.float32))


def _first_sentence(found: Exploration) -> str:
    """What was found, for people who wait."""
    count = found.rows.num_rows
    alike = "no groups" if found.groups is None else f"{found.groups.count} groups that behave alike"
    odd = int(found.odd.sum())
    what = "networks" if any(len(own) > 1 for own in found.members) else "RNNs"
    return f"{count} {what} compared: {alike}, {odd} unlike nearly all others"
