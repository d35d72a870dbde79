"""Laws of properties and of their calibration, whatever a predictor gives out."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rnnatlas.properties.angle import Angle, Direction
from rnnatlas.properties.base import Classes
from rnnatlas.properties.calibration import COLDEST, HOTTEST, calibrate, calibration_gaps, half_width
from rnnatlas.properties.scalar import GeneralisationGap, Performance
from rnnatlas.properties.step import TrainingStep
from rnnatlas.properties.task import TaskProperty

RNNS = 6
PROPERTIES = {
    "task": TaskProperty({"b": [-1, 0, 1], "c": [-1, 0, 1]}),
    "step": TrainingStep([0, 100, 200, 500]),
    "performance": Performance(),
    "gap": GeneralisationGap(),
    "angle": Angle(),
    "direction": Direction(),
}
ALL = pytest.mark.parametrize("prop", PROPERTIES.values(), ids=list(PROPERTIES))
OF_CLASSES = pytest.mark.parametrize("prop", [PROPERTIES["task"], PROPERTIES["step"]], ids=["task", "step"])
OF_NUMBERS = pytest.mark.parametrize(
    "prop",
    [prop for prop in PROPERTIES.values() if not isinstance(prop, Classes)],
    ids=lambda prop: prop.name,
)
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=20, deadline=None)


def outputs_of(prop, seed, size=2.0):
    return size * torch.randn(RNNS, prop.width, generator=torch.Generator().manual_seed(seed))


def target_of(prop, seed):
    """What some RNNs have."""
    random = np.random.default_rng(seed)
    if isinstance(prop, TaskProperty):
        places = random.integers(0, 3, (RNNS, 2))
        return torch.nn.functional.one_hot(torch.from_numpy(places), 3).flatten(1).float()
    if isinstance(prop, TrainingStep):
        return prop.target(None, pa.table({"step": random.choice(prop.steps, RNNS)}))
    values = torch.from_numpy(random.uniform(0, 1, RNNS)).float()[:, None]
    turns = 2 * math.pi * values
    return torch.cat([turns.sin(), turns.cos()], 1) if isinstance(prop, Direction) else values


@ALL
@FEW
@given(SEEDS)
def test_an_rnn_is_scored_and_described_by_itself(prop, seed):
    """In any order and company, without changing what was given."""
    outputs, target = outputs_of(prop, seed), target_of(prop, seed)
    before = outputs.clone(), target.clone()
    order = np.random.default_rng(seed).permutation(RNNS)
    scores, again = prop.score(outputs, target), prop.score(outputs[order], target[order])
    assert set(scores) == set(prop.scores)
    for name, values in scores.items():
        np.testing.assert_allclose(again[name], values[order], rtol=1e-5, atol=1e-6)
        low, high = prop.scores[name].bounds or (-np.inf, np.inf)
        assert ((low <= values) & (values <= high + 1e-4)).all()
    described = prop.describe(outputs, 0.3)
    assert [prop.describe(outputs[[row]], 0.3)[0] for row in range(RNNS)] == described
    assert torch.equal(outputs, before[0])
    assert torch.equal(target, before[1])


@ALL
@FEW
@given(SEEDS)
def test_no_output_is_better_than_what_is_true(prop, seed):
    target = target_of(prop, seed)
    true = prop.logits(target.clamp(1e-6, 1 - 1e-6)) if isinstance(prop, Classes) else target
    best, other = prop.score(true, target), prop.score(outputs_of(prop, seed), target)
    for name, about in prop.scores.items():
        sign = 1 if about.lower_is_better else -1
        assert (sign * best[name] <= sign * other[name] + 1e-4).all()


@OF_CLASSES
@FEW
@given(SEEDS, st.floats(0.1, 10))
def test_probabilities_of_values_sum_to_one_and_a_temperature_keeps_their_order(prop, seed, temperature):
    outputs = outputs_of(prop, seed)
    probabilities, cooled = prop.probabilities(outputs), prop.probabilities(outputs / temperature)
    for own in (probabilities, cooled):
        assert own.shape == (RNNS, len(prop.parts), prop.width // len(prop.parts))
        torch.testing.assert_close(own.sum(2), torch.ones(RNNS, len(prop.parts)))
    rising = cooled.gather(2, probabilities.argsort(2))
    assert (rising.diff(dim=2) >= -1e-6).all()
    if isinstance(prop, TrainingStep):  # of sigmoids the largest may lose to others that are nearly 1, too
        sharper = cooled.amax(2) - probabilities.amax(2)
        assert (sharper * (1 - temperature) >= -1e-6).all()


@OF_NUMBERS
@FEW
@given(SEEDS, st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_wider_claim_holds_the_narrower_one_and_both_the_value(prop, seed, one, more):
    outputs = outputs_of(prop, seed, size=0.4)
    both = zip(prop.describe(outputs, one), prop.describe(outputs, one + more), strict=True)
    for narrow, wide in both:
        assert wide["low"] <= narrow["low"] <= narrow["value"] <= narrow["high"] <= wide["high"]
        assert narrow["value"] == wide["value"]


@given(arrays(np.float32, (30, 1), elements=st.floats(-5, 5, width=32)), st.floats(0.1, 0.95))
def test_a_half_width_covers_as_many_residuals_as_it_should(residuals, coverage):
    """Of n at least (n + 1) × coverage; it follows the unit, not the sign or the order."""
    drawn = torch.from_numpy(residuals)
    found = half_width(drawn, coverage)
    rank = math.ceil(31 * coverage)
    assert (drawn.abs() <= found).sum() >= min(rank, 30)
    assert (drawn.abs() < found).sum() < rank
    assert half_width(-drawn.flip(0), coverage) == found
    assert half_width(2 * drawn, coverage) == 2 * found
    assert half_width(drawn, min(coverage + 0.04, 0.99)) >= found
    assert half_width(drawn[:5], 0.9) == math.inf, "five residuals cannot promise as much"


@OF_CLASSES
@FEW
@given(SEEDS, st.floats(0.5, 2))
def test_a_temperature_takes_back_by_how_much_logits_are_too_large(prop, seed, factor):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(300, prop.width, generator=generator).log_softmax(1)
    places = prop.probabilities(outputs).flatten(0, 1).multinomial(1, generator=generator)
    count = prop.width // len(prop.parts)
    target = torch.nn.functional.one_hot(places.squeeze(1), count).view(300, -1).float()
    if isinstance(prop, TrainingStep):  # of sigmoids a factor does not do the same to every probability
        plain, larger = (calibrate(prop, size * outputs, target).temperature for size in (1, factor))
        assert larger == pytest.approx(factor * plain, rel=0.02)
        assert plain == pytest.approx(1, abs=0.5)
    found = calibrate(prop, outputs, target).temperature
    assert COLDEST <= found <= HOTTEST
    assert calibrate(prop, outputs.flip(0), target.flip(0)).temperature == pytest.approx(found, rel=1e-4)


@given(
    arrays(np.float64, (40, 2), elements=st.floats(0, 1)),
    arrays(np.int8, (40, 2), elements=st.integers(0, 1)),
)
def test_gaps_of_calibration_add_up_to_the_overconfidence(confidence, right):
    gaps = calibration_gaps(confidence, right.astype(bool))
    assert gaps.shape == (10, 40)
    np.testing.assert_allclose(gaps.sum(0), (right - confidence).mean(1), atol=1e-12)
    np.testing.assert_allclose(calibration_gaps(confidence, right, bins=1)[0], gaps.sum(0), atol=1e-12)
    error = np.abs(gaps.mean(1)).sum()
    assert abs((right - confidence).mean()) - 1e-12 <= error <= 1


@FEW
@given(SEEDS)
def test_a_step_as_a_number_lies_among_the_steps_and_is_right_where_its_class_is(seed):
    prop = PROPERTIES["step"]
    target = target_of(prop, seed)
    numbers = prop.as_number(outputs_of(prop, seed), target)
    assert ((numbers["expected"] >= 0) & (numbers["expected"] <= math.log(501))).all()
    certain = prop.as_number(1e3 * target, target)
    np.testing.assert_allclose(certain["expected"], certain["actual"])
    np.testing.assert_allclose(
        np.expm1(certain["actual"]), target @ torch.tensor(prop.steps).float(), rtol=1e-9
    )
