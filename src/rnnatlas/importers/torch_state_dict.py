"""What `torch.save(model.state_dict(), path)` writes, alone or somewhere inside a larger checkpoint."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import Importer
from rnnatlas.rnn import FoundRNN, find_rnns

MOST_ENTRIES, LONGEST_NAME = 1_000_000, 2000
"""In the mappings of a file, which may hold themselves or others again and again."""


class TorchStateDict(Importer):
    """Tensors are loaded with `weights_only=True`, so a file that asks for more is refused, not run."""

    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".bin", ".ckpt")

    def find(
        self, path: Path, cell: str | None = None, head: str | None = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        return find_rnns(_tensors(_load(path)), cell=cell, head=head)


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other ways to read TorchScript
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
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


def _tensors(document: Any) -> dict[str, Tensor]:
    """All tensors of nested mappings, under their joined names.

    Raises:
        CheckpointError: There is no end of them.
    """
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, Any]] = [("", document)]
    for _ in range(MOST_ENTRIES):
        if not waiting:
            return tensors
        prefix, value = waiting.pop()
        if len(prefix) > LONGEST_NAME:
            break
        if isinstance(value, Tensor):
            tensors[prefix] = value.detach()
        elif isinstance(value, Mapping):
            items = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
            waiting += reversed(items)
    raise CheckpointError(
        f"expected at most {MOST_ENTRIES} entries, with names of at most {LONGEST_NAME} characters, "
        "found more; save model.state_dict() alone"
    )
