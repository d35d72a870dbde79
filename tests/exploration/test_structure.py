"""Groups, odd ones and labels are found where they are, and not found where they are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score

from rnnatlas.exploration.structure import coordinates, explain, groups, odd_ones


def points(count=60, dimensions=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dimensions))


def distances(of):
    return squareform(pdist(of))


def clustered(sizes=(20, 20, 20), gap=8.0, seed=0):
    of = np.repeat(np.arange(len(sizes)), sizes)
    centres = gap * np.eye(len(sizes), 4)
    return points(len(of), seed=seed) + centres[of], of


def none(count):
    return np.zeros(count, bool)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_coordinates_have_the_distances_given(seed):
    given_ = distances(points(12, 3, seed))
    np.testing.assert_allclose(distances(coordinates(given_, 3)), given_, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_groups_that_are_there_are_found(seed):
    at, of = clustered(seed=seed)
    found = groups(distances(at), none(len(at)))
    assert found is not None
    assert found.count == 3
    assert adjusted_rand_score(of, found.of) > 0.95
    assert found.silhouette > found.chance
    assert found.p <= 0.05


def test_points_without_groups_have_none_but_one_time_in_twenty():
    found = [groups(distances(points(seed=seed)), none(60), seed) for seed in range(20)]
    assert sum(one is not None for one in found) <= 4  # binomial: more than 4 of 20 in 0.3 % of cases


def test_groups_within_groups_are_found():
    """A few points far away do not hide what parts the others."""
    at, of = clustered((15, 15, 15), gap=6.0)
    far = points(8, seed=5) * 0.3 + 80.0
    found = groups(distances(np.concatenate([at, far])), none(53))
    assert found is not None
    assert adjusted_rand_score([*of, *[9] * 8], found.of) > 0.9


def test_groups_are_numbered_by_size_and_odd_ones_have_none():
    at, _ = clustered((10, 25, 16), gap=10.0)
    odd = none(51)
    odd[3] = True
    found = groups(distances(at), odd)
    assert found is not None
    sizes = np.bincount(found.of[~odd])
    assert found.of[3] == -1
    assert sizes.tolist() == sorted(sizes, reverse=True)


def test_the_order_of_rnns_does_not_matter():
    at, _ = clustered((20, 12), gap=10.0)
    order = np.random.default_rng(3).permutation(len(at))
    first, second = groups(distances(at), none(32)), groups(distances(at[order]), none(32))
    assert first is not None
    assert second is not None
    assert adjusted_rand_score(first.of[order], second.of) == 1.0
    assert np.array_equal(odd_ones(distances(at))[order], odd_ones(distances(at[order])))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_rnns_have_neither_groups_nor_odd_ones(count):
    assert groups(distances(points(count)), none(count)) is None
    assert not odd_ones(distances(points(count))).any()


def test_rnns_that_are_all_alike_have_neither():
    alike = np.zeros((30, 30))
    assert groups(alike, none(30)) is None
    assert not odd_ones(alike).any()


def test_rnns_unlike_all_others_are_odd_and_pairs_of_them_too():
    at = points(40)
    at[[4, 7]] += 40.0
    assert np.flatnonzero(odd_ones(distances(at))).tolist() == [4, 7]


def test_the_label_that_made_the_groups_explains_them():
    at, of = clustered(gap=3.0)
    random = np.random.default_rng(0)
    labels = {
        "way": [f"way {one}" for one in of],
        "number": at[:, 0].tolist(),
        "noise": random.standard_normal(60).tolist(),
        "coin": random.choice(["a", "b"], 60).tolist(),
        "name": [f"net {i}" for i in range(60)],
        "constant": [1.0] * 60,
    }
    found = {one.name: one for one in explain(distances(at), labels)}
    assert set(found) == {"way", "number", "noise", "coin"}  # others cannot explain anything
    assert max(found["way"].p, found["number"].p) < 0.05
    assert min(found["noise"].p, found["coin"].p) > 0.05
    assert found["way"].share > 5 * found["way"].chance


def test_the_share_explained_is_that_of_the_sum_of_squares():
    """McArdle and Anderson's R² of Euclidean distances is the coordinates' own, between groups over all."""
    at, of = clustered((9, 14, 11), gap=2.0)
    means = np.stack([at[of == one].mean(0) for one in of])
    share = ((means - at.mean(0)) ** 2).sum() / ((at - at.mean(0)) ** 2).sum()
    [found] = explain(distances(at), {"way": [str(one) for one in of]})
    assert found.share == pytest.approx(share)


def test_what_is_not_known_is_left_out_of_a_label():
    at, of = clustered(gap=5.0)
    labels = {
        "way": [None if i % 3 else str(one) for i, one in enumerate(of)],
        "rare": [None] * 55 + [1.0] * 5,
    }
    [found] = explain(distances(at), labels)
    assert (found.name, found.known) == ("way", 20)
