"""Settings: frozen, keyword-only dataclasses, layered as defaults < preset < file < flag.

A component declares its settings as `@settings class Settings: width: int = 256`. Whatever comes from
outside is laid over the defaults with `build`, which refuses unknown keys and impossible values.
"""

import dataclasses
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import yaml

from rnnatlas.errors import RNNAtlasError, SettingsError, UnknownName, reason
from rnnatlas.registry import nearest

T = TypeVar("T")

EXPECTED = {
    "int": "a whole number",
    "finite": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dict": "settings by name",
    "dataclass": "settings by name",
    "missing": "given",
}
"""What a setting should be, by the first word of pydantic's name of the error."""


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
                raise SettingsError(f"{field.name} should be finite, and below 2^63 if whole, found {value}")

    cls.__post_init__ = check  # type: ignore[attr-defined]
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
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
    import pydantic

    if not isinstance(values, Mapping):
        raise SettingsError(
            f"{what} should hold settings by name, such as {what}.NAME=VALUE, found {values!r}"
        )
    try:
        made = pydantic.TypeAdapter(cls).validate_python(dict(values))
    except pydantic.ValidationError as error:
        # of what a setting may be, the component knows best what was meant
        first = min(error.errors(), key=lambda one: not isinstance(_raised(one), RNNAtlasError))
        raise SettingsError(_sentence(cls, what, first)) from None
    _check_numbers(values, made, what)
    return made


def _sentence(cls: type, what: str, error: Mapping[str, Any]) -> str:
    """The first thing that pydantic found wrong, in our words."""
    place, kind, context = ".".join([what, *map(str, error["loc"])]), error["type"], error.get("ctx", {})
    if isinstance(_raised(error), RNNAtlasError):  # raised by the component itself, a sentence already
        return f"{place}: {_raised(error)}"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        parent = _class_at(cls, error["loc"][:-1])
        known = [field.name for field in dataclasses.fields(parent)] if parent else []
        return f"unknown setting {place}; {nearest(str(error['loc'][-1]), known)}"
    if kind == "too_long":
        expected = f"a list of {context['max_length']}"
    else:
        expected = context.get("expected") or EXPECTED.get(kind.partition("_")[0], "another kind of value")
    return f"{place} should be {expected}, found {error['input']!r}"


def _check_numbers(given: Any, made: Any, place: str) -> None:
    """Refuses true and false where a number should be, which pydantic takes for 1 and 0."""
    if isinstance(given, bool) and type(made) in (int, float):
        raise SettingsError(f"{place} should be a number, found {str(given).lower()}")
    if isinstance(given, Mapping):
        for name, value in given.items():
            inside = made[name] if isinstance(made, Mapping) else getattr(made, name)
            _check_numbers(value, inside, f"{place}.{name}")
    elif isinstance(given, (list, tuple)) and isinstance(made, (list, tuple)):
        for number, (value, inside) in enumerate(zip(given, made, strict=True)):
            _check_numbers(value, inside, f"{place}.{number}")


def _raised(error: Any) -> Any:
    """What a component raised itself, where that is behind an error of pydantic's."""
    return error.get("ctx", {}).get("error")


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


def _class_at(cls: Any, location: Sequence[int | str]) -> Any:
    for name in location:
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        cls = types.get(str(name))
        if not dataclasses.is_dataclass(cls):
            return None
    return cls


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
                f"{section} should hold settings by name, such as {section}.NAME=VALUE, found {value!r}"
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
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} cannot be read ({reason(error)}); give another") from None
    except (yaml.YAMLError, ValueError) as error:  # the latter of dates and numbers
        mark = getattr(error, "problem_mark", None)
        where = f", see line {mark.line + 1}" if mark else ""
        raise SettingsError(f"settings file {path} should be YAML, but is not{where}") from None
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
    """What a preset sets for one task: the sections `zoo`, `train` and others as plain mappings.

    Raises:
        UnknownName: There is no such preset, or it says nothing of the task.
    """
    if name not in presets():
        raise UnknownName(f"no preset is called {name!r}; {nearest(name, presets())}")
    text = importlib.resources.files("rnnatlas.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    tasks = yaml.safe_load(text)
    if task not in tasks:
        raise UnknownName(f"preset {name!r} has no settings for task {task!r}; {nearest(task, tasks)}")
    return tasks[task]
