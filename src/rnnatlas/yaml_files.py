"""Settings in YAML: plain values by name, and no more of them than the file has room for.

Aliases let a few lines stand for gigabytes; keys, numbers and depth may be such that nothing can be done with
them. Dates are texts.
"""

from typing import Any

import yaml

from rnnatlas.errors import SettingsError
from rnnatlas.texts import is_printable, short_repr

LONGEST, MOST, DEEPEST, LONGEST_NUMBER = 1 << 18, 20_000, 32, 300
"""Characters, values with aliases written out, levels, and characters of a number."""
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")


class _Loader(yaml.SafeLoader):
    """Nothing but mappings, lists, texts, numbers, true, false and null."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [each for each in known if each[0].rpartition(":")[2] in _KINDS]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _KINDS
    }


def parse(text: str, what: str) -> Any:
    """The plain value that a text stands for, called `what` where it is refused.

    Raises:
        SettingsError: It is no YAML, of other kinds of values, or too much.
    """
    if len(text) > LONGEST:
        raise SettingsError(f"{what} should have at most {LONGEST} characters, found {len(text)}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        entries, levels = _measure(node, what, {})
        if entries > MOST:
            raise SettingsError(f"{what} should hold at most {MOST} values with its aliases, found {entries}")
        if levels > DEEPEST:
            raise SettingsError(f"{what} should have at most {DEEPEST} levels, found {levels}")
        return loader.construct_document(node)
    except SettingsError:
        raise
    except RecursionError:
        raise SettingsError(f"{what} should have at most {DEEPEST} levels, found many more") from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        # all but the first are of numbers and tags that are none
        mark = getattr(error, "problem_mark", None)
        where = f", see line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{what} should be YAML, but is not{where}") from None


def _measure(node: yaml.Node, what: str, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node is, with those that aliases stand for, and how many levels deep."""
    line = node.start_mark.line + 1
    if id(node) in known:
        measured = known[id(node)]
        if measured is None:
            raise SettingsError(f"{what} should hold no list or mapping inside itself, see line {line}")
        return measured
    known[id(node)] = None
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.rpartition(":")[2] not in ("str", "merge"):
                found = short_repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise SettingsError(f"{what} should name settings by text, found {found}, see line {line}")
            inside += [key, value]
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    elif not is_printable(node.value.replace("\n", "").replace("\t", "")):
        raise SettingsError(f"{what} should hold printable text, found {short_repr(node.value)}")
    elif len(node.value) > LONGEST_NUMBER and node.tag.endswith((":int", ":float")):
        raise SettingsError(f"{what} holds a number of {len(node.value)} characters, see line {line}")
    sizes = [_measure(each, what, known) for each in inside]
    measured = 1 + sum(size for size, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)
    known[id(node)] = measured
    return measured
