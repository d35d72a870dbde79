"""An experiment on disk: a zoo, several evaluated runs, an atlas, and what can be read from them."""

import csv
import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas._version import __version__
from rnnatlas.atlas.index import Atlas
from rnnatlas.checked import Kind, read_json
from rnnatlas.emulation.model import read_settings
from rnnatlas.errors import RunFormatError
from rnnatlas.evaluation import results
from rnnatlas.evaluation.evaluate import EMULATED, read
from rnnatlas.evaluation.figures import Figure, is_loss
from rnnatlas.evaluation.model import Model, load
from rnnatlas.evaluation.roles import HELD_OUT
from rnnatlas.files import write_json
from rnnatlas.report.alike import all_alike
from rnnatlas.tasks.base import Task
from rnnatlas.zoo.store import Zoo

FILE = "experiment.json"
_CURVES = Kind("losses of the training", RunFormatError, "copy it again, or train again")
_KIND = Kind(
    "what its experiment consists of",
    RunFormatError,
    "remove the experiment, or choose another --out, and run it again",
)


Runs = Mapping[str, Mapping[int, str]]
"""Encoder → seed → folder of the evaluated run."""


def _by_seed(runs: Mapping[str, Mapping[str, str]]) -> Runs:
    return {name: {int(seed): run for seed, run in own.items()} for name, own in runs.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What an experiment consists of and how it was begun; its paths are relative to its folder.

    Attributes:
        zoo: The zoo.
        runs: Encoder → seed → folder of the evaluated run.
        ablations: Setting → its value → encoder → seed → folder of the evaluated run, which differs from that
            of `runs` in this setting alone.
        atlas: The atlas; None where there is none.
        map: The map of the atlas, to be linked to; None where there is none.
        command: What made the experiment, for people.
        timings: What each part took, in seconds of wall-clock time, in the order to be shown.
        kind: What presets call the zoo.
        seed: Of the zoo and of the first trainings.
        settings: All settings, by section.
        version: Of this package.
        commit: Of the checkout that it ran from; empty where it was installed.
    """

    zoo: str
    runs: Runs
    ablations: Mapping[str, Mapping[str, Runs]] = dataclasses.field(default_factory=dict)
    atlas: str | None = None
    map: str | None = None
    command: str = ""
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    kind: str = ""
    seed: int = 0
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: str = __version__
    commit: str = ""

    def save(self, folder: Path | str) -> None:
        """Writes experiment.json, from which the report can be made again."""
        write_json(Path(folder) / FILE, dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path | str) -> "Experiment":
        """Reads what `save` wrote.

        Raises:
            RunFormatError: There is no experiment.json, or it is damaged.
        """
        path = Path(folder) / FILE
        if not path.exists():
            raise RunFormatError(f"{folder} is no experiment: it has no {FILE}; make one with: rnnatlas demo")
        values = read_json(path, _KIND)
        with _KIND.reading(path):
            ablations = {
                setting: {value: _by_seed(own) for value, own in of_setting.items()}
                for setting, of_setting in values.get("ablations", {}).items()
            }
            made = cls(**{**values, "runs": _by_seed(values["runs"]), "ablations": ablations})
            made._check()
            return made

    def _check(self) -> None:
        """Makes sure that all is of its type.

        Raises:
            ValueError: It is not.
        """
        texts = [self.zoo, self.command, self.kind, self.version, self.commit]
        texts += [part for part in (self.atlas, self.map) if part is not None]
        groups = [self.runs, *(runs for values in self.ablations.values() for runs in values.values())]
        texts += [run for runs in groups for own in runs.values() for run in own.values()]
        if not self.runs or not all(self.runs.values()):
            raise ValueError("it has no runs")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("paths and names should be text")
        if not all(isinstance(part, dict) for part in (self.timings, self.settings)):
            raise ValueError("timings and settings should have names")
        if not all(isinstance(number, int | float) for number in (self.seed, *self.timings.values())):
            raise ValueError("seed and timings should be numbers")


class Results:
    """Everything that an experiment's folder holds, read when first needed.

    Args:
        folder: The experiment's folder.
        experiment: What it consists of.
        since: Training step of the earliest snapshots that its table counts.

    Raises:
        RunFormatError: A run has not been evaluated.
    """

    def __init__(self, folder: Path, experiment: Experiment, since: int = 0):
        self.folder = folder
        self.since = since
        self.experiment = experiment
        for own in experiment.runs.values():
            for run in own.values():
                results.check_evaluated(folder / run)

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders, in the experiment's order."""
        return list(self.experiment.runs)

    @cached_property
    def models(self) -> dict[str, dict[int, Model]]:
        """The trained models, by encoder and seed."""
        return {
            name: {seed: load(self.folder / run) for seed, run in own.items()}
            for name, own in self.experiment.runs.items()
        }

    @cached_property
    def zoo(self) -> Zoo:
        """The zoo."""
        return Zoo.open(self.folder / self.experiment.zoo)

    @property
    def noun(self) -> str:
        """What the zoo's task calls its instances."""
        return self.zoo.task.noun if self.zoo.task else Task.noun

    @cached_property
    def atlas(self) -> Atlas | None:
        """The atlas."""
        return None if self.experiment.atlas is None else Atlas.open(self.folder / self.experiment.atlas)

    def tables(self, encoder: str, name: str) -> list[pa.Table]:
        """One result file of each seed; those of the seeds that have it."""
        paths = [self.folder / run / name for run in self.experiment.runs[encoder].values()]
        return [read(path) for path in paths if path.is_file()]

    @cached_property
    def table(self) -> pa.Table:
        """All figures, comparisons and costs, as `rnnatlas.evaluation.results` has them."""
        return results.collect(
            {
                encoder: {seed: self.folder / run for seed, run in own.items()}
                for encoder, own in self.experiment.runs.items()
            },
            self.since,
        )

    @cached_property
    def trained_from(self) -> int:
        """The first step of snapshots that count as trained: a tenth of the last one's, or the next."""
        return next((step for step in self._steps if 10 * step >= self._steps[-1]), 0)

    @cached_property
    def trained(self) -> pa.Table | None:
        """The same of trained snapshots alone; None where the table has no others."""
        if not self._steps or max(self._steps[0], self.since) >= self.trained_from:
            return None
        return Results(self.folder, self.experiment, self.trained_from).table

    @cached_property
    def _steps(self) -> list[int]:
        return sorted({step for step in self.zoo.table["step"].to_pylist() if step is not None})

    def save(self, more: pa.Table | None = None) -> None:
        """Writes results.parquet and results.json beside experiment.json, with more rows if there are."""
        results.write(self.folder, self.table if more is None else pa.concat_tables([self.table, more]))

    @cached_property
    def _figures(self) -> dict[str, list[Figure]]:
        return {encoder: results.figures(self.table, encoder) for encoder in self.encoders}

    @cached_property
    def losses(self) -> dict[str, list[Figure]]:
        """Emulation losses of each encoder, over its seeds."""
        return {
            encoder: [figure for figure in own if is_loss(figure.name)]
            for encoder, own in self._figures.items()
        }

    @cached_property
    def properties(self) -> dict[str, list[Figure]]:
        """Scores of property predictors of each encoder, over its seeds."""
        return {
            encoder: [figure for figure in own if not is_loss(figure.name)]
            for encoder, own in self._figures.items()
        }

    @cached_property
    def emulated(self) -> dict[str, list[pa.Table]]:
        """Original and emulated performance, by encoder and seed."""
        return {encoder: self.tables(encoder, EMULATED) for encoder in self.encoders}

    @cached_property
    def divergence(self) -> str:
        """What the runs were trained on."""
        run = next(iter(next(iter(self.experiment.runs.values())).values()))
        return str(read_settings(self.folder / run).emulation.divergence)

    @cached_property
    def shares_controls(self) -> bool:
        """Whether controls are the same beside all encoders: of the same RNNs, from the same seeds."""
        seeds = {tuple(sorted(runs)) for runs in self.experiment.runs.values()}
        return len(seeds) == 1 and all_alike(self.table)

    @property
    def splits(self) -> list[str]:
        """The held-out splits, in the order in which they are shown."""
        known = {figure.split for figures in self.losses.values() for figure in figures}
        return [split for split in HELD_OUT if split in known]

    @property
    def fitted(self) -> bool:
        """Whether there are losses of embeddings that were fitted to each RNN."""
        return any(figure.of == "fitted" for figures in self.losses.values() for figure in figures)

    def histories(self, encoder: str) -> dict[int, dict[str, np.ndarray]]:
        """Learning curves by seed: columns of history.csv that hold numbers, gaps as NaN."""
        own = self.experiment.runs[encoder]
        return {seed: _history(self.folder / run / "history.csv") for seed, run in own.items()}


def _history(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with _CURVES.reading(path):
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file, strict=True))
        names = rows[0] if rows else {}
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
