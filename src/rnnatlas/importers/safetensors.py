"""Safetensors files: tensors by name and nothing else; also those in several files that an index names."""

from pathlib import Path
from typing import ClassVar

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import kinds
from rnnatlas.importers.base import Importer
from rnnatlas.importers.contents import Contents
from rnnatlas.importers.shards import index_of
from rnnatlas.importers.torch_state_dict import torch_contents
from rnnatlas.rnn import FoundRNN
from rnnatlas.rnn.heads import Head


class Safetensors(Importer):
    """Tensors under the names that torch's state_dict has, in one file or in several that an index names."""

    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)
    kinds: ClassVar[tuple[str, ...]] = (kinds.SAFETENSORS, kinds.SHARD_INDEX)

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        whole = _joined(path) if kinds.kind_of(path) == kinds.SHARD_INDEX else _contents(path)
        return whole.find(cell, head)


def _joined(path: Path) -> Contents:
    """What the files hold that an index names, be they safetensors or of torch."""
    places = index_of(path)
    if places is None:
        raise CheckpointError('expected an index of sharded weights ("weight_map"), found something else')
    whole = Contents()
    for name in dict.fromkeys(places.values()):
        shard = path.parent / name
        if not shard.is_file():
            raise CheckpointError(f"it names {name!r}, which is not beside it; put all its files together")
        part = _contents(shard) if kinds.kind_of(shard) == kinds.SAFETENSORS else torch_contents(shard)
        whole.tensors |= part.tensors
        whole.odd |= part.odd
    if missing := next((name for name in places if name not in whole.tensors), None):
        raise CheckpointError(f"it names {missing!r}, which is in none of its files; save the model again")
    return whole


def _contents(path: Path) -> Contents:
    import safetensors
    import safetensors.torch

    try:
        return Contents(safetensors.torch.load_file(path))
    except safetensors.SafetensorError:
        raise CheckpointError("expected a safetensors file, found something else or a part of one") from None
