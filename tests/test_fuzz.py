"""What is damaged ends in one line, or is read; `tests/fuzz.py` damages more of it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_damaged_settings_and_checkpoints_are_read_or_refused(tmp_path):
    tokens = ["config", "checkpoint", "given", "--count", "8", "--folder", str(tmp_path / "made")]
    run = subprocess.run(
        [sys.executable, "tests/fuzz.py", *tokens],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert {line.split("\t")[1] for line in run.stdout.splitlines()} == {"accepted", "refused"}
