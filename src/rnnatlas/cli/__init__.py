"""The command line: which commands there are, and how an error reaches a person.

Commands are imported when they are called, so `rnnatlas --help` needs neither torch nor anything heavy.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cyclopts
from cyclopts import App

from rnnatlas._version import __version__
from rnnatlas.cli import usage
from rnnatlas.cli.common import Common, console
from rnnatlas.errors import (
    ADVICE,
    QUIET,
    RNNAtlasError,
    SettingsError,
    UnknownName,
    heard_threads,
    is_out_of_memory,
    lacking,
    reason,
)
from rnnatlas.registry import load_plugin, own_parts_answer
from rnnatlas.settings import read_yaml
from rnnatlas.texts import shortened, visible

COMMANDS = {
    "explore": ("explore:explore", "Anyone's RNNs: groups, odd ones, labels that explain them, a report."),
    "demo": ("demo:demo", "A whole atlas in minutes: zoo, encoders, evaluation, report."),
    "reproduce": ("reproduce:reproduce", "The paper's comparison of encoders, as a report."),
    "zoo build": ("zoo:build", "Train many RNNs on a task and keep their snapshots."),
    "zoo import": ("zoo:import_", "Make a zoo of checkpoints that others trained."),
    "zoo show": ("zoo:show", "What a zoo holds: counts, metrics, health."),
    "zoo verify": ("zoo:verify", "Run stored rollouts and metrics again and compare."),
    "zoo export": ("zoo:export", "A zoo as a dataset of the Hub, or as files of weights."),
    "train": ("train:train", "Train an encoder on a zoo by emulation."),
    "sweep": ("sweep:sweep", "Encoders × seeds × zoos × settings, as one table."),
    "evaluate": ("evaluate:evaluate", "Emulation losses and properties, with their controls."),
    "embed": ("embed:embed", "Embed RNNs of zoos and checkpoints into an atlas."),
    "search": ("search:search", "Find the RNNs nearest to one."),
    "predict": ("predict:predict", "Predict what RNNs compute and how well."),
    "map": ("map:map_", "Draw an atlas as one HTML file."),
    "inspect": ("inspect:inspect", "What RNNs a checkpoint holds."),
    "publish": ("publish:publish", "Upload a zoo or a run to the Hugging Face Hub."),
    "bench": ("bench:bench", "How fast it is here, beside other ways of doing the same."),
    "theory": ("theory:theory", "How many queries tell which function a black box computes."),
    "encoders": ("registries:encoders", "The encoders, one line each."),
    "tasks": ("registries:tasks", "The tasks, one line each."),
    "formats": ("registries:formats", "The checkpoint formats, one line each."),
}
"""Each command with its function in this package and its line in `rnnatlas --help`."""
RESUMED = ("zoo build", "train")
"""Commands that go on with --resume where they were stopped."""
EXPECTED = (cyclopts.CycloptsError, RNNAtlasError, OSError, KeyboardInterrupt)
"""Errors that are not defects of ours; besides, there may be too little memory."""
GOING_ON = ("demo", "reproduce", "sweep")
"""Commands that go on by themselves where they were stopped."""


def make_app(tokens: Sequence[str] = ()) -> App:
    """All commands. The one that `tokens` call is helped by its own docstring, the others by their line."""
    app = App(
        name="rnnatlas",
        help="Understanding recurrent networks by their weights.\n\n"
        "Try `rnnatlas demo`. Each command has its own --help, with an example.",
        version=_version,
        console=console() if os.environ.get("NO_COLOR") else None,
        help_format="markdown",
        suppress_keyboard_interrupt=False,
        default_parameter=cyclopts.Parameter(negative=()),
        result_action="return_value",
    )
    groups = {"zoo": App(name="zoo", help="Build, import, look at and check zoos of trained RNNs.")}
    for group in groups.values():
        app.command(group)
    for path, (function, line) in COMMANDS.items():
        group, _, name = path.rpartition(" ")
        parent = groups.get(group, app)
        called = path == _called(tokens)
        parent.command(f"rnnatlas.cli.{function}", name=name, **({} if called else {"help": line}))
    return app


def _version() -> str:
    from rnnatlas.rnn.running import backend

    return f"rnnatlas {__version__}, backend {backend()}"


def _called(tokens: Sequence[str]) -> str | None:
    """Which of the commands is called."""
    paths = [path for path in COMMANDS if list(tokens[: path.count(" ") + 1]) == path.split()]
    return paths[0] if paths else None


def main(tokens: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process with its status: 0 done, 1 failed, 2 wrong usage."""
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    stopped = _stoppable()
    _ask_for_the_threads_that_there_are()
    try:
        _check_text(tokens)
        with heard_threads(EXPECTED):
            status = _run(make_app(tokens), tokens)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (Exception, KeyboardInterrupt) as raised:
        # whatever an interruption became on its way here, as within an import
        error = KeyboardInterrupt() if stopped() else raised
        if "--debug" in tokens or not (isinstance(error, EXPECTED) or lacking(error)):
            raise
        print(visible(f"error: {shortened(_sentence(error, _called(tokens)))}"), file=sys.stderr)
        status = _status(error)
    sys.exit(status)


def _ask_for_the_threads_that_there_are() -> None:
    """Lets OpenMP, which ends the process where a thread cannot be started, start fewer where some cannot."""
    if "torch" in sys.modules or os.environ.get("OMP_NUM_THREADS"):
        return
    wait, started = threading.Event(), []
    try:
        for _ in range((os.cpu_count() or 1) - 1):
            thread = threading.Thread(target=wait.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        os.environ["OMP_NUM_THREADS"] = str(1 + len(started) // 2)  # others need some, too
    finally:
        wait.set()


def _stoppable() -> Callable[[], bool]:
    """Lets Ctrl-C and a polite kill (SIGTERM) end the command with all cleaned up; the next ends it at once.

    Returns:
        What says whether there was one.
    """
    times = 0

    def stop(*_: Any) -> None:
        nonlocal times
        times += 1
        if times > 1:
            shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # the cursor, which a bar may have hidden
            os.write(2, f"{shown}error: interrupted twice; what was finished is kept\n".encode())
            os._exit(130)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in the background of a shell
        signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return lambda: times > 0


@contextlib.contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Keeps remarks back in this process and in those that it starts."""
    before = os.environ.get(QUIET)
    try:
        if wanted:
            os.environ[QUIET] = "1"
        yield
    finally:
        if wanted and before is None:
            del os.environ[QUIET]


def _run(app: App, tokens: list[str]) -> int:
    sources = []
    if path := _config_path(tokens):
        flags = {key: value for key, value in read_yaml(path).items() if key != "settings"}
        for name in reversed(app.parse_commands(tokens)[0]):
            flags = {name: flags}
        sources = [cyclopts.config.Dict(flags, source=str(path))]
    app.config = [*sources, usage.check_whole_numbers]
    command, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    common = bound.arguments.get("common")
    for module in common.plugin if isinstance(common, Common) else ():
        load_plugin(module)
    if isinstance(common, Common) and common.print_config and "set" not in bound.signature.parameters:
        bound.apply_defaults()
        known = bound.signature.parameters.values()
        flags = [flag.name for flag in known if flag.kind is flag.KEYWORD_ONLY and flag.name != "common"]
        common.show({name: bound.arguments[name] for name in flags})
        return 0
    with _quiet(isinstance(common, Common) and common.quiet), own_parts_answer():
        return command(*bound.args, **bound.kwargs) or 0


def _check_text(tokens: Sequence[str]) -> None:
    """Refuses paths that are not in UTF-8, before any work: Parquet, YAML and JSON cannot hold them.

    Raises:
        SettingsError: There is one.
    """
    for token in tokens:
        if not token.isascii() and any("\ud800" <= character <= "\udfff" for character in token):
            raise SettingsError(f"expected names in UTF-8, found {token!r}; rename the file or folder")


def _config_path(tokens: list[str]) -> Path | None:
    for token, following in zip(tokens, [*tokens[1:], ""]):
        if token == "--config" and following:
            return Path(following)
        if token.startswith("--config="):
            return Path(token.removeprefix("--config="))
    return None


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, (cyclopts.CycloptsError, SettingsError, UnknownName)) else 1


def _sentence(error: BaseException, command: str | None) -> str:
    """What went wrong with a command, and what to do."""
    if isinstance(error, cyclopts.CycloptsError):
        return usage.sentence(error, command, list(COMMANDS))
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {_after_a_stop(command)}"
    if isinstance(error, RNNAtlasError):
        return str(error)
    if isinstance(error, OSError) and not is_out_of_memory(error):
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        if error.errno == errno.EFBIG:
            return (
                f"a file may not become as large as it would be here{where}; nothing half-written was kept, "
                "so raise the limit (ulimit -f), or write to another file system"
            )
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            resume = " with --resume" if command in RESUMED else ""
            return (
                f"no space is left on the disk{where}; nothing half-written was kept, so free some space "
                f"and run the same command again{resume}"
            )
        if error.errno != errno.EAGAIN:
            advice = ADVICE.get(error.errno or 0, "check the path and its permissions")
            return f"{reason(error)}{where}; {advice}"
    what = "threads" if "thread" in str(error) else "memory"
    return f"not enough {what}; use fewer RNNs or --workers at once, or a machine with more"


def _after_a_stop(command: str | None) -> str:
    if command in RESUMED:
        return "what was finished is kept: the same command goes on with --resume"
    if command in GOING_ON:
        return "what was finished is kept: the same command goes on"
    return "nothing was written" if command != "evaluate" else "the same command evaluates the run anew"
