"""Where jobs run."""

from rnnatlas.registry import Registry

registry = Registry(
    "executor",
    {"local": ("rnnatlas.executors.base:Local", "processes on this machine, one thread each")},
)
