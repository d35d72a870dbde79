"""Benchmarks: what this package claims of its speed, measured again wherever it is installed."""

from rnnatlas.registry import Registry, make_indexable

registry = Registry(
    "benchmark",
    {
        "zoo-training": (
            "rnnatlas.benchmarks.zoo_training:ZooTraining",
            "training steps of a zoo's RNNs a second, against nn.LSTM one at a time",
        ),
        "run": (
            "rnnatlas.benchmarks.running:Running",
            "run forward and backward, against eager torch, vmap and torch.nn one at a time",
        ),
        "encoders": (
            "rnnatlas.benchmarks.encoders:Encoders",
            "training step and embedding rate of each encoder, beside the emulator alone",
        ),
        "scaling": (
            "rnnatlas.benchmarks.scaling:Scaling",
            "how an RNN's cost grows with RNNs, hidden units, length and layers",
        ),
    },
)

make_indexable(__name__)
