"""Which jobs an experiment consists of once its zoo is there."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnnatlas import encoders
from rnnatlas.executors.base import Job
from rnnatlas.executors.claims import Beat
from rnnatlas.report.words import NO_INTERACTION
from rnnatlas.settings import build

ZOO, ATLAS, MAP, RUNS = "zoo", "atlas", "map.html", "runs"
"""Where they are in an experiment's folder."""


def labels(resolved: Mapping[str, Any]) -> list[str]:
    """What the encoders of an experiment are called; with them, the one without interaction."""
    ablated = resolved["experiment"]["ablation"] and "interactive" in resolved["encoders"]
    return [*resolved["encoders"], *([NO_INTERACTION] if ablated else [])]


def chosen_seeds(resolved: Mapping[str, Any], seed: int) -> range:
    """Seeds of an experiment's trainings."""
    return range(seed, seed + resolved["experiment"]["seeds"])


def folder_of(label: str, seed: int, where: str = RUNS) -> str:
    """Where a run is in an experiment's folder."""
    return f"{where}/{label}-{seed}"


def _called(label: str, seed: int, where: str) -> str:
    return folder_of(label, seed, where).removeprefix(f"{RUNS}/")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Trains an encoder or a control; arguments as those of `emulation.training.train`."""

    zoo: Path | str
    encoder: str
    folder: Path
    seed: int
    encoder_settings: Mapping[str, Any]
    emulation: Any
    control: Path | None
    control_learning_rate: float | None
    device: str
    devices: int = 1

    def __call__(self, beat: Beat) -> None:
        """Goes on where an earlier training was stopped."""
        from rnnatlas.emulation.training import train
        from rnnatlas.zoo.store import Zoo

        train(
            Zoo.open(self.zoo),
            self.encoder,
            self.folder,
            self.seed,
            encoder_settings=self.encoder_settings,
            settings=self.emulation,
            control=self.control,
            control_learning_rate=self.control_learning_rate,
            resume=True,
            device=self.device,
            devices=self.devices,
            progress=beat,
        )


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training: the weights are there, and what it went on from after stops is gone."""

    folder: Path

    def exists(self) -> bool:
        """See the class."""
        from rnnatlas.emulation.model import RESUME

        return (self.folder / "model.safetensors").exists() and not (self.folder / RESUME).exists()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluates an encoder; arguments as those of `evaluation.evaluate.evaluate`."""

    zoo: Path | str
    folder: Path
    supervised: Any
    slow_baselines: bool
    device: str

    def __call__(self, beat: Beat) -> None:
        """Fills the run's folder with figures."""
        from rnnatlas.evaluation.evaluate import evaluate
        from rnnatlas.zoo.store import Zoo

        zoo = Zoo.open(self.zoo)
        evaluate(
            self.folder,
            zoo,
            supervised=self.supervised,
            slow_baselines=self.slow_baselines,
            device=self.device,
            progress=beat,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draw:
    """Makes the atlas of all the zoo's RNNs, by the run that did best on validation, and its map."""

    out: Path
    runs: Sequence[Path]

    def __call__(self, beat: Beat) -> None:
        """Leaves an atlas that is there as it is."""
        from rnnatlas.atlas.embed import embed
        from rnnatlas.atlas.index import Atlas
        from rnnatlas.atlas.map import write_map
        from rnnatlas.evaluation.model import load

        if not (self.out / ATLAS).is_dir():  # it appears whole
            embed(load(min(self.runs, key=_validation_loss)), [self.out / ZOO]).save(self.out / ATLAS)
        write_map(Atlas.open(self.out / ATLAS), self.out / MAP)


def _validation_loss(run: Path) -> float:
    from rnnatlas.emulation.model import read_metrics

    return next(r["value"] for r in read_metrics(run) if r["name"] == "best validation loss")


def training(
    out: Path,
    label: str,
    seed: int,
    resolved: Mapping[str, Any],
    device: str,
    mixed: bool = False,
    where: str = RUNS,
    controls: str = RUNS,
) -> Job:
    """Trains one run, in the folder `where`; that of an encoder needs the control of its seed in `controls`.

    Of a zoo of several architectures, an encoder that reads the weights of one takes one of them, and has a
    control of its own that was trained on the same RNNs.
    """
    from rnnatlas.emulation.model import EmulationSettings

    control = label == encoders.CONTROL
    encoder, change = ("interactive", {"interaction": False}) if label == NO_INTERACTION else (label, {})
    emulation = build(EmulationSettings, resolved["emulation"], "emulation")
    kind = encoders.find(encoder)
    alone = control or (mixed and kind.reads_weights and not kind.any_architecture)
    rates = resolved["experiment"]["learning_rates"]
    rate = rates.get(encoder, emulation.learning_rate)
    work = Train(
        zoo=out / ZOO,
        encoder=encoder,
        folder=out / folder_of(label, seed, where),
        seed=seed,
        encoder_settings={} if control else {**resolved["encoders"][encoder], **change},
        emulation=dataclasses.replace(emulation, learning_rate=rate),
        control=None if alone else out / folder_of(encoders.CONTROL, seed, controls),
        control_learning_rate=rates.get(encoders.CONTROL, emulation.learning_rate),
        device=device,
    )
    return Job(
        name=f"train {_called(label, seed, where)}",
        work=work,
        output=Trained(work.folder),
        needs=() if alone else (f"train {_called(encoders.CONTROL, seed, controls)}",),
        updates=emulation.steps * (2 if alone and not control else 1),
    )


def evaluating(
    out: Path,
    label: str,
    seed: int,
    resolved: Mapping[str, Any],
    device: str,
    end_to_end: int,
    where: str = RUNS,
) -> Job:
    """Evaluates one run, which has to be trained before."""
    from rnnatlas.evaluation.model import PREDICTORS
    from rnnatlas.evaluation.supervised import SupervisedSettings

    supervised = build(SupervisedSettings, resolved["supervised"], "supervised")
    asked = resolved["experiment"]
    work = Evaluate(
        zoo=out / ZOO,
        folder=out / folder_of(label, seed, where),
        supervised=supervised if asked["supervised"] else None,
        slow_baselines=asked["slow_baselines"],
        device=device,
    )
    return Job(
        name=f"evaluate {_called(label, seed, where)}",
        work=work,
        output=work.folder / PREDICTORS,
        needs=(f"train {_called(label, seed, where)}",),
        updates=(supervised.steps or resolved["emulation"]["steps"]) * end_to_end,
    )


def of_encoders(
    out: Path,
    resolved: Mapping[str, Any],
    seed: int,
    device: str,
    end_to_end: int = 0,
    mixed: bool = False,
) -> list[Job]:
    """Training and evaluation of all encoders and controls; all of a seed come before the next seed's.

    Args:
        out: The experiment's folder.
        resolved: Its settings.
        seed: Of the first trainings.
        device: Where they are made.
        end_to_end: On how many properties each encoder is trained end to end.
        mixed: Whether the zoo holds several architectures.
    """
    runs = [(label, one) for one in chosen_seeds(resolved, seed) for label in labels(resolved)]
    controls = [(encoders.CONTROL, one) for one in chosen_seeds(resolved, seed)]
    return [
        *(training(out, label, one, resolved, device, mixed) for label, one in controls + runs),
        *(evaluating(out, label, one, resolved, device, end_to_end) for label, one in runs),
    ]


def of_the_map(out: Path, resolved: Mapping[str, Any], seed: int) -> Job:
    """Atlas and map, once all encoders are evaluated; the one without interaction makes none."""
    runs = [(label, one) for one in chosen_seeds(resolved, seed) for label in labels(resolved)]
    return Job(
        name="atlas and map",
        work=Draw(
            out=out, runs=[out / folder_of(label, one) for label, one in runs if label != NO_INTERACTION]
        ),
        output=out / MAP,
        needs=tuple(f"evaluate {label}-{one}" for label, one in runs),
    )
