"""One table holds all figures of several runs; what is read back is what was written."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnatlas.emulation.model import read_settings
from rnnatlas.errors import RunFormatError
from rnnatlas.evaluation import evaluate as evaluation
from rnnatlas.evaluation import results
from rnnatlas.evaluation.figures import loss_figures, property_figures
from rnnatlas.evaluation.supervised import SupervisedSettings
from rnnatlas.properties.predictors import PredictorSettings


@pytest.fixture(scope="module")
def runs(trained, zoo, tmp_path_factory):
    """Two labels of the same encoder, evaluated alike, the second's losses and scores moved up."""
    folder = tmp_path_factory.mktemp("results")
    run = shutil.copytree(trained, folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "TRIALS", 8)
        whole = SupervisedSettings(steps=2, rnns=4, every=1, properties=("task",))
        evaluation.evaluate(run, zoo, PredictorSettings(steps=10, width=8), supervised=whole)
    other = shutil.copytree(run, folder / "other")
    table = pq.read_table(other / "losses.parquet")
    place = table.column_names.index("conditioned")
    moved = pa.array(table["conditioned"].to_numpy() + np.float32(0.25))
    pq.write_table(table.set_column(place, "conditioned", moved), other / "losses.parquet")
    return {"statistics": {0: run}, "no registered name": {0: other}}


@pytest.fixture(scope="module")
def table(runs):
    return results.collect(runs)


def records(table, **wanted):
    return [row for row in table.to_pylist() if all(row[key] == value for key, value in wanted.items())]


def test_written_and_read_again_are_the_same(table, tmp_path):
    results.write(tmp_path, table)
    again = results.read(tmp_path)
    assert again.schema.equals(results.SCHEMA, check_metadata=True)
    assert again.equals(table)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document == {"version": results.VERSION, "records": table.to_pylist()}


def test_figures_are_those_of_the_runs(table, runs):
    own = [pq.read_table(runs["statistics"][0] / "losses.parquet")]
    predicted = [pq.read_table(runs["statistics"][0] / "predictions.parquet")]
    expected = [*loss_figures(own, "positions up to the first EOS"), *property_figures(predicted)]
    for found, figure in zip(results.figures(table, "statistics"), expected, strict=True):
        assert dataclasses.replace(found, interval=figure.interval) == figure
        assert str(found.interval) == str(figure.interval)


def test_snapshots_without_a_step_count(runs, tmp_path):
    """Imported networks have step -1."""
    run = shutil.copytree(runs["statistics"][0], tmp_path / "run")
    for name in ("losses.parquet", "predictions.parquet"):
        known = pq.read_table(run / name)
        place = known.column_names.index("step")
        steps = pa.array([-1] * known.num_rows, known["step"].type)
        pq.write_table(known.set_column(place, "step", steps), run / name)
    kinds = results.collect({"statistics": {0: run}})["kind"].to_pylist()
    assert kinds.count("figure") == len(results.figures(results.collect(runs), "statistics"))


def test_differences_are_paired_and_between_all_sides(table):
    name = "emulation loss, total-variation"
    (between,) = records(table, kind="difference", name=name, split="ood", versus="no registered name",
                         encoder="statistics", of="conditioned")  # fmt: skip
    assert between["value"] == pytest.approx(-0.25, abs=1e-6)
    assert between["high"] - between["low"] < 1e-6  # every RNN differs by as much
    (over,) = records(table, kind="ratio", name=name, split="ood", encoder="statistics")
    figures = {
        row["encoder"]: row["value"]
        for row in records(table, kind="figure", name=name, split="ood", of="conditioned")
    }
    assert over["value"] == pytest.approx(figures["statistics"] / figures["no registered name"])
    assert over["low"] <= over["value"] <= over["high"]
    within = records(table, kind="difference", name="task loss", split="ood", encoder="statistics",
                     versus="statistics")  # fmt: skip
    assert {row["versus_of"] for row in within} >= {"supervised", "untrained", "pca", "nearest", "norms"}
    means = {row["of"]: row["value"] for row in records(table, kind="figure", name="task loss", split="ood",
                                                        encoder="statistics")}  # fmt: skip
    for row in within:
        assert row["value"] == pytest.approx(means["embedding"] - means[row["versus_of"]], abs=1e-6)


def far_apart(run, folder):
    """Copies of a run with three seeds, whose losses are ever higher."""
    seeds = {}
    for seed, moved in enumerate((0.0, 0.3, 0.6)):
        seeds[seed] = shutil.copytree(run, folder / str(seed))
        losses = pq.read_table(run / "losses.parquet")
        for name in ("conditioned", "shuffled"):
            place = losses.column_names.index(name)
            values = pa.array(losses[name].to_numpy() + np.float32(moved))
            losses = losses.set_column(place, name, values)
        pq.write_table(losses, seeds[seed] / "losses.parquet")
    return seeds


def test_encoders_are_paired_where_they_have_the_same_seeds(runs, tmp_path):
    """Their seeds are far apart in the same way, so the difference is sure, unless seeds are others."""
    a, b = (far_apart(own[0], tmp_path / str(number)) for number, own in enumerate(runs.values()))
    widths = {}
    for seeds in ((0, 1, 2), (3, 4, 5)):
        found = results.collect({"a": a, "b": dict(zip(seeds, b.values()))})
        (row,) = records(found, kind="difference", name="emulation loss, total-variation", split="ood",
                         encoder="a", versus="b")  # fmt: skip
        assert row["value"] == pytest.approx(-0.25, abs=1e-6)
        widths[seeds] = row["high"] - row["low"]
    assert widths[0, 1, 2] < 1e-6
    assert widths[3, 4, 5] > 1


def test_figures_of_one_training_are_paired_seed_by_seed(runs, tmp_path):
    """Seeds far apart whose conditioned and shuffled losses differ by as much: the difference is sure."""
    seeds = far_apart(runs["statistics"][0], tmp_path)
    found = {
        many: records(results.collect({"statistics": own}), kind="difference", split="new-runs",
                      name="emulation loss, total-variation", versus_of="shuffled")[0]
        for many, own in (("three", seeds), ("one", {0: seeds[0]}))
    }  # fmt: skip
    assert [found["three"][end] for end in ("value", "low", "high")] == pytest.approx(
        [found["one"][end] for end in ("value", "low", "high")], abs=1e-5
    )


def test_seeds_with_other_predictions_are_refused(runs, tmp_path):
    other = shutil.copytree(runs["statistics"][0], tmp_path / "other")
    table = pq.read_table(other / "predictions.parquet", filters=[("predictor", "!=", "supervised")])
    pq.write_table(table, other / "predictions.parquet")
    with pytest.raises(RunFormatError, match="one has some that the other lacks"):
        results.collect({"statistics": {**runs["statistics"], 1: other}})


def test_costs_stand_once_for_each_encoder(table):
    costs = records(table, kind="cost")
    assert [(row["encoder"], row["name"]) for row in costs] == [
        (encoder, name)
        for encoder in ("statistics", "no registered name")
        for name in ("parameters", "flops", "milliseconds", "queries")
    ]
    assert all(
        row["value"] > 0 or row["name"] == "queries" for row in costs
    )  # which layer-wise statistics lack
    assert all(row["split"] is None for row in costs)


def test_figures_of_calibration_are_never_of_what_set_it(table):
    claims = [
        row for row in records(table, kind="figure") if "calib" in row["name"] or "covered" in row["name"]
    ]
    assert {row["split"] for row in claims} == {"new-runs", "ood"}
    assert {row["of"] for row in claims if row["name"] == "task calibration error"} >= {
        "embedding",
        "supervised",
    }


def test_runs_on_other_rnns_are_refused(runs, tmp_path):
    other = shutil.copytree(runs["statistics"][0], tmp_path / "other")
    table = pq.read_table(other / "losses.parquet")
    pq.write_table(table.slice(0, table.num_rows - 1), other / "losses.parquet")
    with pytest.raises(RunFormatError, match="evaluated on other RNNs"):
        results.collect({"statistics": {**runs["statistics"], 1: other}})
    (other / "predictions.parquet").unlink()
    with pytest.raises(RunFormatError, match=r"should hold predictions\.parquet, found none; evaluate it"):
        results.collect({"third": {0: other}})


def test_encoders_that_took_other_rnns_are_compared_on_those_that_both_took(runs, tmp_path):
    fewer = shutil.copytree(runs["no registered name"][0], tmp_path / "fewer")
    left_out = pq.read_table(fewer / "losses.parquet")["id"][0].as_py()
    for name in ("losses.parquet", "predictions.parquet"):
        pq.write_table(pq.read_table(fewer / name, filters=[("id", "!=", left_out)]), fewer / name)
    found = results.collect({"all": runs["statistics"], "fewer": {0: fewer}})
    name, split = "emulation loss, total-variation", "new-runs"
    counts = [
        row["n_snapshots"] for row in records(found, kind="figure", name=name, split=split, of="conditioned")
    ]
    (between,) = records(found, kind="difference", name=name, split=split, encoder="all", versus="fewer",
                         of="conditioned")  # fmt: skip
    assert counts[1] == counts[0] - 1 == between["n_snapshots"]
    assert between["value"] == pytest.approx(-0.25, abs=1e-6)  # every RNN differs by as much


def test_another_zoo_may_call_its_rnns_alike_and_is_refused(runs, tmp_path):
    other = shutil.copytree(runs["statistics"][0], tmp_path / "other")
    settings = (other / "settings.yaml").read_text()
    identity = read_settings(other).zoo_identity
    (other / "settings.yaml").write_text(settings.replace(identity, identity[::-1]))
    with pytest.raises(RunFormatError, match="evaluated on other RNNs"):
        results.collect({**runs, "third": {0: other}})


def test_missing_damaged_and_other_versions_are_refused(table, tmp_path):
    with pytest.raises(RunFormatError, match="cannot be read"):
        results.read(tmp_path)
    (tmp_path / "results.parquet").write_bytes(b"nonsense")
    with pytest.raises(RunFormatError, match="is damaged"):
        results.read(tmp_path)
    pq.write_table(table.replace_schema_metadata({"version": "9"}), tmp_path / "results.parquet")
    with pytest.raises(RunFormatError, match="version 3, found 9"):
        results.read(tmp_path)


def test_late_snapshots_alone_may_count(table, runs):
    late = results.collect(runs, since=1)
    steps = sorted(set(pq.read_table(runs["statistics"][0] / "losses.parquet")["step"].to_pylist()))
    assert steps[0] == 0
    for early, kept in zip(records(table, kind="figure"), records(late, kind="figure"), strict=True):
        assert kept["n_snapshots"] < early["n_snapshots"]
        assert kept["n_runs"] == early["n_runs"]
