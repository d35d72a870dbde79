"""`rnnatlas train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed

if TYPE_CHECKING:
    from rnnatlas.emulation.model import TrainedRun


def train(
    zoo: str,
    /,
    *,
    encoder: str = "responses",
    out: Path,
    preset: str | None = None,
    divergence: str | None = None,
    seed: Seed = 0,
    control: Path | None = None,
    control_learning_rate: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    executor: str = "local",
    resume: bool = False,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """Train an encoder on a zoo by emulation.

    The zero-embedding control is trained first. Stop whenever you like: with --resume it goes on
    from the last validation, exactly as if it had not been stopped.

    ```
    rnnatlas train zoo --preset demo --out run
    rnnatlas train zoo --encoder interactive --preset demo --out interviewed
    ```

    Args:
        zoo: The zoo's folder, or its address (s3://…).
        encoder: What embeds the RNNs; `rnnatlas encoders` lists the encoders.
        out: The run's folder.
        preset: demo, compare, small or paper; without one, everything is as in the paper for
            formal languages.
        divergence: Between outputs: of tokens total-variation, kl, reverse-kl, jensen-shannon,
            cross-entropy, cosine or l2; of numbers mse, l1 or cosine.
        seed: Decides the initial weights and the batches.
        control: A run with the same zoo, settings and seed, whose zero-embedding control is copied; its
            learning rate may be its own.
        control_learning_rate: AdamW's of the control that is trained here; that of the preset or, without
            one, the encoder's.
        device: Where to train; auto takes a GPU where there is one.
        devices: How many devices share each step.
        executor: Where to train: local (this process), or as one job of ray or slurm.
        resume: Go on with the run that was begun in --out.
        set: Change a setting, such as emulation.steps=2000 or encoders.interactive.sequences=8, or one of
            the executor, such as executor.threads=8; may be repeated.
    """
    from rnnatlas import encoders, settings
    from rnnatlas.emulation import training
    from rnnatlas.zoo.store import Zoo

    common = common or Common()
    encoders.registry.description(encoder)  # raises for an unknown name
    opened = Zoo.open(zoo)
    flags = {"emulation": {"divergence": divergence}}
    changes = common.layered({}, flags, set or [], ["emulation", "encoders", "executor"])
    options = changes.pop("executor", {})
    resolved = training.resolve(opened, encoder, preset, changes)
    if control_learning_rate is not None:
        resolved["control_learning_rate"] = control_learning_rate
    if common.print_config:
        flags = {"encoder": encoder, "out": out, "seed": seed, "control": control}
        flags |= {"control_learning_rate": resolved["control_learning_rate"], "device": device}
        sections = {
            "emulation": settings.as_dict(resolved["settings"]),
            "encoders": {encoder: resolved["encoder_settings"]},
        }
        common.show({**flags, "devices": devices, "executor": executor}, sections)
        return
    given = {**resolved, "control": control, "device": device, "devices": devices}
    if executor == "local":
        model = training.train(opened, encoder, out, seed, **given, resume=resume, progress=common.progress)
    else:
        model = _elsewhere(zoo, encoder, out, seed, given, resume, (executor, options), common.progress)
    common.say(_summary(model.path, model.divergence))


def _elsewhere(
    zoo: str,
    encoder: str,
    out: Path,
    seed: int,
    given: dict[str, Any],
    resume: bool,
    executor: tuple[str, dict[str, Any]],
    progress: bool,
) -> "TrainedRun":
    """Trains in a job of Ray or Slurm; arguments as those of `emulation.training.train`."""
    from rnnatlas import executors, files
    from rnnatlas.emulation.model import TrainedRun
    from rnnatlas.executors.base import Job
    from rnnatlas.reproduce.jobs import Train

    if not resume:
        files.check_free(out)
    name, options = executor
    runner = executors.make(name, 1, 1, options)
    settings = given.pop("settings")
    given["device"] = runner.choose(given["device"])
    place = zoo if "://" in zoo else Path(zoo)
    work = Train(zoo=place, encoder=encoder, folder=out, seed=seed, emulation=settings, **given)
    steps = settings.steps * (1 if given["control"] else 2)
    job = Job(name=f"train {out.name}", work=work, output=out / "model.safetensors", updates=steps)
    runner.run([job], out.absolute().parent, "training", "steps/s" if progress else None)
    return TrainedRun.load(out)


def _summary(path: Path, divergence: str) -> str:
    from rnnatlas import encoders
    from rnnatlas.emulation.model import read_metrics

    best, control = (read_metrics(folder)[0] for folder in (path, path / encoders.CONTROL))
    return (
        f"best validation loss ({divergence}) {best['value']:.4f} at step {best['step']}, "
        f"{control['value']:.4f} without embeddings; {path}"
    )
