"""Sentences say what the figures say: won, lost, tied, and never a ranking where intervals overlap."""

import pytest

from rnnatlas.evaluation.figures import Figure
from rnnatlas.intervals import Interval
from rnnatlas.report.words import compare, cost, emulation, headline, prediction, ranking, task_score


def interval(mean: float, half: float = 0.01) -> Interval:
    return Interval(mean, mean - half, mean + half, 20)


def figures(name: str, split: str = "new-runs", **values: Interval) -> list[Figure]:
    return [
        Figure(
            name=name,
            split=split,
            of=of,
            interval=own,
            runs=20,
            snapshots=60,
            definition="",
            lower_is_better="accuracy" not in name,
        )
        for of, own in values.items()
    ]


def loss(own: float, zero: float, shuffled: float) -> dict[str, list[Figure]]:
    found = figures(
        "emulation loss, total-variation", own=interval(own), zero=interval(zero), shuffled=interval(shuffled)
    )
    return {"interactive": found}


def say(losses, **extra) -> tuple[str, str]:
    (finding,) = emulation(losses, "total-variation", "new-runs", **extra)
    return finding.outcome, finding.text


def test_encoder_that_wins():
    outcome, text = say(loss(0.12, 0.18, 0.24))
    assert outcome == "yes"
    assert text.startswith("emulation loss 0.120 (0.110–0.130), clearly below 0.180 (0.170–0.190)")
    assert "embedding: 0.240 (0.230–0.250), clearly higher, so it is used." in text


def test_encoder_that_loses():
    outcome, text = say(loss(0.20, 0.17, 0.24))
    assert outcome == "no"
    assert "clearly above" in text
    assert "did not help" in text
    assert "clearly below" not in text


@pytest.mark.parametrize("shuffled", [0.12, 0.125, 0.05])
def test_beating_zero_does_not_help_where_anothers_embedding_does_as_well(shuffled):
    outcome, text = say(loss(0.12, 0.18, shuffled))
    assert outcome == "open"
    assert "clearly below 0.180" in text
    assert "cannot be told" in text or "should not happen" in text
    assert "so it is used" not in text


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (["new-runs", "validation", "ood"], "new-runs"),
        (["validation", "ood"], "ood"),
        (["validation"], None),
    ],
)
def test_headline_is_of_a_split_that_chose_nothing(splits, expected):
    assert headline(splits) == expected


def test_tie_says_so_and_mentions_the_paired_difference():
    outcome, text = say(loss(0.17, 0.18, 0.175))
    assert outcome == "open"
    assert "not apart from 0.180" in text
    assert "not apart, so whether it is used cannot be told" in text
    lower = say(loss(0.17, 0.18, 0.175), differences={"interactive": Interval(-0.01, -0.015, -0.005, 20)})
    assert lower[0] == "open"
    assert "though lower RNN by RNN (difference −0.010 (−0.015 to −0.005))" in lower[1]
    neither = say(loss(0.17, 0.18, 0.175), differences={"interactive": Interval(-0.01, -0.02, 0.005, 20)})
    assert "nor RNN by RNN" in neither[1]


def test_touching_intervals_are_a_tie():
    assert compare(Interval(0.1, 0.05, 0.15, 9), Interval(0.2, 0.15, 0.25, 9)) == "open"


def test_undefined_intervals_are_a_tie():
    nan = float("nan")
    assert compare(Interval(0.1, nan, nan, 1), Interval(0.9, nan, nan, 1)) == "open"


def test_prediction_must_beat_every_trivial_predictor():
    wins = figures(
        "task accuracy",
        embedding=interval(0.6, 0.05),
        untrained=interval(0.3, 0.05),
        norms=interval(0.25, 0.05),
        constant=interval(0.17, 0.02),
    )
    (better,) = prediction({"interactive": wins}, "new-runs")
    assert better.outcome == "yes"
    assert "clearly above every trivial predictor (the best: weight norms, 0.250" in better.text
    assert "Clearly above the same encoder untrained, 0.300" in better.text


@pytest.mark.parametrize(("untrained", "outcome"), [(0.63, "open"), (0.9, "no")])
def test_prediction_must_beat_the_untrained_encoder(untrained, outcome):
    wins = figures(
        "task accuracy",
        embedding=interval(0.6, 0.05),
        untrained=interval(untrained, 0.05),
        norms=interval(0.25, 0.05),
    )
    (better,) = prediction({"interactive": wins}, "new-runs")
    assert better.outcome == outcome
    assert "clearly above every trivial predictor" in better.text


def test_costs_are_plain_numbers():
    own = {"parameters": 9e4, "flops": 7.2e8, "milliseconds": 12.34}
    assert cost(own) == "0.09 M weights, 720 MFLOP, 12 ms"


def test_prediction_that_one_baseline_matches_is_open():
    ties = figures(
        "task accuracy",
        embedding=interval(0.3, 0.05),
        untrained=interval(0.33, 0.05),
        norms=interval(0.25, 0.05),
        constant=interval(0.17, 0.02),
    )
    (better,) = prediction({"statistics": ties}, "new-runs")
    assert better.outcome == "open"
    assert "not apart from weight norms, 0.250 (0.200–0.300)." in better.text
    assert "constant" not in better.text
    assert "Not apart from the same encoder untrained" in better.text


def test_prediction_below_a_baseline_says_so():
    loses = figures(
        "task accuracy",
        embedding=interval(0.1),
        untrained=interval(0.4),
        norms=interval(0.3),
        constant=interval(0.1),
    )
    (better,) = prediction({"statistics": loses}, "new-runs")
    assert better.outcome == "no"
    assert "clearly below weight norms, 0.300 (0.290–0.310)." in better.text
    assert "Clearly below the same encoder untrained" in better.text


@pytest.mark.parametrize("lower", [True, False])
def test_ranks_only_where_intervals_part(lower):
    values = {"interactive": 0.1, "noninteractive": 0.105, "statistics": 0.2}
    if not lower:
        values = {key: 1 - value for key, value in values.items()}
    parted, open_ = ranking({key: interval(value) for key, value in values.items()}, "loss", lower)
    assert parted == (
        "By loss: interactive probing before layer-wise statistics; "
        "non-interactive probing before layer-wise statistics."
    )
    assert open_.startswith("Not ranked")
    assert open_.endswith("interactive probing and non-interactive probing.")


def test_many_pairs_are_told_in_few_words():
    values = {"interactive": 0.1, "noninteractive": 0.105, "dws": 0.107, "flat": 0.109, "statistics": 0.2}
    parted, open_ = ranking({key: interval(value) for key, value in values.items()}, "loss")
    assert parted.count("before") == 4
    assert open_ == "The intervals of the 6 other pairs overlap, so these are not ranked."


def test_all_tied_ranks_nothing():
    sentences = ranking({"interactive": interval(0.1), "statistics": interval(0.1)}, "loss")
    assert len(sentences) == 1
    assert "before" not in sentences[0]


def test_errors_of_angles_are_better_below():
    wins = figures(
        "direction degrees", embedding=interval(20.0), untrained=interval(60.0), norms=interval(50.0)
    )
    (better,) = prediction({"interactive": wins}, "new-runs", "direction degrees")
    assert better.outcome == "yes"
    assert better.text.startswith("angle error in degrees 20.0 (20.0–20.0), clearly below every trivial")
    assert "Clearly below the same encoder untrained" in better.text
    (worse,) = prediction({"interactive": figures("direction degrees", embedding=interval(70.0),
                           norms=interval(50.0))}, "new-runs", "direction degrees")  # fmt: skip
    assert worse.outcome == "no"
    assert "clearly above weight norms" in worse.text


def test_score_of_the_task_is_that_which_the_zoo_has():
    assert task_score({"a": figures("angle degrees") + figures("direction degrees", own=interval(1.0))}) == (
        "direction degrees"
    )
    assert task_score({"a": figures("step accuracy", own=interval(1.0))}) is None
