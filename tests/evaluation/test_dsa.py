"""Multidimensional scaling, and DSA where it is installed."""

import sys

import numpy as np
import pytest
import torch

from rnnatlas.emulation.data import Snapshots
from rnnatlas.errors import SettingsError
from rnnatlas.evaluation import dsa
from rnnatlas.evaluation.evaluate import evaluate
from rnnatlas.evaluation.features import features
from rnnatlas.evaluation.model import load
from rnnatlas.rnn import SYMMETRIES


def between(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_scaling_finds_points_of_which_it_knows_distances():
    points = np.random.default_rng(0).normal(size=(12, 3))
    train = np.arange(12) < 7
    found = dsa.places(between(points), train, 5).numpy()
    assert found.shape == (12, 3)
    np.testing.assert_allclose(between(found), between(points), atol=1e-5)
    moved = points.copy()
    moved[7:] += 1
    again = dsa.places(between(moved), train, 5).numpy()
    np.testing.assert_allclose(again[:7], found[:7], atol=1e-5)
    assert dsa.places(np.zeros((4, 4)), np.arange(4) < 2, 5).abs().max() == 0


def test_too_many_rnns_are_refused_before_anything_is_done(trained, zoo, monkeypatch):
    monkeypatch.setattr(dsa, "MOST", 59)
    with pytest.raises(SettingsError, match="there should be 59 snapshots at most, found 60"):
        evaluate(trained, zoo, dsa=True)


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "DSA", None)
    with pytest.raises(SettingsError, match=r"pip install 'rnnatlas\[neuro\]'"):
        dsa.check(3)


def test_as_a_baseline(trained, zoo):
    pytest.importorskip("DSA")
    table = zoo.snapshots()
    rnns = zoo.population(table)
    examples = Snapshots.of(zoo, table).examples
    train = np.asarray(table["split"].to_pylist()) == "train"
    found = features(load(trained), rnns, table, train, examples, compare=True)["dsa"]
    assert len(found) == table.num_rows
    assert found.isfinite().all()
    inputs = examples("rollouts", dsa.QUERIES[1])[: dsa.QUERIES[0]]
    some = rnns.select([0, 20, 40])
    distances = dsa.distances(some, inputs)
    assert np.allclose(distances, distances.T)
    assert (distances[~np.eye(3, dtype=bool)] > 0).all()
    turned = SYMMETRIES["hidden-permutation"].change(some, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(dsa.distances(turned, inputs), distances, atol=1e-3)
