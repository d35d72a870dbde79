"""What `torch.save(model.state_dict(), path)` writes, alone or somewhere inside a larger checkpoint."""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import Importer
from rnnatlas.rnn import FoundRNN, find_rnns


class TorchStateDict(Importer):
    """Tensors are loaded with `weights_only=True`, so a file that asks for more is refused, not run."""

    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".bin", ".ckpt")

    def find(self, path: Path, cell: str | None = None, head: str | None = None) -> list[FoundRNN]:
        """See `Importer.find`."""
        return find_rnns(_load(path), cell=cell, head=head)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other ways to read TorchScript
            return dict(_tensors(torch.load(path, map_location="cpu", weights_only=True), ""))
    except OSError:
        raise
    except Exception as error:  # whatever a damaged pickle makes the unpickler stumble over
        named = re.search(r"GLOBAL (\S+\.\S+)", str(error))
        if named:
            raise CheckpointError(
                f"expected tensors only, found a pickle that names {named[1]}, which was not "
                "loaded because pickles can run code; save model.state_dict() instead"
            ) from None
        if "TorchScript" in str(error):
            raise CheckpointError(
                "expected tensors only, found a TorchScript program; save its state_dict() instead"
            ) from None
        raise CheckpointError(
            "expected a file of torch.save(model.state_dict(), …), found something else or a part of one"
        ) from None


def _tensors(value: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested mappings, under their joined names."""
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{prefix}.{key}" if prefix else str(key))
