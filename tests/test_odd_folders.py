"""Zoos, runs, atlases and experiments that hold something else are used, or refused in one sentence."""

import contextlib
import copy
import json
import os
import shutil
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from rnnatlas.atlas.columns import colour_columns, default_column
from rnnatlas.atlas.index import Atlas
from rnnatlas.checked import write_table
from rnnatlas.emulation.model import read_metrics
from rnnatlas.errors import RNNAtlasError
from rnnatlas.evaluation.evaluate import read_cost
from rnnatlas.evaluation.model import load
from rnnatlas.report.experiment import Experiment, Results
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.summary import examples, summarise

ODD = [None, True, -1, 2.5, 10**30, float("nan"), "", "x", "\x00", [], [1], {}, {"a": 1}]
MUTANTS = 120
"""Of each folder, drawn from all that one odd value makes."""


def use_zoo(folder):
    zoo = Zoo.open(folder)
    rows = zoo.snapshots(where="step >= 0")
    summarise(zoo), examples(zoo), zoo.identity
    zoo.population(rows.slice(0, 4)), zoo.rollouts(rows.slice(0, 4))


def use_run(folder):
    model = load(folder)
    read_metrics(folder), read_cost(folder), repr(model), model.divergence


def use_atlas(folder):
    atlas = Atlas.open(folder)
    found = atlas.search(atlas.ids[0], 3, where="x > -1e9")
    repr(atlas), found.to_pylist(), default_column(colour_columns(atlas.table)), atlas.exactness


def use_experiment(folder):
    made = Experiment.load(folder)
    results = Results(folder, made)
    for encoder in results.encoders:
        results.histories(encoder)
    made.save(folder)


USED = {
    "zoo": (use_zoo, ["zoo.json"]),
    "interactive-0": (use_run, ["settings.yaml", "metrics.json", "cost.json", "zero/settings.yaml"]),
    "atlas": (use_atlas, ["atlas.json"]),
    ".": (use_experiment, ["experiment.json"]),
}


def places(document, path=()):
    """Where a document has values, those of values within values too."""
    kinds = {dict: dict.items, list: enumerate}
    for key, value in kinds.get(type(document), lambda scalar: ())(document):
        yield (*path, key)
        yield from places(value, (*path, key))


def with_odd(document, path, value):
    """The document with another value in one place; or without it, where `value` is `places`."""
    changed = copy.deepcopy(document)
    above = changed
    for key in path[:-1]:
        above = above[key]
    if value is places:
        del above[path[-1]]
    else:
        above[path[-1]] = value
    return changed


def used_or_refused(use, folder, what):
    try:
        use(folder)
    except (RNNAtlasError, MemoryError) as error:
        assert "\n" not in str(error), what  # noqa: PT017
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__}: {error}")


@pytest.mark.parametrize("name", USED)
def test_texts_with_one_odd_value(name, experiment, tmp_path):
    use, files = USED[name]
    folder = shutil.copytree(experiment, tmp_path / "copy") / name
    use(folder)
    random = np.random.default_rng(0)
    for file in files:
        path = folder / file
        whole = path.read_text()
        document = (yaml.safe_load if path.suffix == ".yaml" else json.loads)(whole)
        every = [(place, value) for place in places(document) for value in (*ODD, places)]
        for i in random.permutation(len(every))[: MUTANTS // len(files)]:
            changed = with_odd(document, *every[i])
            path.write_text(yaml.safe_dump(changed) if path.suffix == ".yaml" else json.dumps(changed))
            used_or_refused(use, folder, f"{file} with {every[i]}")
        path.write_text(whole)


def odd_columns(column):
    """Columns of another type or content, as long as this one."""
    count = len(column)
    yield pa.nulls(count)
    yield pa.nulls(count, column.type)
    for values in (
        ["x"] * count,
        [1.5] * count,
        [-1] * count,
        [[1]] * count,
        [{"a": 1}] * count,
        [b"\xff"] * count,
    ):
        yield pa.array(values)
    yield pa.Array.from_buffers(pa.string(), count, pa.array([b"\xff"] * count).buffers())


@pytest.mark.parametrize("name", ["zoo", "atlas"])
def test_tables_with_one_odd_column(name, experiment, tmp_path):
    use, _ = USED[name]
    folder = shutil.copytree(experiment / name, tmp_path / name)
    path = next(folder.rglob("*.parquet"))
    table = pq.read_table(path)
    for place, column in enumerate(table.column_names):
        for odd in odd_columns(table[column]):
            write_table(path, table.set_column(place, column, odd))
            used_or_refused(use, folder, f"{column} as {odd.type}")
        write_table(path, table.drop_columns(column))
        used_or_refused(use, folder, f"without {column}")


@pytest.mark.parametrize("name", USED)
def test_files_with_bytes_that_are_others(name, experiment, tmp_path):
    use, _ = USED[name]
    folder = shutil.copytree(experiment, tmp_path / "copy") / name
    random = np.random.default_rng(1)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "tfevents" not in path.name]
    for _ in range(MUTANTS // 2):
        path = files[random.integers(len(files))]
        whole = path.read_bytes()
        changed = bytearray(whole[: random.integers(len(whole)) if random.random() < 0.3 else None])
        for place in random.integers(len(changed), size=random.integers(4)) if changed else ():
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        used_or_refused(use, folder, f"{path.name} with other bytes")
        path.write_bytes(whole)


@contextlib.contextmanager
def pipe(path):
    """A pipe in the place of a file; yields a list that is not empty if somebody waits for it meanwhile."""
    path.rename(path.with_name("aside"))
    os.mkfifo(path)
    waited, over = [], threading.Event()

    def look():
        while not over.wait(0.05):
            with contextlib.suppress(OSError):  # nobody reads
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                waited.append(path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield waited
    finally:
        over.set()
        looking.join()
        path.with_name("aside").replace(path)


@pytest.mark.parametrize("name", USED)
def test_nothing_waits_for_a_pipe(name, experiment, tmp_path):
    use, _ = USED[name]
    folder = shutil.copytree(experiment, tmp_path / "copy") / name
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        with pipe(file) as waited:
            used_or_refused(use, folder, f"{file.name} as a pipe")
        assert not waited
