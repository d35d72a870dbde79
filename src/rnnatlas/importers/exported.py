"""Programs of `torch.export` (.pt2): their weights, which lie beside a graph that is not run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.contents import Contents, contents
from rnnatlas.importers.pickles import Storage, Stored
from rnnatlas.importers.torch_files import Document, mapped, members, read
from rnnatlas.rnn.heads import shown

LONGEST = 1 << 26
"""Bytes of a description in JSON."""
_DTYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16},
    **{7: torch.float32, 8: torch.float64, 10: torch.complex64, 12: torch.bool, 13: torch.bfloat16},
}
"""Types by their numbers in torch's schema of exported programs."""
_CONFIG = re.compile(r"(?:.*/)?data/weights/(?P<model>.+)_weights_config\.json")
_RECURRENT = re.compile(r"((?:.*\.)?)weight_hh_l0")
NOTE = "weights of a torch.export program, whose graph was not read"


def exported_contents(path: Path) -> Contents:
    """The weights of a program, of torch 2.8 or later, or of before.

    Raises:
        CheckpointError: It is damaged, or describes its weights in another way.
    """
    parts = members(mapped(path))
    graphs = [
        name for name in parts if name.endswith(("serialized_exported_program.json", "/models/model.json"))
    ]
    older = next((name for name in parts if name.rpartition("/")[2] == "serialized_state_dict.pt"), None)
    try:
        found = contents(read(parts[older])) if older else contents(Document(_described(parts)))
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(
            "expected a torch.export program with its weights, found something else; save model.state_dict()"
        ) from None
    graph = "".join(bytes(parts[name][:LONGEST]).decode(errors="replace") for name in graphs)
    relu, tanh = (f"aten.rnn_{name}" in graph for name in ("relu", "tanh"))
    if relu != tanh:
        prefixes = [match[1] for match in map(_RECURRENT.fullmatch, found.tensors) if match]
        found.cells |= dict.fromkeys(prefixes, "elman-relu" if relu else "elman-tanh")
    found.notes.append(NOTE)
    return found


def _described(parts: Mapping[str, memoryview]) -> dict[str, Any]:
    """Weights by name as JSON describes them; under the names of models where there are several."""
    configs = {name: match for name in parts if (match := _CONFIG.fullmatch(name))}
    if not configs:
        raise ValueError("no weights")
    models = {
        match["model"]: {
            name: _weight(name, about, parts, config.rpartition("/")[0])
            for name, about in json.loads(bytes(parts[config][:LONGEST]))["config"].items()
        }
        for config, match in configs.items()
    }
    return next(iter(models.values())) if len(models) == 1 else models


def _weight(name: str, about: Mapping[str, Any], parts: Mapping[str, memoryview], folder: str) -> Any:
    data = parts.get(f"{folder}/{about['path_name']}")
    if data is None:
        raise CheckpointError(f"it has no numbers for {shown(name)}; save it again")
    if about.get("use_pickle"):
        return read(data).root
    meta = about["tensor_meta"]
    dtype = _DTYPES.get(meta["dtype"])
    if dtype is None:
        return Stored(None, None, oddity="numbers of a type that is not known")
    storage = Storage(dtype, name, len(data) // dtype.itemsize, data)
    size, stride = (tuple(each["as_int"] for each in meta[axis]) for axis in ("sizes", "strides"))
    return Stored(storage, dtype, meta["storage_offset"]["as_int"], size, stride)
