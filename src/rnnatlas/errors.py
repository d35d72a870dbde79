"""Everything that can go wrong with what comes from outside, one class a kind.

Each message is one sentence: what was expected, what was found, what to do. The command line prints
that sentence and exits with 2 where a name or a setting was given wrongly, else with 1; any other
exception that reaches it is a defect of ours.
"""

import contextlib
import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator

from rnnatlas.texts import shortened, visible

QUIET = "RNNATLAS_QUIET"
"""Environment variable that keeps remarks back, in child processes as well."""


def warn(sentence: str) -> None:
    """Says something that a person should know although nothing is wrong, such as what was left out."""
    if not os.environ.get(QUIET):
        logging.getLogger("rnnatlas").warning(visible(shortened(sentence)))


def reason(error: Exception) -> str:
    """Why something could not be read or written, in a few words for the middle of a sentence."""
    if isinstance(error, socket.gaierror):  # whose numbers are not the system's
        return "no machine of that name is known" if error.errno == socket.EAI_NONAME else str(error.strerror)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, UnicodeError):
        return "it is not text in UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return "it is not JSON"
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


_OUT_OF_MEMORY = (
    *("out of memory", "not enough memory", "allocate memory", "unable to allocate", "alloc_failed"),
    *("bad_alloc", "bad allocation", "map segment from shared object"),
)
"""What libraries say in errors of their own, in small letters."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is one of memory; torch and others say so in words alone."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if not isinstance(error, (RuntimeError, OSError, ImportError, SystemError)):
        return False
    text = f"{type(error).__name__} {error}".lower()
    return "outofmemory" in text or any(words in text for words in _OUT_OF_MEMORY)


ADVICE = {
    errno.EMFILE: "raise the number of files that may be open (ulimit -n)",
    errno.ENFILE: "close files of other programs",
    **dict.fromkeys(
        (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH),
        "check the address and the network",
    ),
}
"""What to do about errors of the system that are neither of permission nor of memory."""
_NO_ROOM = (os.strerror(errno.EAGAIN), os.strerror(errno.ENOMEM), "can't start new thread")


def lacking(error: BaseException) -> str | None:
    """What to do where something could not be read for lack of permission, threads, memory and the like.

    None where the content is at fault: only then is a file damaged.
    """
    named = type(error) is not OSError  # a kind of its own, such as PermissionError
    if is_out_of_memory(error) or any(text in str(error) for text in _NO_ROOM):
        return "free memory and threads and try again; nothing is damaged"
    if not isinstance(error, OSError) or not (error.errno or named) or isinstance(error, ValueError):
        return None
    if isinstance(error, PermissionError):
        return "check its permissions"
    if isinstance(error, FileNotFoundError):
        return "check the path, or copy it again"
    return ADVICE.get(error.errno or 0, "check the disk or network that it is on, and try again")


class RNNAtlasError(Exception):
    """Base of all errors whose message is meant for the user."""


@contextlib.contextmanager
def heard_threads(expected: tuple[type[BaseException], ...] = (OSError,)) -> Iterator[None]:
    """Raises what ended another thread, such as one that writes logs, unless the block fails by itself.

    Mostly the same error ends both, and is to be said once.

    Args:
        expected: Kinds of errors that are raised so; Python prints others with their traceback.
    """
    errors: list[BaseException] = []
    before = threading.excepthook

    def hook(ended: threading.ExceptHookArgs) -> None:
        if isinstance(ended.exc_value, expected):
            errors.append(ended.exc_value)
        else:
            before(ended)

    threading.excepthook = hook
    try:
        yield
        if errors:
            raise errors[0]
    finally:
        threading.excepthook = before


class UnknownName(RNNAtlasError, LookupError):
    """A name that no registry, column or preset knows."""


class SettingsError(RNNAtlasError, ValueError):
    """A settings file or flag with an unknown key or an impossible value."""


class RNNSpecMismatch(RNNAtlasError, ValueError):
    """RNNs, inputs or weights that do not fit the architecture at hand."""


class CheckpointError(RNNAtlasError, ValueError):
    """A checkpoint that cannot be read, or holds no RNN that can be used."""


class ZooFormatError(RNNAtlasError, ValueError):
    """A zoo that is missing, incomplete, corrupted or of another format version."""


class RunFormatError(RNNAtlasError, ValueError):
    """A trained run that is missing, incomplete or of another format version."""


class AtlasFormatError(RNNAtlasError, ValueError):
    """An atlas that is missing, incomplete or of another format version."""


class DataError(RNNAtlasError, ValueError):
    """Training data that are missing, damaged or others than they should be."""


class OutputExists(RNNAtlasError, FileExistsError):
    """An output folder that already holds something."""


class TrainingDiverged(RNNAtlasError, ArithmeticError):
    """Training met a loss or weights that are not finite."""
