"""What an experiment's settings are, and what a preset and changes make of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rnnatlas import encoders, tasks
from rnnatlas.errors import SettingsError
from rnnatlas.registry import nearest
from rnnatlas.settings import as_dict, at_least_one, build, check_sections, merge, preset, settings

ZOOS = {
    "languages": "formal-languages",
    "mixed": "mixed",
    "mnist": "tiled-mnist",
    "digits": "tiled-digits",
    "integrator": "integrator",
}
"""What the commands call a zoo, and what presets do: by its task, save for one of several architectures."""

MIXED = "formal-languages"
"""What the RNNs of the zoo "mixed" are trained to do."""

LANGUAGES = ZOOS["languages"]
SECTIONS = ("experiment", "task", "zoo", "emulation", "encoders", "supervised")
"""Of an experiment's settings."""


@settings
class ExperimentSettings:
    """What is trained and compared.

    Args:
        seeds: Trainings of each encoder, each with its own initial weights and batches.
        ablation: Whether to train interactive probing without interaction, too.
        supervised: Whether to train each encoder end to end on properties, too, as the section `supervised`
            says.
        slow_baselines: Whether to fit an embedding to each RNN and read Lyapunov spectra, too, as baselines.
        learning_rates: Encoder, or control, → its own learning rate instead of `emulation.learning_rate`;
            a preset's do not count where that is changed.
        threads: Threads of each training and evaluation on processors; results depend on it in the last
            digits.
    """

    seeds: int = 3
    ablation: bool = False
    supervised: bool = False
    slow_baselines: bool = False
    learning_rates: dict[str, float] = dataclasses.field(default_factory=dict)
    threads: int = 1

    def __post_init__(self) -> None:
        at_least_one(self, "seeds", "threads")


def task_of(zoo: str) -> str:
    """What the RNNs of a zoo, as presets call it, are trained to do."""
    return MIXED if zoo == ZOOS["mixed"] else zoo


def resolve(name: str, changes: Mapping[str, Any], zoo: str = LANGUAGES) -> dict[str, Any]:
    """All settings of an experiment, by section: the preset with changes over it, and the defaults below.

    Raises:
        SettingsError: Unknown settings.
        UnknownName: There is no such preset, or it says nothing of the zoo.
    """
    from rnnatlas.emulation.model import EmulationSettings
    from rnnatlas.evaluation.supervised import SupervisedSettings
    from rnnatlas.zoo import splits
    from rnnatlas.zoo.train import ZooSettings

    check_sections(changes, SECTIONS)
    below = preset(name, zoo)
    if "learning_rate" in changes.get("emulation", {}):  # which then is meant for all
        below.get("experiment", {}).pop("learning_rates", None)
    values = merge(below, changes)
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
    made = tasks.registry[task_of(zoo)].from_settings(values["task"])
    zoo_settings = build(ZooSettings, values["zoo"], "zoo")
    splits.check(made, zoo_settings.split)
    return {
        "experiment": as_dict(experiment),
        "task": as_dict(made.settings),
        "zoo": as_dict(zoo_settings),
        "emulation": as_dict(emulation),
        "encoders": {
            name: as_dict(build(kinds[name], {} if own is None else own, f"encoders.{name}"))
            for name, own in values["encoders"].items()
        },
        "supervised": as_dict(build(SupervisedSettings, values.get("supervised", {}), "supervised")),
    }
