"""Functions that are called in other processes, perhaps on other machines, and what becomes of them."""

import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnatlas.errors import RNNAtlasError, SettingsError


def killed(what: str, log: Path | None = None) -> RNNAtlasError:
    """Says that a worker is gone, and what to do."""
    return RNNAtlasError(
        f"{what}, often for lack of memory; what was finished is kept: use fewer --workers and run the same "
        f"command again, with --resume where it has one{f' (its output: {log})' if log else ''}"
    )


def missing(extra: str, engine: str) -> SettingsError:
    """Says what to install for an executor."""
    return SettingsError(
        f"the executor {extra} needs {engine}'s Python package, which is not installed; install it with: "
        f'pip install "rnnatlas[{extra}]"'
    )


Outcome = tuple[bool | None, Exception | None]
"""What a function gave, or what it raised."""


@dataclass(frozen=True)
class Call:
    """A function to be called with arguments in another process, perhaps on another machine.

    What it raises arrives as it is, not as an engine's own error. Relative paths, settings in the environment
    and modules of the user's own mean there what they mean here.
    """

    content: bytes
    folder: str
    path: Sequence[str]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, work: Callable[..., bool], *arguments: Any) -> "Call":
        """That of this function with these arguments."""
        import cloudpickle

        own = {name: value for name, value in os.environ.items() if name.startswith("RNNATLAS_")}
        return cls(cloudpickle.dumps((work, arguments)), str(Path.cwd()), sys.path, own)

    def __call__(self) -> Outcome:
        """Calls it."""
        os.environ.update(self.environment)
        sys.path.extend(place for place in self.path if place not in sys.path)
        try:
            os.chdir(self.folder)
            work, arguments = pickle.loads(self.content)
            return work(*arguments), None
        except Exception as error:
            return None, error.with_traceback(None)


def settle(future: "Future[bool]", found: Outcome) -> None:
    """Gives a future what a `Call` gave."""
    result, error = found
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(bool(result))
