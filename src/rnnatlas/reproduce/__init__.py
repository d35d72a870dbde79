"""A whole experiment: a zoo, encoders with several seeds, their controls, an atlas and a report."""

import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnatlas import encoders, files, seeds, tasks
from rnnatlas._version import __version__
from rnnatlas.errors import OutputExists, RunFormatError, SettingsError
from rnnatlas.registry import nearest
from rnnatlas.report.words import CUT
from rnnatlas.settings import as_dict, at_least_one, build, check_sections, leaves, merge, preset, settings
from rnnatlas.tasks.base import Task

ZOOS = {"languages": "formal-languages", "mnist": "tiled-mnist", "digits": "tiled-digits"}
"""What the commands call a zoo, and its task."""

TASK = ZOOS["languages"]
RECORD = "settings.json"
SECTIONS = ("experiment", "task", "zoo", "emulation", "encoders", "supervised")
"""Of an experiment's settings."""


@settings
class ExperimentSettings:
    """What is trained and compared.

    Args:
        seeds: Trainings of each encoder, each with its own initial weights and batches.
        cut: Whether to train interactive probing without interaction, too.
        supervised: Whether to train each encoder end to end on properties, too, as the section `supervised`
            says.
        learning_rates: Encoder, or control, → its own learning rate instead of `emulation.learning_rate`;
            a preset's do not count where that is changed.
    """

    seeds: int = 3
    cut: bool = False
    supervised: bool = False
    learning_rates: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least_one(self, "seeds")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be trained and, unless it is a control, evaluated; its folder is made here."""

    folder: Path
    label: str
    encoder: str
    seed: int
    control: Path | None
    zoo: Path
    encoder_settings: Mapping[str, Any]
    emulation: Any
    supervised: Any
    device: str


class Record:
    """What an experiment's folder says of itself: task, settings, seed, and how long each part took.

    Parts that were finished before are not done again, so an experiment that was stopped goes on.

    Raises:
        OutputExists: The folder holds something else, or an experiment with other settings.
        RunFormatError: What the folder says of itself cannot be read.
    """

    def __init__(self, out: Path, seed: int, resolved: Mapping[str, Any], task: str = TASK):
        self.path = out / RECORD
        self._document: dict[str, Any] = {
            "version": __version__,
            "task": task,
            "seed": seed,
            "settings": json.loads(json.dumps(resolved)),
            "seconds": {},
        }
        if not self.path.is_file():
            files.new_folder(out)
            files.write_json(self.path, self._document)
        before = _read_record(self.path)
        for what, then, now in (
            ("task", before["task"], task),
            ("seed", before["seed"], seed),
            *_changed(before["settings"], self._document["settings"]),
        ):
            if then != now:
                raise OutputExists(
                    f"{out} holds an experiment with another {what} ({then} then, {now} now); choose another "
                    "--out, or remove it first"
                )
        self._document = before

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Adds what the block takes to the time that the part took in earlier, interrupted runs."""
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = self._document["seconds"]
            seconds[part] = round(seconds.get(part, 0.0) + time.monotonic() - start, 2)
            files.write_json(self.path, self._document)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by part."""
        return self._document["seconds"]


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Settings by their whole names, as they were and are; what older versions lacked had its default."""
    experiment = build(ExperimentSettings, then.get("experiment", {}), "experiment")
    before, after = (
        {name: value for name, value in leaves(own).items() if value != {}}
        for own in ({**then, "experiment": as_dict(experiment)}, now)
    )
    yield from ((name, before.get(name), after.get(name)) for name in {**after, **before})


def _read_record(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"task", "seed", "settings", "seconds"} <= document.keys():
        raise RunFormatError(
            f"{path} should say how its experiment was begun, but is damaged; choose another --out, or "
            "remove the experiment first"
        )
    return document


def reproduce(
    out: Path | str,
    preset: str = "small",
    *,
    task: str = TASK,
    data: Path | None = None,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Builds a zoo, trains encoders and controls on it, evaluates them, and writes a report.

    Args:
        out: Folder of the experiment; one that was stopped goes on.
        preset: demo, small or paper.
        task: What the zoo's RNNs are trained to do.
        data: Where the user has what the task's RNNs are trained on, as `Task.prepare` takes it.
        seed: Of the zoo; run number i is trained with seed + i.
        changes: Settings over those of the preset, by section.
        workers: Processes at a time; None for as many as there are processors, or one with a GPU, which
            several can train encoders on, while the zoo's RNNs are trained by one.
        device: Where RNNs and encoders are trained: "cpu", "cuda" or "auto", which is a GPU where there is
            one, unless there are several workers.
        progress: Show progress bars on stderr.

    Returns:
        The report, an HTML file.

    Raises:
        OutputExists: `out` holds something else, or an experiment with another task, another seed or other
            settings.
        RunFormatError: What `out` says of itself cannot be read.
        SettingsError: Unknown settings or properties, data for a task that brings its own, no such device,
            or less than one worker.
        DataError: The data are missing or not what they should be.
    """
    from rnnatlas.evaluation.predictions import asked_for
    from rnnatlas.evaluation.supervised import SupervisedSettings
    from rnnatlas.executors.base import Local
    from rnnatlas.zoo.build import choose_device
    from rnnatlas.zoo.store import Zoo

    seeds.check(seed)
    device = choose_device(device, "local", None if device == "cuda" else workers)
    builders = None if device == "cuda" else workers
    workers = Local(1 if device == "cuda" and workers is None else workers).workers
    out = Path(out)
    resolved = resolve(preset, changes or {}, task)
    made = tasks.registry[task].from_settings(resolved["task"])
    if data is not None or not (out / RECORD).is_file():  # before anything is made
        made.prepare(data, progress)
    record = Record(out, seed, resolved, task)
    with record.timing("zoo"):
        _build_zoo(made, out / "zoo", seed, resolved["zoo"], builders, device, progress)
    if resolved["experiment"]["supervised"]:
        zoo = Zoo.open(out / "zoo")
        snapshots = zoo.snapshots(where=resolved["emulation"]["where"])
        asked_for(build(SupervisedSettings, resolved["supervised"], "supervised"), zoo, snapshots)
    chosen = range(seed, seed + resolved["experiment"]["seeds"])
    controls = [_job(out, encoders.CONTROL, one, resolved, device) for one in chosen]
    runs = [_job(out, label, one, resolved, device) for one in chosen for label in _labels(resolved)]
    with record.timing("encoders and controls"):
        _train(controls + runs, workers, progress)
    best = min((run for run in runs if run.label != CUT), key=_validation_loss)
    with record.timing("atlas and map"):
        _draw(out, best.folder)
    return _report(out, runs, _command(out, preset, task, seed, changes or {}), record)


def resolve(name: str, changes: Mapping[str, Any], task: str = TASK) -> dict[str, Any]:
    """All settings of an experiment, by section: the preset with changes over it, and the defaults below.

    Raises:
        SettingsError: Unknown settings.
        UnknownName: There is no such preset or task, or the preset says nothing of the task.
    """
    from rnnatlas.emulation.model import EmulationSettings
    from rnnatlas.evaluation.supervised import SupervisedSettings
    from rnnatlas.zoo import splits
    from rnnatlas.zoo.train import ZooSettings

    below = preset(name, task)
    if "learning_rate" in changes.get("emulation", {}):  # which then is meant for all
        below.get("experiment", {}).pop("learning_rates", None)
    values = merge(below, changes)
    check_sections(values, SECTIONS)
    kinds = {name: encoders.registry[name].Settings for name in values["encoders"]}
    if not kinds:
        raise SettingsError("an experiment needs at least one encoder under encoders, found none")
    experiment = build(ExperimentSettings, values.get("experiment", {}), "experiment")
    emulation = build(EmulationSettings, values["emulation"], "emulation")
    for name, rate in experiment.learning_rates.items():
        if name not in (*kinds, encoders.CONTROL):
            raise SettingsError(
                f"experiment.learning_rates should be those of the experiment's encoders, found {name!r}; "
                f"{nearest(name, [*kinds, encoders.CONTROL])}"
            )
        build(EmulationSettings, {"learning_rate": rate}, f"experiment.learning_rates.{name}")
    made, zoo = tasks.registry[task].from_settings(values["task"]), build(ZooSettings, values["zoo"], "zoo")
    splits.check(made, zoo.split)
    return {
        "experiment": as_dict(experiment),
        "task": as_dict(made.settings),
        "zoo": as_dict(zoo),
        "emulation": as_dict(emulation),
        "encoders": {
            name: as_dict(build(kind, values["encoders"][name] or {}, f"encoders.{name}"))
            for name, kind in kinds.items()
        },
        "supervised": as_dict(build(SupervisedSettings, values.get("supervised", {}), "supervised")),
    }


def _command(out: Path, preset: str, task: str, seed: int, changes: Mapping[str, Any]) -> str:
    """What someone would type to have the same experiment."""
    name = shlex.quote(out.resolve().name)
    command = "rnnatlas demo" if preset == "demo" else f"rnnatlas reproduce --preset {preset} --out {name}"
    zoo = next((zoo for zoo, own in ZOOS.items() if own == task), task)
    parts = [command, *([] if task == TASK else [f"--zoo {zoo}"]), f"--seed {seed}"]
    parts += [
        "--set " + shlex.quote(f"{name}={json.dumps(value)}") for name, value in leaves(changes).items()
    ]
    return " ".join(parts)


def _build_zoo(
    task: Task,
    path: Path,
    seed: int,
    values: Mapping[str, Any],
    workers: int | None,
    device: str,
    progress: bool,
) -> None:
    from rnnatlas.zoo.build import build as build_zoo
    from rnnatlas.zoo.train import ZooSettings

    made = build(ZooSettings, values, "zoo")
    build_zoo(task, made, path, seed=seed, workers=workers, device=device, resume=True, progress=progress)


def _labels(resolved: Mapping[str, Any]) -> list[str]:
    """What the encoders are called; all of a seed come before the next seed's."""
    cut = resolved["experiment"]["cut"] and "interactive" in resolved["encoders"]
    return [*resolved["encoders"], *([CUT] if cut else [])]


def _job(out: Path, label: str, seed: int, resolved: Mapping[str, Any], device: str) -> Job:
    from rnnatlas.emulation.model import EmulationSettings
    from rnnatlas.evaluation.supervised import SupervisedSettings

    control = label == encoders.CONTROL
    encoder, change = ("interactive", {"interaction": False}) if label == CUT else (label, {})
    emulation = build(EmulationSettings, resolved["emulation"], "emulation")
    rate = resolved["experiment"]["learning_rates"].get(encoder, emulation.learning_rate)
    return Job(
        folder=out / "runs" / f"{label}-{seed}",
        label=label,
        encoder=encoder,
        seed=seed,
        control=None if control else out / "runs" / f"{encoders.CONTROL}-{seed}",
        zoo=out / "zoo",
        encoder_settings={} if control else {**resolved["encoders"][encoder], **change},
        emulation=dataclasses.replace(emulation, learning_rate=rate),
        supervised=build(SupervisedSettings, resolved["supervised"], "supervised")
        if resolved["experiment"]["supervised"]
        else None,
        device=device,
    )


def _train(jobs: Sequence[Job], workers: int | None, progress: bool) -> None:
    """Trains controls, which come first, and encoders, and evaluates the encoders."""
    from rnnatlas.executors.base import Local, run_all

    waiting = [job for job in jobs if not _done(job)]
    updates = sum(job.emulation.steps for job in waiting)
    rate = "steps/s" if progress else None
    run_all(Local(workers), _train_one, waiting, updates, "training encoders", rate)


def _done(job: Job) -> bool:
    from rnnatlas.evaluation.model import PREDICTORS

    last = "model.safetensors" if job.encoder == encoders.CONTROL else PREDICTORS
    return (job.folder / last).is_file()


def _train_one(job: Job, beat: Callable[[int], None]) -> None:
    from rnnatlas.emulation.training import train
    from rnnatlas.evaluation.evaluate import evaluate
    from rnnatlas.zoo.store import Zoo

    while job.control is not None and not (job.control / "model.safetensors").is_file():
        time.sleep(0.2)  # another process is at it, since controls come first
        beat(0)
    zoo = Zoo.open(job.zoo)
    if not (job.folder / "model.safetensors").is_file():
        train(
            zoo,
            job.encoder,
            job.folder,
            job.seed,
            encoder_settings=job.encoder_settings,
            settings=job.emulation,
            control=job.control,
            resume=True,
            device=job.device,
            progress=beat,
        )
    if job.encoder != encoders.CONTROL:
        evaluate(
            job.folder, zoo, supervised=job.supervised, device=job.device, progress=lambda steps: beat(0)
        )


def _validation_loss(job: Job) -> float:
    from rnnatlas.emulation.model import read_metrics

    return next(r["value"] for r in read_metrics(job.folder) if r["name"] == "best validation loss")


def _draw(out: Path, run: Path) -> None:
    """The atlas of all the zoo's RNNs, made by the run that did best on validation, and its map."""
    from rnnatlas.atlas.embed import embed
    from rnnatlas.atlas.index import Atlas
    from rnnatlas.atlas.map import write_map
    from rnnatlas.evaluation.model import load

    if not (out / "atlas").is_dir():  # it appears whole
        embed(load(run), [out / "zoo"]).save(out / "atlas")
    if not (out / "map.html").is_file():
        write_map(Atlas.open(out / "atlas"), out / "map.html")


def _report(out: Path, runs: Sequence[Job], command: str, record: Record) -> Path:
    from rnnatlas.report.experiment import Experiment
    from rnnatlas.report.page import write_report

    grouped: dict[str, dict[int, str]] = {}
    for job in runs:
        grouped.setdefault(job.label, {})[job.seed] = str(job.folder.relative_to(out))
    experiment = Experiment(
        zoo="zoo", runs=grouped, atlas="atlas", map="map.html", command=command, timings=record.seconds
    )
    experiment.save(out)
    return write_report(out)
