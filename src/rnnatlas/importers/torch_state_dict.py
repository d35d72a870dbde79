"""What torch writes: state_dicts, alone or somewhere inside a larger checkpoint, whole modules, programs."""

from pathlib import Path
from typing import ClassVar

from rnnatlas.importers import kinds
from rnnatlas.importers.base import Importer
from rnnatlas.importers.contents import Contents, contents
from rnnatlas.importers.distributed import distributed_contents
from rnnatlas.importers.exported import exported_contents
from rnnatlas.importers.torch_files import mapped, members, not_torch, read, read_path
from rnnatlas.rnn import FoundRNN
from rnnatlas.rnn.heads import Head


class TorchStateDict(Importer):
    """Pickles are followed without importing or calling what they name (`pickles`)."""

    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".bin", ".ckpt")
    kinds: ClassVar[tuple[str, ...]] = (
        kinds.TORCH_ZIP,
        kinds.TORCHSCRIPT,
        kinds.PICKLE,
        kinds.POLICY_ZIP,
        kinds.DCP,
        kinds.EXPORTED,
    )

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        return torch_contents(path).find(cell, head)


def torch_contents(path: Path) -> Contents:
    """What a file of torch holds.

    Raises:
        CheckpointError: It is damaged, or something else.
    """
    kind = kinds.kind_of(path)
    if kind == kinds.DCP:
        return distributed_contents(path)
    if kind == kinds.EXPORTED:
        return exported_contents(path)
    if kind != kinds.POLICY_ZIP:
        return contents(read_path(path))
    policy = members(mapped(path)).get("policy.pth")
    if policy is None:
        raise not_torch()
    return contents(read(policy))
