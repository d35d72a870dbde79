"""Killed at any instant and gone on with, all ends as without; `benchmarks/kills.py` goes on for longer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rnnatlas


@pytest.mark.slow
def test_nothing_is_lost_by_kills():
    sources, root = Path(rnnatlas.__file__).parents[1], Path(__file__).parents[2]
    command = [sys.executable, str(root / "benchmarks" / "kills.py"), "--kills", "8", "--seed", "3"]
    environment = {**os.environ, "PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert sum(int(number) for name, _, number in rows if name != "finished") >= 8
