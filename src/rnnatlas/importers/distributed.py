"""Folders of torch.distributed.checkpoint: `.metadata` says which parts of which file make up a tensor."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.contents import Contents
from rnnatlas.importers.pickles import Inert, Stored
from rnnatlas.importers.torch_files import as_tensor, mapped, not_torch, read, read_path


def distributed_contents(path: Path) -> Contents:
    """The tensors of the folder whose `.metadata` this is.

    Raises:
        CheckpointError: It is damaged, or a file that it names is not there.
    """
    try:
        metadata = _state(read_path(path).root)
        places = _places(metadata["storage_data"])
        tensors = _tensors(metadata["state_dict_metadata"])
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(
            "expected the .metadata of a torch.distributed checkpoint, found something else"
        ) from None
    files: dict[str, memoryview] = {}
    found = Contents()
    for name, (size, chunks) in tensors.items():
        parts: list[tuple[tuple[int, ...], Tensor]] = []
        for offset in chunks:
            file, start, length = places[name, offset]
            if file not in files:
                files[file] = _file(path.parent, file)
            stored = read(files[file][start : start + length]).root
            part = as_tensor(stored) if isinstance(stored, Stored) else "something else than a tensor"
            if isinstance(part, str):
                found.odd[name] = part
                part = torch.empty(0, device="meta")
            parts.append((offset, part))
        found.tensors[name] = parts[0][1] if name in found.odd else _whole(size, parts)
    return found


def _state(value: Any) -> dict[str, Any]:
    """What a pickled object was given."""
    return value.state if isinstance(value.state, dict) else value.state[0]


def _tensors(entries: Any) -> dict[str, tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Name of each tensor → its size, and where its parts begin."""
    found = {}
    for name, entry in entries.items():
        if isinstance(entry, Inert) and entry.kind.endswith(".TensorStorageMetadata"):
            state = _state(entry)
            chunks = [tuple(_state(chunk)["offsets"]) for chunk in state["chunks"]]
            found[str(name)] = (tuple(state["size"]), chunks)
    return found


def _places(entries: Any) -> dict[tuple[str, tuple[int, ...]], tuple[str, int, int]]:
    """Name of each tensor and beginning of each of its parts → its file, its place there, its length."""
    found = {}
    for index, info in entries.items():
        at, place = _state(index), _state(info)
        if at.get("offset") is not None:  # others are not of tensors
            where = (str(place["relative_path"]), int(place["offset"]), int(place["length"]))
            found[str(at["fqn"]), tuple(at["offset"])] = where
    return found


def _file(folder: Path, name: str) -> memoryview:
    if name != Path(name).name or name in ("", ".."):
        raise not_torch()
    if not (folder / name).is_file():
        raise CheckpointError(f"it names {name!r}, which is not beside it; put all its files together")
    return mapped(folder / name)


def _whole(size: tuple[int, ...], parts: list[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    """A tensor of its parts, which should cover it once."""
    if len(parts) == 1 and tuple(parts[0][1].shape) == size:
        return parts[0][1]
    if sum(part.numel() for _, part in parts) != math.prod(size):
        raise CheckpointError("its parts do not make up its tensors; save it again")
    whole = torch.empty(size, dtype=parts[0][1].dtype)
    for offset, part in parts:
        if any(start + length > end for start, length, end in zip(offset, part.shape, size, strict=True)):
            raise CheckpointError("its parts do not make up its tensors; save it again")
        whole[tuple(slice(s, s + length) for s, length in zip(offset, part.shape, strict=True))] = part
    return whole
