"""Settings: frozen, keyword-only dataclasses, layered as defaults < preset < file < flag.

A component declares its settings as `@settings class Settings: width: int = 256`. Whatever comes from
outside is laid over the defaults with `build`, which refuses unknown keys and impossible values.
"""

import dataclasses
import importlib.resources
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import yaml

from rnnatlas.errors import RNNAtlasError, SettingsError, UnknownName, reason
from rnnatlas.files import read_bytes
from rnnatlas.registry import nearest
from rnnatlas.texts import short_repr
from rnnatlas.yaml_files import LONGEST, parse

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Makes a class a frozen, keyword-only dataclass of finite numbers that `build` can fill."""
    own_check = getattr(cls, "__post_init__", None)

    def check(self: Any) -> None:
        if own_check is not None:
            own_check(self)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not _finite(value):
                raise SettingsError(
                    f"{field.name} should be finite, and below 2^63 if whole, found {_shown(value)}"
                )

    cls.__post_init__ = check  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def _finite(value: Any) -> bool:
    """Whether no number in a value is infinite or NaN, and no whole one too large for 64 bits."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, (tuple, list)):
        return all(map(_finite, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return math.isfinite(value) if isinstance(value, float) else True


def merge(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Lays mappings over one another, the last on top; nested mappings are merged key by key."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in (layer or {}).items():
            below = result.get(key)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            result[key] = merge(below, value) if both else value
    return result


def build(cls: type[T], values: Any, what: str = "settings") -> T:
    """Makes settings of class `cls` from plain values by name, defaults elsewhere.

    Raises:
        SettingsError: Unknown key (with the nearest known one), a value of the wrong kind, or no mapping.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(
            f"{what} should hold settings by name, such as {what}.NAME=VALUE, found {_shown(values)}"
        )
    hints = get_type_hints(cls)
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise SettingsError(f"unknown setting {what}.{name}; {nearest(str(name), known)}")
    for name, field in known.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise SettingsError(f"{what}.{name} should be {_expected(hints[name])}, found nothing")
    made = {name: _value(hints[name], value, f"{what}.{name}") for name, value in values.items()}
    try:
        return cls(**made)
    except RNNAtlasError as error:
        raise SettingsError(f"{what}: {error}") from None


def _value(hint: Any, given: Any, place: str) -> Any:
    """A plain value as its type hint says.

    Raises:
        SettingsError: It is something else.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return _one_of(hint, given, place)
    if dataclasses.is_dataclass(hint) and isinstance(given, Mapping):
        return build(hint, given, place)  # type: ignore[type-var]
    if kind is dict and isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return {name: _value(parts[1], value, f"{place}.{name}") for name, value in given.items()}
    if kind is tuple and isinstance(given, (tuple, list)):
        inside = parts[:1] * len(given) if parts[-1] is ... else parts
        if len(inside) == len(given):
            both = enumerate(zip(inside, given, strict=True))
            return tuple(_value(part, value, f"{place}.{number}") for number, (part, value) in both)
    if hint is Any or (kind is Literal and given in parts):
        return given
    if isinstance(hint, type) and isinstance(given, hint) and isinstance(given, bool) <= (hint is bool):
        return given
    if hint in (int, float) and type(given) in (int, float, str):
        number = _number(given)
        if number is not None and (hint is float or number == int(number)):
            return hint(number)
    if hint is Path and isinstance(given, str):
        return Path(given)
    raise SettingsError(f"{place} should be {_expected(hint)}, found {_shown(given)}")


def _one_of(hint: Any, given: Any, place: str) -> Any:
    """A value that may be of several kinds; a fault within a list or a mapping is that of its own kind."""
    wrong = []
    for one in sorted(get_args(hint), key=lambda one: one is not type(given)):
        try:
            return _value(one, given, place)
        except SettingsError as error:
            listed, named = get_origin(one) is tuple, dataclasses.is_dataclass(one) or get_origin(one) is dict
            if (listed and isinstance(given, (tuple, list))) or (named and isinstance(given, Mapping)):
                wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    raise SettingsError(f"{place} should be {_expected(hint)}, found {_shown(given)}")


def _number(given: Any) -> int | float | None:
    """A finite number, or text that is one: YAML takes 1e-4 for text."""
    for kind in (int, float):
        try:
            number = kind(given) if isinstance(given, str) else given
            return number if math.isfinite(number) else None
        except (ValueError, OverflowError):
            continue
    return None


KINDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    types.NoneType: ("null", "null"),
    Path: ("a path", "paths"),
}
"""What a value of a type is called, and several of them."""


def _expected(hint: Any, several: bool = False) -> str:
    """What a type hint says, in plain words."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return _or([_expected(part, several) for part in parts])
    if kind is Literal:
        return _or(list(map(repr, parts)))
    if kind is tuple and parts[-1] is ...:
        return f"{'lists' if several else 'a list'} of {_expected(parts[0], several=True)}"
    if kind is tuple:
        start = "lists" if several else "a list"
        return f"{start} of {len(parts)} ({', '.join(map(_expected, parts))})"
    if dataclasses.is_dataclass(hint):
        names = [field.name for field in dataclasses.fields(hint)]
        return f"settings by name ({', '.join(names)})" if len(names) < 5 else "settings by name"
    if kind is dict:
        return "settings by name"
    return KINDS[hint][several] if hint in KINDS else str(hint)


def _or(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _shown(value: Any) -> str:
    """What was found, on one line that is not too long."""
    text = short_repr(value)
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


def at_least_one(settings: Any, *names: str) -> None:
    """Makes sure that settings which count something count at least one; None counts nothing.

    Raises:
        SettingsError: One of them does not.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise SettingsError(f"{name} should be 1 or more, found {value}")


def above_zero(settings: Any, *names: str) -> None:
    """Makes sure that settings are finite and above 0.

    Raises:
        SettingsError: One of them is not.
    """
    for name in names:
        if not 0 < getattr(settings, name) < math.inf:
            raise SettingsError(f"{name} should be finite and above 0, found {getattr(settings, name)}")


def check_sections(values: Mapping[str, Any], known: Sequence[str]) -> None:
    """Makes sure that settings have no other sections than those known.

    Raises:
        SettingsError: They have (says which known one is nearest), or a section is not a mapping.
    """
    for section, value in values.items():
        if section not in known:
            raise SettingsError(f"unknown section of settings {section!r}; {nearest(str(section), known)}")
        if not isinstance(value, Mapping):
            raise SettingsError(
                f"{section} should hold settings by name, such as {section}.NAME=VALUE, found {_shown(value)}"
            )


def as_dict(value: Any) -> dict[str, Any]:
    """Settings as plain values that YAML and JSON can hold and `build` reads back."""
    return {key: _plain(item) for key, item in dataclasses.asdict(value).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their whole names, such as "emulation.steps"."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        named |= leaves(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return named


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Reads a mapping from a YAML file.

    Raises:
        SettingsError: The file is missing, is not YAML or holds something other than a mapping.
    """
    try:
        text = read_bytes(path, 4 * LONGEST).decode()
    except (OSError, ValueError) as error:
        raise SettingsError(f"settings file {path} cannot be read ({reason(error)}); give another") from None
    values = parse(text, f"settings file {path}")
    if not isinstance(values or {}, dict):
        raise SettingsError(f"settings file {path} should hold a mapping, found {type(values).__name__}")
    return values or {}


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML text, in the order given."""
    return yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, width=100)


def presets() -> list[str]:
    """Names of the settings files that come with the package."""
    folder = importlib.resources.files("rnnatlas.presets")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def preset(name: str, task: str) -> dict[str, Any]:
    """What a preset sets for one task: the sections `zoo`, `emulation` and others as plain mappings.

    Those of another preset, which it names under `like`, stand below its own.

    Raises:
        UnknownName: There is no such preset, or it says nothing of the task (names the presets that do).
    """
    if name not in presets():
        raise UnknownName(f"no preset is called {name!r}; {nearest(name, presets())}")
    tasks = _preset(name)
    if task not in tasks:
        having = [other for other in presets() if task in _preset(other)]
        hint = f"presets that have: {', '.join(having)}" if having else nearest(task, tasks)
        raise UnknownName(f"preset {name!r} has no settings for {task}; {hint}")
    own = dict(tasks[task])
    return merge(preset(like, task), own) if (like := own.pop("like", None)) else own


def _preset(name: str) -> dict[str, Any]:
    text = importlib.resources.files("rnnatlas.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)
