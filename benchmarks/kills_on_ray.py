"""Kills drivers, workers and machines of a Ray cluster that builds a zoo; prints what was killed.

    python benchmarks/kills_on_ray.py --kills 50 --seed 0

A cluster of two machines (processes of this one, each with a processor) builds a zoo again and again. After
a random time one of its workers, one of the machines or the command itself is killed. A killed command is
given again with --resume; a lost machine is replaced. After each kill every shard that can be seen has to be
whole, and in the end the zoo has to be that of a build without Ray, byte for byte. Needs rnnatlas[ray].
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from kills import content, finish, stages
from rnnatlas.zoo.verify import damaged

RUNS = 60
"""In shards of three, so that a build takes seconds."""


def build(folder: Path, *more: str) -> list[str]:
    """The command; a zoo of more runs than `kills.py` builds."""
    tokens = [token.replace("zoo.runs=18", f"zoo.runs={RUNS}") for token in stages(folder)["zoo"]]
    return [token for token in tokens if token != "--workers=1"] + list(more)


def workers() -> list[psutil.Process]:
    """Those of the cluster, which are below this process."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if _name(process).startswith("ray::")]


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def kill(what: str, driver: subprocess.Popen, cluster: Any, lost: Any) -> Any:
    """Kills a driver, a worker, or a machine, which is replaced; says which may be lost next."""
    if what == "driver":
        driver.kill()
    elif what == "machine":
        cluster.remove_node(lost, allow_graceful=False)
        return cluster.add_node(num_cpus=1, object_store_memory=2**27)
    else:
        for process in workers()[:1]:
            process.kill()
    return lost


def trial(work: Path, kills: int, seed: int) -> Counter:
    """Kills so often; how often what was killed while the zoo was being built."""
    from ray.cluster_utils import Cluster

    random, counts, folder = np.random.default_rng(seed), Counter(), work / "now"
    finish(build(folder, "--workers=1"), folder)
    expected = content(folder)
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    lost = cluster.add_node(num_cpus=1, object_store_memory=2**27)
    command = build(
        folder, "--executor=ray", "--workers=2", "--quiet", "--set", f"executor.address={cluster.address}"
    )
    try:
        while sum(counts.values()) < kills:
            shutil.rmtree(folder, ignore_errors=True)
            finished, first, what = False, True, ""
            while not finished:
                with (work / "log").open("w") as log:
                    driver = subprocess.Popen(
                        [sys.executable, "-m", "rnnatlas", *command], stdout=log, stderr=log
                    )
                while first and driver.poll() is None and not list(folder.glob("zoo/data/*/*.parquet")):
                    time.sleep(0.01)  # the first seconds pass in starting
                first = False
                while sum(counts.values()) < kills:
                    time.sleep(random.uniform(0, 4))
                    if driver.poll() is not None:
                        break
                    what = str(random.choice(["driver", "worker", "machine"]))
                    lost = kill(what, driver, cluster, lost)
                    counts[what] += 1
                    if (folder / "zoo" / "zoo.json").exists():
                        assert damaged(folder / "zoo")[0] == {}
                    if what == "driver":
                        break
                finished = driver.wait() == 0
                # a command that joins the cluster by way of a lost machine goes with it, or does not find it
                assert finished or what == "driver" or counts["machine"], (work / "log").read_text()
            found = content(folder)
            different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
            assert not different, different
    finally:
        cluster.shutdown()
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ["RAY_DEDUP_LOGS"] = "0"
    with tempfile.TemporaryDirectory() as work:
        for what, number in sorted(trial(Path(work), asked.kills, asked.seed).items()):
            print(f"{what}\t{number}")
