"""Whatever stops a command, whenever it does, a person reads one sentence."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.cli.test_zoo import FEW, call

import rnnatlas
from rnnatlas import cli
from rnnatlas.cli import main

AT_IMPORT = """
import os, runpy, signal, sys
class Stop:
    def find_spec(self, name, *_):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{how})
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
sys.argv = ["rnnatlas", "zoo", "show", "nowhere"]
runpy.run_module("rnnatlas", run_name="__main__")
"""
TWICE = """
import os, signal
from rnnatlas import cli
def run(*_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        open("cleaned", "w")
signal.signal(signal.SIGINT, signal.default_int_handler)
cli._run = run
cli.main(["zoo", "show", "nowhere"])
"""


def stopped(program, folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(rnnatlas.__file__).parents[1])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "module", ["rnnatlas.cli", "cyclopts", "rnnatlas.zoo.store", "numpy", "torch", "pyarrow"]
)
def test_ctrl_c_while_modules_are_loaded(module, tmp_path):
    how = "SIGTERM" if module == "numpy" else "SIGINT"
    status, error = stopped(AT_IMPORT.format(module=module, how=how), tmp_path)
    assert (status, error) == (130, "error: interrupted; nothing was written\n")


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    status, error = stopped(TWICE, tmp_path)
    assert (status, error) == (130, "error: interrupted twice; what was finished is kept\n")
    assert not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EFBIG, "large", "a"), "(ulimit -f), or write to another file system"),
        (OSError(errno.EMFILE, "many", "a"), "too many open files (a); raise the number of"),
        (OSError(errno.EROFS, "read", "a"), "read-only file system (a); check the path and its permissions"),
        (OSError(errno.ECONNREFUSED, "no"), "connection refused; check the address and the network"),
        (RuntimeError("can't start new thread"), "not enough threads; use fewer"),
        (RuntimeError("CUDA error: out of memory"), "not enough memory; use fewer"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(error, sentence, monkeypatch, capsys):
    def run(*_):
        raise error

    monkeypatch.setattr(cli, "_run", run)
    with pytest.raises(SystemExit, match="1"):
        main(["zoo", "show", "nowhere"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert sentence in said


@pytest.mark.parametrize("both", [True, False])
def test_what_ends_another_thread_is_said_once(both, monkeypatch, capsys):
    error = PermissionError(errno.EACCES, "no", b"logs")

    def fail(*_):
        raise error

    def run(*_):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        if both:
            fail()

    before = threading.excepthook
    monkeypatch.setattr(cli, "_run", run)
    with pytest.raises(SystemExit, match="1"):
        main(["zoo", "show", "nowhere"])
    said = capsys.readouterr().err
    assert said == "error: permission denied (logs); check the path and its permissions\n"
    assert threading.excepthook is before


def test_a_limit_on_the_size_of_files_leaves_what_can_be_gone_on_with(tmp_path, capsys):
    """A shard does not fit at first."""
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
from rnnatlas.cli import main
main({["zoo", "build", "formal-languages", "--out", "zoo", "--quiet", *FEW]!r})
"""
    status, error = stopped(program, tmp_path)
    assert status == 1
    assert "ulimit -f" in error
    assert "--resume" in error
    assert list((tmp_path / "zoo").rglob(".*.partial")) == []
    assert (
        call(capsys, "zoo", "build", "formal-languages", "--out", tmp_path / "zoo", *FEW, "--resume")[0] == 0
    )


def test_openmp_asks_for_no_more_threads_than_there_are(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    cli._ask_for_the_threads_that_there_are()
    assert "OMP_NUM_THREADS" not in os.environ
    start, left = threading.Thread.start, iter(range(6))

    def few(thread):
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    cli._ask_for_the_threads_that_there_are()
    assert os.environ["OMP_NUM_THREADS"] == "4"
