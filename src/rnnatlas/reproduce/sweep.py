"""Sweeps: encoders × seeds × zoos × settings, trained and evaluated as one set of jobs."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rnnatlas import encoders, executors, files
from rnnatlas.emulation import training
from rnnatlas.emulation.model import read_metrics
from rnnatlas.errors import RNNAtlasError, SettingsError
from rnnatlas.evaluation.model import PREDICTORS
from rnnatlas.executors.base import Job
from rnnatlas.reproduce.jobs import Evaluate, Train, Trained
from rnnatlas.settings import as_dict, at_least_one, settings, to_yaml
from rnnatlas.zoo.store import Zoo

TABLE, PLAN = "sweep.tsv", "plan.yaml"
"""Files of a sweep's folder: what became of each run, and what was asked for."""

COLUMNS = ("zoo", "settings", "encoder", "seed", "loss", "control", "outcome")
"""Of the table; `loss` is the best validation loss, `control` that of the unconditional emulator."""

NAMED = ("zoos", "settings")
"""Parts of a plan whose names become folders."""


@settings
class Plan:
    """What a sweep consists of: every encoder with every seed on every zoo with all settings.

    Args:
        zoos: Folders or addresses of zoos; with names of their own, or called by the last part of these.
        encoders: Their names.
        seeds: How many, from 0 on, or which.
        preset: demo, compare, small or paper, below all settings.
        settings: Name → what differs from the preset, in the sections `emulation` and `encoders`.
        evaluate: Whether runs are evaluated.
        retries: How often a run that failed is tried again.
        threads: Of each training and evaluation on processors.
    """

    zoos: tuple[str, ...] | dict[str, str]
    encoders: tuple[str, ...]
    seeds: int | tuple[int, ...] = 3
    preset: str | None = None
    settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=lambda: {"base": {}})
    evaluate: bool = True
    retries: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        at_least_one(self, "threads", *(["seeds"] if isinstance(self.seeds, int) else []))
        for part in ("zoos", "encoders", "settings"):
            if not getattr(self, part):
                raise SettingsError(f"{part} should name at least one, found none")
        for part in NAMED:
            for name in self.named_zoos if part == "zoos" else self.settings:
                if "/" in name or name.startswith(".") or not name:
                    raise SettingsError(f"names of {part} become folders, found {name!r}; choose another")
        if len(self.named_zoos) < len(self.zoos):
            raise SettingsError(
                "two zoos should not have one name; give names, as in {one: a/zoo, two: b/zoo}"
            )

    @functools.cached_property
    def named_zoos(self) -> dict[str, str]:
        """Zoos by name."""
        if isinstance(self.zoos, Mapping):
            return dict(self.zoos)
        return {zoo.rstrip("/").rpartition("/")[2]: zoo for zoo in self.zoos}

    @property
    def chosen_seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a sweep."""

    zoo: str
    settings: str
    encoder: str
    seed: int

    def __str__(self) -> str:
        return f"{self.zoo}/{self.settings}/{self.encoder}-{self.seed}"

    @property
    def control(self) -> "Run":
        """The unconditional emulator of the same zoo, settings and seed."""
        return dataclasses.replace(self, encoder=encoders.CONTROL)

    def row(self, out: Path, error: Exception | None = None) -> dict[str, Any]:
        """The run in the table."""
        row = {**dataclasses.asdict(self), "loss": None, "control": None}
        if error is not None:
            return {**row, "outcome": f"failed: {error}"}
        folder = out / str(self)
        for column, own in (("loss", folder), ("control", folder / encoders.CONTROL)):
            row[column] = next(r["value"] for r in read_metrics(own) if r["name"] == "best validation loss")
        return {**row, "outcome": "done"}


def sweep(
    plan: Plan,
    out: Path | str,
    *,
    executor: str = "local",
    workers: int | None = None,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
    told: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Does all runs of a plan that are not done; one that fails is tried again, and ends none but itself.

    Args:
        plan: The runs.
        out: Folder of the sweep; one that was stopped, or whose plan has grown, goes on.
        executor: Where jobs run: a name of `rnnatlas.executors.registry`.
        workers: Jobs at a time.
        device: Where encoders are trained: "cpu", "cuda" or "auto".
        options: Settings of the executor.
        progress: Whether to show a bar on stderr.
        told: Called with each run's row of the table when the run has ended.

    Returns:
        The table: a row a run, see `COLUMNS`.

    Raises:
        SettingsError: Unknown settings, or no such device.
        UnknownName: There is no such encoder, preset or executor.
        ZooFormatError: A zoo is missing or damaged.
    """
    out = Path(out)
    runner = executors.make(executor, workers, plan.threads, options)
    device = runner.choose(device)
    jobs, last = _jobs(plan, out, device)
    files.write_text(out / PLAN, to_yaml(as_dict(plan)))
    rows: dict[Run, dict[str, Any]] = {}
    failed: dict[str, Exception] = {}

    def end(run: Run) -> None:
        rows[run] = run.row(out, failed.get(f"train {run}") or failed.get(f"evaluate {run}"))
        _write(out, [rows[own] for own in last if own in rows])
        told(rows[run])

    def ended(name: str, error: Exception | None) -> None:
        if error is not None:
            failed[name] = _root(error, name, jobs, failed)
        for run, final in last.items():
            if run not in rows and (final == name or (error and name == f"train {run}")):
                end(run)

    done = {job.name for job in jobs if job.done}
    for run, final in last.items():
        if final in done:
            end(run)
    runner.run(jobs, out, "sweep", "steps/s" if progress else None, retries=plan.retries, ended=ended)
    return [rows[run] for run in last]


def _root(error: Exception, name: str, jobs: list[Job], failed: Mapping[str, Exception]) -> Exception:
    """What made a job fail: of one that could not begin, what its need failed by."""
    needs = next(job.needs for job in jobs if job.name == name)
    return next((failed[need] for need in needs if need in failed), error)


def _jobs(plan: Plan, out: Path, device: str) -> tuple[list[Job], dict[Run, str]]:
    """All jobs, and of each run the one that ends it."""
    jobs: dict[str, Job] = {}
    last: dict[Run, str] = {}
    for zoo, chosen in itertools.product(plan.named_zoos, plan.settings):
        opened = Zoo.open(plan.named_zoos[zoo])
        for seed, encoder in itertools.product(plan.chosen_seeds, plan.encoders):
            run = Run(zoo, chosen, encoder, seed)
            for job in _of_run(run, plan, opened, out, device):
                jobs.setdefault(job.name, job)
                last[run] = job.name
    return list(jobs.values()), last


def _of_run(run: Run, plan: Plan, zoo: Zoo, out: Path, device: str) -> list[Job]:
    """Training of the control, if it is not the encoder's own, and of the encoder; and its evaluation."""
    kind = encoders.find(run.encoder)
    resolved = training.resolve(zoo, run.encoder, plan.preset, plan.settings[run.settings])
    emulation, rate = resolved["settings"], resolved["control_learning_rate"]
    alone = len(zoo.specs) > 1 and kind.reads_weights and not kind.any_architecture
    common = {
        "zoo": plan.named_zoos[run.zoo],
        "seed": run.seed,
        "device": device,
        "control_learning_rate": rate,
    }
    control, folder = out / str(run.control), out / str(run)
    jobs = []
    if not alone:
        alike = dataclasses.replace(emulation, learning_rate=rate or emulation.learning_rate)
        work = Train(
            encoder=encoders.CONTROL,
            folder=control,
            encoder_settings={},
            emulation=alike,
            control=None,
            **common,
        )
        jobs.append(_training(run.control, work, ()))
    work = Train(
        encoder=run.encoder,
        folder=folder,
        encoder_settings=resolved["encoder_settings"],
        emulation=emulation,
        control=None if alone else control,
        **common,
    )
    jobs.append(_training(run, work, tuple(job.name for job in jobs)))
    if plan.evaluate:
        work = Evaluate(
            zoo=common["zoo"], folder=folder, supervised=None, slow_baselines=False, device=device
        )
        needs = (f"train {run}",)
        jobs.append(Job(name=f"evaluate {run}", work=work, output=folder / PREDICTORS, needs=needs))
    return jobs


def _training(run: Run, work: Train, needs: tuple[str, ...]) -> Job:
    twice = work.control is None and run.encoder != encoders.CONTROL  # it trains a control of its own
    return Job(
        name=f"train {run}",
        work=work,
        output=Trained(work.folder),
        needs=needs,
        updates=work.emulation.steps * (1 + twice),
    )


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    lines = [COLUMNS, *([_cell(row[column]) for column in COLUMNS] for row in rows)]
    files.write_text(out / TABLE, "".join("\t".join(line) + "\n" for line in lines))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5f}" if isinstance(value, float) else " ".join(str(value).split())


def check_all_done(rows: list[dict[str, Any]], out: Path) -> None:
    """Makes sure that no run failed.

    Raises:
        RNNAtlasError: Some did.
    """
    failed = [row for row in rows if row["outcome"] != "done"]
    if failed:
        raise RNNAtlasError(
            f"{len(failed)} of {len(rows)} runs failed, see {out / TABLE}; the same command tries them again"
        )
