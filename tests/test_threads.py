"""Threads that wait leave the processors to those that work."""

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("own", "rounds"), [({}, "0"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_that_wait_do_not_spin_unless_the_user_says_so(own, rounds):
    """As OpenMP has understood it when torch was loaded."""
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    left = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-c", "import rnnatlas, torch"]
    environment = {**left, "OMP_DISPLAY_ENV": "verbose", **own}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", shown)
    if found is None:
        pytest.skip("torch is built with another OpenMP than GNU's")
    assert found[1] == rounds
