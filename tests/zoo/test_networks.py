"""Networks of several RNNs: which rows are one, what they have in common, how far apart they are."""

import numpy as np
import pyarrow as pa

from rnnatlas.zoo.networks import between, joined, members, network_of, said

TABLE = pa.table(
    {
        "id": ["a:enc", "b:x", "a:dec", "c:enc", "c:dec"],
        "source": ["a", "b", "a", "c", "c"],
        "role": ["enc", None, "dec", "enc", "dec"],
        "step": [5, 6, 5, 7, 8],
        "metrics": [{"loss": 1.0, "size": 2}, {"loss": 3.0, "size": 2}, {"loss": 2.0, "size": 2}] * 1
        + [{"loss": 4.0, "size": 1}] * 2,
        "notes": ["one", None, "other", "one", "one"],
    }
)
GROUPS = [[0, 2], [1], [3, 4]]


def test_rows_with_roles_in_one_file_are_one_network():
    networks = network_of(TABLE)
    assert networks == ["a", None, "a", "c", "c"]
    assert members(networks) == GROUPS
    assert network_of(TABLE.drop_columns("role")) == [None] * 5
    assert "2 files are networks of several RNNs (4 in all)" in str(said(GROUPS))
    assert said([[0], [1]]) is None


def test_a_network_has_what_its_rows_agree_in():
    rows = joined(TABLE, GROUPS, network_of(TABLE)).to_pylist()
    assert [row["id"] for row in rows] == ["a", "b:x", "c"]
    assert [row["rnns"] for row in rows] == [["a:enc", "a:dec"], ["b:x"], ["c:enc", "c:dec"]]
    assert [row["step"] for row in rows] == [5, 6, None]
    assert [row["metrics"] for row in rows] == [
        {"loss": None, "size": 2},
        {"loss": 3.0, "size": 2},
        {"loss": 4.0, "size": 1},
    ]
    assert [row["notes"] for row in rows] == ["one; other", None, "one"]
    assert joined(TABLE, [[i] for i in range(5)], [None] * 5) is TABLE


def test_distances_of_networks_are_means_over_shared_roles():
    points = np.array([0.0, 5.0, 100.0, 1.0, 103.0])
    distances = np.abs(points[:, None] - points)
    found = between(distances, GROUPS, TABLE["role"].to_pylist())
    assert found[0, 2] == (1 + 3) / 2  # encoder with encoder, decoder with decoder
    assert found[0, 1] == (5 + 95) / 2  # no role that both have
    np.testing.assert_array_equal(found, found.T)
    assert not found.diagonal().any()
