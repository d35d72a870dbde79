"""Encoders: from the weights of an RNN to its embedding."""

from typing import Any

from rnnatlas.registry import Registry, make_indexable

registry = Registry(
    "encoder",
    {
        "statistics": (
            "rnnatlas.encoders.statistics:Statistics",
            "mechanistic: mean, standard deviation and quantiles of each gate's weights",
        ),
        "dws": (
            "rnnatlas.encoders.dws:DWS",
            "mechanistic: layers that commute with reorderings of hidden units",
        ),
        "flat": (
            "rnnatlas.encoders.flat:Flat",
            "mechanistic: all weights as one vector",
        ),
        "transformer": (
            "rnnatlas.encoders.transformer:Transformer",
            "mechanistic: attention between rows of weights",
        ),
        "invariants": (
            "rnnatlas.encoders.invariants:Invariants",
            "mechanistic: spectra and moments that RNNs of any architecture have, nothing of it trained",
        ),
        "graph": (
            "rnnatlas.encoders.graph:Graph",
            "mechanistic: messages between units, for RNNs of any architecture",
        ),
        "responses": (
            "rnnatlas.encoders.responses:Responses",
            "functionalist: all responses to a few whole sequences, read directly",
        ),
        "orbit": (
            "rnnatlas.encoders.orbit:Orbit",
            "functionalist: responses to a few images in all rotations; the embedding turns with the RNN",
        ),
        "hybrid": (
            "rnnatlas.encoders.hybrid:Hybrid",
            "both: responses, and invariants of the weights, which the embedding also has to keep",
        ),
        "noninteractive": (
            "rnnatlas.encoders.noninteractive:NonInteractiveProbing",
            "functionalist: responses to a fixed, learned list of probing inputs",
        ),
        "interactive": (
            "rnnatlas.encoders.interactive:InteractiveProbing",
            "functionalist: each probing input depends on the responses before it",
        ),
    },
    base="rnnatlas.encoders.base:Encoder",
    group="rnnatlas.encoders",
)

CONTROL = "zero"
"""Name of the control, and of its folder inside a run."""

controls = Registry(
    "control encoder",
    {CONTROL: ("rnnatlas.encoders.zero:Zero", "leaves the emulator unconditional: every embedding is zero")},
)


def find(name: str) -> Any:
    """The class of an encoder or control; None for other names, as experiments may give them."""
    return next((known[name] for known in (registry, controls) if name in known), None)


make_indexable(__name__)
