"""What an unfinished run goes on from: read without running code, and checked before it is used."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError, RunFormatError
from rnnatlas.files import check_regular
from rnnatlas.importers.pickles import Stored
from rnnatlas.importers.torch_files import as_tensor, read

Weights = Mapping[str, Mapping[str, Tensor]]
"""Tensors of each part by name."""
COLUMNS = ("step", "train_loss", "validation_loss", "learning_rate")
"""Of a run's history."""
_MOMENTS = ("exp_avg", "exp_avg_sq")


def saved(path: Path, weights: Weights, parameters: Sequence[Tensor], steps: int) -> dict[str, Any]:
    """The state of an unfinished training.

    The file's checksums are compared, and each number and tensor is of the kind and shape that it should be:
    an optimiser would take others for its own and write beyond them.

    Args:
        path: The file.
        weights: Those that the training began with.
        parameters: What it optimises.
        steps: Those of the whole training.

    Raises:
        RunFormatError: It is damaged, or of another training.
    """
    try:
        check_regular(path)
        content = bytearray(path.read_bytes())
        return _checked(read(memoryview(content)).root, weights, parameters, steps)
    except (CheckpointError, LookupError, TypeError, ValueError):
        raise RunFormatError(
            f"{path} should hold an unfinished run, but is damaged; remove this file, and --resume trains "
            "from the beginning"
        ) from None


def _checked(root: Any, weights: Weights, parameters: Sequence[Tensor], steps: int) -> dict[str, Any]:
    history = [
        {name: _whole(row[name]) if name == "step" else _finite(row[name]) for name in COLUMNS}
        for row in _of(list, root["history"])
    ]
    done, best = _whole(root["done"], steps), root["best"]
    if not history or history[-1]["step"] != done:
        raise ValueError("the history ends elsewhere")
    return {
        "done": done,
        "history": history,
        "waited": _whole(root["waited"], len(history)),
        "best": {
            "loss": _finite(best["loss"]),
            "step": _whole(best["step"], done),
            "weights": _tensors(best["weights"], weights),
        },
        "weights": _tensors(root["weights"], weights),
        "optimizer": {
            _whole(number): _moments(_of(dict, own), parameters[number], done)
            for number, own in _of(dict, root["optimizer"]["state"]).items()
        },
    }


def _tensors(given: Any, like: Weights) -> dict[str, dict[str, Tensor]]:
    """The weights of each part, under the names and with the shapes that they should have."""
    if set(given) != set(like) or any(set(given[part]) != set(like[part]) for part in like):
        raise ValueError("other names")
    return {
        part: {name: _tensor(given[part][name], tensor) for name, tensor in own.items()}
        for part, own in like.items()
    }


def _moments(given: dict[Any, Any], parameter: Tensor, done: int) -> dict[str, Tensor]:
    """What AdamW has gathered of a parameter."""
    if set(given) != {"step", *_MOMENTS}:
        raise ValueError("other names")
    step = _tensor(given["step"], torch.zeros(()))
    if not 0 < float(step) <= done:
        raise ValueError("another step")
    return {"step": step, **{name: _tensor(given[name], parameter) for name in _MOMENTS}}


def _tensor(given: Any, like: Tensor) -> Tensor:
    made = as_tensor(given) if isinstance(given, Stored) else None
    if not isinstance(made, Tensor) or made.shape != like.shape or made.dtype != like.dtype:
        raise ValueError("another tensor")
    return made.clone(memory_format=torch.contiguous_format)


def _of(kind: type, given: Any) -> Any:
    if type(given) is not kind:
        raise TypeError(f"not a {kind.__name__}")
    return given


def _whole(given: Any, most: int = 1 << 62) -> int:
    if type(given) is not int or not 0 <= given <= most:
        raise ValueError("no such count")
    return given


def _finite(given: Any) -> float:
    if type(given) is not float or not math.isfinite(given):
        raise ValueError("no finite number")
    return given
