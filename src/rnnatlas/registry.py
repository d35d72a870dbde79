"""Named parts that load when they are first used, and parts of the user's own beside them."""

import contextlib
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, get_origin

from rnnatlas.errors import RNNAtlasError, SettingsError, UnknownName, lacking, reason

PLUGINS = "RNNATLAS_PLUGINS"
"""Environment variable with modules that register parts, separated by commas; child processes inherit it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The part of an error sentence that says which known name was probably meant."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


class Registry(Mapping[str, Any]):
    """Names with a one-line description each; what a name stands for is imported on first use.

    Names from outside come from `register`, from entry points, and from modules that `--plugin` names.

    Args:
        kind: What the names name, for error sentences ("encoder").
        entries: name → (import path "module:attribute", description in one line).
        base: Import path of the class that parts from outside subclass; None where there are none.
        group: Entry point group of installed packages that bring such parts.
    """

    open: ClassVar[list["Registry"]] = []
    """Those that parts can be added to from outside."""

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, tuple[str, str]],
        base: str | None = None,
        group: str | None = None,
    ):
        self.kind = kind
        self.base = base
        self._entries = dict(entries)
        self._added: dict[str, Any] = {}
        self._group = group
        if base is not None:
            self.open.append(self)

    def add(self, name: str, part: Any) -> None:
        """Adds a part of the user's own; a name can be given anew, but not one of this package.

        Raises:
            SettingsError: This package has a part of that name.
        """
        if name in self._entries and name not in self._added:
            raise SettingsError(f"{name!r} is the name of a {self.kind} of rnnatlas; choose another one")
        line = (inspect.getdoc(part) or part.__name__).strip().splitlines()[0]
        self._added[name] = part
        self._entries[name] = (f"{part.__module__}:{part.__qualname__}", line)

    @functools.cached_property
    def _from_outside(self) -> None:
        """Looks once for entry points and plugins."""
        if self._group is not None:
            for entry in importlib.metadata.entry_points(group=self._group):
                self._entries.setdefault(entry.name, (entry.value, f"from the module {entry.module}"))
        for module in filter(None, os.environ.get(PLUGINS, "").split(",")):
            load_plugin(module)

    def _entry(self, name: str) -> tuple[str, str]:
        if name not in self:
            raise UnknownName(f"no {self.kind} is called {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def __getitem__(self, name: str) -> Any:
        path = self._entry(name)[0]
        if name in self._added:
            return self._added[name]
        module, _, attribute = path.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._from_outside  # noqa: B018
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._from_outside  # noqa: B018
        return iter(self._entries)

    def __len__(self) -> int:
        self._from_outside  # noqa: B018
        return len(self._entries)

    def is_from_outside(self, name: str) -> bool:
        """Whether it is a part of the user's own."""
        return _is_own(self._entry(name)[0].partition(":")[0])

    def description(self, name: str) -> str:
        """What `name` stands for, in one line; imports nothing."""
        return self._entry(name)[1]


def register(part: type, name: str | None = None) -> type:
    """Adds a task, encoder, importer or property of the user's own; works as a decorator, too.

    Args:
        part: A subclass of `Task`, `Encoder`, `Importer` or `Property`.
        name: What it is called; its attribute `name` without it.

    Raises:
        SettingsError: It is a subclass of none of these, has no name, or one that this package uses.

    Example:
        >>> import rnnatlas as ra
        >>> from rnnatlas.properties.scalar import Performance
        >>> @ra.register
        ... class Twice(Performance):
        ...     \"\"\"Performance under another name.\"\"\"
        ...     name = "twice"
        >>> ra.properties["twice"].__name__
        'Twice'
    """
    for registry in Registry.open:
        module, _, attribute = (registry.base or "").partition(":")
        base = getattr(sys.modules.get(module), attribute, None)  # which who subclasses it has imported
        if base is not None and isinstance(part, type) and issubclass(part, base):
            if missing := _missing(part):
                raise SettingsError(
                    f"{part.__name__} lacks {', '.join(missing)}, which every {registry.kind} has; define it"
                )
            if "__init__" in vars(base):
                _check_arguments(part, base)
            chosen = name or getattr(part, "name", None)
            if not isinstance(chosen, str):
                raise SettingsError(
                    f"{part.__name__} has no name; give it an attribute `name`, or register(part, name)"
                )
            registry.add(chosen, part)
            return part
    bases = " or ".join(sorted((registry.base or "").partition(":")[2] for registry in Registry.open))
    raise SettingsError(f"expected a subclass of {bases}, found {part!r}; subclass one of them")


def _missing(part: type) -> list[str]:
    """Methods and attributes that a part's bases ask for and it does not have."""
    asked = {
        name
        for base in part.__mro__
        for name, kind in vars(base).get("__annotations__", {}).items()
        if get_origin(kind) is ClassVar and name != "name"  # which `register` may be told
    }
    abstract = getattr(part, "__abstractmethods__", ())
    return sorted({*abstract, *(name for name in asked if not hasattr(part, name))})


def _check_arguments(part: type, base: type) -> None:
    """Makes sure that a part can be made as its base is."""
    expected = list(inspect.signature(base).parameters)
    try:
        inspect.signature(part).bind(*expected)
    except TypeError as error:
        raise SettingsError(
            f"{part.__name__} should be made of {', '.join(expected)}, as {base.__name__} is, but its "
            f"__init__ does not take these ({reason(error)}); let it take them"
        ) from None


@contextlib.contextmanager
def own_parts_answer() -> Iterator[None]:
    """Says in one sentence what a part of the user's own raises within the block, and where.

    Raises:
        SettingsError: It did.
    """
    try:
        yield
    except RNNAtlasError:
        raise
    except Exception as error:  # whatever somebody's part may raise
        modules = {path.partition(":")[0] for own in Registry.open for path, _ in own._entries.values()}
        files = {getattr(sys.modules.get(name), "__file__", None) for name in modules if _is_own(name)}
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename in files]
        if not frames or lacking(error):
            raise
        raise SettingsError(
            f"{Path(frames[-1].filename).name} should work on what it is given, but in line "
            f"{frames[-1].lineno} there is a {type(error).__name__}: {reason(error)}; mend that line, or see "
            "the whole traceback with --debug"
        ) from error


def _parts_from_outside() -> int:
    return sum(len(registry._added) for registry in Registry.open)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] != __name__.partition(".")[0]


def load_plugin(module: str) -> None:
    """Imports a module that registers parts, from the current folder or anywhere Python finds it.

    Child processes load it as well.

    Args:
        module: Its name, or the path of its file.

    Raises:
        SettingsError: There is no such module, or it cannot be imported.
    """
    name, folder = module, Path.cwd()
    if module.endswith(".py") or "/" in module:
        if not any(Path(f"{module}{end}").exists() for end in ("", ".py")):
            raise SettingsError(
                f"the plugin {module} should be a module or its file, found none; check its path"
            )
        module = str(Path(module).resolve())  # child processes may start elsewhere
        name, folder = Path(module).stem, Path(module).parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    before = None if name in sys.modules else _parts_from_outside()
    try:
        importlib.import_module(name)
    except RNNAtlasError as error:
        raise SettingsError(f"the plugin {module} cannot be used: {error}") from error
    except Exception as error:  # whatever somebody's module may raise
        advice = "mend it"
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            advice = (
                "give the path of a file, or the name of a module: my_tasks for my_tasks.py in this folder"
            )
        raise SettingsError(
            f"the plugin {module} cannot be imported ({type(error).__name__}: {reason(error)}); {advice}"
        ) from error
    if before == _parts_from_outside():
        raise SettingsError(
            f"the plugin {module} should register a task, encoder, importer or property, found none; write "
            "@rnnatlas.register above its class"
        )
    known = list(filter(None, os.environ.get(PLUGINS, "").split(",")))
    if module not in known:
        os.environ[PLUGINS] = ",".join([*known, module])


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
