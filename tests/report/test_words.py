"""Sentences say what the figures say: won, lost, tied, and never a ranking where intervals overlap."""

import pytest

from rnnatlas.evaluation.features import TRIVIAL
from rnnatlas.evaluation.figures import Figure
from rnnatlas.intervals import Interval
from rnnatlas.report.words import (
    Finding,
    compare,
    cost,
    emulation,
    headline,
    left_out,
    name,
    prediction,
    ranking,
    split_name,
    summary,
    task_score,
)
from rnnatlas.tasks.recorded import Recorded


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
        "emulation loss, total-variation",
        conditioned=interval(own),
        zero=interval(zero),
        shuffled=interval(shuffled),
    )
    return {"interactive": found}


def say(losses, **extra) -> tuple[str, str]:
    (finding,) = emulation(losses, "total-variation", "new-runs", **extra)
    return finding.outcome, finding.text


def test_an_encoder_without_rnns_of_a_split_is_passed_over():
    losses = {**loss(0.12, 0.18, 0.24), "statistics": []}
    assert [one.encoder for one in emulation(losses, "total-variation", "new-runs")] == ["interactive"]
    assert left_out({}, []) == []
    [sentence] = left_out({"flat": 8}, ["statistics"])
    assert sentence == (
        "Left out: flattened weights (judged on another set of 8 RNNs) and layer-wise statistics "
        "(no RNN of this split)."
    )


def test_encoder_that_wins():
    outcome, text = say(loss(0.12, 0.18, 0.24))
    assert outcome == "yes"
    assert text.startswith(
        "emulation loss 0.120 (0.110–0.130), lower than that of the unconditional emulator, 0.180 ("
    )
    assert "embedding: 0.240 (0.230–0.250), higher, so the emulator uses the embedding." in text


def test_the_bound_by_fitted_embeddings_is_said_where_it_is_known():
    losses = loss(0.12, 0.18, 0.24)
    assert "fitted" not in say(losses)[1]
    losses["interactive"] += figures("emulation loss, total-variation", fitted=interval(0.09))
    assert say(losses)[1].endswith("On embeddings fitted to each RNN: 0.090 (0.080–0.100).")


def test_encoder_that_loses():
    outcome, text = say(loss(0.20, 0.17, 0.24))
    assert outcome == "no"
    assert "higher than that of the unconditional emulator" in text
    assert "did not help" in text
    assert "lower" not in text


@pytest.mark.parametrize("shuffled", [0.12, 0.125, 0.05])
def test_beating_zero_does_not_help_where_anothers_embedding_does_as_well(shuffled):
    outcome, text = say(loss(0.12, 0.18, shuffled))
    assert outcome == "open"
    assert "lower than that of the unconditional emulator, 0.180" in text
    assert "it is open whether" in text or "should not happen" in text
    assert "so the emulator uses" not in text


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
    assert "overlaps with that of the unconditional emulator, 0.180" in text
    assert "the intervals overlap, so it is open whether the emulator uses the embedding" in text
    lower = say(loss(0.17, 0.18, 0.175), differences={"interactive": Interval(-0.01, -0.015, -0.005, 20)})
    assert lower[0] == "open"
    assert "the paired difference is below 0, −0.010 (−0.015 to −0.005)" in lower[1]
    neither = say(loss(0.17, 0.18, 0.175), differences={"interactive": Interval(-0.01, -0.02, 0.005, 20)})
    assert "the interval of the paired difference includes 0" in neither[1]


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
    assert "higher than every baseline (the best: weight norms, 0.250" in better.text
    assert "Same encoder untrained: 0.300 (0.250–0.350), lower." in better.text


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
    assert "higher than every baseline" in better.text


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
    assert "overlaps with weight norms, 0.250 (0.200–0.300)." in better.text
    assert "constant" not in better.text
    assert "Same encoder untrained: 0.330 (0.280–0.380); the intervals overlap." in better.text


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
    assert "lower than weight norms, 0.300 (0.290–0.310)." in better.text
    assert "Same encoder untrained: 0.400 (0.390–0.410), higher." in better.text


@pytest.mark.parametrize("lower", [True, False])
def test_ranks_only_where_intervals_part(lower):
    values = {"interactive": 0.1, "noninteractive": 0.105, "statistics": 0.2}
    if not lower:
        values = {key: 1 - value for key, value in values.items()}
    parted, open_ = ranking({key: interval(value) for key, value in values.items()}, "loss", lower)
    assert parted == (
        "By loss, interactive probing is better than layer-wise statistics; "
        "non-interactive probing is better than layer-wise statistics."
    )
    assert open_.startswith("Not ranked")
    assert open_.endswith("interactive probing and non-interactive probing.")


def test_many_pairs_are_told_in_few_words():
    values = {"interactive": 0.1, "noninteractive": 0.105, "dws": 0.107, "flat": 0.109, "statistics": 0.2}
    parted, open_ = ranking({key: interval(value) for key, value in values.items()}, "loss")
    assert parted.count("better") == 4
    assert open_ == "The intervals of the 6 other pairs overlap: not ranked."


def test_all_tied_ranks_nothing():
    sentences = ranking({"interactive": interval(0.1), "statistics": interval(0.1)}, "loss")
    assert len(sentences) == 1
    assert "better" not in sentences[0]


def test_errors_of_angles_are_better_below():
    wins = figures(
        "direction degrees", embedding=interval(20.0), untrained=interval(60.0), norms=interval(50.0)
    )
    (better,) = prediction({"interactive": wins}, "new-runs", "direction degrees")
    assert better.outcome == "yes"
    assert better.text.startswith("angle error in degrees 20.0 (20.0–20.0), lower than every baseline")
    assert "Same encoder untrained: 60.0 (60.0–60.0), higher." in better.text
    (worse,) = prediction({"interactive": figures("direction degrees", embedding=interval(70.0),
                           norms=interval(50.0))}, "new-runs", "direction degrees")  # fmt: skip
    assert worse.outcome == "no"
    assert "higher than weight norms" in worse.text


def test_many_baselines_are_counted_not_listed():
    known = figures("task accuracy", embedding=interval(0.5), **{of: interval(0.5) for of in TRIVIAL})
    [found] = prediction({"flat": known}, "new-runs")
    assert found.outcome == "open"
    assert f"those of {len(TRIVIAL)} of {len(TRIVIAL)} baselines, such as" in found.text


def test_imported_networks_have_no_kinds():
    assert split_name("ood", "language") == "languages of another kind (OOD)"
    assert split_name("ood", Recorded.noun) == "networks held out at random"


def test_score_of_the_task_is_that_which_the_zoo_has():
    assert task_score({"a": figures("angle degrees") + figures("direction degrees", own=interval(1.0))}) == (
        "direction degrees"
    )
    assert task_score({"a": figures("step accuracy", own=interval(1.0))}) is None


def test_summary_names_every_encoder_once_by_outcome():
    def said(**outcomes):
        return summary([Finding(encoder, outcome, "") for encoder, outcome in outcomes.items()], "It helps")

    assert said(flat="yes", dws="no", statistics="open") == (
        "It helps for flattened weights, not for equivariant network (DWS); "
        "for layer-wise statistics it is open."
    )
    assert said(flat="no") == "It helps for no encoder: not for flattened weights."


def test_encoders_from_outside_have_names_and_colours(monkeypatch):
    from rnnatlas import encoders
    from rnnatlas.atlas.colours import SPARE, encoder_colour
    from rnnatlas.encoders.zero import Zero

    class Titled(Zero):
        title = "an encoder of mine"
        colour = None

    class Untitled(Zero):
        title = colour = None

    mine = {"titled": Titled, "untitled": Untitled}
    monkeypatch.setattr(encoders, "find", lambda key: mine.get(key) or encoders.registry.get(key))
    assert [name(key) for key in mine] == ["an encoder of mine", "untitled"]
    shown = ["flat", *mine]
    found = [encoder_colour(key, shown) for key in shown]
    assert found == [encoders.registry["flat"].colour, *SPARE[:2]]


def test_every_encoder_has_a_name_and_a_colour_of_its_own():
    from rnnatlas import encoders
    from rnnatlas.atlas.colours import SPARE

    kinds = [encoders.find(key) for key in (*encoders.registry, encoders.CONTROL)]
    assert len({kind.title for kind in kinds}) == len({kind.colour for kind in kinds}) == len(kinds)
    assert not {kind.colour for kind in kinds} & set(SPARE)
