import numpy as np
import pyarrow as pa
import pytest

from rnnatlas import properties
from rnnatlas.properties import labels
from rnnatlas.properties.base import Classes
from rnnatlas.tasks.recorded import Recorded

COLUMNS = {
    "lr": [0.1, 0.2, None, 0.5],
    "kind": ["a", "b", "a", None],
    "name": ["w", "x", "y", "z"],
    "same": [1, 1, 1, 1],
    "lab": ["p", "p", "q", "q"],
}
TASK = Recorded.from_settings({"group": "lab"})


def snapshots(columns=COLUMNS, runs=(0, 1, 2, 3)):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return pa.table({"run": list(runs), "labels": rows})


def test_labels_that_vary_but_not_names_nor_groups_can_be_predicted():
    assert sorted(labels.fit(TASK, snapshots())) == ["labels.kind", "labels.lr"]
    assert sorted(labels.fit(None, snapshots())) == ["labels.kind", "labels.lab", "labels.lr"]
    assert sorted(labels.fit(None, snapshots(runs=(0, 0, 0, 0)))) == ["labels.lr"]
    assert labels.fit(TASK, pa.table({"run": [0]})) == {}


@pytest.mark.parametrize("name", ["lr", "kind"])
def test_true_predictions_have_no_loss_and_read_as_what_they_are(name):
    table = snapshots()
    prop = labels.fit(TASK, table)[f"labels.{name}"]
    known, target = prop.known(table), prop.target(TASK, table)
    assert known.tolist() == [value is not None for value in COLUMNS[name]]
    assert target.shape == (4, prop.width)
    assert target.isfinite().all()
    outputs = target * 100 if isinstance(prop, Classes) else target
    scores = prop.score(outputs, target)
    assert set(scores) == set(prop.scores)
    assert np.allclose(scores["loss"], 0, atol=1e-6)
    described = prop.describe(outputs, 0.0)
    values = [one["value"] for one, here in zip(described, known, strict=True) if here]
    assert values == [value for value in COLUMNS[name] if value is not None]
    again = properties.kind(prop.name, isinstance(prop, Classes))(**prop.as_dict())
    assert again == prop
    assert properties.kind("step") is properties.registry["step"]


def test_a_number_is_scored_in_its_standard_deviations_and_told_in_its_unit():
    table = snapshots({"n": [0, 1000, 2000, 3000]})
    prop = labels.fit(None, table)["labels.n"]
    target = prop.target(None, table)
    assert prop.loss(target * 0, target).mean().item() == pytest.approx(1)
    [first, *_] = prop.describe(target, 1.0)
    assert (first["low"], first["high"]) == pytest.approx((-1118, 1118), abs=0.1)
    assert prop.describe(target, float("inf"))[0]["low"] is None
