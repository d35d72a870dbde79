"""Named parts that load when they are first used."""

import difflib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from rnnatlas.errors import UnknownName


def nearest(name: str, known: Iterable[str]) -> str:
    """The part of an error sentence that says which known name was probably meant."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


class Registry(Mapping[str, Any]):
    """Names with a one-line description each; what a name stands for is imported on first use.

    Args:
        kind: What the names name, for error sentences ("encoder").
        entries: name → (import path "module:attribute", description in one line).
    """

    def __init__(self, kind: str, entries: Mapping[str, tuple[str, str]]):
        self.kind = kind
        self._entries = dict(entries)

    def _entry(self, name: str) -> tuple[str, str]:
        if name not in self._entries:
            raise UnknownName(f"no {self.kind} is called {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self._entry(name)[0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def description(self, name: str) -> str:
        """What `name` stands for, in one line; imports nothing."""
        return self._entry(name)[1]


class _RegistryPackage(ModuleType):
    """A package that can be indexed by the names that its `registry` holds."""

    registry: Registry

    def __getitem__(self, name: str) -> Any:
        return self.registry[name]

    def __contains__(self, name: object) -> bool:
        return name in self.registry

    def __iter__(self) -> Iterator[str]:
        return iter(self.registry)

    def __len__(self) -> int:
        return len(self.registry)


def make_indexable(package: str) -> None:
    """Lets `rnnatlas.encoders["interactive"]` read the registry of the package `rnnatlas.encoders`."""
    sys.modules[package].__class__ = _RegistryPackage
