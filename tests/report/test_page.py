"""The report is made from an experiment's folder alone, holds every section, and escapes what it quotes."""

import dataclasses
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from rnnatlas.atlas.index import Atlas
from rnnatlas.atlas.pages import render
from rnnatlas.encoders.probing import Probing
from rnnatlas.errors import RunFormatError
from rnnatlas.evaluation.figures import find
from rnnatlas.evaluation.results import costs as costs_of
from rnnatlas.intervals import Interval
from rnnatlas.report import comparison, findings, page
from rnnatlas.report.diagnostics import examples, input_differences
from rnnatlas.report.experiment import Experiment, Results
from rnnatlas.report.page import contents, write_report
from rnnatlas.rnn import RNNSpec, Tokens, Values


def test_report_of_a_tiny_experiment(experiment):
    out = write_report(experiment, prints=False)
    text = out.read_text()
    for heading in ("Results", "Map", "Emulation", "Prediction of properties", "Probing inputs and responses",
                    "Nearest neighbours", "Methods", "Definitions"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in text
    match = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.S)
    assert match
    drawn = json.loads(match[1])
    assert set(drawn) == {"map", "losses", "curves", "emulated", "probing", "task", "costs", "raw_map"}
    assert all(f'id="chart-{name}"' in text for name in drawn)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_encoders_stand_at_their_cost(experiment):
    results = Results(experiment, Experiment.load(experiment))
    points = contents(results)["charts"]["costs"]["data"]
    places = [(point["x"], point["y"]) for point in points]
    for encoder, costs in costs_of(results.table).items():
        loss = find(results.losses[encoder], f"emulation loss, {results.divergence}", "new-runs")
        assert ([costs["flops"] / 1e6], [loss["conditioned"].interval.mean]) in places
    assert len(points) == 4, "two encoders in two panels"


def test_style_has_a_rule_for_every_class(experiment):
    page_, _, _ = write_report(experiment, prints=False).read_text().partition("<script")
    style, _, body = page_.partition("</style>")
    classes = {name for names in re.findall(r'class="([^"]+)"', body) for name in names.split()}
    assert {"own", "mark", "dot"} <= classes
    assert {name for name in classes if not re.search(rf"\.{name}\b", style)} == set()


def test_definitions_say_of_what_they_are(experiment):
    body = write_report(experiment, prints=False).read_text()
    losses, _, read = body.partition("<h3>What predictors of properties read</h3>")
    assert "<dt>another RNN&#39;s embedding</dt>" in losses
    assert "<dt>frozen embedding</dt>" in read.partition("</section>")[0]


def test_sentences_follow_the_intervals(experiment):
    results = Results(experiment, Experiment.load(experiment))
    shown = contents(results)
    (_, emulated), (_, predicted) = shown["findings"]
    assert [finding.encoder for finding in emulated] == ["statistics", "interactive"]
    assert len(predicted) == 2
    split = results.splits[0]
    for finding in emulated:
        figures = {f.of: f.interval for f in results.losses[finding.encoder]
                   if (f.name, f.split) == (f"emulation loss, {results.divergence}", split)}  # fmt: skip
        clearly = figures["conditioned"].high < min(figures["zero"].low, figures["shuffled"].low)
        assert (finding.outcome == "yes") == clearly
        assert str(figures["conditioned"]) in finding.text


def test_two_seeds_do_not_rank_and_three_do(experiment):
    results = Results(experiment, Experiment.load(experiment))
    assert contents(results)["ranking"] == ["Encoders with fewer than 3 seeds are not ranked."]
    runs = {name: {**own, 2: own[0]} for name, own in results.experiment.runs.items()}
    three = contents(Results(experiment, dataclasses.replace(results.experiment, runs=runs)))
    assert three["ranking"]
    assert all(sentence.startswith(("By ", "Not ranked")) for sentence in three["ranking"])


def test_correlation_is_of_the_headline_split_alone(experiment):
    results = Results(experiment, Experiment.load(experiment))
    shown = contents(results)["correlations"]
    assert shown["split"] == "new runs of known languages"
    own = results.emulated["statistics"][0]
    rows = own.filter(pc.field("split") == "new-runs")
    assert shown["counts"].endswith(f" RNNs, {rows.num_rows} snapshots")
    assert rows.num_rows < own.num_rows
    assert {interval.n for interval in shown["intervals"].values()} == {len(rows["run"].unique())}


def test_no_headline_where_only_validation_is_held_out(experiment, monkeypatch):
    monkeypatch.setattr(Results, "splits", ["validation"])
    shown = contents(Results(experiment, Experiment.load(experiment)))
    assert shown["headline"] is None
    assert shown["findings"] == shown["ranking"] == []
    text = write_report(experiment, prints=False).read_text()
    assert "was used to choose checkpoints" not in text
    assert "there is no headline" in text


def test_mark_stands_where_all_that_it_names_is_beaten():
    low, high = Interval(0.1, 0.09, 0.11, 9), Interval(0.2, 0.19, 0.21, 9)

    def marked(zero, shuffled, lower=True):
        rows = {"statistics": {"conditioned": low, "shuffled": shuffled}, "control": {"zero": zero}}
        return comparison._cell(rows, "statistics", "conditioned", lower, ("zero", "shuffled"))[1]

    assert marked(high, high)
    assert not marked(high, low)
    assert not marked(low, high)
    assert not marked(high, high, lower=False)


def test_links_the_files_that_experiments_have(experiment):
    results = Results(experiment, Experiment.load(experiment))
    results.save()
    assert set(page.FILES) <= set(page._files(results))


def mixed(experiment, none_of=()):
    """Results as if one encoder took half of the RNNs, and none of some splits."""
    results = Results(experiment, Experiment.load(experiment))
    rows = results.table.to_pylist()
    sides = [(row, {row["encoder"], row["versus"]} - {None}) for row in rows]
    kept = [row for row, of in sides if not ("statistics" in of and row["split"] in none_of)]
    for row in kept:
        if "statistics" in (row["encoder"], row["versus"]) and row["n_snapshots"]:
            row |= {"n_runs": 1, "n_snapshots": 2}
    results.table = pa.Table.from_pylist(kept, schema=results.table.schema)
    return results


def test_encoders_judged_on_other_rnns_keep_their_controls_and_are_not_ranked(experiment):
    results = mixed(experiment)
    shown = contents(results)
    assert "costs" not in shown["charts"]
    rows = comparison.loss_rows(results, f"emulation loss, {results.divergence}", "new-runs")
    assert set(rows) == {"statistics", "interactive"}
    assert all("zero" in own for own in rows.values())
    assert "No two encoders were judged on the same RNNs" in shown["summary"][1]
    assert shown["summary_table"]["rows"][0][-1] == 1
    assert shown["summary_table"]["zero"] is None
    text = render("rnnatlas.report", "report.html", plotly="", **shown)
    assert "<span>1 RNNs, 2 snapshots</span>" in text
    assert "RNNs and snapshots differ by encoder" in text
    results = Results(experiment, dataclasses.replace(results.experiment, runs={
        name: {**own, 2: own[0]} for name, own in results.experiment.runs.items()}))  # fmt: skip
    results.table = mixed(experiment).table
    assert findings.ranking(results, "new-runs") == [
        "No two encoders were judged on the same RNNs, so they are not ranked."
    ]


def test_an_encoder_without_rnns_of_a_split_is_named(experiment):
    results = mixed(experiment, none_of=("new-runs",))
    shown = contents(results)
    assert results.splits == ["new-runs", "validation", "ood"]
    assert "Left out: layer-wise statistics (no RNN of this split)." in shown["summary"]
    assert "no RNN of this split" in render("rnnatlas.report", "report.html", plotly="", **shown)
    assert contents(mixed(experiment, none_of=("ood",)))["elsewhere"][-1][-1]


def test_run_that_was_not_evaluated_is_named(experiment, tmp_path):
    values = Experiment.load(experiment)
    (tmp_path / "empty").mkdir()
    Experiment(zoo=values.zoo, runs={"statistics": {0: "empty"}}).save(tmp_path)
    with pytest.raises(RunFormatError, match=r"empty should hold losses\.parquet, found none; evaluate it"):
        write_report(tmp_path, prints=False)


def test_missing_or_damaged_experiment(tmp_path):
    with pytest.raises(RunFormatError, match=r"no experiment: it has no experiment\.json"):
        write_report(tmp_path, prints=False)
    (tmp_path / "experiment.json").write_text('{"zoo": 1}')
    with pytest.raises(RunFormatError, match=r"experiment\.json should hold .* is damaged"):
        write_report(tmp_path, prints=False)


def test_input_differences_are_mean_total_variations():
    same = torch.full((3, 1, 2, 4), 0.25)
    assert input_differences(Probing(inputs=same, outputs=same), Tokens(4)).abs().max() == 0
    opposed = torch.zeros(2, 1, 1, 4)
    opposed[0, ..., 0] = opposed[1, ..., 1] = 1
    assert input_differences(Probing(inputs=opposed, outputs=opposed), Tokens(4)).item() == pytest.approx(1)


def test_examples_come_from_all_splits_and_leave_the_own_run_out(atlas):
    found = examples(atlas, 4)
    assert [one["entry"]["split"] for one in found] == ["new-runs", "validation", "ood", "train"]
    assert len({one["entry"]["label"] for one in found}) == 4
    for one in found:
        run = one["entry"]["id"].partition("-")[0]
        assert all(not near["id"].startswith(f"{run}-") for near in one["neighbours"])
        similarity = [near["similarity"] for near in one["neighbours"]]
        assert similarity == sorted(similarity, reverse=True)


def test_atlas_of_checkpoints_has_no_examples(atlas):
    bare = Atlas(atlas.card, atlas.table.select(["id", "embedding", "x", "y", "samples"]))
    assert examples(bare) == []
    assert np.isfinite(bare.embeddings).all()


def test_input_differences_of_numbers_are_shares_of_their_range():
    inputs = torch.full((2, 1, 3, 4), -1.0)
    inputs[1, 0, 0], inputs[1, 0, 1] = 3.0, 1.0
    found = input_differences(Probing(inputs=inputs, outputs=inputs), Values(4, low=-1.0, high=3.0))
    assert found.tolist() == [[pytest.approx(1), pytest.approx(0.5), 0]]


def test_all_architectures_are_listed_and_colour_a_map(experiment, monkeypatch, atlas):
    specs = [RNNSpec(cell=cell, input=5, hidden=16, output=5) for cell in ("lstm", "gru")]
    column = atlas.table.column_names.index("spec")
    slugs = pa.array([specs[run % 2].slug for run in atlas.table["run"].to_pylist()])
    mixed = Atlas(atlas.card, atlas.table.set_column(column, "spec", slugs))
    monkeypatch.setattr(Results, "atlas", mixed)
    results = Results(experiment, Experiment.load(experiment))
    shown = contents(results)
    assert shown["charts"]["map"]["layout"]["meta"]["titles"][-1] == "by architecture"
    assert [title for _, title in shown["atlas"]["architectures"]] == sorted(map(str, specs))
    assert len(shown["about"]["architectures"]) == 1
    monkeypatch.setattr(results.zoo, "specs", [*results.zoo.specs, specs[1]])
    table = results.zoo.table
    other = pa.array([specs[1].slug if run < 5 else slug for run, slug in
                      zip(table["run"].to_pylist(), table["spec"].to_pylist(), strict=True)])  # fmt: skip
    monkeypatch.setattr(
        results.zoo, "table", table.set_column(table.column_names.index("spec"), "spec", other)
    )
    about = page._about(results)
    assert [row[2:] for row in about["architectures"]] == [(15, 30), (5, 10)]
    text = render("rnnatlas.report", "report.html", plotly="", **{**shown, "about": about})
    assert "RNNs of 2 architectures" in text
    assert all(
        f"{title} ({parameters:,} parameters" in text for title, parameters, *_ in about["architectures"]
    )
