"""What the command line says where it is used wrongly, stopped, or nothing is compiled: in one style."""

import importlib
import inspect
import typing

import pytest

from rnnatlas._version import __version__
from rnnatlas.cli import COMMANDS, main
from rnnatlas.cli.common import Common, print_table
from rnnatlas.errors import warn
from rnnatlas.rnn import running
from rnnatlas.rnn.backends import kernels

TINY = ["task.tokens=2", "task.length=12", "task.largest_n=4", "task.performance_samples=10", "zoo.hidden=4"]
TINY += ["zoo.layers=1", "zoo.snapshots=[0,2]", "zoo.rollouts=2", "zoo.runs=4"]


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    return ended.value.code, *capsys.readouterr()


def function_of(command):
    module, _, name = COMMANDS[command][0].partition(":")
    return getattr(importlib.import_module(f"rnnatlas.cli.{module}"), name)


def int_flags():
    """Each flag of each command that takes a whole number."""
    for command in COMMANDS:
        function = function_of(command)
        for name, hint in typing.get_type_hints(function).items():
            if inspect.signature(function).parameters.get(name) and int in (hint, *typing.get_args(hint)):
                yield command, "-k" if name == "k" else f"--{name.replace('_', '-')}"


@pytest.mark.parametrize(("command", "flag"), [*int_flags()])
@pytest.mark.parametrize("value", ["2.5", "1e3", "two", "9" * 30])
def test_only_whole_numbers_are_whole(command, flag, value, tmp_path, capsys):
    status, out, err = call(capsys, *command.split(), flag, value)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {flag} should be a whole number")
    assert err.endswith(f"found {value!r}\n")
    (tmp_path / "config.yaml").write_text(f"{flag.lstrip('-')}: {value}")
    status, out, err = call(capsys, *command.split(), "--config", tmp_path / "config.yaml")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: --{flag.lstrip('-')} should be a whole number")


def test_there_are_such_flags():
    assert {("zoo build", "--runs"), ("train", "--devices"), ("search", "-k")} <= set(int_flags())


@pytest.mark.parametrize("color", ["", "1"])
@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ("trian", "no command is called 'trian'; did you mean 'train'?"),
        ("zoo biuld", "no command is called 'zoo biuld'; did you mean 'zoo build'?"),
        ("search a", "rnnatlas search needs QUERY, found none; see rnnatlas search --help"),
        ("map a", "rnnatlas map needs --out, found none; see rnnatlas map --help"),
        ("map a --out", "--out should have a value, found none; see rnnatlas map --help"),
        (
            "map a --out b --out c",
            "--out should be given once, found it several times; see rnnatlas map --help",
        ),
        ("zoo show a b", "rnnatlas zoo show does not take 'b'; see rnnatlas zoo show --help"),
        ("map a --out b --layuot pca", "rnnatlas map has no option --layuot; did you mean '--layout'?"),
        ("demo --device gpu", "--device should be auto, cpu or cuda, found 'gpu'"),
        ("demo --quiet=maybe", "--quiet should be true or false, found 'maybe'"),
        ("demo --seed -1", "--seed should be 0 or more, found -1"),
        ("demo --set zoo.runs=2.5", "zoo.runs should be a whole number, found 2.5"),
        ("demo --set zoo.runs=true", "zoo.runs should be a whole number, found true"),
        ("demo --set zoo.x=[", "--set zoo.x: '[' is not a YAML value"),
        (
            "demo --config no.yaml",
            "settings file no.yaml cannot be read (no such file or directory); give another",
        ),
    ],
)
def test_wrong_usage_is_one_plain_sentence(tokens, sentence, color, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", color)
    assert call(capsys, *tokens.split()) == (2, "", f"error: {sentence}\n")


def test_no_color_is_plain_text(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" in call(capsys, "--help")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    for tokens in ("tasks", "--help", "tasks --help"):
        assert "\x1b" not in call(capsys, *tokens.split())[1]


def test_texts_of_files_do_not_steer_the_terminal(tmp_path, capsys, caplog):
    """Names and values that a file or a command line holds, on stdout, on stderr and in remarks."""
    name = "\x1b[31m\u202e\u2066"
    (tmp_path / "a.yaml").write_text("x\u202ez: 1\n")
    status, out, err = call(capsys, "zoo", "build", name, "--out", str(tmp_path / "z"))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.removesuffix("\n").isprintable()
    print_table(["id", "notes"], [[name, name * 2000]])
    Common().say(name)
    warn(name)
    out, err = capsys.readouterr()
    assert (out + err + caplog.records[-1].message).replace("\n", "").replace("\t", "").isprintable()
    assert len(out) < 10_000


@pytest.mark.parametrize("command", ["inspect n\udcff.pt", "zoo build formal-languages --out o\udcff"])
def test_paths_that_are_not_in_utf8_are_refused_before_any_work(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, *command.split())
    assert (status, out) == (2, "")
    assert err.startswith("error: expected names in UTF-8, found '")
    assert not list(tmp_path.iterdir())


def test_so_many_runs_are_not_even_counted(tmp_path, capsys):
    tokens = ["zoo", "build", "formal-languages", "--runs", "1000000000000", "--out"]
    found = "zoo: runs should be at most 100000000 a zoo, found 1000000000000; build several"
    assert call(capsys, *tokens, str(tmp_path / "z")) == (2, "", f"error: {found}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_stop_is_told_truly(command, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rnnatlas.cli._run", stopped)
    status, out, err = call(capsys, *command.split(), "x")
    assert (status, out) == (130, "")
    goes_on = "resume" in inspect.signature(function_of(command)).parameters
    assert ("goes on with --resume" in err) == goes_on
    assert ("what was finished is kept" in err) == (goes_on or command in ("demo", "reproduce", "sweep"))
    assert err.count("\n") == 1


def test_the_version_names_the_backend(capsys):
    assert call(capsys, "--version")[1] == f"rnnatlas {__version__}, backend {running.backend()}\n"


@pytest.mark.parametrize(("flags", "times"), [([], 1), (["--quiet"], 0)])
def test_a_missing_backend_is_told_once(flags, times, tmp_path, capsys, caplog, monkeypatch):
    running._say_once.cache_clear()
    monkeypatch.setattr(kernels, "_LIBRARY", "it was not compiled")
    monkeypatch.delenv("RNNATLAS_BACKEND", raising=False)
    changes = [f"--set={change}" for change in TINY]
    out = ["--out", tmp_path / "zoo", "--workers=1"]
    assert call(capsys, "zoo", "build", "formal-languages", *out, *changes, *flags)[0] == 0
    sentence = "running on eager (the compiled backend is not in use: it was not compiled)"
    assert caplog.messages.count(sentence) == times  # which logging writes on standard error
    running._say_once.cache_clear()
