"""What all commands share: their common flags, layered settings, and printing."""

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from rnnatlas.errors import SettingsError
from rnnatlas.settings import check_sections, merge, read_yaml, to_yaml
from rnnatlas.texts import short_repr, shortened, visible
from rnnatlas.yaml_files import parse

if TYPE_CHECKING:
    from rich.console import Console

LEAST, FOLDS = 6, 4
"""Columns of texts are folded to so many characters, or to their name; their cells to so many lines."""
MISSING = ("", "–")
"""Cells without a value."""

_GROUP = Group("Common", sort_key=100)


def at_least(least: int) -> Callable[[type, int | None], None]:
    """What makes sure that a flag is no smaller; all whole numbers are below 2**63, as seeds have to be."""

    def check(_: type, value: int | None) -> None:
        if value is not None and value < least:
            raise ValueError(f"should be {least} or more, found {value}")

    return check


Seed = Annotated[int, Parameter(validator=at_least(0))]
"""Seeds that `rnnatlas.seeds` takes."""


@Parameter(name="*", group=_GROUP)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """Flags that every command takes."""

    config: Annotated[Path | None, Parameter(negative=())] = None
    "YAML file with values for this command's flags and, under `settings`, for what it builds."
    print_config: Annotated[bool, Parameter(negative=())] = False
    "Print the resolved flags and settings as such a file, and do nothing else."
    plugin: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = ()
    "Module, or its file, that registers tasks, encoders, importers or properties; may be repeated."
    quiet: Annotated[bool, Parameter(negative=())] = False
    "No progress bars and no remarks."
    debug: Annotated[bool, Parameter(negative=())] = False
    "Show the traceback of an error."

    @property
    def progress(self) -> bool:
        """Whether to show progress bars."""
        return not self.quiet

    def say(self, text: str) -> None:
        """A remark for people, on stderr, unless --quiet."""
        if not self.quiet:
            print(visible(shortened(text)), file=sys.stderr)

    def layered(
        self,
        preset: Mapping[str, Any],
        flags: Mapping[str, Any],
        changes: Sequence[str],
        sections: Sequence[str],
    ) -> dict[str, Any]:
        """Settings as preset < file < --set < flags; flags that are None were not given.

        Raises:
            SettingsError: The file or --set has other sections than those that the command uses.
        """
        in_file = (read_yaml(self.config).get("settings") or {}) if self.config else {}
        if not isinstance(in_file, Mapping):
            raise SettingsError(
                f"{self.config} should hold sections of settings under `settings`, found "
                f"{short_repr(in_file)}"
            )
        given = merge(in_file, _changes(changes))
        check_sections(given, sections)
        return merge(preset, given, _given(flags))

    def show(self, flags: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> None:
        """Prints what --print-config promises: flags alone, since a file cannot hold arguments."""
        given = {key.replace("_", "-"): value for key, value in _given(flags).items()}
        sys.stdout.write(to_yaml({**given, **({"settings": dict(settings)} if settings else {})}))


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, nested mappings included."""
    kept: dict[str, Any] = {}
    for key, value in flags.items():
        value = _given(value) if isinstance(value, Mapping) else value
        if value is not None and value != {}:
            kept[key] = str(value) if isinstance(value, Path) else value
    return kept


def _changes(changes: Sequence[str]) -> dict[str, Any]:
    """`--set zoo.batch=16` as {"zoo": {"batch": 16}}."""
    result: dict[str, Any] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise SettingsError(f"--set expects NAME=VALUE such as zoo.batch=16, found {change!r}")
        try:
            value = parse(text, f"--set {path}")
        except SettingsError as error:
            is_yaml = "should be YAML" not in str(error)
            why = str(error) if is_yaml else f"--set {path}: {short_repr(text)} is not a YAML value"
            raise SettingsError(why) from None
        for key in reversed(path.split(".")):
            value = {key: value}
        result = merge(result, value)
    return result


def print_json(document: Any) -> None:
    """The one JSON document of a `--json` command, on stdout; numbers that JSON cannot hold are null."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, allow_nan=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(own) for key, own in value.items()}
    return [_finite(own) for own in value] if isinstance(value, (list, tuple)) else value


def console() -> "Console":
    """Prints on stdout; with NO_COLOR set, plain text."""
    from rich.console import Console

    return Console(color_system=None if os.environ.get("NO_COLOR") else "auto")


def put(text: str) -> None:
    """Prints a text that may hold what a file says; what would steer a terminal is shown as escapes."""
    print(visible(text))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], whole: Sequence[str] = ()) -> None:
    """A table on stdout: for people on a terminal, elsewhere a row a line, its cells separated by tabs.

    On a terminal the columns that are copied from are never folded, nor are numbers; where a row does not fit
    so, or texts would be folded often, each of its cells has a line. Columns without any value are left out.

    Args:
        columns: Their names.
        rows: Their cells; numbers are set to the right.
        whole: Columns that are copied from, besides the first.
    """
    from rich.cells import cell_len
    from rich.markup import escape
    from rich.table import Table

    columns = [visible(shortened(column)) for column in columns]
    cells = [
        [f"{cell:.3f}" if isinstance(cell, float) else visible(shortened(str(cell))) for cell in row]
        for row in rows
    ]
    if not sys.stdout.isatty():
        for row in (columns, *cells):
            print("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in row))
        return
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] not in MISSING for row in cells)]
    columns = [columns[i] for i in kept]
    rows, cells = ([[row[i] for i in kept] for row in table] for table in (rows, cells))
    numeric = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))]
    full = [max(cell_len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    least = [
        size if i == 0 or numeric[i] or column in whole else min(size, max(cell_len(column), LEAST))
        for i, (column, size) in enumerate(zip(columns, full, strict=True))
    ]
    screen = console()
    room = screen.width - sum(least) - 2 * (len(columns) - 1)
    missing = sum(full) - sum(least)
    share = min(1.0, room / missing) if missing else 0.0
    widths = [size + int((most - size) * share) for size, most in zip(least, full, strict=True)]
    if room < 0 or any(most > FOLDS * width for most, width in zip(full, widths, strict=True)):
        for row in cells:
            named = zip(columns[1:], row[1:], strict=True)
            print(row[0], *(f"  {column}: {cell}" for column, cell in named if cell not in MISSING), sep="\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width, number in zip(columns, widths, numeric, strict=True):
        justify = "right" if number else "left"
        table.add_column(escape(column), justify=justify, width=width, overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    screen.print(table)
