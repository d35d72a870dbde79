"""Timing that a busy machine does not mislead: contenders take turns, and medians are compared."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def take_turns(contenders: dict[str, Callable[[], Any]], seconds: float = 2.0) -> dict[str, list[float]]:
    """Seconds of each call of each contender: they take turns for `seconds`, 5 rounds at least.

    With one thread it is the processor's time that counts, which other processes take no part of.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for contender in contenders.values():
        contender()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, contender in contenders.items():
            start = clock()
            contender()
            times[name].append(clock() - start)
    return times


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def matrix_product() -> tuple[Callable[[], Any], float]:
    """A large product, whose rate stands for what the machine can do, and its floating-point operations."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return (lambda: a @ b), 2.0 * 1024**3


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows with the command, the commit and the machine that gave them."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    about = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit or None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": processor(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


def processor() -> str:
    """Its name, and which build of the kernels it runs."""
    from rnnatlas.rnn import backend

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    return f"{name}, {backend()}"
