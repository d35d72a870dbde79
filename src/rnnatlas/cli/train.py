"""`rnnatlas train`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def train(
    zoo: str,
    /,
    *,
    encoder: str,
    out: Path,
    preset: str | None = None,
    divergence: str | None = None,
    seed: Seed = 0,
    control: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    resume: bool = False,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """Train an encoder on a zoo by emulation.

    The zero-embedding control is trained first. Stop whenever you like: with --resume it goes on
    from the last validation, exactly as if it had not been stopped.

    ```
    rnnatlas train zoo --encoder interactive --preset demo --out run
    ```

    Args:
        zoo: The zoo's folder, or its address (s3://…).
        encoder: What embeds the RNNs; `rnnatlas encoders` lists the encoders.
        out: The run's folder.
        preset: demo, small or paper; without one, everything is as in the paper for formal languages.
        divergence: total-variation, kl, reverse-kl, jensen-shannon, cross-entropy, cosine or l2.
        seed: Decides the initial weights and the batches.
        control: A run with the same zoo, settings and seed, whose zero-embedding control is copied; its
            learning rate may be its own.
        device: Where to train; auto takes a GPU where there is one.
        devices: How many devices share each step.
        resume: Go on with the run that was begun in --out.
        set: Change a setting, such as emulation.steps=2000 or encoders.interactive.sequences=8; may be
            repeated.
    """
    from rnnatlas import encoders, settings
    from rnnatlas.emulation.model import EmulationSettings
    from rnnatlas.zoo.store import Zoo

    common = common or Common()
    encoders.registry.description(encoder)  # raises for an unknown name
    opened = Zoo.open(zoo)
    below = settings.preset(preset, opened.task.name) if preset and opened.task else {}
    if encoder in (rates := below.get("experiment", {}).get("learning_rates", {})):
        below = settings.merge(below, {"emulation": {"learning_rate": rates[encoder]}})
    flags = {"emulation": {"divergence": divergence}}
    resolved = common.layered(below, flags, set or [], ["emulation", "encoders"])
    emulation = settings.build(EmulationSettings, resolved.get("emulation", {}), "emulation")
    built = {
        name: settings.as_dict(
            settings.build(encoders.registry[name].Settings, values or {}, f"encoders.{name}")
        )
        for name, values in {encoder: {}, **resolved.get("encoders", {})}.items()
    }
    if common.print_config:
        flags = {"encoder": encoder, "out": out, "seed": seed, "control": control}
        flags |= {"device": device, "devices": devices}
        own = {"emulation": settings.as_dict(emulation), "encoders": {encoder: built[encoder]}}
        common.show(flags, own)
        return
    from rnnatlas.emulation.training import train as train_run

    model = train_run(
        opened,
        encoder,
        out,
        seed,
        encoder_settings=built[encoder],
        settings=emulation,
        control=control,
        resume=resume,
        device=device,
        devices=devices,
        progress=common.progress,
    )
    common.say(_summary(model.path, model.divergence))


def _summary(path: Path, divergence: str) -> str:
    from rnnatlas import encoders
    from rnnatlas.emulation.model import read_metrics

    own, zero = (read_metrics(folder)[0] for folder in (path, path / encoders.CONTROL))
    return (
        f"best validation loss ({divergence}) {own['value']:.4f} at step {own['step']}, "
        f"{zero['value']:.4f} without embeddings; {path}"
    )
