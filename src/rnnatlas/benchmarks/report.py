"""Running benchmarks: one document with their figures and where these come from."""

import datetime
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnatlas._version import __version__, commit
from rnnatlas.benchmarks import registry
from rnnatlas.benchmarks.base import Benchmark
from rnnatlas.rnn import backend


def report(
    benchmarks: dict[str, Benchmark], command: str, show: Callable[[str, float, str], None]
) -> dict[str, Any]:
    """Takes the figures of benchmarks, one after the other.

    Args:
        benchmarks: By their names.
        command: What was called, for the record.
        show: Called with the benchmark that runs, the share of it that is done, and what comes next.

    Returns:
        Plain values for JSON: the machine, the versions, and each benchmark's rows.
    """
    document = {"command": command, **about(), "benchmarks": {}}
    for name, benchmark in benchmarks.items():
        load, start = _load(), time.perf_counter()
        rows = benchmark.measure(lambda share, doing, name=name: show(name, share, doing))
        document["benchmarks"][name] = {
            "claim": registry.description(name),
            "note": benchmark.note,
            "took_seconds": time.perf_counter() - start,
            "load_before": load,
            "rows": rows,
        }
    return document


def about() -> dict[str, Any]:
    """Date, commit, versions and machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "rnnatlas": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "backend": backend(),
    }


def processor() -> str:
    """Its name as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _load() -> float | None:
    """Processes that wanted a core during the last minute, on average; other programs make figures worse."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """A table for a page."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
