"""Evaluating a trained run: emulation losses and properties, each beside its controls."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas.checked import Columns, Kind, read_json, read_table, write_table
from rnnatlas.devices import choose
from rnnatlas.emulation.data import accepted
from rnnatlas.emulation.model import TrainedRun, read_metrics, write_metrics
from rnnatlas.encoders import controls
from rnnatlas.encoders.cost import TOGETHER, cost, milliseconds
from rnnatlas.errors import RunFormatError, SettingsError, ZooFormatError, warn
from rnnatlas.evaluation import other, reference
from rnnatlas.evaluation.dsa import check as check_dsa
from rnnatlas.evaluation.emulations import emulated_performance, losses
from rnnatlas.evaluation.figures import Figure, loss_figures, property_figures
from rnnatlas.evaluation.levels import LEVELS, NEAREST, levels
from rnnatlas.evaluation.pairs import numbers
from rnnatlas.evaluation.predictions import asked_for, predictions
from rnnatlas.evaluation.reference import REFERENCE
from rnnatlas.evaluation.roles import HELD_OUT
from rnnatlas.evaluation.supervised import SupervisedSettings, updates
from rnnatlas.files import write_json, write_text
from rnnatlas.properties import predictors
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.tables import is_number, is_text, is_whole
from rnnatlas.zoo.store import Zoo

LOSSES, PREDICTIONS, EMULATED = "losses.parquet", "predictions.parquet", "emulated.parquet"
_ROW: Columns = {**dict.fromkeys(("id", "split"), is_text), **dict.fromkeys(("run", "step"), is_whole)}
COLUMNS: dict[str, Columns] = {
    LOSSES: {**_ROW, "divergence": is_text},
    PREDICTIONS: {**_ROW, **dict.fromkeys(("property", "predictor"), is_text)},
    EMULATED: {**_ROW, **dict.fromkeys(("original", "emulated"), is_number)},
}
"""Columns that each of them has, beside others."""
_FIGURES = Kind("what evaluating the run gave", RunFormatError, "evaluate the run again")
COST = "cost.json"
FIGURES = "figures.tsv"
ZOOS = "zoos"
"""Folder of figures of other zoos, by their identities."""

ROLLOUTS = 16
"""Rollouts of each RNN that losses are means over: RNNs differ far more than an RNN's rollouts do."""

TRIALS = 100
"""Sequences that each emulated RNN is judged by; the standard error of a share is at most .05."""

PREDICTORS = "predictors.safetensors"
"""Written last: a run that has it was evaluated."""


def evaluate(
    path: Path | str,
    zoo: Zoo | None = None,
    settings: PredictorSettings | None = None,
    *,
    own: Zoo | None = None,
    supervised: SupervisedSettings | None = None,
    slow_baselines: bool = False,
    dsa: bool = False,
    device: str = "auto",
    progress: bool | Callable[[int], None] = False,
) -> list[dict[str, Any]]:
    """Fills a run's folder with figures of held-out RNNs, or of another zoo's.

    Writes `losses.parquet`, `predictions.parquet` and, where RNNs' performance is known,
    `emulated.parquet` (a row a snapshot, so that several seeds can be taken together later),
    `predictors.safetensors`, `reference.safetensors`, which tells RNNs that are like those of the zoo from
    others, what the encoder costs to `cost.json`, and all figures with their definitions to `metrics.json`
    and, as one long table, to `figures.tsv`. What was there of these is replaced.

    Of another zoo of the same task, such as one of other architectures, the same tables and figures, each of
    all RNNs and of each architecture, are written to the folder `zoos/` and the zoo's identity inside of the
    run's. RNNs count as `known`, `validation`, `test` or `ood` as the run's own zoo splits their tasks.
    Predictors are the run's; nothing is fitted to the other zoo.

    Args:
        path: Folder of a finished run.
        zoo: The run's own zoo, which may have moved since, or another one; the own one without it.
        settings: How predictors are trained; the defaults without it.
        own: The run's own zoo, where `zoo` is another one and the own one has moved.
        supervised: How the same kind of encoder is trained together with predictors, for comparison; it is
            not without it, since that takes minutes.
        slow_baselines: Whether to fit an embedding to each RNN and to read Lyapunov spectra, too, which takes
            as long again as the rest.
        dsa: Whether to compare every pair of RNNs by DSA, too, as a baseline, with the extra `neuro`.
        device: Where encoders and emulators compute: "cpu", "cuda" or "auto", which is a GPU where there is
            one.
        progress: Whether to show a bar for that training on stderr; or what is called with the number of
            its steps just made.

    Returns:
        The records of `metrics.json`.

    Raises:
        RunFormatError: The run is missing, unfinished, damaged, or that of a control; or `zoo` is another one
            and the run has not been evaluated on its own.
        ZooFormatError: A zoo has no task, or none of its snapshots is held out; or another one is not
            independent, or it cannot be told which of its tasks were trained on.
        RNNSpecMismatch: The encoder takes no RNN of another zoo.
        SettingsError: `supervised` names a property that the zoo's RNNs do not have; another zoo is to be
            evaluated with it, `slow_baselines` or `dsa`; there are too many RNNs for `dsa`, or it is not
            installed; or there is no such device.
    """
    device = choose(device)
    run = _opened(path)
    if zoo is not None and _with_task(zoo).identity != run.settings.zoo_identity:
        if supervised is not None or slow_baselines or dsa:
            raise SettingsError(
                "training end to end and slow baselines are compared on the run's own zoo, but "
                f"{zoo.path} is another one; leave out supervised, slow_baselines and dsa"
            )
        return _on_another(run.to(device), _own(run, own), zoo, settings)
    zoo = _own(run, zoo)
    snapshots, splits = _held_out(run, zoo)
    if dsa:
        check_dsa(snapshots.num_rows)
    trained = asked_for(supervised, zoo, snapshots) if supervised else ()
    spent = _cost(run, zoo, splits[0].slice(0, TOGETHER))  # of processor time
    run.to(device)
    lost = _losses(run, zoo, splits, fit=slow_baselines)
    with _progress_bar(progress, updates(supervised, run) * len(trained) if supervised else 0) as advance:
        predicted, fitted = predictions(
            run, zoo, snapshots, settings, supervised, advance, slow_baselines, dsa
        )
    like = reference.fit(run, zoo, snapshots)
    together = pa.concat_tables(splits)
    emulated = None
    if is_judged(together):
        emulated = emulated_performance(run, zoo, by_performance(together), TRIALS)
    for name in (PREDICTORS, EMULATED, REFERENCE):
        (run.path / name).unlink(missing_ok=True)
    write_table(run.path / LOSSES, lost)
    write_table(run.path / PREDICTIONS, predicted)
    if emulated is not None:
        write_table(run.path / EMULATED, emulated)
    if like is not None:
        like.save(run.path / REFERENCE)
    write_json(run.path / COST, spent)
    kept = [record for record in read_metrics(run.path) if record["name"] == "best validation loss"]
    figures = [*loss_figures([lost], run.task.counted), *property_figures([predicted])]
    records = kept + [_record(figure, run.settings.seed) for figure in figures]
    write_metrics(run.path, records)
    _write_table(run.path / FIGURES, records)
    predictors.save(run.path / PREDICTORS, fitted)
    return records


def _on_another(
    run: TrainedRun, own: Zoo, zoo: Zoo, settings: PredictorSettings | None
) -> list[dict[str, Any]]:
    """Evaluates a run on another zoo than its own; see `evaluate`."""
    other.check(run, own, zoo)
    if not (run.path / PREDICTORS).is_file():
        raise RunFormatError(
            f"the run {run.path} should be evaluated on its own zoo before it is on another one, since "
            f"predictors are fitted there; do so with: rnnatlas evaluate {run.path}"
        )
    fitted = predictors.load(run.path / PREDICTORS)
    snapshots = other.grouped(run, own, zoo)
    names = np.asarray(snapshots["split"].to_pylist())
    lost = _losses(run, zoo, [snapshots.filter(pa.array(names == name)) for name in np.unique(names)])
    predicted = other.predictions(run, own, zoo, snapshots, fitted, settings)
    emulated = None
    if is_judged(snapshots):
        emulated = emulated_performance(run, zoo, by_performance(snapshots), TRIALS)
    figures = other.by_architecture(snapshots, lost, predicted, emulated, run.task.counted)
    records = [
        {"zoo": str(zoo.path), "architecture": architecture, **_record(figure, run.settings.seed, "tasks")}
        for architecture, figure in figures
    ]
    folder = other_folder(run.path, zoo)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {LOSSES: lost, PREDICTIONS: predicted, EMULATED: emulated}
    for name, table in tables.items():
        if table is not None:
            write_table(folder / name, table)
    write_metrics(folder, records)
    _write_table(folder / FIGURES, records)
    return records


def _losses(run: TrainedRun, zoo: Zoo, splits: Sequence[pa.Table], fit: bool = False) -> pa.Table:
    parts = [losses(run, zoo, table, ROLLOUTS, fit) for table in splits]
    return pa.concat_tables(parts, promote_options="default")


def other_folder(run: Path, zoo: Zoo) -> Path:
    """Where figures of another zoo are, inside of a run's folder."""
    return run / ZOOS / zoo.identity


def _opened(path: Path | str) -> TrainedRun:
    """A run to be evaluated; raises as `evaluate` says."""
    run = TrainedRun.load(path)  # without predictors, which may be damaged or outdated
    if run.settings.encoder in controls:
        raise RunFormatError(
            f"{path} is a control, which embeds all RNNs alike; expected the run of an encoder, such as the "
            "folder above a run's zero/"
        )
    return run


def _own(run: TrainedRun, zoo: Zoo | None) -> Zoo:
    """The zoo that a run was trained on, which may have moved."""
    if zoo is None:
        try:
            zoo = Zoo.open(run.settings.zoo)
        except ZooFormatError as error:
            raise ZooFormatError(
                f"{error} (the run {run.path} was trained on it; where it has moved, give its folder as well)"
            ) from None
    if _with_task(zoo).identity != run.settings.zoo_identity:
        raise ZooFormatError(
            f"the run {run.path} was trained on the zoo {run.settings.zoo}, but {zoo.path} is another one "
            "(its task, settings or seed differ); give the zoo that it was trained on"
        )
    return zoo


def _with_task(zoo: Zoo) -> Zoo:
    if zoo.task is None:
        raise ZooFormatError(
            f"evaluating needs a zoo with a task and rollouts, but {zoo.path} was imported; "
            "give the zoo that the run was trained on"
        )
    return zoo


def _held_out(run: TrainedRun, zoo: Zoo) -> tuple[pa.Table, list[pa.Table]]:
    """All snapshots that the encoder takes, and those of each split that was held out."""
    snapshots, reasons = accepted(run.encoder, zoo, zoo.snapshots(where=run.settings.emulation.where))
    for reason in reasons:
        warn(f"left out: {reason}")
    names = np.asarray(snapshots["split"].to_pylist())
    splits = [snapshots.filter(pa.array(names == split)) for split in HELD_OUT if split in names]
    if not splits:
        raise ZooFormatError(
            f"{zoo.path} has no held-out snapshots; expected a split named {', '.join(HELD_OUT)}"
        )
    return snapshots, splits


@contextlib.contextmanager
def _progress_bar(progress: bool | Callable[[int], None], steps: int) -> Iterator[Callable[[int], None]]:
    """What to call with the number of steps just made, of so many."""
    if callable(progress):
        yield progress
    elif not progress or not steps:
        yield lambda steps: None
    else:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("training end to end", total=steps)
            yield lambda done: bar.advance(task, done)


def _cost(run: TrainedRun, zoo: Zoo, snapshots: pa.Table) -> dict[str, int | float]:
    """Parameters, operations (mean over the architectures), queries and time to embed one RNN."""
    found = [cost(run.settings.encoder, spec, run.encoder.settings) for spec in run.specs]
    return {
        "parameters": found[0].parameters,
        "flops": round(np.mean([one.flops for one in found])),
        "queries": found[0].queries,
        "milliseconds": milliseconds(run.encoder, zoo.population(snapshots)),
    }


def read_cost(path: Path | str) -> dict[str, float]:
    """What the encoder of an evaluated run costs: parameters, flops, milliseconds and queries an RNN."""
    found = read_json(Path(path) / COST, _FIGURES)
    with _FIGURES.reading(Path(path) / COST):
        costs = {name: float(value) for name, value in found.items()}
        if missing := {"parameters", "flops", "milliseconds"} - costs.keys():
            raise KeyError(min(missing))
        return costs


def read(path: Path | str, filters: list[tuple[str, str, Any]] | None = None) -> pa.Table:
    """One of the tables that an evaluation leaves, or such rows of it.

    Raises:
        RunFormatError: It is missing or damaged.
    """
    return read_table(path, _FIGURES, COLUMNS[Path(path).name], filters)


def is_judged(snapshots: pa.Table) -> bool:
    """Whether it is known how well RNNs do; of imported ones without targets it is not."""
    return snapshots["metrics"].null_count == 0


def by_performance(snapshots: pa.Table) -> pa.Table:
    """The snapshots nearest to evenly spaced levels of performance, each once; all where they are few."""
    if snapshots.num_rows <= LEVELS * NEAREST:
        return snapshots
    performance = np.array([metrics["performance"] for metrics in snapshots["metrics"].to_pylist()])
    return snapshots.filter(pa.array(levels(performance) >= 0))


def _record(
    figure: Figure, seed: int, drawn: str = "RNNs, or over tasks where these were held out,"
) -> dict[str, Any]:
    return {
        "name": figure.name,
        "split": figure.split,
        "of": figure.of,
        **numbers(figure.interval),
        "n_runs": figure.runs,
        "n_snapshots": figure.snapshots,
        "seed": seed,
        "definition": f"{figure.definition}; the interval is over {drawn} and of one seed",
    }


def _write_table(path: Path, records: list[dict[str, Any]]) -> None:
    """The figures for spreadsheets, a line each with tabs between; what is not known is empty."""
    columns = ("name", "split", "of", "value", "low", "high", "n_runs", "n_snapshots", "definition")
    columns = (*(["architecture"] if records and "architecture" in records[0] else []), *columns)
    rows = [["" if record.get(name) is None else str(record[name]) for name in columns] for record in records]
    write_text(path, "".join("\t".join(row) + "\n" for row in [columns, *rows]))
