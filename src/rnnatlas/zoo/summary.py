"""What a zoo holds, in numbers."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from rnnatlas.tables import flat
from rnnatlas.zoo.splits import SPLITS
from rnnatlas.zoo.store import Zoo


def summarise(zoo: Zoo) -> dict[str, Any]:
    """Counts by spec, step, split and health, and means of metrics by step and split, as plain values.

    Snapshots that diverged are counted under health alone.
    """
    table = zoo.snapshots()
    present = set(table["split"].unique().to_pylist())
    snapshots = _counts(zoo.table["spec"])
    return {
        "zoo": str(zoo.path),
        "task": zoo.card["task"],
        "seed": zoo.card["seed"],
        "rnnatlas": zoo.card["rnnatlas"],
        "snapshots": len(zoo),
        "runs": len(zoo.table["run"].unique()),
        "tasks": _tasks(zoo.table),
        "health": _counts(zoo.table["health"]),
        "specs": [
            {"spec": spec.slug, "parameters": spec.parameters, "snapshots": snapshots[spec.slug]}
            for spec in zoo.specs
        ],
        "steps": [_group(table, "step", step) for step in sorted(table["step"].unique().to_pylist())],
        "splits": [_group(table, "split", split) for split in SPLITS if split in present],
    }


def examples(zoo: Zoo, count: int = 3, strings: int = 6) -> list[tuple[str, float, list[str]]]:
    """The last snapshots of a few runs, spread over their performance: task, performance, some rollouts.

    Snapshots that diverged do not count.
    """
    table = zoo.snapshots()
    if zoo.task is None or not table.num_rows or table["metrics"].null_count:
        return []
    last = max(table["step"].to_pylist())
    table = flat(zoo.snapshots(where=f"step = {last}"))
    performances = table["metrics.performance"].to_numpy()
    order = np.argsort(performances)[:: -max(1, table.num_rows // count)][:count]
    rows = table["row"].to_numpy()[order]
    rollouts = zoo.rollouts(rows).inputs
    return [
        (
            zoo.task.label(zoo.table["task"][int(row)].as_py()),
            float(performance),
            zoo.task.show(own[:strings]),
        )
        for row, performance, own in zip(rows, performances[order], rollouts, strict=True)
    ]


def _group(table: pa.Table, column: str, value: Any) -> dict[str, Any]:
    chosen = table.filter(pa.array(table[column].to_numpy(zero_copy_only=False) == value))
    metrics = flat(chosen)
    return {
        column: value,
        "snapshots": chosen.num_rows,
        "runs": len(chosen["run"].unique()),
        "tasks": _tasks(chosen),
        "metrics": {
            name.removeprefix("metrics."): float(np.nanmean(metrics[name].to_numpy()))
            for name in metrics.column_names
            if name.startswith("metrics.")
        },
    }


def _tasks(table: pa.Table) -> int:
    return len({str(task) for task in table["task"].to_pylist() if task is not None})


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    known = ["unknown" if value is None else value for value in column.to_pylist()]
    return dict(sorted(Counter(known).items()))
