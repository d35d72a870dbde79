"""Many trained RNNs: training them, keeping them on disk, bringing in those of others."""

from rnnatlas.registry import Registry

executors = Registry(
    "executor",
    {"local": ("rnnatlas.zoo.executors:Local", "processes on this machine, one thread each")},
)
