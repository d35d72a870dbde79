"""`rnnatlas train`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed
from rnnatlas.errors import SettingsError


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
    control_learning_rate: float | None = None,
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
        control_learning_rate: AdamW's of the control that is trained here; that of the preset or, without
            one, the encoder's.
        device: Where to train; auto takes a GPU where there is one.
        devices: How many devices share each step.
        resume: Go on with the run that was begun in --out.
        set: Change a setting, such as emulation.steps=2000 or encoders.interactive.sequences=8; may be
            repeated.
    """
    from rnnatlas import encoders, settings
    from rnnatlas.zoo.store import Zoo

    common = common or Common()
    encoders.registry.description(encoder)  # raises for an unknown name
    opened = Zoo.open(zoo)
    below = _of_preset(preset, opened, encoder)
    given = common.layered(
        {}, {"emulation": {"divergence": divergence}}, set or [], ["emulation", "encoders"]
    )
    emulation, encoder_settings = _build(settings.merge(below, given), encoder)
    if control_learning_rate is None and "learning_rate" not in given.get("emulation", {}):
        control_learning_rate = below.get("experiment", {}).get("learning_rates", {}).get(encoders.CONTROL)
    if common.print_config:
        flags = {"encoder": encoder, "out": out, "seed": seed, "control": control}
        flags |= {"control_learning_rate": control_learning_rate, "device": device, "devices": devices}
        sections = {"emulation": settings.as_dict(emulation), "encoders": {encoder: encoder_settings}}
        common.show(flags, sections)
        return
    from rnnatlas.emulation.training import train as train_run

    model = train_run(
        opened,
        encoder,
        out,
        seed,
        encoder_settings=encoder_settings,
        settings=emulation,
        control=control,
        control_learning_rate=control_learning_rate,
        resume=resume,
        device=device,
        devices=devices,
        progress=common.progress,
    )
    common.say(_summary(model.path, model.divergence))


def _of_preset(name: str | None, zoo: Any, encoder: str) -> dict[str, Any]:
    """What a preset sets for the zoo's task, with the learning rate of the encoder."""
    from rnnatlas import settings

    if name is None:
        return {}
    if zoo.task is None:
        raise SettingsError(
            f"--preset {name} has settings for a zoo's task, but {zoo.path} has none, since its RNNs were "
            "imported; give settings with --set"
        )
    values = settings.preset(name, zoo.task.name)
    rates = values.get("experiment", {}).get("learning_rates", {})
    rate = {"learning_rate": rates[encoder]} if encoder in rates else {}
    return settings.merge(values, {"emulation": rate})


def _build(resolved: Mapping[str, Any], encoder: str) -> tuple[Any, dict[str, Any]]:
    """The settings of emulation and of the encoder; those of other encoders are only checked."""
    from rnnatlas import encoders, settings
    from rnnatlas.emulation.model import EmulationSettings

    emulation = settings.build(EmulationSettings, resolved.get("emulation", {}), "emulation")
    built = {
        name: settings.as_dict(
            settings.build(encoders.registry[name].Settings, values or {}, f"encoders.{name}")
        )
        for name, values in {encoder: {}, **resolved.get("encoders", {})}.items()
    }
    return emulation, built[encoder]


def _summary(path: Path, divergence: str) -> str:
    from rnnatlas import encoders
    from rnnatlas.emulation.model import read_metrics

    best, control = (read_metrics(folder)[0] for folder in (path, path / encoders.CONTROL))
    return (
        f"best validation loss ({divergence}) {best['value']:.4f} at step {best['step']}, "
        f"{control['value']:.4f} without embeddings; {path}"
    )
