"""Whatever engine runs them, jobs are done once, in order, and what they raise arrives as it is."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import psutil
import pytest
from tests.zoo.conftest import TASK
from tests.zoo.test_build import LONGER, gone_soon, same

from rnnatlas import executors
from rnnatlas.errors import RNNAtlasError, SettingsError
from rnnatlas.executors import slurm
from rnnatlas.executors.base import Job
from rnnatlas.executors.calls import Call
from rnnatlas.executors.local import Local
from rnnatlas.zoo.build import build

from .test_jobs import Die, Fail, job, read

OPTIONS = {
    "local": {},
    "ray": {"address": "local", "dashboard": False, "restarts": 0},
    "slurm": {"cluster": "local"},
}
MODULES = {"ray": "ray", "slurm": "submitit"}


@pytest.fixture(scope="module", autouse=True)
def _one_cluster():
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def needs(name):
    if name in MODULES and find_spec(MODULES[name]) is None:
        pytest.skip(f"no {MODULES[name]}")


def made(name, workers=2, **options):
    needs(name)
    return executors.make(name, workers, 1, {**OPTIONS[name], **options})


def test_options_are_those_of_every_executor():
    assert set(OPTIONS) == set(executors.registry)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_jobs_are_done_where_they_are_sent_in_order(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which relative paths are below
    monkeypatch.setenv("RNNATLAS_QUIET", "1")
    jobs = [job(tmp_path, "last", "a", "b"), job(tmp_path, "a"), job(tmp_path, "b")]
    made(name).run(jobs, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last", "a", "b"}
    processes = {read(one.output)[0] for one in jobs}
    assert os.getpid() not in processes
    assert read(jobs[0].output)[1][0] == 1  # thread
    assert {"a", "b"} <= set(read(jobs[0].output)[2])


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_what_fails_ends_all_or_itself_alone(name, tmp_path):
    jobs = [job(tmp_path, "wrong", work=Fail), job(tmp_path, "needs", "wrong"), job(tmp_path, "free")]
    executor = made(name)
    with pytest.raises(ValueError, match="wrong is not to be had") as raised:
        executor.run(jobs[:1], tmp_path)
    assert type(raised.value) is ValueError
    found = {}
    executor.run(jobs, tmp_path, retries=1, ended=found.__setitem__)
    assert found["free"] is None
    assert str(found["wrong"]) == "wrong is not to be had"
    assert "'wrong', which failed" in str(found["needs"])
    assert [path.name for path in tmp_path.iterdir()] == ["free"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_killed_worker_ends_its_job_alone(name, tmp_path):
    jobs = [Job(name="dies", work=Die(), output=tmp_path / "dies"), job(tmp_path, "free")]
    found = {}
    made(name).run(jobs, tmp_path, ended=found.__setitem__)
    assert isinstance(found["dies"], RNNAtlasError)
    assert "what was finished is kept" in str(found["dies"])
    assert (tmp_path / "free").exists()


class Once:
    """Fails the first time."""

    def __init__(self, path):
        self.path = path

    def __call__(self, beat):
        if not self.path.with_suffix(".tried").exists():
            self.path.with_suffix(".tried").touch()
            raise ValueError("not yet")
        self.path.touch()


def test_what_failed_is_tried_again(tmp_path):
    found = {}
    made("local", 1).run([job(tmp_path, "one", work=Once)], tmp_path, retries=1, ended=found.__setitem__)
    assert found == {"one": None}
    with pytest.raises(ValueError, match="not yet"):
        made("local", 1).run([job(tmp_path, "two", work=Once)], tmp_path)


def test_a_job_that_goes_with_its_machine_is_tried_again(tmp_path):
    needs("ray")
    from ray.exceptions import LocalRayletDiedError

    from rnnatlas.executors.ray import _said

    error = _said(LocalRayletDiedError())
    assert "a machine of the Ray cluster was lost" in str(error)
    assert executors.make("ray", 2, 1, {"restarts": 3}).again(error) == 3
    assert executors.make("ray", 2, 1, {"restarts": 3}).again(ValueError()) == 0

    class Patient(Local):
        def again(self, error):
            return isinstance(error, ValueError)

    Patient(1).run([job(tmp_path, "one", work=Once)], tmp_path)
    assert (tmp_path / "one").exists()


@pytest.mark.parametrize("name", MODULES)
def test_without_its_package_an_executor_says_what_to_install(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    with pytest.raises(SettingsError, match=rf'pip install "rnnatlas\[{name}\]"'):
        executors.make(name, 2).run([job(tmp_path, "a")], tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ray", {"adress": "x"}, "did you mean 'address'"),
        ("slurm", {"minutes": 0}, "minutes should be finite and above 0"),
        ("slurm", {"cluster": "pbs"}, "should be slurm, local or debug"),
        ("local", {"threads": 0}, "threads should be 1 or more"),
        (
            "local",
            {"partition": "long"},
            "setting of slurm, found the executor local; add --executor slurm",
        ),
    ],
)
def test_options_that_there_are_not_are_refused(name, options, message):
    with pytest.raises(SettingsError, match=message):
        executors.make(name, 2, 1, options)


def test_slurm_is_asked_for_what_was_chosen(tmp_path):
    needs("slurm")
    chosen = {"partition": "long", "minutes": 30, "gigabytes": 8, "options": {"qos": "night"}, "threads": 3}
    executor = executors.make("slurm", 2, 1, {**chosen, "cluster": "slurm"})
    assert executor.choose("auto") == "cpu"
    assert executor.choose("cuda") == "cuda"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm.load().SlurmExecutor, "affinity", classmethod(lambda cls: 2))
        asked = executor._engine(tmp_path)._executor.parameters
    assert asked["partition"] == "long"
    assert (asked["time"], asked["mem"], asked["cpus_per_task"]) == (30, "8GB", 3)
    assert asked["gpus_per_node"] == 1
    assert asked["additional_parameters"] == {"qos": "night"}


class Long:
    """Takes long the first time that it is begun."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        if self.path.exists():
            return True
        self.path.touch()
        time.sleep(600)
        return False


@pytest.mark.slow
def test_what_slurm_ends_for_time_is_begun_again(tmp_path):
    needs("slurm")
    engine = slurm.load().LocalExecutor(tmp_path / "logs")
    engine.update_parameters(timeout_min=0.25, signal_delay_s=5)
    submitted = engine.submit(slurm.Resumed(Call.of(Long(tmp_path / "begun"))))
    assert submitted.result() == (True, None)


def test_what_others_log_to_stays_open(tmp_path):
    needs("slurm")
    code = (
        "import logging\nhandler = logging.FileHandler('log')\nfrom rnnatlas.executors import slurm\n"
        "slurm.load()\nhandler.stream.write('still open')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "log").read_text() == "still open"


def test_a_cluster_that_there_is_not_is_one_sentence(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    ray.shutdown()
    with pytest.raises(SettingsError, match=r"Ray cluster at 127.0.0.1:1, found none .*ray start --head"):
        executors.make("ray", 1, 1, {"address": "127.0.0.1:1"}).run([job(tmp_path, "a")], tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "nosuch")
    with pytest.raises(SettingsError, match=r"Ray cluster at nosuch, found none \(no machine of that name"):
        executors.make("ray", 1).choose("auto")

    def refuse(**options):
        raise ConnectionError("ray could not connect")

    with socket.create_server(("127.0.0.1", 0)) as other:  # something that is no Ray
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setattr(ray, "init", refuse)
        with pytest.raises(
            SettingsError, match=rf"Ray cluster at {address}, found none \(ray could not conn"
        ):
            executors.make("ray", 1, 1, {"address": address}).choose("auto")


# --- a Ray cluster that loses parts ----------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return build(TASK, LONGER, tmp_path_factory.mktemp("whole") / "zoo", seed=7, workers=1)


def shards(folder):
    return list((folder / "zoo").glob("data/*/part-*.parquet"))


def wait_for_shards(folder, count):
    give_up = time.monotonic() + 300
    while len(shards(folder)) < count:
        assert time.monotonic() < give_up
        time.sleep(0.02)


def workers_of_ray(process):
    """Ray's worker processes below a process."""
    below = [child for child in process.children(recursive=True) if child.is_running()]
    return [child for child in below if child.name().startswith("ray::")]


@pytest.mark.slow
def test_a_build_outlives_a_worker_and_a_machine_of_its_cluster(tmp_path, uninterrupted):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27},
    )
    try:
        lost = cluster.add_node(num_cpus=1, object_store_memory=2**27)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)

        def harm():
            wait_for_shards(tmp_path, 1)
            workers_of_ray(psutil.Process())[0].kill()
            wait_for_shards(tmp_path, 3)
            cluster.remove_node(lost, allow_graceful=False)
            done.append(len(shards(tmp_path)))

        done = []
        harming = threading.Thread(target=harm)
        harming.start()
        zoo = build(TASK, LONGER, tmp_path / "zoo", seed=7, executor="ray", workers=2)
        harming.join()
        assert done[0] < 20, "it was over before"
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert same(zoo, uninterrupted)


PROGRAM = """
from tests.zoo.conftest import TASK
from tests.zoo.test_build import LONGER
from rnnatlas.zoo.build import build

options = {"address": "local", "dashboard": False}
build(TASK, LONGER, "zoo", seed=7, executor="ray", workers=2, options=options, resume=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_driver_is_resumed_to_the_same_zoo(how, tmp_path, uninterrupted):
    pytest.importorskip("ray")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}  # noqa: PTH109
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment)
    wait_for_shards(tmp_path, 2)
    below = psutil.Process(process.pid).children(recursive=True)
    agents = [child for child in below if "agent" in " ".join(child.cmdline()).lower()]
    process.send_signal(how)
    process.wait()
    assert gone_soon([child.pid for child in below if child not in agents])
    for agent in agents:  # which Ray sometimes leaves
        with contextlib.suppress(psutil.NoSuchProcess):
            agent.kill()
    assert len(shards(tmp_path)) < 20
    for leftover in tmp_path.glob("zoo/**/.*.partial"):
        os.utime(leftover, (0, 0))
    assert same(build(TASK, LONGER, tmp_path / "zoo", seed=7, workers=1, resume=True), uninterrupted)
