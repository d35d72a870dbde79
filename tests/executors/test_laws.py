"""Laws of jobs, for random needs: whoever does them, in whatever order, the outcome is the same."""

import contextlib
import dataclasses
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnatlas.executors.base import Executor, Job
from rnnatlas.executors.claims import FOLDER


class Threads(Executor):
    """Workers that are cheap to start."""

    @contextlib.contextmanager
    def pool(self, workers, folder):
        with ThreadPoolExecutor(workers) as pool:
            yield pool.submit


class Record:
    """Jobs that write down what they needed, and who was at work when."""

    def __init__(self, folder, failing=()):
        self.folder, self.failing = Path(folder), failing
        self.started, self.at_once, self.most = [], 0, 0
        self.lock = threading.Lock()

    def job(self, name, needs):
        def work(beat):
            with self.lock:
                self.started.append(name)
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            try:
                if name in self.failing:
                    raise ValueError(f"{name} fails")
                beat(1)
                read = [(self.folder / need).read_text() for need in needs]  # those that it needs are there
                (self.folder / name).write_text(f"{name}({','.join(read)})")
            finally:
                with self.lock:
                    self.at_once -= 1

        return Job(name=name, work=work, output=self.folder / name, needs=tuple(needs), updates=1)

    def jobs(self, graph):
        return [self.job(name, needs) for name, needs in graph]

    def outputs(self):
        return {path.name: path.read_text() for path in self.folder.iterdir()}


@st.composite
def graphs(draw):
    """Jobs in any order, each with the names of some earlier ones that it needs."""
    names = [f"job {number}" for number in range(draw(st.integers(1, 6)))]
    graph = [
        (name, draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else [])
        for place, name in enumerate(names)
    ]
    return draw(st.permutations(graph))


def above(graph, names):
    """These jobs, and all that need them however indirectly."""
    found = set(names)
    for _ in graph:
        found |= {name for name, needs in graph if found & set(needs)}
    return found


MANY = settings(max_examples=25, deadline=None)


@MANY
@given(graphs(), st.integers(1, 3))
def test_each_job_is_done_once_after_what_it_needs_by_at_most_so_many(graph, workers):
    with tempfile.TemporaryDirectory() as folder:
        record = Record(folder)
        Threads(workers).run(record.jobs(graph), Path(folder))
        assert sorted(record.started) == sorted(name for name, _ in graph)
        place = {name: number for number, name in enumerate(record.started)}
        assert all(place[need] < place[name] for name, needs in graph for need in needs)
        assert record.most <= workers
        assert set(record.outputs()) == set(place), "nothing else is left"
        Threads(workers).run(record.jobs(graph), Path(folder))
        assert len(record.started) == len(graph), "done jobs are not done again"


@MANY
@given(graphs(), st.data())
def test_what_comes_out_does_not_depend_on_workers_or_the_order_of_the_list(graph, data):
    found = []
    for workers, order in ((1, graph), (3, data.draw(st.permutations(graph)))):
        with tempfile.TemporaryDirectory() as folder:
            record = Record(folder)
            Threads(workers).run(record.jobs(order), Path(folder))
            found.append(record.outputs())
    assert found[0] == found[1]


@MANY
@given(graphs(), st.integers(1, 3), st.data())
def test_an_error_leaves_what_is_whole_and_the_next_run_goes_on(graph, workers, data):
    failing = data.draw(st.sampled_from([name for name, _ in graph]))
    with tempfile.TemporaryDirectory() as folder:
        record = Record(folder, failing=(failing,))
        with pytest.raises(ValueError, match=f"{failing} fails"):
            Threads(workers).run(record.jobs(graph), Path(folder))
        before = record.outputs()
        assert not above(graph, [failing]) & set(before), "nothing that needs it was made"
        assert not above(graph, [failing]) & (set(record.started) - {failing})
        assert not (Path(folder) / FOLDER).exists()
        again = Record(folder)
        Threads(workers).run(again.jobs(graph), Path(folder))
        assert set(again.started) == {name for name, _ in graph} - set(before)
        assert {name: again.outputs()[name] for name in before} == before
        assert set(again.outputs()) == {name for name, _ in graph}


def test_who_is_free_takes_what_was_made_possible_before(tmp_path):
    """A job whose need is there already does not wait until another one is finished."""
    record, both = Record(tmp_path), threading.Barrier(2, timeout=20)
    (tmp_path / "before").write_text("")
    jobs = record.jobs([("before", []), ("after", ["before"]), ("other", [])])
    waiting = [
        dataclasses.replace(job, work=lambda beat, work=job.work: (both.wait(), work(beat))) for job in jobs
    ]
    Threads(2).run(waiting, tmp_path)
    assert set(record.started) == {"after", "other"}


@MANY
@given(graphs(), st.data())
def test_where_there_is_a_choice_the_list_decides(graph, data):
    """Of those whose needs are done, before or in this run, one worker takes the first in the list."""
    with tempfile.TemporaryDirectory() as folder:
        done = data.draw(st.sets(st.sampled_from([name for name, _ in graph])))
        for name in done:
            (Path(folder) / name).write_text("before")
        record = Record(folder)
        Threads(1).run(record.jobs(graph), Path(folder))
        left, expected = [name for name, _ in graph if name not in done], []
        needs = dict(graph)
        while left:
            ready = [name for name in left if all(_over(need, needs, done, expected) for need in needs[name])]
            expected.append(ready[0])
            left.remove(ready[0])
        assert record.started == expected


def _over(name, needs, done, made):
    """Whether a job is done and so are those that it needs, or was made in this run."""
    return name in made or (name in done and all(_over(need, needs, done, made) for need in needs[name]))
