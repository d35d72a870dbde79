"""What a checkpoint format has to offer."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from rnnatlas.errors import CheckpointError, is_out_of_memory, reason
from rnnatlas.importers import kinds, registry
from rnnatlas.importers.shards import shard_of
from rnnatlas.rnn import FoundRNN
from rnnatlas.rnn.heads import Head
from rnnatlas.rnn.recognise import EXPECTED
from rnnatlas.texts import is_printable


class Importer(ABC):
    """Reads the RNNs of one file format, without ever running code from the file.

    Attributes:
        suffixes: How names of such files end, where their content does not tell.
        kinds: What `kinds.kind_of` calls them.
    """

    suffixes: ClassVar[tuple[str, ...]]
    kinds: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """All RNNs of a file.

        Args:
            path: The file.
            cell: The cell where the file does not tell ("elman-relu", "leaky-relu:0.2").
            head: Prefix of the linear head's names, where several layers fit; "" for none;
                "PREFIX=NAME" for one of several RNNs.

        Returns:
            The RNNs that are clear; of the others, their place in the file → why they are not.

        Raises:
            CheckpointError: The file cannot be read safely.
        """


def formats() -> dict[str, str]:
    """The format of each file name suffix."""
    return {suffix: name for name in registry for suffix in registry[name].suffixes}


def format_of(path: Path) -> str | None:
    """The format of a file by its content, else by its name; None where there is none for it.

    Raises:
        CheckpointError: It is a pointer to a checkpoint, or a part of one.
        OSError: It cannot be read.
    """
    kind = kinds.kind_of(path)
    if kind == kinds.LFS_POINTER:
        raise CheckpointError("expected a checkpoint, found a Git LFS pointer to one; fetch it: git lfs pull")
    if kind == kinds.DCP_PART:
        raise CheckpointError(
            "expected a checkpoint, found a part of a torch.distributed one; give its folder"
        )
    by_kind = {each: name for name in registry for each in registry[name].kinds}
    name = path.name.lower()
    by_name = (known for suffix, known in formats().items() if name.endswith(suffix))
    return by_kind.get(kind or "") or next(by_name, None)


def find(path: Path, cell: str | None = None, head: Head = None) -> tuple[str, list[FoundRNN], list[str]]:
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
    name = None
    try:
        name = format_of(path)
        if name is None:
            raise CheckpointError(_unsupported(path))
        if whole := shard_of(path):
            raise CheckpointError(f"expected a whole checkpoint, found a part of one; {whole}")
        rnns, unclear = _checked(registry[name]().find(path, cell, head))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # one file that nobody thought of should not end the import of many
        if is_out_of_memory(error):
            raise
        if name is not None and registry.is_from_outside(name):
            raise CheckpointError(
                f"{path} cannot be read by the importer {name} ({type(error).__name__}: {reason(error)}); "
                "mend the importer, or leave the file out"
            ) from error
        what = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        raise CheckpointError(f"{path} cannot be read ({what}); save it again, or leave it out") from error
    if unclear and not rnns:
        count = f" (none of its {len(unclear)} RNNs is clear)" if len(unclear) > 1 else ""
        raise CheckpointError(f"{path}: {next(iter(unclear.values()))}{count}")
    if not rnns:
        raise CheckpointError(f"{path}: {EXPECTED}, found none; only files that hold an RNN can be used")
    return name, rnns, [f"{path}: {why}" for why in unclear.values()]


def _checked(found: Any) -> tuple[list[FoundRNN], dict[str, str]]:
    """What an importer found, where it is what `Importer.find` says."""
    rnns, unclear = found
    if not isinstance(unclear, dict) or not all(isinstance(rnn, FoundRNN) for rnn in rnns):
        raise TypeError("find should give a list of FoundRNN and a dict, as rnnatlas.rnn.find_rnns does")
    return list(rnns), unclear


def _unsupported(path: Path) -> str:
    found = kinds.kind_of(path)
    return (
        f"expected a checkpoint of one of the formats {', '.join(registry)}, found "
        f"{found or 'something else'}; `rnnatlas formats` lists them"
    )
