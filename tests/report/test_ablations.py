"""The section on ablations: there if the runs are, and its words follow paired differences."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rnnatlas.atlas.pages import render
from rnnatlas.checked import write_table
from rnnatlas.evaluation.evaluate import LOSSES, PREDICTORS, read
from rnnatlas.evaluation.figures import find
from rnnatlas.report import ablations
from rnnatlas.report.checks import as_table
from rnnatlas.report.experiment import Experiment, Results
from rnnatlas.report.page import contents
from rnnatlas.report.plates.ablations import losses
from rnnatlas.report.plates.base import style

FACTORS = {"1": 1.5, "4": 0.5, "8": 1.0}


@pytest.fixture(scope="module")
def results(experiment, tmp_path_factory):
    """Three seeds of interactive probing, whose losses with M = 1 are half as high again, with 4 half."""
    folder = tmp_path_factory.mktemp("ablated") / "experiment"
    shutil.copytree(experiment, folder)
    own = Experiment.load(folder)
    runs = {name: {**seeds, 2: seeds[0]} for name, seeds in own.runs.items()}
    asked: dict = {"sequences": {}, "divergence": {}}
    for setting, value, factor in [
        *(("sequences", *one) for one in FACTORS.items()),
        ("divergence", "kl", 1.5),
    ]:
        made = {seed: f"ablations/{setting}-{value}/interactive-{seed}" for seed in (0, 1, 2)}
        for seed, run in made.items():
            shutil.copytree(folder / runs["interactive"][seed], folder / run)
            table = read(folder / run / LOSSES)
            place = table.column_names.index("conditioned")
            scaled = pa.array(table["conditioned"].to_numpy() * np.float32(factor))
            table = table.set_column(place, "conditioned", scaled)
            if setting == "divergence":  # which such runs report as well
                first = table.filter(pc.field("divergence") == "reverse-kl")
                kl = first.set_column(
                    first.column_names.index("divergence"), "divergence", pa.array(["kl"] * len(first))
                )
                table = pa.concat_tables([kl, table])
            write_table(folder / run / LOSSES, table)
        asked[setting][value] = {"interactive": made}
    dataclasses.replace(own, runs=runs, ablations=asked).save(folder)
    return Results(folder, Experiment.load(folder))


@pytest.fixture(scope="module")
def checks(results):
    return list(ablations.checks(results))


def test_figures_and_sentences_follow_the_runs(results, checks):
    compared = ablations.Compared(results)
    assert compared.own("sequences", "interactive") == "2"
    assert compared.own("divergence", "interactive") == "total-variation"
    loss = compared.measures[0]
    assert loss == ("emulation loss, total-variation", "conditioned")
    own = find(results.losses["interactive"], loss[0], "ood")["conditioned"].interval
    found = compared.figures(checks, loss, "ood", "sequences", "interactive")
    assert list(found) == ["1", "2", "4", "8"]
    assert found["2"] == (own, None)
    for value, factor in FACTORS.items():
        figure, gap = found[value]
        assert figure.mean == pytest.approx(factor * own.mean, rel=1e-5)
        assert gap.mean == pytest.approx((factor - 1) * own.mean, abs=1e-6)
    assert ablations.sentences(compared, checks) == [
        "Compared with M = 2: lower with M = 4; higher with M = 1; open with M = 8 (interactive probing).",
        "Compared with total variation: higher with Kullback–Leibler divergence (interactive probing).",
    ]
    assert as_table(checks).num_rows == len(checks)


def test_the_section_is_in_the_report(results, checks):
    shown = contents(results, checks)
    text = render("rnnatlas.report", "report.html", plotly="", **shown)
    assert "<h2>Ablations</h2>" in text
    assert 'id="chart-ablations"' in text
    assert "Compared with M = 2: lower with M = 4" in text
    points = shown["charts"]["ablations"]["data"][0]
    found = ablations.Compared(results).figures(
        checks, ("emulation loss, total-variation", "conditioned"), "ood", "sequences", "interactive"
    )
    assert points["x"] == [1, 2, 4, 8]
    assert points["y"] == [figure.mean for figure, _ in found.values()]
    assert [colour == "var(--paper)" for colour in points["marker"]["color"]] == [False, True, False, False]
    for figure, _ in found.values():
        assert f"<td>{figure}" in text


def test_the_figure_for_print_has_a_panel_a_setting(results, checks):
    with style():
        plate = losses(results, checks)
    assert len(plate.figure.axes) == 2
    assert "on ood with one setting changed" in plate.caption


def test_only_what_is_evaluated_is_shown(results, checks):
    folder = results.folder / "ablations" / "sequences-8" / "interactive-1"
    (folder / PREDICTORS).rename(folder / "away")
    try:
        shown = ablations.Compared(results).values
    finally:
        (folder / "away").rename(folder / PREDICTORS)
    assert set(shown["sequences", "interactive"]) == {"1", "2", "4"}


def test_two_seeds_do_not_compare(results, checks):
    compared = ablations.Compared(results)
    values = compared.values["sequences", "interactive"]
    compared.values["sequences", "interactive"] = {
        value: dict(list(runs.items())[:2]) for value, runs in values.items()
    }
    assert ablations.sentences(compared, checks) == ["With fewer than 3 seeds, settings are not compared."]


def test_there_is_no_section_without_them(experiment):
    results = Results(experiment, Experiment.load(experiment))
    assert list(ablations.checks(results)) == []
    shown = contents(results)
    assert shown["ablations"] is None
    assert "ablations" not in shown["charts"]
    assert "Ablations" not in render("rnnatlas.report", "report.html", plotly="", **shown)
    with style():
        assert losses(results, []) is None
