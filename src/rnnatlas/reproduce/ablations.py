"""Ablations: probing encoders trained again with one setting changed, as jobs of the experiment."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rnnatlas import encoders
from rnnatlas.executors.base import Job
from rnnatlas.reproduce.jobs import RUNS, chosen_seeds, evaluating, folder_of, training
from rnnatlas.reproduce.settings import ABLATED
from rnnatlas.settings import merge

FOLDER = "ablations"
"""Where they are in an experiment's folder, by setting and value."""

Changes = dict[str, Any]


def changes(resolved: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Changes]]:
    """Setting, value, encoder, and what differs from the experiment's settings; none that changes nothing."""
    asked = resolved["experiment"]["ablations"] or {}
    for encoder in ABLATED:
        own = resolved["encoders"].get(encoder)
        if own is None:
            continue
        for setting in ("sequences", "steps"):
            for value in dict.fromkeys(asked.get(setting, ())):
                if value != own[setting]:
                    yield setting, f"{value}", encoder, {"encoders": {encoder: {setting: value}}}
        for value in asked.get("divergences", ()):
            alone = {"divergence": value, "first_divergence": None, "first_steps": 0}
            yield "divergence", value, encoder, {"emulation": alone}


def _where(setting: str, value: str) -> str:
    return f"{FOLDER}/{setting}-{value}"


def runs(resolved: Mapping[str, Any], seed: int) -> dict[str, dict[str, dict[str, dict[int, str]]]]:
    """Setting → value → encoder → seed → folder of the run."""
    found: dict[str, dict[str, dict[str, dict[int, str]]]] = {}
    for setting, value, encoder, _ in changes(resolved):
        of_seeds = {
            one: folder_of(encoder, one, _where(setting, value)) for one in chosen_seeds(resolved, seed)
        }
        found.setdefault(setting, {}).setdefault(value, {})[encoder] = of_seeds
    return found


def of_ablations(
    out: Path, resolved: Mapping[str, Any], seed: int, device: str, mixed: bool = False
) -> list[Job]:
    """Training and evaluation of all; arguments as those of `jobs.of_encoders`.

    They take the experiment's controls, but for those of another divergence, which are trained here.
    """
    jobs: dict[str, Job] = {}
    bare = {"experiment": {"supervised": False, "slow_baselines": False}}
    for setting, value, encoder, changed in changes(resolved):
        own, where = merge(resolved, changed, bare), _where(setting, value)
        controls = where if "emulation" in changed else RUNS
        for one in chosen_seeds(resolved, seed):
            labels = [encoder] if controls == RUNS else [encoders.CONTROL, encoder]
            made = [training(out, label, one, own, device, mixed, where, controls) for label in labels]
            made.append(evaluating(out, encoder, one, own, device, 0, where))
            jobs |= {job.name: job for job in made}
    return list(jobs.values())
