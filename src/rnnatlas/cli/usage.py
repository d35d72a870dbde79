"""Wrong usage of the command line as one sentence: what was expected, what was found, what to do."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from cyclopts import App, ArgumentCollection
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from rnnatlas.errors import SettingsError
from rnnatlas.registry import nearest
from rnnatlas.texts import short_repr

KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def check_whole_numbers(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuses other numbers where whole ones are asked for; cyclopts would round them.

    Raises:
        SettingsError: A flag has one.
    """
    for argument in arguments:
        if int not in _kinds(argument.hint):
            continue
        for token in argument.tokens:
            whole = re.fullmatch(r"[+-]?[0-9]{1,20}", token.value)
            if not whole or abs(int(token.value)) >= 2**63:
                expected = "a whole number" + (" below 2^63" if re.fullmatch(r"[0-9]+", token.value) else "")
                name = _flag(token.keyword or argument.name)
                raise SettingsError(f"{name} should be {expected}, found {short_repr(token.value)}")


def _kinds(hint: Any) -> Iterator[Any]:
    """The types that a type hint is made of."""
    yield hint
    for part in get_args(hint) if get_origin(hint) is not Literal else ():
        yield from _kinds(part)


def sentence(error: CycloptsError, command: str | None, commands: Sequence[str]) -> str:
    """What is wrong with the words of a command line.

    Args:
        error: What cyclopts found.
        command: The command that was called, if there is one.
        commands: All of them.
    """
    called = f"rnnatlas {command}" if command else "rnnatlas"
    see = f"see {called} --help"
    match error:
        case UnknownCommandError():
            token = (error.unused_tokens or [""])[0]
            group = f"{' '.join(error.command_chain)} " if error.command_chain else ""
            return f"no command is called {group + token!r}; {nearest(group + token, commands)}"
        case UnknownOptionError():
            name = _flag(error.token.keyword or error.token.value)
            source = "" if error.token.source in ("", "cli") else f" (in {error.token.source})"
            known = {name for argument in error.argument_collection for name in argument.names}
            hint = nearest(name, known)
            return f"{called} has no option {name}{source}; {hint if 'mean' in hint else see}"
        case RepeatArgumentError():
            return f"{error.token.keyword} should be given once, found it several times; {see}"
        case MissingArgumentError() if error.argument is not None:
            given = error.keyword or error.argument.tokens
            what = f"{_name(error)} should have a value" if given else f"{called} needs {_name(error)}"
            return f"{what}, found none; {see}"
        case UnusedCliTokensError():
            return f"{called} does not take {' '.join(error.unused_tokens or [])!r}; {see}"
        case ValidationError() if error.argument is not None:
            text = error.exception_message.rstrip(".")
            found = "" if "found" in text else f", found {error.value}"
            return f"{_name(error)} {text[:1].lower()}{text[1:]}{found}"
        case CoercionError() if error.token is not None:
            found = short_repr(error.token.value)
            return f"{_name(error)} should be {_expected(error.target_type)}, found {found}"
    text = str(error).strip().rstrip(".")
    return f"{text[:1].lower()}{text[1:]}; {see}"


def _name(error: CycloptsError) -> str:
    """How the user calls the argument that an error is about."""
    argument = error.argument
    assert argument is not None
    token = getattr(error, "token", None) or next(iter(argument.tokens), None)
    keyword = getattr(error, "keyword", None) or (token.keyword if token else None)
    name = keyword or argument.name
    return _flag(name) if name.startswith(("-", "[")) else name.upper()


def _flag(name: str) -> str:
    """A flag by its name on the command line, also where a file has it as [train][seed]."""
    in_file = re.findall(r"\[([^\]]*)\]", name)
    return f"--{in_file[-1]}" if in_file else name


def _expected(kind: Any) -> str:
    kinds = list(_kinds(kind))
    choices = [str(choice) for part in kinds if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    return next((KINDS[part] for part in kinds if part in KINDS), "another kind of value")
