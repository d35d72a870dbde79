"""Evaluation: every figure beside its controls, on splits that do not leak, written where others find it."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from rnnatlas.emulation.data import Snapshots
from rnnatlas.errors import RunFormatError, SettingsError, ZooFormatError
from rnnatlas.evaluation import evaluate as module
from rnnatlas.evaluation import predictions as benchmark
from rnnatlas.evaluation.evaluate import by_performance, evaluate
from rnnatlas.evaluation.features import NEAREST, TRIVIAL, _dynamics, features
from rnnatlas.evaluation.figures import property_figures
from rnnatlas.evaluation.model import load
from rnnatlas.evaluation.predictions import predictions
from rnnatlas.evaluation.supervised import SupervisedSettings
from rnnatlas.properties.calibration import half_width
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.rnn import Mixed, Population, RNNSpec
from rnnatlas.zoo.splits import ood_half

LACKING = {"architecture", "dsa", "fixed-turned", "scan"}
"""Baselines that RNNs of one architecture that write languages do not have, or not unless asked for."""
READ = ("embedding", "untrained", *(of for of in TRIVIAL if of not in LACKING))
QUICK = PredictorSettings(steps=20, width=8)


@pytest.fixture(scope="module")
def evaluated(trained, zoo, tmp_path_factory):
    """The run after evaluation, and what that returned."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIALS", 8)
        return run, evaluate(run, zoo, QUICK, slow_baselines=True)


def test_writes_figures_predictions_and_predictors(evaluated):
    run, records = evaluated
    assert json.loads((run / "metrics.json").read_text()) == records
    best, *figures = records
    names = {(record["name"], record["of"]) for record in figures}
    assert {("emulation loss, total-variation", of) for of in ("conditioned", "shuffled", "zero")} <= names
    assert {("task accuracy", of) for of in READ} <= names
    assert ("step accuracy", "step") not in names
    assert {
        ("step R² of log step", "embedding"),
        ("performance rank correlation within step", "pca"),
    } <= names
    assert {record["split"] for record in figures} == {"new-runs", "validation", "ood"}
    assert all(record["definition"] and record["n_snapshots"] >= record["n_runs"] > 0 for record in figures)
    assert all(record["low"] is None or record["low"] <= record["high"] for record in figures)
    assert best["name"] == "best validation loss"
    assert set(best) - {"step"} == set(figures[0])
    assert all(set(record) == set(figures[0]) for record in figures)
    assert all("over tasks where these were held out" in record["definition"] for record in figures)
    emulated = pq.read_table(run / "emulated.parquet")
    assert set(emulated["split"].to_pylist()) == {"new-runs", "validation", "ood"}
    assert list(load(run).predictors) == ["task", "performance", "step"]


def test_a_property_that_the_rnns_lack_is_not_trained_end_to_end_in_silence(evaluated, zoo):
    run, _ = evaluated
    with pytest.raises(SettingsError, match=r"zoo's RNNs have \(task, performance, step\), found angle$"):
        evaluate(run, zoo, QUICK, supervised=SupervisedSettings(properties=("task", "angle")))


@pytest.mark.parametrize("before", ["trained", "evaluated"])
def test_predictors_are_written_last(before, trained, evaluated, zoo, tmp_path, monkeypatch):
    run = shutil.copytree(trained if before == "trained" else evaluated[0], tmp_path / "run")
    monkeypatch.setattr(module, "TRIALS", 8)
    monkeypatch.setattr(module, "write_metrics", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(run, zoo, QUICK)
    assert not (run / "predictors.safetensors").exists()


def test_a_control_is_refused_before_anything_is_written(trained, zoo):
    before = sorted(path.name for path in (trained / "zero").iterdir())
    with pytest.raises(RunFormatError, match="is a control, which embeds all RNNs alike"):
        evaluate(trained / "zero", zoo)
    assert sorted(path.name for path in (trained / "zero").iterdir()) == before


def test_a_run_whose_zoo_is_gone_says_so(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    (run / "settings.yaml").write_text(yaml.safe_dump({**settings, "zoo": str(tmp_path / "gone")}))
    with pytest.raises(
        ZooFormatError, match=r"gone.* was trained on it; where it has moved, give its folder"
    ):
        evaluate(run)


def test_evaluating_again_gives_the_same(evaluated, monkeypatch):
    run, records = evaluated
    monkeypatch.setattr(module, "TRIALS", 8)
    assert evaluate(run, settings=QUICK, slow_baselines=True) == records


def test_predictions_hold_no_snapshot_that_was_trained_on(zoo, evaluated):
    run, _ = evaluated
    rows = pq.read_table(run / "predictions.parquet")
    ids = set(rows["id"].to_pylist())
    table = zoo.snapshots()
    split = np.array(table["split"].to_pylist())
    joins = ood_half(zoo.task, table["task"].to_pylist(), split.tolist(), zoo.card["seed"])
    trained = set(np.array(table["id"].to_pylist())[(split == "train") | joins])
    assert not ids & trained
    assert "train" not in rows["split"].to_pylist()
    per_predictor = rows.filter(pa.array([p == "task" for p in rows["property"].to_pylist()]))
    assert per_predictor.num_rows == len(ids) * len(READ)


def test_half_of_the_ood_languages_is_tested_and_the_other_half_joins(zoo, trained, monkeypatch):
    """Seen from what predictors are trained on and what is written, whatever `ood_half` says."""
    table = zoo.snapshots()
    trained_on = []
    fit, fit_whole, find = benchmark.predictors.fit, benchmark.supervised.fit, benchmark.nearest.find

    def check(roles):
        assert not (roles.train & roles.stopping).any()
        assert not ((roles.train | roles.stopping) & roles.held_out).any()
        trained_on.append(roles.train | roles.stopping)

    def spy(prop, own, target, roles, *rest):
        check(roles)
        return fit(prop, own, target, roles, *rest)

    def spy_whole(run, prop, rnns, target, roles, *rest):
        check(roles)
        return fit_whole(run, prop, rnns, target, roles, *rest)

    neighbours = []
    monkeypatch.setattr(benchmark.predictors, "fit", spy)
    monkeypatch.setattr(benchmark.supervised, "fit", spy_whole)
    monkeypatch.setattr(
        benchmark.nearest, "find", lambda *given: neighbours.append(find(*given)) or neighbours[0]
    )
    brief = SupervisedSettings(steps=1, rnns=4)
    rows, _ = predictions(load(trained), zoo, table, PredictorSettings(steps=1, width=4), brief)
    assert set(neighbours[0].rows.flatten().tolist()) <= set(np.flatnonzero(trained_on[0]))
    keys = [zoo.task.key(instance) for instance in table["task"].to_pylist()]
    language = dict(zip(table["id"].to_pylist(), keys, strict=True))
    ood = np.array(table["split"].to_pylist()) == "ood"
    joining = {keys[i] for i in np.flatnonzero(trained_on[0] & ood)}
    tested = {
        language[id]
        for id, split in zip(rows["id"].to_pylist(), rows["split"].to_pylist(), strict=True)
        if split == "ood"
    }
    assert all(np.array_equal(trained_on[0], train) for train in trained_on)
    assert joining
    assert not joining & tested
    assert joining | tested == {keys[i] for i in np.flatnonzero(ood)}
    assert abs(len(joining) - len(tested)) <= 1


def test_figures_over_two_seeds_rest_on_both(evaluated):
    run, _ = evaluated
    table = pq.read_table(run / "predictions.parquet")
    worse = table.set_column(
        table.column_names.index("loss"), "loss", pa.array(np.array(table["loss"].to_numpy()) + 1)
    )
    one, both = (
        {(figure.name, figure.of, figure.split): figure.interval for figure in property_figures(tables)}
        for tables in ([table], [table, worse])
    )
    key = ("step loss", "constant", "new-runs")
    assert both[key].mean == pytest.approx(one[key].mean + 0.5)
    assert both[key].high - both[key].low > 0.9


def test_features_are_one_row_a_snapshot_and_untrained_differs(zoo, trained):
    model = load(trained)
    table = zoo.snapshots()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    train = np.asarray(table["split"].to_pylist()) == "train"
    found = features(model, zoo.population(table), table, train, Snapshots.of(zoo, table).examples, slow=True)
    assert set(found) == {"embedding", "untrained", *TRIVIAL} - LACKING - {*NEAREST}
    assert all(len(own) == table.num_rows and own.isfinite().all() for own in found.values())
    assert not torch.allclose(found["embedding"], found["untrained"])
    assert all(torch.equal(before[name], value) for name, value in model.encoder.state_dict().items())


def test_dynamics_are_of_rnns_of_any_architecture_that_read_forwards():
    slugs = ["lstm-3-4x2-2", "gru-3-40x1-2", "elman-relu-3-3x1-2", "gru-3-4x1-2-bidirectional"]
    members = [
        Population.initialise(RNNSpec.from_slug(slug), [torch.Generator().manual_seed(i) for i in range(6)])
        for slug in slugs
    ]
    members[2].weights["weight_hh_l0"][0] = 1e30
    mixed = Mixed([(list(range(i, 24, 4)), own) for i, own in enumerate(members)])
    inputs = torch.randn(8, 24, 3, generator=torch.Generator().manual_seed(0))
    found = _dynamics(mixed, np.arange(24) < 18, lambda kind, steps: inputs[:, :steps])
    assert found.isfinite().all()
    assert (found[3::4] == found[3]).all()
    assert all(len(found[i::4].round(decimals=3).unique(dim=0)) == 6 for i in (0, 1))
    again = _dynamics(mixed.select(range(18)), np.ones(18, bool), lambda kind, steps: inputs[:, :steps])
    torch.testing.assert_close(again, found[:18], atol=1e-4, rtol=0)


@pytest.mark.parametrize("reads", READ)
def test_validation_says_how_wide_the_intervals_of_others_are(evaluated, reads):
    rows = pq.read_table(evaluated[0] / "predictions.parquet").to_pylist()
    own = [row for row in rows if (row["property"], row["predictor"]) == ("performance", reads)]
    residuals = [np.subtract(row["prediction"], row["target"]) for row in own if row["split"] == "validation"]
    expected = half_width(torch.from_numpy(np.array(residuals)))
    widths = {row["half_width"] for row in own if row["split"] != "validation"}
    assert list(widths) == [pytest.approx(expected, rel=1e-5)]


def test_predict_gives_probabilities_and_intervals(zoo, evaluated):
    run, _ = evaluated
    first, second = load(run).predict(zoo.population([0, 1]))
    assert set(first) == set(second) == {"task", "performance", "step", "ood_score", "in_distribution"}
    assert first["performance"]["low"] < first["performance"]["value"] < first["performance"]["high"]
    assert sum(first["step"]["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    json.dumps(first)


def test_predict_needs_an_evaluated_run(zoo, trained):
    with pytest.raises(RunFormatError, match="rnnatlas evaluate"):
        load(trained).predict(zoo.population([0, 1]))


def test_emulated_performance_looks_at_all_levels():
    performance = np.linspace(0, 1, 3000) ** 3
    table = pa.table({"metrics": [{"performance": float(value)} for value in performance]})
    chosen = np.array([row["performance"] for row in by_performance(table)["metrics"].to_pylist()])
    assert len(chosen) == 240
    levels = np.histogram(chosen, bins=16, range=(0, 1))[0]
    assert levels.min() >= 5


def test_zoo_without_task_is_refused(trained, zoo, monkeypatch):
    monkeypatch.setitem(zoo.card, "task", None)
    monkeypatch.delitem(zoo.__dict__, "task", raising=False)
    try:
        with pytest.raises(ZooFormatError, match="needs a zoo with a task"):
            evaluate(trained, zoo)
    finally:
        monkeypatch.undo()
        zoo.__dict__.pop("task", None)


def test_outdated_predictors_do_not_keep_a_run_from_being_evaluated_again(
    evaluated, zoo, tmp_path, monkeypatch
):
    run = shutil.copytree(evaluated[0], tmp_path / "run")
    (run / "predictors.safetensors").write_bytes(b"of another version")
    monkeypatch.setattr(module, "TRIALS", 8)
    assert evaluate(run, zoo, QUICK, slow_baselines=True) == evaluated[1]
    assert load(run).predictors
