"""Where jobs run."""

from rnnatlas.registry import Registry

registry = Registry(
    "executor",
    {"local": ("rnnatlas.executors.local:Local", "processes on this machine")},
)
