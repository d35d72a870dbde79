"""Verdicts follow the intervals of paired differences, whichever way round they were stored."""

import math

import pyarrow as pa
import pytest

from rnnatlas.evaluation.results import SCHEMA
from rnnatlas.report.alike import alike
from rnnatlas.report.claims import beside, claims, orders

TASK = "formal-languages"
LOSS = "emulation loss, total-variation"
OOD = "task calibrated loss"


def record(kind, name, split, side, value, versus=(None, None), half=0.005, seeds=3):
    p = math.erfc(1.96 * abs(value) / half / 2**0.5) if kind == "difference" else None
    return {
        "kind": kind, "name": name, "split": split, "encoder": side[0], "of": side[1],
        "versus": versus[0], "versus_of": versus[1], "seeds": list(range(seeds)), "value": value,
        "low": value - half, "high": value + half, "p": p, "n_drawn": 20, "n_runs": 20, "n_snapshots": 60,
        "lower_is_better": True, "definition": "",
    }  # fmt: skip


def table(name, split, of, values, half=0.005, seeds=3) -> pa.Table:
    """Figures of encoders and all paired differences between them, each stored once."""
    sides = [(encoder, of) for encoder in values]
    rows = [record("figure", name, split, side, values[side[0]], seeds=seeds) for side in sides]
    for i, a in enumerate(sides):
        for b in sides[i + 1 :]:
            less = values[a[0]] - values[b[0]]
            rows.append(record("difference", name, split, a, less, b, half, seeds))
            rows.append(record("ratio", name, split, a, values[a[0]] / values[b[0]], b, half, seeds))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


AS_PUBLISHED = {"statistics": 0.2, "flat": 0.18, "noninteractive": 0.1, "interactive": 0.08}


def verdicts(table: pa.Table) -> dict[str, str]:
    return {claim.text: claim.verdict for claim in claims(table, TASK)}


def imitation(found: dict[str, str]) -> tuple[str, str]:
    """Of probing against mechanistic encoders, and of interactive against non-interactive probing."""
    second = "emulation of unseen tasks is better with interactive probing than with non-interactive probing"
    return next(iter(found.values())), found[second]


@pytest.mark.parametrize("reverse", [False, True])
def test_what_holds_is_reproduced_whichever_side_is_stored_first(reverse):
    values = dict(reversed(AS_PUBLISHED.items())) if reverse else AS_PUBLISHED
    assert imitation(verdicts(table(LOSS, "validation", "conditioned", values))) == (
        "reproduced",
        "reproduced",
    )


def test_one_pair_the_other_way_round_is_not_reproduced():
    values = {**AS_PUBLISHED, "flat": 0.09}
    found = table(LOSS, "validation", "conditioned", values)
    assert imitation(verdicts(found)) == ("not reproduced", "reproduced")
    claim = claims(found, TASK)[0]
    assert "non-interactive probing minus flattened weights is 0.010 (0.005–0.015)" in claim.evidence
    assert "4 paired differences; the intervals of 3 lie below 0" in claim.evidence


def test_one_of_several_pairs_has_to_be_above_zero_for_sure_since_any_would_do():
    values = {**AS_PUBLISHED, "flat": 0.1 - 0.006}
    found = table(LOSS, "validation", "conditioned", values)
    [first, second, *_] = claims(found, TASK)
    assert first.verdict == "open"  # although the interval of one lies above 0
    assert "is 0.006 (0.001–0.011)" in first.evidence
    assert "against the claim p = 0.075, corrected for 4 comparisons" in first.evidence
    assert "corrected" not in second.evidence
    alone = table(LOSS, "validation", "conditioned", {"flat": 0.1 - 0.006, "noninteractive": 0.1})
    assert claims(alone, TASK)[0].verdict == "not reproduced"


def test_angles_are_judged_by_degrees():
    values = {"statistics": 60.0, "flat": 55.0, "noninteractive": 30.0, "interactive": 29.0}
    found = claims(table("direction degrees", "ood", "embedding", values, half=5.0), "tiled-mnist")
    [claim] = [one for one in found if one.text.startswith("frozen embeddings of")]
    assert claim.verdict == "reproduced"
    assert claim.evidence.startswith("angle error in degrees on ood: ")
    assert claims(table("angle loss", "ood", "embedding", values), "tiled-mnist") == []


def test_each_claim_stands_beside_that_of_trained_snapshots():
    everything = claims(table(LOSS, "validation", "conditioned", AS_PUBLISHED, half=0.5), TASK)
    trained = claims(table(LOSS, "validation", "conditioned", AS_PUBLISHED), TASK)
    found = beside(everything, trained)
    assert [claim.verdict for claim in found] == ["open"] * len(found)
    assert [claim.trained for claim in found] == trained
    assert "reproduced" in {claim.verdict for claim in trained}


def test_intervals_that_hold_zero_leave_it_open():
    assert imitation(verdicts(table(LOSS, "validation", "conditioned", AS_PUBLISHED, half=0.05))) == (
        "reproduced",
        "open",
    )


def test_two_seeds_leave_everything_open():
    assert set(verdicts(table(LOSS, "validation", "conditioned", AS_PUBLISHED, seeds=2)).values()) == {"open"}


def test_frozen_against_end_to_end_and_baselines():
    values = {
        ("interactive", "embedding"): 0.2,
        ("interactive", "supervised"): 0.3,
        ("interactive", "pca"): 0.25,
        ("statistics", "embedding"): 0.4,
        ("statistics", "supervised"): 0.45,
    }
    rows = [record("figure", OOD, "ood", side, value) for side, value in values.items()]
    rows += [
        record("difference", OOD, "ood", a, values[a] - values[b], b)
        for a in values
        for b in values
        if a[0] == b[0] and a[1] == "embedding" != b[1]
    ]
    rows.append(
        record("figure", "task loss", "validation", ("interactive", "embedding"), 0.5)
    )  # which chooses
    found = verdicts(pa.Table.from_pylist(rows, schema=SCHEMA))
    assert {text.partition(",")[0]: verdict for text, verdict in found.items()} == {
        "frozen embeddings predict unseen tasks better than encoders trained end to end": "reproduced",
        "frozen embeddings predict unseen tasks less well than encoders trained end to end": "not reproduced",
        "frozen embeddings of interactive probing": "reproduced",
    }


def test_order_and_ratio_beside_the_published_ones():
    first, ratio = orders(table(LOSS, "validation", "conditioned", AS_PUBLISHED), TASK)
    assert "correlation with the published order is 1.00, of 4 encoders" in first
    assert "(flattened weights), on validation: 0.444 (" in ratio
    assert ratio.endswith("published: 0.35.")
    assert orders(table(LOSS, "validation", "conditioned", AS_PUBLISHED, seeds=2), TASK) == []
    turned = {encoder: 1 - value for encoder, value in AS_PUBLISHED.items()}
    assert "is −1.00" in orders(table(LOSS, "validation", "conditioned", turned), TASK)[0]


def test_the_order_is_of_encoders_judged_on_the_same_rnns():
    rows = table(LOSS, "validation", "conditioned", AS_PUBLISHED).to_pylist()
    for row in rows:
        if "flat" in (row["encoder"], row["versus"]):
            row |= {"n_runs": 8, "n_snapshots": 24}
    mixed = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert alike(mixed, "validation") == [["statistics", "noninteractive", "interactive"], ["flat"]]
    order, ratio = orders(mixed, TASK)
    assert "of 3 encoders" in order
    assert order.endswith("Left out: flattened weights (judged on another set of 8 RNNs).")
    assert "(layer-wise statistics), on validation" in ratio
    assert alike(mixed, "ood") == []


def test_as_many_rnns_are_not_the_same_rnns():
    rows = table(LOSS, "validation", "conditioned", AS_PUBLISHED).to_pylist()
    for row in rows:
        if row["kind"] == "difference" and "flat" in (row["encoder"], row["versus"]):
            row["n_snapshots"] = 30
    mixed = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert alike(mixed, "validation")[1] == ["flat"]


def test_encoders_and_tasks_that_the_paper_lacks_claim_nothing():
    values = {**AS_PUBLISHED, "mine": 0.01}
    found = table(LOSS, "validation", "conditioned", values)
    assert verdicts(found) == verdicts(table(LOSS, "validation", "conditioned", AS_PUBLISHED))
    assert claims(found, "digits") == orders(found, "digits") == []


def test_what_is_published_as_a_tie_is_no_published_order():
    values = {"statistics": 0.3, "flat": 0.2, "dws": 0.1, "noninteractive": 0.08, "interactive": 0.07}
    found = table(LOSS, "validation", "conditioned", values)
    [order, _] = orders(found, "tiled-mnist")
    assert (
        "Published: non-interactive probing = interactive probing, flattened weights = equivariant" in order
    )
    [claim] = [
        one for one in claims(found, "tiled-mnist") if one.text.endswith("than with non-interactive probing")
    ]
    assert not claim.published
