"""Understanding recurrent networks by their weights.

Names are loaded when they are first used, so `import rnnatlas` is quick and does not import torch.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# OpenMP looks at this when torch is loaded. Threads that spin while they wait take the processors of a busy
# machine from those that work: docs/decisions/0018-waiting-threads.md
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", KMP_BLOCKTIME="0")

if TYPE_CHECKING:
    from rnnatlas import emulation, encoders, importers, properties, tasks, zoo
    from rnnatlas.atlas.embed import embed
    from rnnatlas.atlas.index import Atlas
    from rnnatlas.evaluation.model import Model, load, train
    from rnnatlas.exploration.explore import explore
    from rnnatlas.registry import register
    from rnnatlas.rnn import (
        BlackBox,
        Interface,
        Mixed,
        Population,
        RNNSpec,
        Tokens,
        Values,
        hidden,
        run,
        sample,
        step,
    )
    from rnnatlas.rnn.dynamics import lyapunov
    from rnnatlas.rnn.invariants import invariant_names, invariants
    from rnnatlas.zoo.store import Zoo

from rnnatlas._version import __version__

_HOMES = {
    "Atlas": "rnnatlas.atlas.index",
    "BlackBox": "rnnatlas.rnn",
    "Interface": "rnnatlas.rnn",
    "Mixed": "rnnatlas.rnn",
    "Model": "rnnatlas.evaluation.model",
    "Population": "rnnatlas.rnn",
    "RNNSpec": "rnnatlas.rnn",
    "Tokens": "rnnatlas.rnn",
    "Values": "rnnatlas.rnn",
    "Zoo": "rnnatlas.zoo.store",
    "embed": "rnnatlas.atlas.embed",
    "explore": "rnnatlas.exploration.explore",
    "hidden": "rnnatlas.rnn",
    "invariant_names": "rnnatlas.rnn.invariants",
    "invariants": "rnnatlas.rnn.invariants",
    "load": "rnnatlas.evaluation.model",
    "lyapunov": "rnnatlas.rnn.dynamics",
    "register": "rnnatlas.registry",
    "run": "rnnatlas.rnn",
    "sample": "rnnatlas.rnn",
    "step": "rnnatlas.rnn",
    "train": "rnnatlas.evaluation.model",
}
_PACKAGES = ("emulation", "encoders", "importers", "properties", "tasks", "zoo")

__all__ = [
    "Atlas",
    "BlackBox",
    "Interface",
    "Mixed",
    "Model",
    "Population",
    "RNNSpec",
    "Tokens",
    "Values",
    "Zoo",
    "__version__",
    "embed",
    "emulation",
    "encoders",
    "explore",
    "hidden",
    "importers",
    "invariant_names",
    "invariants",
    "load",
    "lyapunov",
    "properties",
    "register",
    "run",
    "sample",
    "step",
    "tasks",
    "train",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"rnnatlas.{name}")
    else:
        raise AttributeError(f"module 'rnnatlas' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
