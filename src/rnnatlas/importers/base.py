"""What a checkpoint format has to offer."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import registry
from rnnatlas.rnn import FoundRNN


class Importer(ABC):
    """Reads the RNNs of one file format, without ever running code from the file."""

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def find(self, path: Path, cell: str | None = None, head: str | None = None) -> list[FoundRNN]:
        """All RNNs of a file.

        Args:
            path: The file.
            cell: The cell where the file does not tell ("elman-relu").
            head: Prefix of the linear head's names, where several layers fit; "" for none.

        Raises:
            CheckpointError: The file cannot be read safely, or an RNN in it is not clear.
        """


def formats() -> dict[str, str]:
    """The format of each file name suffix."""
    return {suffix: name for name in registry for suffix in registry[name].suffixes}


def find(path: Path, cell: str | None = None, head: str | None = None) -> tuple[str, list[FoundRNN]]:
    """A checkpoint file's format and the RNNs that it holds, at least one.

    Raises:
        CheckpointError: The file is missing, of an unknown format, cannot be read, or holds no RNN.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; check the path")
    known = formats()
    if path.suffix.lower() not in known:
        raise CheckpointError(
            f"{path} is of no supported format; its name should end with one of {', '.join(known)}"
        )
    name = known[path.suffix.lower()]
    try:
        found = registry[name]().find(path, cell, head)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if not found:
        raise CheckpointError(
            f"{path}: expected the weights of an LSTM, GRU or Elman network (names such as weight_hh_l0), "
            "found none; only files that hold an RNN can be used"
        )
    return name, found
