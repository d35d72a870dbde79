"""What an experiment's folder says of itself, from before anything is trained."""

import dataclasses
import json
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnatlas import files
from rnnatlas._version import commit
from rnnatlas.errors import OutputExists
from rnnatlas.report.experiment import FILE, Experiment
from rnnatlas.reproduce import ablations
from rnnatlas.reproduce.jobs import ATLAS, MAP, ZOO, chosen_seeds, folder_of, labels
from rnnatlas.reproduce.settings import LANGUAGES, ZOOS, ExperimentSettings
from rnnatlas.settings import as_dict, build, leaves


def describe(
    out: Path, preset: str, zoo: str, seed: int, changes: Mapping[str, Any], resolved: Mapping[str, Any]
) -> Experiment:
    """What the experiment in a folder consists of, or will."""
    chosen = chosen_seeds(resolved, seed)
    return Experiment(
        zoo=ZOO,
        runs={label: {one: folder_of(label, one) for one in chosen} for label in labels(resolved)},
        ablations=ablations.runs(resolved, seed),
        atlas=ATLAS,
        map=MAP,
        command=command(out, preset, zoo, seed, changes),
        kind=zoo,
        seed=seed,
        settings=json.loads(json.dumps(resolved)),
        commit=commit() or "",
    )


def command(out: Path, preset: str, zoo: str, seed: int, changes: Mapping[str, Any]) -> str:
    """What someone would type to have the same experiment."""
    name = shlex.quote(out.resolve().name)
    start = "rnnatlas demo" if preset == "demo" else f"rnnatlas reproduce --preset {preset} --out {name}"
    called = next((called for called, own in ZOOS.items() if own == zoo), zoo)
    parts = [start, *([] if zoo == LANGUAGES else [f"--zoo {called}"]), f"--seed {seed}"]
    parts += [
        "--set " + shlex.quote(f"{name}={json.dumps(value)}") for name, value in leaves(changes).items()
    ]
    return " ".join(parts)


def begin(out: Path, experiment: Experiment) -> None:
    """Makes an experiment's folder, or makes sure that it is the one of this experiment.

    Raises:
        OutputExists: The folder holds something else, or an experiment with other settings.
        RunFormatError: What the folder says of itself cannot be read.
    """
    if not (out / FILE).is_file():
        files.new_folder(out)
        experiment.save(out)
        return
    before = Experiment.load(out)
    for what, then, now in (
        ("zoo", before.kind, experiment.kind),
        ("seed", before.seed, experiment.seed),
        *_changed(before.settings, experiment.settings),
    ):
        if then != now:
            raise OutputExists(
                f"{out} holds an experiment with another {what} ({then} then, {now} now); choose another "
                "--out, or remove it first"
            )
    dataclasses.replace(experiment, timings=before.timings).save(out)


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Settings by their whole names, as they were and are; what older versions lacked had its default.

    Ablations may be added later, since they change nothing else.
    """
    experiment = build(ExperimentSettings, then.get("experiment", {}), "experiment")
    before, after = (
        {
            name: value
            for name, value in leaves(own).items()
            if value != {} and not name.startswith("experiment.ablations")
        }
        for own in ({**then, "experiment": as_dict(experiment)}, now)
    )
    yield from ((name, before.get(name), after.get(name)) for name in {**after, **before})


@contextmanager
def timing(out: Path, part: str) -> Iterator[None]:
    """Adds what the block takes to the time that the part took in earlier, interrupted runs."""
    start = time.monotonic()
    try:
        yield
    finally:
        experiment = Experiment.load(out)
        seconds = round(experiment.timings.get(part, 0.0) + time.monotonic() - start, 2)
        dataclasses.replace(experiment, timings={**experiment.timings, part: seconds}).save(out)
