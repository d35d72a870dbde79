"""How certain a mean is: bootstrap intervals that respect what belongs together.

Snapshots of one run are not independent, so whole runs are resampled, and whole tasks where these were held
out (`properties.roles.clusters`). Where several seeds trained the same encoder, Student's t says how certain
the mean over seeds is, because two or three of them are too few to resample; the two half-widths are put
together as a root of squares.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Shaped

COVERAGE = 0.95
RESAMPLES = 2000
LEAST_P = 1e-12
"""No p-value is smaller."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes:
        mean: The figure on the data as they are.
        low: Lower end of the interval.
        high: Upper end.
        n: What was drawn: RNNs, or tasks.
        p: Twice the probability beyond 0 (two-sided p-value), where this is a difference: below .05 where the
            interval leaves 0 out.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = dataclasses.field(default=float("nan"), compare=False)

    def __str__(self) -> str:
        """For people: "0.131 (0.119–0.143)", the bare figure where one run gives no interval."""
        if not np.isfinite(self.mean):
            return "–"
        known = [value for value in (self.mean, self.low, self.high) if np.isfinite(value)]
        digits = 3 if max(map(abs, known)) < 10 else 1
        mean, *ends = (_text(value, digits) for value in known)
        return f"{mean} ({(' to ' if self.low < 0 else '–').join(ends)})" if ends else mean


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def overlap(a: Interval, b: Interval) -> bool:
    """Whether two intervals have a value in common; true where either is undefined."""
    return not (a.high < b.low or b.high < a.low)


def bootstrap(
    values: Float[np.ndarray, "*columns seed item"],
    clusters: Shaped[np.ndarray, " item"],
    function: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of a mean, or of a smooth function of several means, over runs and seeds.

    The function is taken of each seed's means, and its mean over seeds is the figure.

    Over runs: percentile bootstrap, all seeds together; of n runs n − 1 are drawn with replacement, which
    makes the variance right for few of them (Rao & Wu 1988), and limits are moved out as Student's t with
    n − 1 degrees of freedom is wider than the normal distribution. Over seeds: t with S − 1 degrees of
    freedom times the standard error of the seeds' figures. Limits that far from the figure on either side are
    combined as a root of squares (Zou & Donner 2008), so seeds that agree hardly widen the interval, and
    two or three that disagree widen it by as much as so few can tell.

    Args:
        values: One figure an item (snapshot) and seed; with a leading axis where `function` combines
            several means.
        clusters: What each item belongs to: items of one run are drawn together.
        function: From means [column, seed, resample] to figures [seed, resample]; the mean itself
            without it.
        bounds: What the figure cannot leave, such as (0.0, 1.0) for a share; the interval is cut there.
        seed: Names the random stream.
        resamples: Number of bootstrap samples.
    """
    columns = values if values.ndim == 3 else values[None]
    function = function or _first
    sums, counts = _by_cluster(columns, clusters)
    runs = _draws(seed, len(counts), resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = function(_resampled(sums, counts, runs)).mean(axis=0)
        each = function(sums.sum(axis=2, keepdims=True) / counts.sum())[:, 0]
    found = _interval(float(each.mean()), figures, _over_seeds(each), len(counts), len(each))
    low, high = (float(np.clip(end, *bounds)) for end in (found.low, found.high))
    return dataclasses.replace(found, low=low, high=high)


def difference(
    a: Float[np.ndarray, "seed item"],
    b: Float[np.ndarray, "other_seed item"],
    clusters: Shaped[np.ndarray, " item"],
    *,
    same_seeds: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of mean(a) − mean(b) on the same items.

    Both sides see the same draw of runs (paired).

    Args:
        a: One side.
        b: The other.
        clusters: What each item belongs to.
        same_seeds: Whether rows of both sides belong together, as two figures of one training do, and two
            encoders that began with the same emulator and saw the same batches; else the seeds of one side
            are independent of the other's.
        seed: Names the random stream.
        resamples: Number of bootstrap samples.
    """
    if same_seeds:
        return bootstrap(a - b, clusters, seed=seed, resamples=resamples)
    return _compare(a, b, clusters, lambda means: means, seed, resamples)


def ratio(
    a: Float[np.ndarray, "seed item"],
    b: Float[np.ndarray, "other_seed item"],
    clusters: Shaped[np.ndarray, " item"],
    *,
    same_seeds: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of mean(a) / mean(b) on the same items, both above zero; as `difference`, of logarithms."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if same_seeds:
            found = bootstrap(np.stack([a, b]), clusters, _log_ratio, seed=seed, resamples=resamples)
        else:
            found = _compare(a, b, clusters, np.log, seed, resamples)
    mean, low, high = (float(np.exp(value)) for value in (found.mean, found.low, found.high))
    return Interval(mean, low, high, found.n)


def _compare(
    a: np.ndarray,
    b: np.ndarray,
    clusters: np.ndarray,
    scale: Callable[[np.ndarray], np.ndarray],
    seed: int,
    resamples: int,
) -> Interval:
    """Interval of scale(mean(a)) − scale(mean(b))."""
    (sums_a, counts), (sums_b, _) = _by_cluster(a[None], clusters), _by_cluster(b[None], clusters)
    runs = _draws(seed, len(counts), resamples)
    means_a, means_b = (_resampled(sums, counts, runs)[0].mean(axis=0) for sums in (sums_a, sums_b))
    figures = scale(means_a) - scale(means_b)
    over_seeds = np.hypot(_over_seeds(scale(a.mean(axis=1))), _over_seeds(scale(b.mean(axis=1))))
    mean = scale(a.mean(keepdims=True)).item() - scale(b.mean(keepdims=True)).item()
    return _interval(mean, figures, float(over_seeds), len(counts), min(len(a), len(b)))


def correlation(
    x: Float[np.ndarray, "seed item"],
    y: Float[np.ndarray, "seed item"],
    clusters: Shaped[np.ndarray, " item"],
    within: Shaped[np.ndarray, " item"] | None = None,
    versus: Float[np.ndarray, "seed item"] | None = None,
) -> Interval:
    """Interval of Pearson's correlation, within [−1, 1].

    Args:
        x: Predictions.
        y: Targets.
        clusters: What each item belongs to.
        within: Groups whose means are subtracted from both first, e.g. the training step: what
            remains is the correlation within a step (pooled over steps).
        versus: Other predictions, whose correlation with the targets is subtracted (paired).
    """
    x, y, *others = (
        np.asarray(one, dtype=np.float64) for one in (x, y, *([] if versus is None else [versus]))
    )
    if within is not None:
        _, groups = np.unique(within, return_inverse=True)
        x, y, *others = (_centred(one, groups) for one in (x, y, *others))
    moments = [np.stack([one, y, one * one, y * y, one * y]) for one in (x, *others)]
    if others:
        return bootstrap(
            np.concatenate(moments), clusters, lambda means: _pearson(means[:5]) - _pearson(means[5:])
        )
    return bootstrap(moments[0], clusters, _pearson, bounds=(-1.0, 1.0))


def ranks(
    values: Float[np.ndarray, "seed item"], within: Shaped[np.ndarray, " item"]
) -> Float[np.ndarray, "seed item"]:
    """Ranks among the items of each group, from 0 to 1; ties share their mean rank."""
    from scipy.stats import rankdata

    found = np.zeros_like(values, dtype=np.float64)
    for group in np.unique(within):
        chosen = within == group
        found[:, chosen] = (rankdata(values[:, chosen], axis=1) - 0.5) / chosen.sum()
    return found


def explained(
    predicted: Float[np.ndarray, "seed item"],
    actual: Float[np.ndarray, "seed item"],
    clusters: Shaped[np.ndarray, " item"],
) -> Interval:
    """Interval of R², the share of the variance explained: 1 less squared error over variance."""
    errors = (predicted - actual) ** 2
    columns = np.stack([errors, actual, actual * actual])
    return bootstrap(columns, clusters, _explained, bounds=(-np.inf, 1.0))


def _explained(means: np.ndarray) -> np.ndarray:
    errors, mean, square = means
    variance = square - mean * mean
    return np.where(variance < 1e-12, np.nan, 1 - errors / variance)


def _centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    sizes = np.bincount(groups)
    means = np.stack([np.bincount(groups, weights=row) / sizes for row in values])
    return values - means[:, groups]


def _pearson(means: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = means
    variances = np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0)
    # A constant prediction has no correlation with anything; rounding must not give it one.
    constant = (xx - x * x < 1e-12) | (yy - y * y < 1e-12)
    return np.where(constant, np.nan, (xy - x * y) / np.sqrt(variances))


def _log_ratio(means: np.ndarray) -> np.ndarray:
    return np.log(means[0]) - np.log(means[1])


def _first(means: np.ndarray) -> np.ndarray:
    return means[0]


def _by_cluster(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums [column, seed, run] and the number of items of each run."""
    _, membership = np.unique(clusters, return_inverse=True)
    order = np.argsort(membership, kind="stable")
    counts = np.bincount(membership)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    ordered = values[..., order].astype(np.float64)
    return np.add.reduceat(ordered, starts, axis=-1), counts.astype(np.float64)


@functools.lru_cache(maxsize=8)
def _draws(seed: int, n: int, resamples: int) -> np.ndarray:
    """How often each of n units is drawn [resample, unit]; once each where there is only one."""
    if n == 1:
        return np.ones((resamples, 1))
    random = np.random.default_rng(seed)
    return random.multinomial(n - 1, np.full(n, 1 / n), size=resamples).astype(np.float64)


def _resampled(sums: np.ndarray, counts: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Means [column, seed, resample] under the draws of runs."""
    return sums @ runs.T / (runs @ counts)


def _over_seeds(figures: np.ndarray) -> float:
    """Half-width of the t interval of the mean over seeds; 0 for one seed, which cannot tell."""
    count = len(figures)
    return 0.0 if count == 1 else float(_t(count - 1) * figures.std(ddof=1) / np.sqrt(count))


def _t(freedom: int | float, coverage: float = COVERAGE) -> float:
    """Standard errors to either side of a mean, by degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + coverage) / 2))


def _interval(mean: float, figures: np.ndarray, over_seeds: float, n: int, seeds: int = 1) -> Interval:
    """Limits over runs, widened by the half-width over seeds."""
    tail = (1 - COVERAGE) / 2
    figures = figures[np.isfinite(figures)]
    if n < 2 or not np.isfinite(mean) or len(figures) == 0:
        return Interval(mean, float("nan"), float("nan"), n)
    low, high = np.quantile(figures, [tail, 1 - tail])
    below, above = np.maximum([mean - low, high - mean], 0) * _t(n - 1) / _t(np.inf)
    return Interval(
        mean,
        mean - float(np.hypot(below, over_seeds)),
        mean + float(np.hypot(above, over_seeds)),
        n,
        _p(mean, float(below if mean > 0 else above), n, over_seeds, seeds),
    )


def _p(mean: float, over_runs: float, n: int, over_seeds: float, seeds: int) -> float:
    """Such that an interval which covers 1 − p ends at 0, if both its half-widths grow as Student's t."""

    def reach(p: float) -> float:
        runs = over_runs * _t(n - 1, 1 - p) / _t(n - 1)
        return float(np.hypot(runs, over_seeds * _t(seeds - 1, 1 - p) / _t(seeds - 1) if over_seeds else 0.0))

    if mean == 0:
        return 1.0
    low, high = LEAST_P, 1.0
    for _ in range(40):  # reach falls from infinity to 0 as p rises
        middle = (low * high) ** 0.5
        low, high = (middle, high) if reach(middle) > abs(mean) else (low, middle)
    return high if reach(LEAST_P) > abs(mean) else LEAST_P


def holm(p: Sequence[float]) -> list[float]:
    """p-values with Holm's correction for several tests (Holm 1979), in their order."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(np.argsort(p)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = largest
    return corrected
