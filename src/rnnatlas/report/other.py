"""What a run does on another zoo than its own, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rnnatlas.evaluation.features import DEFINITIONS
from rnnatlas.evaluation.figures import is_loss
from rnnatlas.evaluation.results import interval
from rnnatlas.report import words

Record = Mapping[str, Any]

BASELINES = tuple(of for of in DEFINITIONS if of not in ("embedding", "supervised"))


def table(records: Sequence[Record], noun: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: one row for each architecture and kind of task.

    Args:
        records: Of `evaluation.evaluate.evaluate` on another zoo; the first loss is what was trained on.
        noun: What the task calls its instances.
    """
    found = {(one["architecture"], one["split"], one["name"], one["of"]): one for one in records}
    names = list(dict.fromkeys(one["name"] for one in records))
    loss = next(name for name in names if is_loss(name))
    score = next((name for name in words.TASK_SCORES if name in names), None)
    scores = [name for name in (score, "step accuracy", "step R² of log step") if name and name in names]
    columns: list[str] = ["architecture", f"{noun}s", "RNNs", *(words.name(name) for name in scores)]
    if score:
        columns.insert(4, "best baseline")
    columns += ["emulation loss", "another RNN's", words.name("zero")]
    rows = []
    for architecture, split in dict.fromkeys((one["architecture"], one["split"]) for one in records):
        own = {key[2:]: one for key, one in found.items() if key[:2] == (architecture, split)}
        cells = [_cell(own.get((name, "embedding"))) for name in scores]
        if score:
            cells.insert(1, _best(own, score))
        cells += [_cell(own.get((loss, of))) for of in ("conditioned", "shuffled", "zero")]
        rows.append([architecture, split, own[loss, "conditioned"]["n_runs"], *cells])
    return columns, rows


def _cell(record: Record | None) -> str:
    return "–" if record is None else str(interval(record))


def _best(own: Mapping[tuple[str, str], Record], score: str) -> str:
    """The best of all that needs no trained encoder."""
    baselines = {of: record for (name, of), record in own.items() if name == score and of in BASELINES}
    if not baselines:
        return "–"
    lower = score.endswith("degrees")
    best = (min if lower else max)(baselines, key=lambda of: baselines[of]["value"])
    return f"{interval(baselines[best])}, {words.name(best)}"
