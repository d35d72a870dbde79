"""What a matrix of distances shows: groups, odd ones out, places on a map, and which labels explain it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from rnnatlas.intervals import holm
from rnnatlas.seeds import stream

RARE = 0.1
"""Share of the RNNs that should be near one that is not odd."""
ODD = 2.5
"""How many times the median distance to the farthest of those is far."""
MOST_GROUPS = 8
FEWEST = 8
"""RNNs with which groups and labels are looked for at least."""
DIMENSIONS = 3
"""Coordinates in which groups are looked for."""
SURROGATES, LEVEL = 99, 0.05
PERMUTATIONS = 999


def is_known(value: Any) -> bool:
    """Whether a label has a value: not None and not NaN."""
    return value is not None and value == value


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether a label is one of numbers, whole ones among them; else it is one of classes."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def odd_ones(distances: Float[np.ndarray, "rnn rnn"]) -> Bool[np.ndarray, " rnn"]:
    """Which RNNs are unlike nearly all others: fewer than a tenth, or three, are as near as usual."""
    count = len(distances)
    if count < FEWEST:
        return np.zeros(count, bool)
    neighbour = max(3, round(RARE * count))
    radius = np.sort(distances, axis=1)[:, neighbour]  # of itself the distance is 0
    return radius > ODD * np.median(radius)


def coordinates(distances: Float[np.ndarray, "rnn rnn"], most: int) -> Float[np.ndarray, "rnn place"]:
    """Classical scaling: coordinates whose Euclidean distances are those given, as far as `most` allow."""
    count = len(distances)
    centre = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-0.5 * centre @ (distances**2) @ centre)
    keep = np.argsort(-values)[:most]
    return vectors[:, keep] * np.sqrt(values[keep].clip(min=0))


@dataclasses.dataclass(frozen=True)
class Groups:
    """RNNs that behave alike.

    Attributes:
        of: Group of each RNN, from 0, the largest first; −1 for odd ones.
        silhouette: Of the first grouping: 1 where groups lie apart, 0 where they touch.
        chance: The mean silhouette of as many groups found in points that have none.
        p: Share of sets of points without groups in which as good a first grouping was found.
    """

    of: Int[np.ndarray, " rnn"]
    silhouette: float
    chance: float
    p: float

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.of.max()) + 1


def groups(
    distances: Float[np.ndarray, "rnn rnn"], odd: Bool[np.ndarray, " rnn"], seed: int = 0
) -> Groups | None:
    """Groups by Ward's method, and groups within them; None where chance finds as good ones.

    Chance is the same search in points of one normal distribution with the same variances (as SigClust's
    null, Liu et al. 2008), and should do as well in one time of twenty. There are as many groups as make the
    silhouette exceed that of chance by the most of its standard deviations: the silhouette alone prefers two
    groups whatever there is. Each group is searched again by itself, since a few RNNs far away hide what
    parts the others.
    """
    kept = np.flatnonzero(~odd)
    own = stream(seed, "explore", "groups")
    first = _grouping(distances[np.ix_(kept, kept)], own)
    if first is None:
        return None
    leaves, open_ = [], [kept[first[0] == label] for label in range(first[0].max() + 1)]
    while open_:
        members = open_.pop(0)
        inner = _grouping(distances[np.ix_(members, members)], own)
        if inner is None:
            leaves.append(members)
        else:
            open_ += [members[inner[0] == label] for label in range(inner[0].max() + 1)]
    of = np.full(len(distances), -1)
    for number, members in enumerate(sorted(leaves, key=len, reverse=True)):
        of[members] = number
    return Groups(of, *first[1:])


def _grouping(
    distances: Float[np.ndarray, "rnn rnn"], own: np.random.Generator
) -> tuple[Int[np.ndarray, " rnn"], float, float, float] | None:
    """The best grouping, its silhouette, that of chance, and p; None where it could be chance."""
    if len(distances) < FEWEST:
        return None
    points = coordinates(distances, DIMENSIONS)
    if not np.ptp(points, axis=0).any():
        return None
    null = np.array(
        [_silhouettes(own.standard_normal(points.shape) * points.std(0))[0] for _ in range(SURROGATES)]
    )
    found, labels = _silhouettes(points)
    mean, deviation = null.mean(axis=0), null.std(axis=0).clip(min=1e-6)
    best = int(np.argmax((found - mean) / deviation))
    reached = ((null - mean) / deviation).max(axis=1) >= (found[best] - mean[best]) / deviation[best]
    p = (int(reached.sum()) + 1) / (SURROGATES + 1)
    return (labels[best], float(found[best]), float(mean[best]), p) if p <= LEVEL else None


def _silhouettes(
    points: Float[np.ndarray, "rnn place"],
) -> tuple[Float[np.ndarray, " grouping"], list[Int[np.ndarray, " rnn"]]]:
    """Silhouettes of groupings into two and more, and the groupings."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform
    from sklearn.metrics import silhouette_score

    tree, pairs = linkage(points, "ward"), squareform(pdist(points))
    labels = [
        fcluster(tree, count, "maxclust") - 1 for count in range(2, min(MOST_GROUPS, len(points) // 4) + 1)
    ]
    scores = [
        float(silhouette_score(pairs, each, metric="precomputed")) if each.max() else 0.0 for each in labels
    ]
    return np.array(scores), labels


@dataclasses.dataclass(frozen=True)
class Explained:
    """How far a label explains distances.

    Attributes:
        name: The label.
        share: Of the variance of distances (R² of McArdle and Anderson 2001: of classes, that between them;
            of numbers, that along them).
        chance: Its mean where the label is permuted.
        p: Share of permutations that explain as much, corrected for the number of labels (Holm).
        known: RNNs that have the label.
    """

    name: str
    share: float
    chance: float
    p: float
    known: int


def explain(
    distances: Float[np.ndarray, "rnn rnn"], labels: Mapping[str, Sequence[Any]], seed: int = 0
) -> list[Explained]:
    """Which labels explain the distances, the best first; those with one value, or one each, are left out."""
    found: list[tuple[str, float, np.ndarray, int]] = []
    for name, values in labels.items():
        present = np.array(list(map(is_known, values)), dtype=bool)
        design = _design(list(filter(is_known, values)))
        if present.sum() < FEWEST or design is None:
            continue
        kept = np.flatnonzero(present)
        count = len(kept)
        centre = np.eye(count) - 1 / count
        gram = -0.5 * centre @ (distances[np.ix_(kept, kept)] ** 2) @ centre
        basis = np.linalg.svd(design - design.mean(0), full_matrices=False)[0]
        own = stream(seed, "explore", "labels", name)
        orders = [np.arange(count), *(own.permutation(count) for _ in range(PERMUTATIONS))]
        shares = [np.einsum("ij,ik,kj->", basis[order], gram, basis[order]) for order in orders]
        found.append((name, *_against_chance(np.array(shares) / max(np.trace(gram), 1e-12)), count))
    corrected = holm([float(values[0]) for _, _, values, _ in found])
    explained = [
        Explained(name, share, float(chance[1]), p, count)
        for (name, share, chance, count), p in zip(found, corrected, strict=True)
    ]
    return sorted(explained, key=lambda one: one.chance - one.share)


def _against_chance(shares: Float[np.ndarray, " order"]) -> tuple[float, np.ndarray]:
    """The share in the order given; and how often others reach it, with their mean."""
    reached = (shares[1:] >= shares[0] - 1e-12).sum()
    return float(shares[0]), np.array([(reached + 1) / len(shares), shares[1:].mean()])


def _design(values: Sequence[Any]) -> Float[np.ndarray, "rnn column"] | None:
    """A label as columns: numbers as they are, classes one-hot; None where it cannot explain anything."""
    if len(set(values)) < 2:
        return None
    if are_numbers(values):
        numbers = np.array(values, dtype=np.float64)
        return ((numbers - numbers.mean()) / numbers.std())[:, None]
    classes, index = np.unique([str(value) for value in values], return_inverse=True)
    return None if len(classes) > len(values) / 2 else np.eye(len(classes))[index][:, 1:]
