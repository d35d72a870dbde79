"""Intervals cover what they claim to cover."""

import numpy as np
import pytest

from rnnatlas.intervals import (
    Interval,
    _interval,
    bootstrap,
    correlation,
    difference,
    explained,
    overlap,
    ranks,
    ratio,
)


def _crossed(random, seeds: int, runs: int, snapshots: int, spread_seeds: float, spread_runs: float = 1.0):
    """Figures with a run effect, a seed effect and noise around a mean of 1."""
    run = np.repeat(random.normal(0, spread_runs, runs), snapshots)
    seed = random.normal(0, spread_seeds, (seeds, 1))
    noise = random.normal(0, 0.3, (seeds, runs * snapshots))
    return 1 + run + seed + noise, np.repeat(np.arange(runs), snapshots)


@pytest.mark.parametrize(
    ("seeds", "spread", "spread_runs"),
    [(1, 0.0, 1.0), *[(s, spread, runs) for s in (2, 3, 5) for spread in (0, 0.3, 1) for runs in (0.5, 1)]],
)
def test_covers_the_true_mean_about_as_often_as_it_says(seeds, spread, spread_runs):
    """Over 1000 trials .935 to .98 were measured; .957 for 3 seeds of spread 1 beside runs of spread .5."""
    random = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        values, clusters = _crossed(random, seeds, 40, 3, spread, spread_runs)
        interval = bootstrap(values, clusters, seed=trial, resamples=400)
        hits += interval.low <= 1 <= interval.high
    assert 0.91 <= hits / 300 <= 0.995


@pytest.mark.parametrize("tasks", [3, 5, 10])
def test_covers_where_only_few_tasks_are_drawn(tasks):
    """Over 2000 trials .93, .94 and .94 were measured, without Student's t .74, .87 and .91."""
    random = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        values, clusters = _crossed(random, 1, tasks, 3, 0.0)
        interval = bootstrap(values, clusters, seed=trial, resamples=400)
        hits += interval.low <= 1 <= interval.high
    assert 0.88 <= hits / 300 <= 0.995


def test_seeds_that_agree_hardly_widen_the_interval():
    random = np.random.default_rng(7)
    ratios = []
    for _ in range(20):
        values, clusters = _crossed(random, 3, 40, 3, 0.0)
        three, one = bootstrap(values, clusters), bootstrap(values.mean(axis=0)[None], clusters)
        ratios.append((three.high - three.low) / (one.high - one.low))
    assert 1 <= min(ratios) <= np.median(ratios) < 1.05


def test_difference_covers_where_seeds_disagree():
    random = np.random.default_rng(8)
    hits = 0
    for trial in range(300):
        run = np.repeat(random.normal(0, 1.0, 20), 2)
        a, b = (run + random.normal(0, 1.0, (3, 1)) + random.normal(0, 0.3, (3, len(run))) for _ in range(2))
        clusters = np.repeat(np.arange(20), 2)
        interval = difference(a, b, clusters, seed=trial, resamples=200)
        hits += interval.low <= 0 <= interval.high
    assert hits / 300 > 0.9


def test_ignoring_runs_would_cover_too_rarely():
    random = np.random.default_rng(2)
    hits = 0
    for trial in range(200):
        values, _ = _crossed(random, 1, 20, 9, 0.0)
        as_if_independent = bootstrap(values, np.arange(values.shape[1]), seed=trial, resamples=300)
        hits += as_if_independent.low <= 1 <= as_if_independent.high
    assert hits / 200 < 0.7


def test_where_seeds_alone_differ_it_is_the_t_interval():
    values = np.array([[0.0] * 10, [1.0] * 10, [5.0] * 10])
    interval = bootstrap(values, np.arange(10))
    half = 4.3027 * np.std([0, 1, 5], ddof=1) / np.sqrt(3)
    assert (interval.mean, interval.n) == (2.0, 10)
    assert (2 - interval.low, interval.high - 2) == pytest.approx((half, half), rel=1e-4)


def test_mean_weighs_snapshots_alike_and_counts_runs():
    interval = bootstrap(np.array([[1.0, 1.0, 1.0, 5.0]]), np.array(["a", "a", "a", "b"]))
    assert interval.mean == 2.0
    assert interval.n == 2


def test_same_seed_same_interval_and_order_does_not_matter():
    random = np.random.default_rng(3)
    values, clusters = _crossed(random, 2, 15, 2, 0.1)
    order = random.permutation(len(clusters))
    first = bootstrap(values, clusters)
    assert bootstrap(values, clusters) == first
    shuffled = bootstrap(values[:, order], clusters[order])
    assert shuffled.low == pytest.approx(first.low)
    assert shuffled.high == pytest.approx(first.high)


def test_paired_difference_removes_what_runs_share():
    random = np.random.default_rng(4)
    values, clusters = _crossed(random, 1, 30, 2, 0.0)
    better = values - 0.2 + random.normal(0, 0.02, values.shape)
    paired = difference(better, values, clusters)
    assert paired.mean == pytest.approx(-0.2, abs=0.02)
    assert paired.high < 0
    assert paired.high - paired.low < 0.1
    assert overlap(bootstrap(better, clusters), bootstrap(values, clusters))


def test_what_seeds_do_to_both_sides_does_not_count():
    random = np.random.default_rng(5)
    run, seed = random.normal(5, 0.3, 20), np.array([[0.0], [1.0], [2.0]])
    a, b = run + seed, (run + seed) * 1.1
    together, alone = (difference(a, a - 0.1, np.arange(20), same_seeds=same) for same in (True, False))
    assert (together.low, together.high) == pytest.approx((0.1, 0.1))
    assert alone.low < 0 < alone.high
    assert together.mean == pytest.approx(alone.mean)
    together, alone = (ratio(b, a, np.arange(20), same_seeds=same) for same in (True, False))
    assert (together.low, together.mean, together.high) == pytest.approx((1.1, 1.1, 1.1))
    assert alone.low < 1 < alone.high


def test_difference_takes_unequal_numbers_of_seeds():
    a, b = np.full((3, 8), 2.0), np.full((2, 8), 0.5)
    assert difference(a, b, np.arange(8)) == Interval(1.5, 1.5, 1.5, 8)


def test_correlation_and_correlation_within_groups():
    random = np.random.default_rng(5)
    step = np.tile([0, 1, 2], 40)
    run = np.repeat(np.arange(40), 3)
    x = step + random.normal(0, 0.1, 120)
    y = step + random.normal(0, 0.1, 120)
    overall = correlation(x[None], y[None], run)
    within = correlation(x[None], y[None], run, within=step)
    assert overall.mean == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert overall.low > 0.9
    assert within.low < 0 < within.high


def test_correlation_of_several_seeds_is_the_mean_of_theirs():
    y = np.random.default_rng(6).normal(size=(1, 30)).repeat(2, axis=0)
    interval = correlation(y * [[1.0], [0.1]] + [[0.0], [1.0]], y, np.arange(30))
    assert (interval.mean, interval.low, interval.high) == pytest.approx((1.0, 1.0, 1.0))
    signs = correlation(y * [[1.0], [-1.0]], y, np.arange(30))
    assert signs.mean == pytest.approx(0, abs=1e-9)
    assert (signs.low, signs.high) == (-1, 1)  # two seeds that disagree tell nothing


def test_correlation_stays_within_its_range():
    random = np.random.default_rng(9)
    y = np.repeat(random.normal(size=(1, 20)), 2, axis=0)
    interval = correlation(y + random.normal(size=y.shape) * [[0.1], [3.0]], y, np.arange(20))
    assert -1 <= interval.low < interval.mean < interval.high <= 1


def test_interval_of_a_share_stays_within_zero_and_one():
    values = np.stack([np.tile([0.0, 1.0], 10), np.ones(20)])
    interval = bootstrap(values, np.arange(20), bounds=(0.0, 1.0))
    assert (interval.mean, interval.low, interval.high) == (0.75, 0, 1)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("constant", [0.3, 0.7])
def test_constant_prediction_has_no_correlation(constant, kind):
    y = np.random.default_rng(6).normal(size=(1, 20)).astype(kind)
    assert np.isnan(correlation(np.full((1, 20), constant, kind), y, np.arange(20)).mean)


def test_a_figure_and_its_ends_have_as_many_digits():
    assert str(Interval(24.14, 6.221, 52.63, 9)) == "24.1 (6.2–52.6)"
    assert str(Interval(0.2, -0.05, 0.45, 9)) == "0.200 (−0.050 to 0.450)"


def test_limits_are_never_turned_to_the_other_side():
    found = _interval(1.0, np.linspace(2, 3, 100), 0.0, 9)
    assert found.low == found.mean
    assert found.high > 3


def test_one_run_has_no_interval():
    interval = bootstrap(np.array([[1.0, 2.0]]), np.array(["a", "a"]))
    assert interval.mean == 1.5
    assert np.isnan(interval.low)
    assert str(interval) == "1.500"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((0, 1), (2, 3), False), ((2, 3), (0, 1), False), ((0, 1), (1, 2), True), ((0, 3), (1, 2), True)],
)
def test_overlap(a, b, expected):
    assert (
        overlap(Interval(0.0, float(a[0]), float(a[1]), 5), Interval(0.0, float(b[0]), float(b[1]), 5))
        is expected
    )


def test_undefined_overlaps_with_everything():
    assert overlap(Interval(float("nan"), float("nan"), float("nan"), 0), Interval(0.0, 0.0, 0.0, 5))


# --- laws: what does not change a figure's meaning does not change its interval -----------------------


@pytest.fixture(scope="module")
def two_sides():
    """Figures of two sides on the same runs, three seeds each, all above 0."""
    random = np.random.default_rng(11)
    values, clusters = _crossed(random, 3, 12, 2, 0.2)
    return np.exp(values), np.exp(values + random.normal(0, 0.2, values.shape)), clusters


def ends(interval):
    return interval.low, interval.mean, interval.high


@pytest.mark.parametrize("factor", [2.0, -0.5])
def test_a_mean_in_another_unit_has_the_interval_in_that_unit(two_sides, factor):
    a, _, clusters = two_sides
    moved = ends(bootstrap(factor * a + 7, clusters))
    expected = [factor * end + 7 for end in ends(bootstrap(a, clusters))]
    assert moved == pytest.approx(sorted(expected), rel=1e-9)


def test_sides_that_change_places_turn_differences_and_ratios_round(two_sides):
    a, b, clusters = two_sides
    for same in (False, True):
        there, back = (difference(*pair, clusters, same_seeds=same) for pair in ((a, b), (b, a)))
        assert ends(back) == pytest.approx([-end for end in reversed(ends(there))])
        there, back = (ratio(*pair, clusters, same_seeds=same) for pair in ((a, b), (b, a)))
        assert ends(back) == pytest.approx([1 / end for end in reversed(ends(there))])
        again = ratio(5 * a, 5 * b, clusters, same_seeds=same)
        assert ends(again) == pytest.approx(ends(ratio(a, b, clusters, same_seeds=same)))
        assert there.low <= there.mean <= there.high


def test_a_side_differs_in_nothing_from_itself(two_sides):
    a, _, clusters = two_sides
    assert ends(difference(a, a, clusters, same_seeds=True)) == (0, 0, 0)
    assert ends(ratio(a, a, clusters, same_seeds=True)) == pytest.approx((1, 1, 1))
    alone = difference(a, a, clusters)  # seeds of one side say nothing of the other's
    assert alone.low < alone.mean == 0 < alone.high


def test_a_correlation_has_no_unit_and_no_sides(two_sides):
    a, b, clusters = two_sides
    expected = ends(correlation(a, b, clusters))
    assert ends(correlation(b, a, clusters)) == pytest.approx(expected)
    assert ends(correlation(3 * a - 2, 0.1 * b, clusters)) == pytest.approx(expected)
    assert ends(correlation(-a, b, clusters)) == pytest.approx([-end for end in reversed(expected)])
    assert ends(correlation(a, a, clusters)) == pytest.approx((1, 1, 1))


def test_a_correlation_within_groups_does_not_see_what_groups_share(two_sides):
    a, b, clusters = two_sides
    groups = np.arange(a.shape[1]) % 3
    expected = ends(correlation(a, b, clusters, within=groups))
    assert ends(correlation(a + 10 * groups, b - 4 * groups, clusters, groups)) == pytest.approx(expected)


def test_names_of_runs_do_not_matter_and_more_of_them_narrow_an_interval(two_sides):
    a, _, clusters = two_sides
    renamed = np.array([f"run {run}" for run in clusters])
    assert ends(bootstrap(a, renamed)) == pytest.approx(ends(bootstrap(a, clusters)), rel=0.05)
    more = bootstrap(np.tile(a, 4), np.concatenate([clusters + 100 * number for number in range(4)]))
    once = bootstrap(a, clusters)
    assert more.mean == pytest.approx(once.mean)
    assert more.high - more.low < once.high - once.low
    assert (once.n, more.n) == (12, 48)


def test_an_interval_is_as_wide_as_what_varies(two_sides):
    """The wider runs or seeds vary, the wider it is; where nothing varies, it is a point."""
    random = np.random.default_rng(0)
    run, seed = random.normal(0, 1, 20), np.array([[-1.0], [0.0], [1.0]])
    for part in (run + 0 * seed, seed + 0 * run):
        widths = []
        for size in (0.0, 0.5, 1.0, 2.0):
            found = bootstrap(1 + size * part, np.arange(20))
            widths.append(found.high - found.low)
        assert widths[0] == pytest.approx(0, abs=1e-12)
        assert widths[2] == pytest.approx(2 * widths[1]) == pytest.approx(widths[3] / 2)
    both = bootstrap(run + seed, np.arange(20))
    alone = [bootstrap(part, np.arange(20)) for part in (run + 0 * seed, seed + 0 * run)]
    whole, *parts = (found.high - found.mean for found in (both, *alone))
    assert whole == pytest.approx(np.hypot(*parts), rel=1e-6)


def test_what_is_explained_is_r_squared():
    random = np.random.default_rng(3)
    actual = random.normal(2, 3, (2, 60))
    predicted = actual + random.normal(0, 2, (2, 60))
    clusters = np.repeat(np.arange(20), 3)
    expected = 1 - ((predicted - actual) ** 2).mean(1) / actual.var(1)
    found = explained(predicted, actual, clusters)
    assert found.mean == pytest.approx(expected.mean())
    assert found.low < found.mean < found.high
    assert explained(actual, actual, clusters).mean == 1
    means = np.broadcast_to(actual.mean(1, keepdims=True), actual.shape)
    assert explained(means, actual, clusters).mean == pytest.approx(0)


def test_correlation_of_ranks_is_spearmans_and_knows_no_scale():
    from scipy.stats import spearmanr

    random = np.random.default_rng(4)
    x, y = random.normal(size=(2, 1, 40))
    once, steps = np.zeros(40), np.repeat([0, 1], 20)
    found = correlation(ranks(x, once), ranks(y, once), np.arange(40))
    assert found.mean == pytest.approx(spearmanr(x[0], y[0]).statistic)
    moved = np.exp(x) + 10 * steps
    assert np.array_equal(ranks(moved, steps), ranks(x, steps))


def test_p_is_below_five_percent_where_the_interval_leaves_zero_out():
    random = np.random.default_rng(5)
    seen = set()
    for trial in range(60):
        values, clusters = _crossed(random, trial % 3 + 1, 12, 2, 0.2)
        moved = values - 1 + random.normal(0, 0.8)
        for found in (
            bootstrap(moved, clusters, resamples=200),
            difference(moved, 0 * moved, clusters, resamples=200),
        ):
            without_zero = not found.low <= 0 <= found.high
            assert (found.p < 0.05) == without_zero
            seen.add(without_zero)
        turned = difference(0 * moved, moved, clusters, resamples=200)
        assert turned.p == pytest.approx(found.p, rel=1e-6)
    assert seen == {True, False}
    assert bootstrap(0 * values, clusters).p == 1
