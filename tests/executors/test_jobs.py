"""Jobs are done once, in an order that their needs allow, however many run beside each other."""

import dataclasses
import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from rnnatlas import executors
from rnnatlas.errors import RNNAtlasError, SettingsError
from rnnatlas.executors.base import Job
from rnnatlas.executors.claims import FOLDER, INTERVAL, claimed, file_of, tidy, updates_done
from rnnatlas.executors.local import Local

WORKERS = [1, pytest.param(2, marks=pytest.mark.slow)]


@dataclasses.dataclass(frozen=True)
class Write:
    """Writes what it saw: the process, its threads, and the files that were there."""

    path: Path

    def __call__(self, beat):
        beat(1)
        seen = sorted(path.name for path in self.path.parent.iterdir() if path.is_file())
        blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
        self.path.write_text(repr((os.getpid(), [torch.get_num_threads(), *blas], seen)))


@dataclasses.dataclass(frozen=True)
class Fail:
    """Raises, in this process or in a worker."""

    path: Path

    def __call__(self, beat):
        raise ValueError(f"{self.path.name} is not to be had")


@dataclasses.dataclass(frozen=True)
class Die:
    """Ends its process as the system does when memory is short."""

    def __call__(self, beat):
        os.kill(os.getpid(), signal.SIGKILL)


def job(folder, name, *needs, work=Write):
    return Job(name=name, work=work(folder / name), output=folder / name, needs=needs, updates=1)


def read(path):
    return eval(path.read_text())  # what Write wrote


@pytest.mark.parametrize("workers", WORKERS)
def test_each_job_is_done_once_what_it_needs_is(tmp_path, workers):
    jobs = [job(tmp_path, "last", "a", "b", "c"), job(tmp_path, "b", "a")]
    jobs += [job(tmp_path, "a"), job(tmp_path, "c"), job(tmp_path, "apart")]
    (tmp_path / "c").write_text("done before")
    Local(workers).run(jobs, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last", "a", "b", "c", "apart"}
    assert (tmp_path / "c").read_text() == "done before"
    for one in jobs:
        if one.name != "c":
            process, _, seen = read(one.output)
            assert (process == os.getpid()) == (workers == 1)
            assert set(one.needs) <= set(seen)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    Local(workers).run(jobs, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_what_comes_first_is_done_first_where_there_is_a_choice(tmp_path):
    jobs = [job(tmp_path, name) for name in "zxy"]
    jobs.append(job(tmp_path, "a", "z"))
    Local(1).run(jobs, tmp_path)
    assert [len(read(tmp_path / name)[2]) for name in "zxya"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"a": ("b",), "b": ("c",), "c": ("a",)}, r"in a circle, found '.' needs '.' needs '.' needs '.'$"),
        ({"a": ("nosuch",)}, "job 'a' needs 'nosuch', which is none of the jobs"),
    ],
)
def test_needs_that_cannot_be_met_are_refused_before_anything_is_done(tmp_path, needs, message):
    jobs = [job(tmp_path, "free"), *(job(tmp_path, name, *own) for name, own in needs.items())]
    with pytest.raises(SettingsError, match=message):
        Local(1).run(jobs, tmp_path)
    with pytest.raises(SettingsError, match="'free' twice"):
        Local(1).run([jobs[0], jobs[0]], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_ends_it_all_and_leaves_what_was_finished(tmp_path, workers):
    jobs = [
        job(tmp_path, "first"),
        job(tmp_path, "wrong", "first", work=Fail),
        job(tmp_path, "next", "wrong"),
    ]
    with pytest.raises(ValueError, match="wrong is not to be had"):
        Local(workers).run(jobs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.parametrize(
    ("workers", "left", "threads"),
    [(1, 2, 1), (2, 1, 1), pytest.param(2, 2, 1, marks=pytest.mark.slow), (1, 1, 2)],
)
def test_a_job_has_as_many_threads_however_many_others_there_are(tmp_path, workers, left, threads):
    jobs = [job(tmp_path, f"{number}") for number in range(left)]
    torch.set_num_threads(3)
    try:
        Local(workers, threads).run(jobs, tmp_path)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    for one in jobs:
        found = read(one.output)[1]
        assert len(found) > 1
        assert set(found) == {threads}


def test_workers_and_threads_are_at_least_one():
    for wrong in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(SettingsError, match="should be 1 or more, found 0"):
            Local(**wrong)
    assert isinstance(executors.registry["local"](), Local)


def test_a_killed_worker_is_one_sentence(tmp_path):
    jobs = [Job(name=name, work=Die(), output=tmp_path / name) for name in "ab"]
    with pytest.raises(RNNAtlasError, match=r"worker process was killed.*fewer --workers.*--resume"):
        Local(2).run(jobs, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_another_command_is_at_is_left_to_it(tmp_path):
    one, other = job(tmp_path, "one", work=Fail), job(tmp_path, "other")

    def command():
        with claimed(file_of(tmp_path, "one"), wait=True):
            held.set()
            while not other.done:  # which comes later in the list
                time.sleep(0.01)
            one.output.write_text("done elsewhere")

    held = threading.Event()
    thread = threading.Thread(target=command)
    thread.start()
    held.wait()
    Local(1).run([one, other], tmp_path)
    thread.join()
    assert one.output.read_text() == "done elsewhere"
    assert not (tmp_path / FOLDER).exists()


def test_what_killed_processes_left_does_no_harm(tmp_path):
    one = job(tmp_path, "one")
    left = file_of(tmp_path, "one")
    left.parent.mkdir()
    left.write_text("999")
    assert updates_done(left) == 999
    with claimed(left, wait=False) as beat:
        assert beat is not None
        assert updates_done(left) == 0
    left.write_text("999")
    Local(1).run([one], tmp_path)
    assert one.done
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("also", [[], ["other"]], ids=["nothing left to do", "something left to do"])
def test_a_file_left_by_a_process_killed_just_after_its_job_was_done_goes(tmp_path, also):
    Local(1).run([job(tmp_path, "one")], tmp_path)
    left = file_of(tmp_path, "one")
    left.parent.mkdir()
    left.write_text("999")
    Local(1).run([job(tmp_path, name) for name in ["one", *also]], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", *also]


def test_the_file_of_a_job_tells_how_far_it_is_and_is_one_process_s(tmp_path):
    path = file_of(tmp_path, "data/part 1")
    with claimed(path, wait=False) as beat:
        beat(3)  # too soon after the start to be written
        assert updates_done(path) == 0
        time.sleep(INTERVAL + 0.05)
        beat(4)
        assert updates_done(path) == 7
        with claimed(path, wait=False) as another:
            assert another is None
        tidy(tmp_path)
        assert updates_done(path) == 7
    assert updates_done(path) == 0
    tidy(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_who_waited_for_a_file_holds_the_one_that_is_there(tmp_path):
    path, held = file_of(tmp_path, "job"), []

    def one_of_many():
        with claimed(path, wait=True):
            held.append(1)
            most.append(len(held))
            time.sleep(0.002)
            held.pop()

    most = []
    threads = [threading.Thread(target=one_of_many) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


class Logs:
    """Has a thread that cannot write."""

    def __init__(self, path):
        self.path = path

    def __call__(self, beat):
        def write():
            raise PermissionError(errno.EACCES, "no", str(self.path))

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        self.path.touch()


def test_what_ends_a_thread_of_a_job_is_what_the_job_raises(tmp_path, capfd):
    with pytest.raises(PermissionError):
        executors.make("local", 1).run([job(tmp_path, "one", work=Logs)], tmp_path)
    assert capfd.readouterr().err == ""
