"""Intervals are over what figures are to hold for: other RNNs, or other tasks where these were held out."""

import numpy as np
import pyarrow as pa
import pytest

from rnnatlas.evaluation.figures import loss_figures
from rnnatlas.evaluation.roles import clusters

ROWS = [  # split, run, task, loss
    ("new-runs", 0, "a", 0.1),
    ("new-runs", 0, "a", 0.3),
    ("new-runs", 1, "a", 0.2),
    ("new-runs", 2, "b", 0.4),
    ("ood", 3, "c", 0.1),
    ("ood", 4, "c", 0.1),
    ("ood", 5, "d", 0.5),
    ("ood", 6, "d", 0.5),
    ("ood", 7, "e", 0.3),
]


def test_rnns_of_a_held_out_task_are_drawn_together():
    splits, runs, tasks, losses = zip(*ROWS, strict=True)
    columns = {"split": splits, "run": runs, "task": tasks, "conditioned": losses}
    table = pa.table({**columns, "divergence": ["x"] * len(ROWS)})
    together = clusters(table)
    assert [len(set(together[np.array(splits) == split])) for split in ("new-runs", "ood")] == [3, 3]
    assert together[0] == together[1] != together[2]  # of one task, which was trained on
    assert together[4] == together[5] != together[6]
    new, ood = loss_figures([table])
    assert (new.interval.n, new.runs, new.snapshots) == (3, 3, 4)
    assert (ood.interval.n, ood.runs, ood.snapshots) == (3, 5, 5)
    wider = 4.3027 / 1.95996  # Student's t of three tasks over the normal distribution's
    assert ood.interval.high == pytest.approx(0.3 + (0.5 - 0.3) * wider, abs=1e-4)  # task d alone
