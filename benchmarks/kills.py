"""Kills rnnatlas at random instants and makes sure that nothing is lost; prints what was killed.

    python benchmarks/kills.py --kills 200 --seed 0

A zoo is built, an encoder trained on it, an atlas made and a sweep run, once without and then again and
again with SIGKILLs. Half of them come after a random time, half at a random one of the calls that open,
rename, make or remove a file, where files are between two states. After each kill everything visible has to
be whole. The command is then given again with --resume, and what is there in the end has to be what was left
without kills, byte for byte. Sometimes two commands build one zoo, of which one is killed, while a third
process reads it.
`kills_on_ray.py` does the same to a Ray cluster.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes are forked, which threads do not survive

import lightning  # noqa: F401, so that children need not load it

from rnnatlas.atlas.index import Atlas
from rnnatlas.cli import main
from rnnatlas.emulation.model import TrainedRun
from rnnatlas.errors import AtlasFormatError, RNNAtlasError, RunFormatError, ZooFormatError
from rnnatlas.files import is_partial
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.verify import damaged

SMALL = ["task.tokens=2", "task.length=12", "task.largest_n=4", "task.performance_samples=20"]
SMALL += ["zoo.hidden=5", "zoo.layers=1", "zoo.snapshots=[0, 100]", "zoo.rollouts=4", "zoo.batch=8"]
SMALL += ["zoo.runs_per_shard=3", "zoo.split={train: 0.5, validation: 0.25, ood: 0.25}"]
SHORT = ["emulation.steps=40", "emulation.rnns=8", "emulation.validate_every=10"]
SHORT += ["emulation.validation_rollouts=2", "emulation.emulator.width=8", "emulation.emulator.layers=1"]
WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.scandir", "os.listdir"}
"""Audit events between which files change; os.replace is a rename."""
UNEQUAL = ("events.out.tfevents.", "cost.json")
"""Begin names of files that have the time in them."""
GROW = ("resume.ckpt", "history.csv", "metrics.json", "hparams.yaml", "zoo.json", "README.md", "sweep.tsv")
"""Files that are written again and again, each time whole."""
PLAN = """
zoos: [{zoo}]
encoders: [statistics]
seeds: 2
settings: {{short: {{emulation: {{steps: 40, rnns: 8, validate_every: 10, validation_rollouts: 2,
  emulator: {{width: 8, layers: 1}}}}}}}}
"""
"""Of a sweep."""


def stages(folder: Path) -> dict[str, list[str]]:
    """Each command, and what it leaves in a folder of the stage's name."""
    place = {name: str(folder / name) for name in ("zoo", "run", "atlas", "sweep")}
    plan = folder.parent / "plan.yaml"
    plan.write_text(PLAN.format(zoo=place["zoo"]))
    changes = [part for change in (*SMALL, "zoo.runs=18") for part in ("--set", change)]
    short = [part for change in SHORT for part in ("--set", change)]
    build = [
        "zoo",
        "build",
        "formal-languages",
        "--out",
        place["zoo"],
        *changes,
        "--workers=1",
        "--device=cpu",
    ]
    train = ["train", place["zoo"], "--encoder=statistics", "--out", place["run"], *short, "--device=cpu"]
    embed = ["embed", place["run"], place["zoo"], "--out", place["atlas"], "--layout=pca"]
    sweep = ["sweep", str(plan), "--out", place["sweep"], "--workers=1", "--device=cpu"]
    return {"zoo": [*build, "--resume"], "run": [*train, "--resume"], "atlas": embed, "sweep": sweep}


def start(tokens: Sequence[str], folder: Path, fatal: int | None = None) -> int:
    """A process that runs a command, and kills itself at so many calls that touch files of the folder."""
    child = os.fork()
    if child:
        return child
    calls, own = 0, str(folder)

    def watch(event: str, arguments: tuple) -> None:
        nonlocal calls
        if event in WATCHED and str(arguments[0]).startswith(own):
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    log = os.open(folder.parent / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.addaudithook(watch)
    status = 99
    try:
        main([*tokens, "--quiet"])
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        (folder.parent / "calls").write_text(str(calls))
        os._exit(status)


def finish(tokens: Sequence[str], folder: Path) -> int:
    """Runs a command to its end; how many calls touched files."""
    _, status = os.waitpid(start(tokens, folder), 0)
    assert status == 0, (folder.parent / "log").read_text()
    return int((folder.parent / "calls").read_text())


def content(folder: Path) -> dict[str, bytes]:
    """All files but hidden ones and those that have the time in them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    shown = [
        path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return {str(p.relative_to(folder)): p.read_bytes() for p in shown if not p.name.startswith(UNEQUAL)}


def check(folder: Path, expected: dict[str, bytes]) -> None:
    """Makes sure that all that can be seen is whole: as it will be, or one of the files that grow."""
    for name in ("zoo", "run", "atlas", "sweep"):
        for path in (folder / name).glob("**/.*"):
            assert is_partial(path) or path.name == ".jobs", path
    if (folder / "zoo" / "zoo.json").exists():
        assert damaged(folder / "zoo")[0] == {}
    for name, kind, error in (
        ("run", TrainedRun.load, RunFormatError),
        ("atlas", Atlas.open, AtlasFormatError),
    ):
        try:
            kind(folder / name)
        except error as refused:
            assert "damaged" not in str(refused), refused  # noqa: PT017
    for name, found in content(folder).items():
        assert found == expected.get(name) or (Path(name).name in GROW and found), f"{name} is another one"


def read_all_the_time(folder: Path, until: Callable[[], bool]) -> int:
    """Opens a zoo that is being built again and again; how often."""
    times = 0
    while not until():
        try:
            zoo = Zoo.open(folder)
            zoo.population(range(len(zoo)))
        except ZooFormatError as refused:
            assert "damaged" not in str(refused), refused  # noqa: PT017
        times += 1
        time.sleep(0.01)
    return times


def ended(child: int) -> bool:
    """Whether a child is gone."""
    return os.waitpid(child, os.WNOHANG)[0] == child


def two_builders(folder: Path, tokens: list[str], fatal: int) -> bool:
    """Two commands build one zoo, one of them is killed, and the other finishes it while it is read."""
    killed, other = start(tokens, folder, fatal), start(tokens, folder)
    read_all_the_time(folder / "zoo", lambda: ended(other))
    return os.WIFSIGNALED(os.waitpid(killed, 0)[1])


def trial(work: Path, kills: int, seed: int, limit: float) -> Counter:
    """Kills at most so often, in so many seconds; how often each stage was killed, and how."""
    random, folder, began = np.random.default_rng(seed), work / "now", time.monotonic()
    seconds, calls = {}, {}
    for name, tokens in stages(folder).items():
        before = time.monotonic()
        calls[name] = finish(tokens, folder)
        seconds[name] = time.monotonic() - before
    expected = content(folder)
    counts: Counter = Counter()

    def enough() -> bool:
        return sum(n for (name, _), n in counts.items() if name != "finished") >= kills or (
            time.monotonic() - began > limit
        )

    while not enough():
        shutil.rmtree(folder, ignore_errors=True)
        for name, tokens in stages(folder).items():
            if name == "zoo" and random.random() < 0.25 and not enough():
                fatal = int(random.integers(1, calls[name] + 1))
                counts[name, "beside another"] += two_builders(folder, tokens, fatal)
            for _ in range(int(random.integers(1, 5))):
                if enough():
                    break
                at_a_call = random.random() < 0.5
                fatal = int(random.integers(1, calls[name] + 1)) if at_a_call else None
                child = start(tokens, folder, fatal)
                if not at_a_call:
                    time.sleep(random.uniform(0, seconds[name]))
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                counts[name, "at a call" if at_a_call else "in time"] += os.WIFSIGNALED(status)
                assert os.WIFSIGNALED(status) or "exists already" in (work / "log").read_text() or not status
                check(folder, expected)
            if not (name == "atlas" and (folder / name).exists()):
                finish(tokens, folder)
            counts["finished", name] += 1
        found = content(folder)
        different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        assert not different, different
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no more are made")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as work:
        try:
            found = trial(Path(work), asked.kills, asked.seed, asked.limit)
        except RNNAtlasError as error:
            sys.exit(f"{error}\n{(Path(work) / 'log').read_text()}")
    for (name, how), number in sorted(found.items()):
        print(f"{name}\t{how}\t{number}")
