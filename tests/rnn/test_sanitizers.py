"""The kernels under the compiler's sanitizers: no data race, nothing read or written beyond its end."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rnnatlas.rnn.backends import native

COMPILER = shutil.which(os.environ.get("CXX", "c++"))
SOURCES = Path(native.__file__).parent / "cpp"


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers_find_nothing(sanitizer, tmp_path):
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    program = tmp_path / "sanitized"
    files = [*SOURCES.glob("*.cpp"), Path(__file__).parent / "sanitized.cpp"]
    flags = [
        "-std=gnu++17",
        "-O1",
        "-g",
        "-pthread",
        "-DISA=portable",
        '-DRNNATLAS_SOURCES=""',
        f"-I{SOURCES}",
    ]
    checks = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    command = [COMPILER, *flags, *checks, *map(str, files), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"this compiler has no {sanitizer} sanitizer: {built.stderr[-300:]}")
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
