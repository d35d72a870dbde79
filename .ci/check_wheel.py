"""Tries an installed wheel: its compiled backend gives what plain torch does, in each instruction set.

`python .ci/check_wheel.py`, in the environment where the wheel is installed; needs no compiler.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

CASE = """
import torch, rnnatlas as ra
from rnnatlas.rnn import backend
torch.manual_seed(0)
rnns = ra.Population.from_modules([(torch.nn.LSTM(3, 8), torch.nn.Linear(8, 2)) for _ in range(3)])
print(backend(), *ra.run(rnns, torch.linspace(-1, 1, 120).view(4, 10, 3))[0].flatten().tolist())
"""


def outputs(**settings: str) -> tuple[str, list[float]]:
    """The backend's name, and what RNNs give out with it."""
    done = subprocess.run(
        [sys.executable, "-c", CASE], env=os.environ | settings, capture_output=True, text=True, check=True
    )
    name, _, numbers = done.stdout.partition(")")
    return name + ")", [float(number) for number in numbers.split()]


def instruction_sets() -> list[str]:
    """Those of the wheel that this processor has, as far as is known here."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ["portable"]
    known = Path("/proc/cpuinfo")
    flags = set(known.read_text().split()) if known.exists() else set()
    return [
        "portable",
        *(name for name, flag in {"avx2": "avx2", "avx512": "avx512bw"}.items() if flag in flags),
    ]


if __name__ == "__main__":
    _, expected = outputs(RNNATLAS_BACKEND="eager")
    for name in instruction_sets():
        found, numbers = outputs(RNNATLAS_ISA=name)
        difference = max(abs(a - b) for a, b in zip(numbers, expected, strict=True))
        print(f"{found}, largest difference {difference:.1e}")
        if found != f"native ({name})" or difference > 1e-5:
            sys.exit(f"expected native ({name}), with the outputs of plain torch")
