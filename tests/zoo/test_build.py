import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from rnnatlas import files
from rnnatlas.errors import DataError, OutputExists, RNNAtlasError, SettingsError, UnknownName
from rnnatlas.settings import as_dict
from rnnatlas.zoo.build import build
from rnnatlas.zoo.store import Zoo

from .conftest import SETTINGS, TASK

LONGER = dataclasses.replace(
    SETTINGS, runs=40, snapshots=(0, 40), learning_rate=((0, 0.01),), runs_per_shard=2
)

PROGRAM = """
import sys
from rnnatlas.settings import build as make
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.build import build
from rnnatlas.zoo.train import ZooSettings

if __name__ == "__main__":
    task = FormalLanguages.from_settings({task!r})
    build(task, make(ZooSettings, {settings!r}), {out!r}, seed=7, workers={workers}, resume=True)
"""


def started(folder, workers):
    """A process that builds LONGER, and has written at least two of its 20 shards."""
    program = PROGRAM.format(
        task=as_dict(TASK.settings), settings=as_dict(LONGER), out=str(folder / "zoo"), workers=workers
    )
    (folder / "program.py").write_text(program)
    process = subprocess.Popen([sys.executable, str(folder / "program.py")], stderr=subprocess.PIPE)
    give_up = time.monotonic() + 60
    while len(list((folder / "zoo").glob("data/*/part-*.parquet"))) < 2:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return process


def children(process):
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_soon(pids):
    give_up = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < give_up:
        time.sleep(0.1)
    return not any(map(alive, pids))


def same(zoo, other):
    return zoo.table.equals(other.table) and torch.equal(
        zoo.population(range(len(zoo))).flatten(), other.population(range(len(other))).flatten()
    )


@pytest.mark.slow
def test_a_killed_build_is_resumed_to_the_same_zoo(tmp_path):
    process = started(tmp_path, workers=2)
    workers_alive = children(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert gone_soon(workers_alive)
    for leftover in tmp_path.glob("zoo/**/.*.partial"):
        os.utime(leftover, (0, 0))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("zoo/data/*/part-*.parquet")}
    assert 2 <= len(kept) < 20
    with pytest.raises(RNNAtlasError, match="--resume"):
        Zoo.open(tmp_path / "zoo")
    resumed = build(TASK, LONGER, tmp_path / "zoo", seed=7, workers=1, resume=True)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert same(resumed, build(TASK, LONGER, tmp_path / "uninterrupted", seed=7, workers=1))
    assert not list((tmp_path / "zoo").rglob(".*"))


@pytest.mark.slow
def test_ctrl_c_stops_workers_and_keeps_what_is_done(tmp_path):
    process = started(tmp_path, workers=2)
    workers = children(process)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate()[1]
    assert gone_soon(workers)
    assert 2 <= len(list(tmp_path.glob("zoo/data/*/part-*.parquet"))) < 20


def test_a_full_disk_is_said_and_loses_nothing(tmp_path, monkeypatch):
    written = []

    def write(path, table, zoo):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        original(path, table, zoo)

    from rnnatlas.zoo import build as module

    original = module.write_shard
    monkeypatch.setattr(module, "write_shard", write)
    with pytest.raises(RNNAtlasError, match="full; finished parts of the zoo are safe"):
        build(TASK, SETTINGS, tmp_path / "zoo", seed=7, workers=1)
    monkeypatch.undo()
    assert len(build(TASK, SETTINGS, tmp_path / "zoo", seed=7, workers=1, resume=True)) == 42


def test_an_output_folder_that_exists_is_left_alone(zoo_folder, tmp_path):
    with pytest.raises(OutputExists, match="--resume"):
        build(TASK, SETTINGS, zoo_folder, seed=7)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(OutputExists):
        build(TASK, SETTINGS, tmp_path / "other", seed=7, resume=True)


def _no_data(*_, **__):
    raise DataError("the images are missing")


def test_data_are_looked_for_when_runs_are_missing_and_may_be_built(zoo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(type(TASK), "prepare", _no_data)
    assert len(build(TASK, SETTINGS, zoo_folder, seed=7, resume=True)) == 42
    with pytest.raises(OutputExists, match="exists already"):
        build(TASK, SETTINGS, zoo_folder, seed=7)
    with pytest.raises(DataError):
        build(TASK, SETTINGS, tmp_path / "new", seed=7)
    assert not (tmp_path / "new").exists()


def test_what_another_build_is_writing_is_left_alone(zoo_folder):
    shard = next(zoo_folder.glob("data/*")) / "part-00009.parquet"
    abandoned = shard.with_name(".part-00000.parquet.abcdefgh.partial")
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    with pytest.raises(ZeroDivisionError), files.replacing(shard) as written:  # noqa: PT012
        os.utime(written, (0, 0))  # the clock has jumped
        build(TASK, SETTINGS, zoo_folder, seed=7, resume=True)
        assert written.exists()
        assert not abandoned.exists()
        raise ZeroDivisionError


def test_a_build_that_was_killed_at_its_first_write_is_resumed(tmp_path):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / ".zoo.json.abcd_123.partial").touch()
    assert len(build(TASK, SETTINGS, tmp_path / "zoo", seed=7, workers=1, resume=True)) == 42


def test_resuming_a_complete_zoo_changes_nothing(zoo_folder):
    before = {path: path.stat().st_mtime_ns for path in zoo_folder.rglob("*.parquet")}
    build(TASK, SETTINGS, zoo_folder, seed=7, resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in zoo_folder.rglob("*.parquet")}


def test_a_zoo_is_not_resumed_with_other_settings(zoo_folder):
    with pytest.raises(SettingsError, match=r"another seed .7 then, 8 now"):
        build(TASK, SETTINGS, zoo_folder, seed=8, resume=True)
    with pytest.raises(SettingsError, match=r"another settings .batch: 8 then, 9 now"):
        build(TASK, dataclasses.replace(SETTINGS, batch=9), zoo_folder, seed=7, resume=True)


def test_unknown_executor_and_no_workers(tmp_path):
    with pytest.raises(UnknownName, match="known are local"):
        build(TASK, SETTINGS, tmp_path / "zoo", executor="cloud")
    with pytest.raises(SettingsError, match="workers"):
        build(TASK, SETTINGS, tmp_path / "zoo", workers=0)
    assert not (tmp_path / "zoo").exists()


def test_what_another_build_leaves_out_is_built(zoo_folder, tmp_path, monkeypatch):
    from rnnatlas.zoo import build as module

    last = max((zoo_folder / "data").rglob("*.parquet")).relative_to(zoo_folder)
    make, tidy = module._jobs, module._tidy

    def as_on_a_gpu(out, chunks, settings, device):
        jobs = make(out, chunks, settings, "cuda")
        return [dataclasses.replace(job, work=dataclasses.replace(job.work, device="cpu")) for job in jobs]

    def meanwhile(out):
        (out / last).parent.mkdir(parents=True)
        shutil.copy(zoo_folder / last, out / last)
        tidy(out)

    monkeypatch.setattr(module, "_jobs", as_on_a_gpu)
    monkeypatch.setattr(module, "_tidy", meanwhile)
    assert len(build(TASK, SETTINGS, tmp_path / "zoo2", seed=7, workers=1)) == 42


def test_progress_goes_to_stderr_and_only_when_asked(tmp_path, capsys):
    few = dataclasses.replace(SETTINGS, runs=2)
    build(TASK, few, tmp_path / "quiet", workers=1)
    assert capsys.readouterr() == ("", "")
    build(TASK, few, tmp_path / "loud", workers=1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "RNN-steps/s" in err
