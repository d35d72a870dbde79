"""Where jobs run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    """An executor by its name; arguments as those of `Executor`."""
    return registry[name](workers, threads, options)
