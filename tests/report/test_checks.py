"""Figures that only a report has: oracles for the measures, and laws for the verdicts."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import silhouette_samples

from rnnatlas.evaluation.levels import LEVELS, NEAREST, levels
from rnnatlas.intervals import Interval, correlation
from rnnatlas.report import check_tables, evenness, neighbourhoods, performance, stability
from rnnatlas.report.checks import EVERY, KIND, Check, as_table, find, verdict
from rnnatlas.report.experiment import Experiment, Results
from rnnatlas.report.words import name
from rnnatlas.rnn import Mixed, run

TASK = "formal-languages"


def a_check(name, encoder, interval, split="validation", of="conditioned", seeds=(0, 1, 2), **more):
    about = {"runs": 9, "snapshots": 9, "definition": "", "lower_is_better": None, "seeds": seeds, **more}
    mean, low, high = map(float, interval)
    return Check(
        name=name, split=split, encoder=encoder, of=of, interval=Interval(mean, low, high, 9), **about
    )


# --- levels ------------------------------------------------------------------------------------------


def test_snapshots_asked_again_without_the_others_stand_for_the_same_levels():
    values = np.random.default_rng(0).random(2000) ** 3
    found = levels(values)
    assert np.bincount(found[found >= 0]).tolist() == [NEAREST] * LEVELS
    assert (levels(values[found >= 0]) == found[found >= 0]).all()
    assert (levels(values[:20]) >= 0).all()


# --- neighbourhoods ----------------------------------------------------------------------------------


def known_of(runs, tasks, angles=None, performance_=None):
    count = len(runs)
    table = pa.table({"split": ["validation"] * count, "run": runs, "task": [str(task) for task in tasks]})
    return neighbourhoods._Known(table, np.arange(count), runs, tasks, angles, performance_)


def space_of(vectors):
    return [(np.arange(len(vectors)), neighbourhoods._unit(vectors))]


def test_silhouettes_are_those_of_sklearn_where_runs_have_one_snapshot():
    random = np.random.default_rng(0)
    tasks = np.repeat(np.arange(4), 6)
    vectors = np.eye(4, 8)[tasks] + 0.4 * random.normal(size=(24, 8))
    found = neighbourhoods._measured(space_of(vectors), known_of(np.arange(24), tasks))
    expected = silhouette_samples(vectors, tasks, metric="cosine")
    assert found[neighbourhoods.SILHOUETTE] == pytest.approx(expected, abs=1e-5)


def test_neighbours_are_of_other_runs_and_do_not_depend_on_pieces(monkeypatch):
    random = np.random.default_rng(0)
    runs, tasks = np.repeat(np.arange(12), 3), np.repeat(np.arange(4), 9)
    by_task, by_run = np.eye(4)[tasks], np.eye(12)[runs] + 1e-3 * random.normal(size=(36, 12))
    score = random.random(36)
    known = known_of(runs, tasks, performance_=score)
    assert (neighbourhoods._measured(space_of(by_task), known)[neighbourhoods.SAME] == 1).all()
    whole = neighbourhoods._measured(space_of(by_run), known)
    assert whole[neighbourhoods.SAME].mean() < 0.5  # a run's own snapshots, which are nearest, do not count
    assert whole[neighbourhoods.CHANCE] == pytest.approx(6 / 33)
    monkeypatch.setattr(neighbourhoods, "PAIRS", 5 * 36)
    for measure, values in neighbourhoods._measured(space_of(by_run), known).items():
        assert values == pytest.approx(whole[measure]), measure


def test_angles_are_apart_the_shorter_way(monkeypatch):
    monkeypatch.setattr(neighbourhoods, "NEAREST", 1)
    vectors = np.eye(4)[[0, 0, 1, 1]]
    known = known_of(np.arange(4), np.arange(4), np.array([350.0, 20.0, 100.0, 200.0]))
    found = neighbourhoods._measured(space_of(vectors), known)
    assert found[neighbourhoods.DEGREES].tolist() == [30, 30, 100, 100]
    assert found[neighbourhoods.CHANCE][0] == pytest.approx((30 + 110 + 150) / 3)


def test_ranks_are_within_groups():
    values, groups = np.array([[1.0, 5.0, 3.0, 9.0]]), np.array([0, 0, 1, 1])
    assert neighbourhoods.ranks(values, groups).tolist() == [[0.25, 0.75, 0.25, 0.75]]


def test_difference_of_correlations_is_that_of_both():
    random = np.random.default_rng(0)
    y = random.normal(size=(2, 60))
    x, other = y + random.normal(size=y.shape), y + 3 * random.normal(size=y.shape)
    runs = np.repeat(np.arange(20), 3)
    gap = correlation(x, y, runs, versus=other)
    assert gap.mean == pytest.approx(correlation(x, y, runs).mean - correlation(other, y, runs).mean)
    assert correlation(x, y, runs, versus=x).high == 0


# --- emulated performance ----------------------------------------------------------------------------


def emulated(original, values):
    count = len(original)
    about = {
        "split": ["validation"] * count,
        "run": np.arange(count),
        "task": [str(i // 5) for i in range(count)],
    }
    return pa.table({**about, "original": original, "emulated": values, "zero": np.zeros(count)})


def test_emulations_that_are_their_originals():
    original = np.linspace(0, 1, 60)
    tables = [emulated(original, original), emulated(original, original)]
    found = list(performance._of_split(tables, "validation", "interactive", (0, 1)))
    figures = {(check.name, check.of): check.interval.mean for check in found}
    assert figures[performance.RANK, "conditioned"] == pytest.approx(1)
    assert figures[performance.APART, "conditioned"] == 0
    assert figures[performance.SHARE, "conditioned"] == pytest.approx(1)
    assert figures[performance.SHARE, "zero"] == 0
    assert all(level.original == pytest.approx(level.emulated) for level in performance.by_level(tables))
    assert sum(level.count for level in performance.by_level(tables)) == 60


@pytest.mark.parametrize(
    ("interactive", "flat", "seeds", "expected"),
    [
        ((0.9, 0.85, 0.95), (0.1, 0, 0.2), (0, 1, 2), "reproduced"),
        ((0.5, 0.4, 0.6), (0.1, 0, 0.2), (0, 1, 2), "not reproduced"),
        ((0.9, 0.85, 0.95), (0.95, 0.9, 1), (0, 1, 2), "not reproduced"),
        ((0.9, 0.7, 1.0), (0.1, 0, 0.2), (0, 1, 2), "open"),
        ((0.9, 0.85, 0.95), (0.1, 0, 0.2), (0, 1), "open"),
    ],
)
def test_only_interactive_probing_is_like_the_originals(interactive, flat, seeds, expected):
    checks = [
        a_check(performance.SHARE, encoder, interval, seeds=seeds)
        for encoder, interval in {
            "interactive": interactive,
            "flat": flat,
            "responses": (0.99, 0.98, 1),
        }.items()
    ]
    [claim] = performance.claims(checks, TASK, "validation")
    assert claim.verdict == expected
    assert "direct responses 0.990" in claim.evidence  # not in the paper, so it decides nothing
    assert not list(performance.claims(checks, "integrator", "validation"))


def test_verdicts_need_all_differences_and_three_seeds():
    above, below, around = (
        Interval(1.0, 0.5, 2.0, 9),
        Interval(-1.0, -2.0, -0.5, 9),
        Interval(0.0, -1.0, 1.0, 9),
    )
    assert verdict([above, above], 3) == "reproduced"
    assert verdict([above, below], 3) == "not reproduced"
    assert verdict([above, around], 3) == "open"
    assert verdict([above], 2) == verdict([], 3) == "open"


# --- evenness and stability --------------------------------------------------------------------------


def test_the_lowest_skill_is_of_the_worst_property():
    items = pa.table({"split": ["ood"] * 8, "run": np.arange(8), "task": [str(i // 2) for i in range(8)]})
    ones = np.ones((3, 8))
    losses = {("performance", "embedding"): 0.1 * ones, ("performance", "constant"): ones,
              ("step", "embedding"): 2 * ones, ("step", "constant"): 4 * ones}  # fmt: skip
    perfect = {key: value * (0 if key[1] == "embedding" else 1) for key, value in losses.items()}
    lowest = evenness._lowest([losses], ["performance", "step"], "embedding", items)
    assert (lowest.mean, lowest.low, lowest.high) == pytest.approx((0.5, 0.5, 0.5))
    assert evenness._lowest([losses], ["performance"], "embedding", items).mean == pytest.approx(0.9)
    assert evenness._lowest([losses], ["step"], "constant", items).mean == 0
    assert evenness._lowest([perfect, losses], ["performance", "step"], "embedding", items).mean == 0.5


def test_permuted_rnns_compute_the_same(experiment):
    zoo = Results(experiment, Experiment.load(experiment)).zoo
    rnns = zoo.population(np.arange(6))
    inputs = torch.eye(rnns.specs[0].input)[torch.arange(10) % rnns.specs[0].input].expand(6, 1, -1, -1)
    for system in (rnns, Mixed([([0, 2, 4], rnns.select([0, 2, 4])), ([1, 3, 5], rnns.select([1, 3, 5]))])):
        other = stability.permuted(system)
        assert torch.allclose(run(system, inputs)[0], run(other, inputs)[0], atol=1e-5)
        assert all(not torch.equal(a[1].weights["weight_hh_l0"], b[1].weights["weight_hh_l0"])
                   for a, b in zip(Mixed([([*range(6)], system)]).groups,
                                   Mixed([([*range(6)], other)]).groups, strict=True))  # fmt: skip


def test_deviation_covers_that_of_normal_numbers():
    random = np.random.default_rng(0)
    draws = [stability.deviation(10 + random.normal(size=4)) for _ in range(400)]
    assert np.mean([one.low <= 0.1 <= one.high for one in draws]) == pytest.approx(0.95, abs=0.03)


def test_curves_are_compared_where_all_seeds_have_a_point():
    nan = np.nan
    histories = {
        0: {"step": np.array([1.0, 2.0, 3.0]), "validation_loss": np.array([4.0, nan, 2.0])},
        1: {"step": np.array([1.0, 2.0, 3.0]), "validation_loss": np.array([5.0, 4.0, 3.0])},
    }
    found = stability.curves_of(histories)
    assert found is not None
    assert found[0].tolist() == [1, 3]
    assert found[1].tolist() == [[4, 2], [5, 3]]


# --- all of them -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(experiment):
    return Results(experiment, Experiment.load(experiment))


@pytest.fixture(scope="module")
def checks(results):
    return check_tables.all_checks(results)


def test_every_check_is_a_row_with_its_seeds_and_counts(results, checks):
    table = as_table(checks)
    assert table.schema.equals(results.table.schema)
    assert set(table["kind"].to_pylist()) == {KIND}
    assert len({tuple(row[key] for key in ("name", "split", "encoder", "of", "versus", "versus_of"))
                for row in table.to_pylist()}) == table.num_rows  # fmt: skip
    assert set(table["seeds"].combine_chunks().flatten().to_pylist()) == {0, 1}
    assert {check.split for check in checks} == {"new-runs", "validation", "ood", EVERY}


def test_probing_encoders_and_statistics_do_not_move_when_units_are_permuted(checks):
    for encoder in ("interactive", "statistics"):
        moved = find(checks, stability.MOVED, EVERY, encoder, "embedding")
        assert moved is not None
        assert moved.mean < 1e-4, encoder


def test_tables_have_a_row_for_each_encoder_and_control(results, checks):
    tables = check_tables.tables(results, checks)
    assert set(tables) == {"neighbours", "emulated", "evenness", "stability"}
    for section, own in tables.items():
        assert own, section
        for table in own:
            assert {"interactive", "statistics"} <= {encoder for encoder, _, _ in table["rows"]}, section
            assert all(len(cells) == len(table["head"]) for _, _, cells in table["rows"]), section
    controls = [label for encoder, label, _ in tables["emulated"][0]["rows"] if encoder is None]
    assert controls == [name("zero")]


def test_two_seeds_decide_nothing(results, checks):
    found = [
        claim
        for part in (performance, neighbourhoods, stability)
        for claim in part.claims(checks, TASK, "validation")
    ]
    assert found
    assert {claim.verdict for claim in found} == {"open"}


def test_dws_is_most_even_where_its_lowest_skill_is_above_all_others_of_the_paper():
    paired = {"flat": (0.2, 0.1, 0.3), "responses": (-0.2, -0.3, -0.1)}
    checks = [
        a_check(evenness.skill(prop), "dws", (0.5, 0.4, 0.6), of="embedding")
        for prop in ("performance", "step")
    ]
    checks += [a_check(evenness.WORST, one, (0.5, 0.4, 0.6), of="embedding") for one in ("dws", *paired)]
    checks += [
        a_check(evenness.WORST, "dws", gap, of="embedding", versus=(one, "embedding"))
        for one, gap in paired.items()
    ]
    [claim] = evenness.claims(checks, TASK, "validation")
    assert claim.verdict == "reproduced"
    worse = [
        dataclasses.replace(check, versus=("flat", "embedding")) if check.versus else check
        for check in checks
    ]
    assert (
        next(iter(evenness.claims(worse[:-2] + worse[-1:], TASK, "validation"))).verdict == "not reproduced"
    )
