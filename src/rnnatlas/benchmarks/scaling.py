"""How the cost of an RNN grows with the number of RNNs, hidden units, length and layers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rnnatlas.benchmarks.base import Benchmark, Row, Show, shown
from rnnatlas.benchmarks.running import Case, contenders, measure_pass, ratio
from rnnatlas.executors.base import limited

BASE = Case("lstm", 32, 2, 16, 32, 41)
CURVES = {
    "rnns": (1, 4, 16, 64, 256),
    "hidden": (8, 16, 32, 64, 128, 256),
    "time": (10, 20, 41, 82, 164, 328),
    "layers": (1, 2, 3, 4),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling(Benchmark):
    """One size of the paper's RNNs is changed at a time.

    Args:
        base: What the others are left at.
        curves: Sizes by the name of a field of `Case`.
        seconds: How long each contender is run at each size.
    """

    base: Case = BASE
    curves: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=lambda: CURVES)
    seconds: float = 0.5

    note: ClassVar[str] = (
        "Forward and backward on one thread; milliseconds of processor time an RNN, median (quartiles). "
        "Everything but the size that changes is as in 16 LSTMs of 2 × 32, batch 32, 41 steps. torch.nn: "
        "one RNN at a time. Share of peak: as in the benchmark run."
    )

    def measure(self, show: Show) -> list[Row]:
        """See `Benchmark.measure`."""
        cases = [
            (size, dataclasses.replace(self.base, **{size: value}))
            for size, values in self.curves.items()
            for value in values
        ]
        rows = []
        with limited(1):
            for number, (size, case) in enumerate(cases):
                show(number / len(cases), f"{size} {getattr(case, size)}")
                functions = contenders(case)["forward, backward"]
                functions = {name: functions[name] for name in ("run", "torch.nn")}
                row = measure_pass(case, "forward, backward", functions, self.seconds)
                rows.append({"size": size, "value": getattr(case, size), **row})
        return rows

    @staticmethod
    def table(rows: Sequence[Row]) -> list[dict[str, str]]:
        """See `Benchmark.table`."""
        return [
            {
                "what changes": f"{row['size']} {row['value']}",
                "ms an RNN": shown(row["seconds"]["run"], 1e3 / row["rnns"]),
                "torch.nn, ms an RNN": shown(row["seconds"]["torch.nn"], 1e3 / row["rnns"]),
                "torch.nn ×": f"{ratio(row, 'torch.nn'):.1f}",
                "share of peak": f"{row['share_of_peak']:.2f}",
            }
            for row in rows
        ]
