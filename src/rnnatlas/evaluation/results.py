"""All figures of several evaluated runs in one table."""

import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from rnnatlas import tasks
from rnnatlas.checked import Kind, read_table, write_table
from rnnatlas.emulation.model import read_settings
from rnnatlas.errors import RunFormatError
from rnnatlas.evaluation.evaluate import COST, LOSSES, PREDICTIONS, PREDICTORS, read_cost
from rnnatlas.evaluation.evaluate import read as read_part
from rnnatlas.evaluation.figures import Figure, loss_figures, property_figures
from rnnatlas.evaluation.pairs import Tables, comparisons, numbers
from rnnatlas.files import write_json
from rnnatlas.intervals import Interval

VERSION = 3
"""Of the schema."""

PARQUET, JSON = "results.parquet", "results.json"
_RESULTS = Kind("an experiment's results", RunFormatError, "make the report again")

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),  # figure, difference, ratio, cost, or check: see `rnnatlas.report.checks`
        ("name", pa.string()),  # what is measured, as in metrics.json
        ("split", pa.string()),  # null for costs
        ("encoder", pa.string()),  # its label in the experiment
        ("of", pa.string()),  # what the emulator was conditioned on, or the predictor read
        ("versus", pa.string()),  # for differences and ratios: the other side's encoder
        ("versus_of", pa.string()),
        ("seeds", pa.list_(pa.field("element", pa.int64()))),  # as Parquet calls it
        ("value", pa.float64()),
        ("low", pa.float64()),  # 95 % interval over RNNs or tasks, and seeds
        ("high", pa.float64()),
        ("p", pa.float64()),  # of differences: two-sided p-value of no difference, not corrected
        ("n_drawn", pa.int64()),  # RNNs, or tasks that were held out, over which the interval is
        ("n_runs", pa.int64()),
        ("n_snapshots", pa.int64()),
        ("lower_is_better", pa.bool_()),  # null where neither is good
        ("definition", pa.string()),
    ],
    metadata={"version": str(VERSION)},
)

Runs = Mapping[str, Mapping[int, Path | str]]
"""Label of an encoder → seed → folder of the evaluated run."""


def check_evaluated(run: Path | str) -> None:
    """Makes sure that a run holds what `evaluate` writes, whole.

    Raises:
        RunFormatError: It does not.
    """
    for name in (LOSSES, PREDICTIONS, COST, PREDICTORS):
        if not (Path(run) / name).is_file():
            raise RunFormatError(
                f"the run {run} should hold {name}, found none; evaluate it with: rnnatlas evaluate {run}"
            )


def collect(runs: Runs, since: int = 0) -> pa.Table:
    """Figures, paired differences, ratios and costs of several runs of one zoo; see `SCHEMA`.

    Encoders are compared with one another by what was conditioned on or read alike (embedding and
    embedding), and each embedding with everything beside it.

    Args:
        runs: The evaluated runs.
        since: Training step of the earliest snapshots that count.

    Raises:
        RunFormatError: A run has not been evaluated, or two were on other RNNs.
    """
    tables = {label: _read(own, since) for label, own in runs.items()}
    _check_alike(runs, tables)
    records: list[dict[str, Any]] = []
    for label, (lost, predicted) in tables.items():
        about = {"encoder": label, "seeds": list(runs[label])}
        figures = [*loss_figures(lost, _counted(runs[label])), *property_figures(predicted)]
        records += [record(figure, about) for figure in figures]
        records += _costs(label, runs[label])
    return pa.Table.from_pylist(records + list(comparisons(runs, tables)), schema=SCHEMA)


def write(folder: Path | str, table: pa.Table) -> None:
    """Writes results.parquet and, with the same records, results.json."""
    write_table(Path(folder) / PARQUET, table)
    write_json(Path(folder) / JSON, {"version": VERSION, "records": table.to_pylist()})


def read(folder: Path | str) -> pa.Table:
    """Reads what `write` wrote.

    Raises:
        RunFormatError: It is missing, damaged or of another version.
    """
    path = Path(folder) / PARQUET
    table = read_table(path, _RESULTS, {})
    version = (table.schema.metadata or {}).get(b"version", b"none").decode()
    if version != str(VERSION):
        raise RunFormatError(f"{path} should be of version {VERSION}, found {version}; make the report again")
    return table


def figures(table: pa.Table, encoder: str) -> list[Figure]:
    """The figures of one encoder, as they were before they became records."""
    return [
        Figure(
            name=row["name"],
            split=row["split"],
            of=row["of"],
            interval=interval(row),
            runs=row["n_runs"],
            snapshots=row["n_snapshots"],
            definition=row["definition"],
            lower_is_better=row["lower_is_better"],
        )
        for row in table.to_pylist()
        if (row["kind"], row["encoder"]) == ("figure", encoder)
    ]


def interval(row: Mapping[str, Any]) -> Interval:
    """The figure of a record with its interval."""
    mean, low, high = (math.nan if row[name] is None else row[name] for name in ("value", "low", "high"))
    p = row.get("p")
    return Interval(mean, low, high, row["n_drawn"] or 0, math.nan if p is None else p)


def costs(table: pa.Table) -> dict[str, dict[str, float]]:
    """What each encoder costs, by name of the cost."""
    found: dict[str, dict[str, float]] = {}
    for row in table.to_pylist():
        if row["kind"] == "cost":
            found.setdefault(row["encoder"], {})[row["name"]] = row["value"]
    return found


# --- making records ------------------------------------------------------------------------------------


def _read(own: Mapping[int, Path | str], since: int) -> Tables:
    counted = [("step", ">=", since)] if since else None  # imported snapshots may have no step, which is -1
    for run in own.values():
        check_evaluated(run)
    lost, predicted = (
        [read_part(Path(run) / name, counted) for run in own.values()] for name in (LOSSES, PREDICTIONS)
    )
    return lost, predicted


def _check_alike(runs: Runs, tables: Mapping[str, Tables]) -> None:
    """Makes sure that all runs are of one zoo and divergence, and within an encoder of the same rows.

    Figures are put together row by row.
    """
    first: tuple[str | Path, Any] | None = None
    for label, (lost, predicted) in tables.items():
        paths = list(runs[label].values())
        for run, table in zip(paths, lost, strict=True):
            # zoos call their snapshots alike
            about = read_settings(Path(run)).zoo_identity, table["divergence"].unique().to_pylist()
            first = first or (run, about)
            rows = table.select(["id", "divergence"])
            if about != first[1] or not rows.equals(lost[0].select(["id", "divergence"])):
                raise RunFormatError(
                    f"the runs {first[0]} and {run} were evaluated on other RNNs or trained on other "
                    "divergences, so they cannot be compared; train both on the same zoo and divergence"
                )
        keys = [table.select(["id", "property", "predictor"]) for table in predicted]
        for run, own in zip(paths, keys, strict=True):
            if not own.equals(keys[0]):
                raise RunFormatError(
                    f"the runs {paths[0]} and {run} of one encoder should have predictions of the same "
                    "properties from the same features, but one has some that the other lacks (such as "
                    "those trained end to end); evaluate both alike"
                )


def _counted(own: Mapping[int, Path | str]) -> str:
    """What the task's mask leaves, in words."""
    task = read_settings(Path(next(iter(own.values())))).task
    return tasks.registry[task.name].from_settings(task.settings).counted


def record(figure: Figure, about: Mapping[str, Any]) -> dict[str, Any]:
    """A figure as the table has it; `about` says of which encoder and seeds it is."""
    return {
        "kind": "figure",
        "name": figure.name,
        "split": figure.split,
        "of": figure.of,
        **about,
        **numbers(figure.interval),
        "n_runs": figure.runs,
        "n_snapshots": figure.snapshots,
        "lower_is_better": figure.lower_is_better,
        "definition": figure.definition,
    }


def _costs(label: str, own: Mapping[int, Path | str]) -> Iterator[dict[str, Any]]:
    found = [read_cost(run) for run in own.values()]
    definitions = (
        ("parameters", "numbers of the encoder that training changes"),
        ("flops", "floating-point operations of matrix products to embed one RNN"),
        ("milliseconds", "processor time to embed one RNN of many, on the machine that evaluated it"),
        ("queries", "steps at which the encoder shows an RNN an input; 0 where it reads weights alone"),
    )
    for name, definition in definitions:
        values = [float(one[name]) for one in found if name in one]  # runs of earlier versions lack some
        if not values:
            continue
        yield {
            "kind": "cost",
            "name": name,
            "encoder": label,
            "of": "encoder",
            "seeds": list(own),
            "value": statistics.median(values),
            "lower_is_better": True,
            "definition": definition,
        }
