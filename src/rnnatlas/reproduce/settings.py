"""What an experiment's settings are, and what a preset and changes make of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rnnatlas import encoders, tasks
from rnnatlas.emulation import choose, suitable
from rnnatlas.errors import SettingsError
from rnnatlas.registry import nearest
from rnnatlas.rnn import Signal
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


ABLATED = ("interactive", "noninteractive")
"""Encoders that ablations train again."""

SAME_SLOPE = "cross-entropy"
"""It differs from the Kullback–Leibler divergence by what no training changes."""


@settings
class AblationSettings:
    """With which single settings changed probing encoders are trained again; the paper's by default.

    Args:
        sequences: Numbers of probing sequences.
        steps: Their lengths.
        divergences: What is minimised instead, from the first step on; None for all others that there are,
            but for cross-entropy, which has the slope of the Kullback–Leibler divergence.
    """

    sequences: tuple[int, ...] = (1, 2, 4, 8)
    steps: tuple[int, ...] = (7, 12, 22, 42)
    divergences: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if low := [value for value in (*self.sequences, *self.steps) if value < 1]:
            raise SettingsError(f"sequences and steps should be 1 or more, found {low[0]}")


@settings
class ExperimentSettings:
    """What is trained and compared.

    Args:
        seeds: Trainings of each encoder, each with its own initial weights and batches.
        ablation: Whether to train interactive probing without interaction, too.
        ablations: Whether to train both kinds of probing with other numbers and lengths of probing sequences
            and on other divergences, too; or with which.
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
    ablations: bool | AblationSettings = False
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
    ablations = _ablations(experiment.ablations, list(kinds), emulation, made.interface.output)
    experiment = dataclasses.replace(experiment, ablations=ablations)
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


def _ablations(
    asked: bool | AblationSettings, kinds: Sequence[str], emulation: Any, output: Signal
) -> AblationSettings | Literal[False]:
    """What is asked for, with all divergences by name but what the experiment itself minimises.

    Raises:
        SettingsError: There is no such divergence of such outputs, or no encoder to train again.
    """
    if not asked:
        return False
    if not set(kinds) & set(ABLATED):
        raise SettingsError(
            f"experiment.ablations train {' and '.join(ABLATED)} again, found neither under encoders; add "
            "one, such as encoders.interactive={}, or leave ablations out"
        )
    chosen = AblationSettings() if asked is True else asked
    known, own = suitable(output), choose(emulation.divergence, output)
    divergences = [name for name in known if name != SAME_SLOPE]
    divergences = divergences if chosen.divergences is None else list(dict.fromkeys(chosen.divergences))
    for name in divergences:
        if name not in known:
            raise SettingsError(
                f"experiment.ablations.divergences should be among {', '.join(known)}, found {name!r}"
            )
    if not emulation.first_steps or emulation.first_divergence in (None, own):
        divergences = [name for name in divergences if name != own]
    return dataclasses.replace(chosen, divergences=tuple(divergences))
