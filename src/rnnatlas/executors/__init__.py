"""Where jobs run."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rnnatlas.errors import SettingsError
from rnnatlas.registry import Registry

if TYPE_CHECKING:
    from rnnatlas.executors.base import Executor

registry = Registry(
    "executor",
    {
        "local": ("rnnatlas.executors.local:Local", "processes on this machine"),
        "ray": ("rnnatlas.executors.ray:Ray", "a Ray cluster, or one started on this machine"),
        "slurm": ("rnnatlas.executors.slurm:Slurm", "jobs of a Slurm cluster"),
    },
)


def make(
    name: str, workers: int | None = None, threads: int = 1, options: Mapping[str, Any] | None = None
) -> "Executor":
    """An executor by its name; arguments as those of `Executor`.

    Raises:
        UnknownName: No executor is called so.
        SettingsError: As `Executor`; or there is an option of another one.
    """
    kind = registry[name]
    for option in options or {}:
        others = [other for other in registry if option in _options(registry[other])]
        if others and option not in _options(kind):
            raise SettingsError(
                f"executor.{option} is a setting of {' and '.join(others)}, found the executor {name}; add "
                f"--executor {others[0]}, or leave it out"
            )
    return kind(workers, threads, options)


def _options(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind.Settings)}
