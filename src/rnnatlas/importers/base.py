"""What a checkpoint format has to offer."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import registry
from rnnatlas.rnn import FoundRNN
from rnnatlas.rnn.recognise import is_printable


class Importer(ABC):
    """Reads the RNNs of one file format, without ever running code from the file."""

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def find(
        self, path: Path, cell: str | None = None, head: str | None = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """All RNNs of a file.

        Args:
            path: The file.
            cell: The cell where the file does not tell ("elman-relu").
            head: Prefix of the linear head's names, where several layers fit; "" for none.

        Returns:
            The RNNs that are clear; of the others, their place in the file → why they are not.

        Raises:
            CheckpointError: The file cannot be read safely.
        """


def formats() -> dict[str, str]:
    """The format of each file name suffix."""
    return {suffix: name for name in registry for suffix in registry[name].suffixes}


def find(
    path: Path, cell: str | None = None, head: str | None = None
) -> tuple[str, list[FoundRNN], list[str]]:
    """A checkpoint file's format, the RNNs that it holds, at least one, and why others in it are not read.

    Raises:
        CheckpointError: The file is missing, of an unknown format, cannot be read, or holds no RNN that can.
    """
    if not is_printable(str(path)):
        raise CheckpointError(
            f"expected a path of printable characters, found {str(path)!r}; rename the file"
        )
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; check the path")
    known = formats()
    if path.suffix.lower() not in known:
        raise CheckpointError(
            f"{path} is of no supported format; its name should end with one of {', '.join(known)}"
        )
    name = known[path.suffix.lower()]
    try:
        rnns, unclear = registry[name]().find(path, cell, head)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # one file that nobody thought of should not end the import of many
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        raise CheckpointError(f"{path} cannot be read ({reason}); save it again, or leave it out") from error
    if unclear and not rnns:
        count = f" (none of its {len(unclear)} RNNs is clear)" if len(unclear) > 1 else ""
        raise CheckpointError(f"{path}: {next(iter(unclear.values()))}{count}")
    if not rnns:
        raise CheckpointError(
            f"{path}: expected the weights of an LSTM, GRU or Elman network (names such as weight_hh_l0), "
            "found none; only files that hold an RNN can be used"
        )
    return name, rnns, [f"{path}: {reason}" for reason in unclear.values()]
