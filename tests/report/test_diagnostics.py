"""A closer look at neighbours, in pieces."""

import pytest
from tests.made import make_atlas

from rnnatlas.report import diagnostics


def test_neighbours_are_looked_at_in_pieces_that_give_the_same_figures(monkeypatch):
    atlas = make_atlas()
    whole = diagnostics.same_task(atlas, "train")
    shapes = []
    largest = 5 * len(atlas)
    monkeypatch.setattr(diagnostics, "PAIRS", largest)
    measured = diagnostics.np.where
    monkeypatch.setattr(
        diagnostics.np, "where", lambda mask, *values: shapes.append(mask.shape) or measured(mask, *values)
    )
    assert diagnostics.same_task(atlas, "train") == pytest.approx(whole)
    pieces = [shape for shape in shapes if len(shape) == 2]
    assert sum(rows for rows, _ in pieces) == atlas.table["split"].to_pylist().count("train")
    assert max(rows * columns for rows, columns in pieces) <= largest
