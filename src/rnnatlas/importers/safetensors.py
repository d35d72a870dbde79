"""Safetensors files: tensors by name and nothing else."""

from pathlib import Path
from typing import ClassVar

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import Importer
from rnnatlas.rnn import FoundRNN, find_rnns


class Safetensors(Importer):
    """Tensors under the names that torch's state_dict has."""

    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)

    def find(
        self, path: Path, cell: str | None = None, head: str | None = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        import safetensors
        import safetensors.torch

        try:
            tensors = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise CheckpointError(
                f"expected a safetensors file, found something else or a part ({error})"
            ) from None
        return find_rnns(tensors, cell=cell, head=head)
