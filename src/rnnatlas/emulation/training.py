"""Training an encoder on a zoo, with the zero-embedding control beside it."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from rnnatlas import encoders, files, seeds
from rnnatlas.devices import choose
from rnnatlas.emulation import choose as choose_divergence
from rnnatlas.emulation.data import Snapshots, accepted
from rnnatlas.emulation.divergence import ALL
from rnnatlas.emulation.model import (
    RESUME,
    EmulationSettings,
    RunSettings,
    TaskSettings,
    TrainedRun,
    make_parts,
    read_settings,
    write_metrics,
    write_settings,
    write_weights,
)
from rnnatlas.encoders import CONTROL
from rnnatlas.encoders.base import Encoder
from rnnatlas.errors import OutputExists, RunFormatError, SettingsError, ZooFormatError, warn
from rnnatlas.rnn import RNNSpec
from rnnatlas.settings import as_dict, build, check_sections, leaves, merge
from rnnatlas.settings import preset as presets_of
from rnnatlas.zoo.store import Zoo


def resolve(
    zoo: Zoo, encoder: str, preset: str | None = None, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Settings of a training, as `train` takes them by name.

    Args:
        zoo: The RNNs.
        encoder: Name of the encoder.
        preset: demo, compare, small or paper; None for the defaults.
        changes: Settings over those of the preset, in the sections `emulation` and `encoders`. A learning
            rate among them outweighs those that a preset has for single encoders.

    Raises:
        UnknownName: There is no such preset, or it says nothing of the zoo's task.
        SettingsError: A setting is unknown or impossible, or the zoo has no task that a preset could be for.
    """
    changes = changes or {}
    check_sections(changes, ("emulation", "encoders"))
    if preset is not None and zoo.task is None:
        raise SettingsError(
            f"the preset {preset} has settings for a zoo's task, but {zoo.path} has none, since its RNNs "
            "were imported without what they do; import them again with --inputs, or --signal for inputs "
            "that are drawn"
        )
    below = presets_of(preset, zoo.task.name) if preset is not None and zoo.task is not None else {}
    rates = below.get("experiment", {}).get("learning_rates", {})
    if encoder in rates:
        below = merge(below, {"emulation": {"learning_rate": rates[encoder]}})
    values = merge({"encoders": {encoder: {}}}, below, changes)
    built = {
        name: as_dict(build(encoders.registry[name].Settings, {} if own is None else own, f"encoders.{name}"))
        for name, own in values["encoders"].items()
    }
    given = "learning_rate" in changes.get("emulation", {})
    return {
        "encoder_settings": built[encoder],
        "settings": build(EmulationSettings, values.get("emulation", {}), "emulation"),
        "control_learning_rate": None if given else rates.get(CONTROL),
    }


def train(
    zoo: Zoo,
    encoder: str,
    out: Path | str,
    seed: int = 0,
    *,
    encoder_settings: Mapping[str, Any] | None = None,
    settings: EmulationSettings | None = None,
    control: Path | str | None = None,
    control_learning_rate: float | None = None,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    progress: bool | Callable[[int], None] = True,
) -> TrainedRun:
    """Trains an encoder and an emulator together (Herrmann et al. 2024, section 4).

    The zero-embedding control, an unconditional emulator trained alike, comes first, into `out`/zero, unless
    there is one to be copied.
    A run is finished once its model.safetensors is there.

    Args:
        zoo: RNNs to train on; its split "validation" chooses the best weights.
        encoder: Name of the encoder.
        out: Folder of the run, made here.
        seed: Of initial weights and batches; the control shares it.
        encoder_settings: What differs from the encoder's default settings.
        settings: How to train.
        control: A control trained before with the same zoo, seed and settings, to be copied: its folder, or
            that of a run that holds one. Its learning rate may be its own, as those of encoders may.
        control_learning_rate: That of the control trained here, where it is another than the encoder's.
        resume: Goes on with an unfinished run, exactly as if it had not been interrupted.
        device: "cpu", "cuda" or "auto", which is a GPU where there is one.
        devices: How many devices share each step.
        progress: Whether to show progress bars; or what is called with the number of steps just made.

    Raises:
        OutputExists: `out` holds something and `resume` is false.
        SettingsError: `resume` or `control` with another zoo or other settings than before.
        ZooFormatError: The zoo has no snapshots to train or validate on, or no rollouts.
        RNNSpecMismatch: The encoder takes none of the zoo's architectures.
        TrainingDiverged: The loss stopped being finite.
    """
    out = Path(out)
    kind = encoders.registry[encoder] if encoder != CONTROL else encoders.controls[encoder]
    seeds.check(seed)
    device = choose(device)
    settings = settings or EmulationSettings()
    _check_hardware(device, devices, settings.rnns)
    chosen = build(kind.Settings, encoder_settings or {}, "encoder")
    snapshots = _snapshots(zoo, kind, chosen, settings.where)
    task = snapshots["train"].task
    if kind.turns and not task.turns:
        raise SettingsError(
            f"the encoder {encoder} needs a task whose inputs can be turned, such as tiled-digits, found "
            f"{task.name}; take another encoder, such as responses"
        )
    divergence = choose_divergence(settings.divergence, task.interface.output)
    settings = dataclasses.replace(settings, divergence=divergence)
    run = RunSettings(
        encoder=encoder,
        seed=seed,
        zoo=str(zoo.path if "://" in str(zoo.path) else Path(zoo.path).resolve()),
        zoo_identity=zoo.identity,
        specs=tuple(spec.slug for spec in snapshots["train"].specs),
        task=TaskSettings(name=task.name, settings=as_dict(task.settings)),
        encoder_settings=as_dict(chosen),
        emulation=settings,
    )
    rate = settings.learning_rate if control_learning_rate is None else control_learning_rate
    alike = dataclasses.replace(settings, learning_rate=rate)
    own = RunSettings(**{**vars(run), "encoder": CONTROL, "encoder_settings": {}, "emulation": alike})
    source = None if control is None else _control_at(Path(control), own)
    _start(out, run, resume)
    hardware = {"device": device, "devices": devices, "progress": progress}
    if encoder != CONTROL and source is not None:
        _copy(source, out / CONTROL)
    elif encoder != CONTROL:
        if resume and (out / CONTROL / "model.safetensors").is_file():
            _control_at(out, own)  # perhaps one that was copied
        else:
            _start(out / CONTROL, own, resume=True)
        _train(out / CONTROL, own, snapshots, **hardware)
    _train(out, run, snapshots, **hardware)
    return TrainedRun.load(out)


def _check_hardware(device: str, devices: int, rnns: int) -> None:
    present = torch.cuda.device_count() if device == "cuda" else None
    if devices < 1 or (present and devices > present):
        most = f"{present}, the GPUs there are" if present else "the number of cores"
        raise SettingsError(f"devices should be between 1 and {most}, found {devices}")
    if rnns % devices:
        raise SettingsError(
            f"emulation.rnns should be a multiple of {devices}, since {devices} devices share them, found "
            f"{rnns}"
        )


def _snapshots(zoo: Zoo, kind: type[Encoder], settings: Any, where: str | None) -> dict[str, Snapshots]:
    """What an encoder trains and validates on, with a warning for what it does not take.

    An encoder that reads a single architecture takes the most frequent one.
    """
    tables = {split: zoo.snapshots(split=split, where=where) for split in ("train", "validation")}
    for split, table in tables.items():
        if not table.num_rows and zoo.task is not None:
            condition = f" with {where}" if where else ""
            raise ZooFormatError(
                f"training needs snapshots of the split {split!r}{condition}, found none in {zoo.path}; "
                "build or import a larger zoo, or change the setting emulation.where"
            )
    if zoo.task is None:
        return {split: Snapshots.of(zoo, table) for split, table in tables.items()}  # which refuses
    most, _ = Counter(tables["train"]["spec"].to_pylist()).most_common(1)[0]
    with torch.device("meta"):  # to be asked alone, so nothing is drawn
        encoder = kind(zoo.task.interface, RNNSpec.from_slug(most), settings)
    snapshots = {}
    for split, table in tables.items():
        taken, _ = accepted(encoder, zoo, table)
        if taken.num_rows < table.num_rows:
            warn(f"left out of the split {split}: {_left_out(table, taken)}")
        snapshots[split] = Snapshots.of(zoo, taken)
    return snapshots


def _left_out(table: pa.Table, taken: pa.Table) -> str:
    """Of which architectures snapshots are left out, and which are taken, in one line."""
    every, kept = (Counter(snapshots["spec"].to_pylist()) for snapshots in (table, taken))
    others = [f"{count} of {RNNSpec.from_slug(slug)}" for slug, count in (every - kept).items()]
    known = ", ".join(str(RNNSpec.from_slug(slug)) for slug in kept)
    return f"{(every - kept).total()} snapshots ({', '.join(others)}); this encoder takes {known} alone"


def _start(out: Path, run: RunSettings, resume: bool) -> None:
    """Makes the run's folder, or makes sure that it is the one to go on with."""
    if resume and (out / "settings.yaml").is_file():
        _check_same(out, run)
        return
    try:
        files.new_folder(out)
    except OutputExists as error:
        if (out / "settings.yaml").is_file():
            raise OutputExists(
                f"{out} holds a run already; go on with it with --resume, or choose another --out"
            ) from None
        raise error from None
    write_settings(out, run)


def _check_same(path: Path, run: RunSettings, but: Sequence[str] = ()) -> None:
    """Makes sure that the run at `path` was started on the zoo and with the settings of `run`, but some.

    Raises:
        SettingsError: It was not.
    """
    started = read_settings(path)
    before, now = leaves(as_dict(started)), leaves(as_dict(run))
    for name in [*now, *before]:
        if name not in ("version", "zoo", "zoo_identity", *but) and before.get(name) != now.get(name):
            raise SettingsError(
                f"the run at {path} was started with {name} = {before.get(name)}, now it is {now.get(name)}; "
                "give the same settings, or choose another --out"
            )
    if started.zoo_identity != run.zoo_identity:  # a zoo may move
        raise SettingsError(
            f"the run at {path} was started on the zoo {started.zoo}, but {run.zoo} is another one (its "
            "task, settings or seed differ); give the same zoo, or choose another --out"
        )


def _control_at(path: Path, own: RunSettings) -> Path:
    """The folder of a finished control with the settings `own`: `path` or the one inside it."""
    source = path / CONTROL if (path / CONTROL).is_dir() else path
    _check_same(source, own, but=("emulation.learning_rate",))
    if not (source / "model.safetensors").is_file():
        raise RunFormatError(
            f"the control {source} is not finished; finish it with: rnnatlas train … --resume"
        )
    return source


def _copy(source: Path, out: Path) -> None:
    for name in ("settings.yaml", "history.csv", "metrics.json", "model.safetensors"):
        with files.replacing(out / name) as partial:
            shutil.copyfile(source / name, partial)


def _train(
    out: Path,
    run: RunSettings,
    snapshots: dict[str, Snapshots],
    device: str,
    devices: int,
    progress: bool | Callable[[int], None],
) -> None:
    """Trains one encoder, from where its folder says it is."""
    from rnnatlas.emulation.fit import Training, fit, write_history

    settings, train = run.emulation, snapshots["train"]
    if not (out / "model.safetensors").is_file():
        encoder, emulator = make_parts(train.specs, train.task, run)
        training = Training(encoder, emulator, train, snapshots["validation"], settings, run.seed, out)
        if (out / RESUME).is_file():
            training.take_up(out / RESUME)
        else:
            emulator.calibrate(train.outputs())
            encoder.to(device).calibrate(train.population, train.examples)
            encoder.to("cpu")  # from where Lightning takes it
        if not training.finished:
            fit(training, out, device, devices, progress)
            training.take_up(out / RESUME)
        write_history(out, training.history)
        write_metrics(out, [_record(run, training.best, snapshots["validation"])])
        write_weights(out, training.best["weights"])
    for leftover in ("hparams.yaml", RESUME):  # the last one gone marks the run as finished
        (out / leftover).unlink(missing_ok=True)


def _record(run: RunSettings, best: Mapping[str, Any], snapshots: Snapshots) -> dict[str, Any]:
    """The best validation loss as metrics.json has it."""
    counted = snapshots.task.counted if run.emulation.mask_padding else ALL
    return {
        "name": "best validation loss",
        "split": "validation",
        "of": "zero" if run.encoder == CONTROL else "conditioned",
        "value": best["loss"],
        "low": None,
        "high": None,
        "n_drawn": None,
        "n_runs": len(snapshots.table["run"].unique()),
        "n_snapshots": len(snapshots),
        "seed": run.seed,
        "step": best["step"],
        "definition": f"mean over snapshots of the mean {run.emulation.divergence} over {counted} of "
        f"{run.emulation.validation_rollouts} rollouts; it chose the weights, so new RNNs may give more",
    }
