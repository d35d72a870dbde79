"""Trains encoders with products of float32 and of bfloat16 numbers, and compares their loss curves.

    python benchmarks/precision.py ZOO --preset demo --seeds 3 --json docs/results/bench-precision.json

Trainings of one seed start from the same weights and see the same batches. Compared is the loss on
validation, which is worked out with float32 numbers in any case.
"""

import argparse
import csv
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rnnatlas.benchmarks.report import about
from rnnatlas.emulation.training import resolve, train
from rnnatlas.executors.base import limited
from rnnatlas.rnn.backends import layers
from rnnatlas.zoo.store import Zoo

KINDS = ("float32", "bfloat16")


def curve(folder: Path) -> dict[int, float]:
    """Validation loss by step."""
    with (folder / "history.csv").open(encoding="utf-8") as file:
        return {int(row["step"]): float(row["validation_loss"]) for row in csv.DictReader(file)}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--encoder", default="interactive")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    assert layers.has_half(), "this processor has no products of bfloat16 numbers"
    zoo, rows = Zoo.open(chosen.zoo), []
    for seed in range(chosen.seeds):
        row: dict[str, Any] = {"seed": seed}
        for kind in KINDS:
            changes = {"emulation": {"products": kind}}
            settings = resolve(zoo, chosen.encoder, chosen.preset, changes)
            with tempfile.TemporaryDirectory() as folder, limited(1):
                out = Path(folder) / "run"
                train(zoo, chosen.encoder, out, seed, progress=False, device="cpu", **settings)
                row[kind] = {"encoder": curve(out), "zero": curve(out / "zero")}
        rows.append(row)
        for what in ("encoder", "zero"):
            one, other = (row[kind][what] for kind in KINDS)
            shown = "  ".join(f"{step}: {one[step]:.4f} {other[step]:.4f}" for step in list(one)[1::2])
            print(f"seed {seed}, {what}, float32 bfloat16: {shown}", flush=True)
    for what in ("encoder", "zero"):
        best = {kind: [min(row[kind][what].values()) for row in rows] for kind in KINDS}
        gaps = [b - a for a, b in zip(best["float32"], best["bfloat16"], strict=True)]
        means = ", ".join(f"{kind} {statistics.mean(values):.4f}" for kind, values in best.items())
        print(f"{what}: mean of best losses {means}; differences {', '.join(f'{gap:+.4f}' for gap in gaps)}")
    if chosen.json:
        command = f"python benchmarks/precision.py ZOO --preset {chosen.preset} --seeds {chosen.seeds}"
        document = {"command": command, "encoder": chosen.encoder, **about(), "rows": rows}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
