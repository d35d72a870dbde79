"""Fewest queries, fixed and interactive, against brute force on tiny families; with wrong answers, too."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnatlas.errors import SettingsError
from rnnatlas.theory.interactive import Strategy, interrogate, names_all
from rnnatlas.theory.noninteractive import (
    counting_bound,
    greedy,
    packing_bound,
    pair_bound,
    separate,
)
from rnnatlas.theory.table import Table, distance, drawn, separates, tight


@st.composite
def tables(draw, functions=6, queries=5):
    """Families of pairwise different functions with up to three answers."""
    width = draw(st.integers(1, queries))
    row = st.tuples(*[st.integers(0, 2)] * width)
    rows = draw(st.lists(row, min_size=1, max_size=functions, unique=True))
    return Table(np.array(rows))


def fewest(table, apart):
    """The length of the shortest list with repetitions on which all functions differ often enough."""
    for length in itertools.count():
        for chosen in itertools.combinations_with_replacement(range(table.queries), length):
            rows = table.answers[:, list(chosen)]
            pairs = itertools.combinations(rows, 2)
            if all((one != other).sum() >= apart for one, other in pairs):
                return length


def shallowest(table, lies):
    """The depth by plain recursion over how many lies each function would mean, deepening until it is won."""

    @functools.cache
    def won(counts, depth):
        if sum(count <= lies for count in counts) <= 1:
            return True
        if not depth:
            return False
        return any(
            all(
                won(tuple(c + (a != answer) for c, a in zip(counts, column)), depth - 1)
                for answer in set(column)
            )
            for column in map(tuple, table.answers.T.tolist())
        )

    return next(depth for depth in itertools.count() if won((0,) * table.functions, depth))


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([1, 2, 3]))
def test_lists_are_as_short_as_can_be(table, apart):
    if table.functions > 4 and apart > 1:
        apart = 1  # brute force would take long
    found = separate(table, apart)
    assert found.exact
    assert found.upper == fewest(table, apart)
    assert table.functions == 1 or distance(table, found.queries) >= apart
    assert len(greedy(table, apart)) >= found.upper >= max(counting_bound(table), pair_bound(table, apart))


@settings(max_examples=60, deadline=None)
@given(tables(functions=5, queries=4), st.sampled_from([0, 1]))
def test_strategies_are_as_shallow_as_can_be(table, lies):
    found = interrogate(table, lies)
    assert found.exact
    assert found.upper == shallowest(table, lies)
    assert names_all(found.strategy, table, lies)


@settings(max_examples=60, deadline=None)
@given(tables(functions=8))
def test_theorem_31_and_how_far_both_counts_can_lie_apart(table):
    depth, found = interrogate(table), separate(table)
    nodes = len(list(depth.strategy.nodes()))
    assert depth.upper <= found.upper <= nodes <= max(0, table.functions - 1)
    assert separates(table, [node.query for node in depth.strategy.nodes()])
    most = max(2, table.most_answers)
    assert nodes <= (most**depth.upper - 1) // (most - 1)
    assert table.functions <= most**depth.upper


@pytest.mark.parametrize("functions", range(1, 9))
def test_theorem_32_is_attained_by_both(functions):
    assert interrogate(tight(functions)).lower == separate(tight(functions)).lower == functions - 1


def test_a_budget_leaves_bounds_that_hold():
    table = drawn(14, 9, 2, np.random.default_rng(0))
    depth = interrogate(table, positions=3)
    assert depth.lower <= interrogate(table).lower <= depth.upper
    assert names_all(depth.strategy, table)
    found = separate(table, nodes=1)
    assert found.lower <= separate(table).lower <= found.upper
    assert separates(table, found.queries)


def test_the_checker_finds_strategies_that_name_wrongly():
    table = Table(np.array([[0], [1]]))
    right = Strategy(query=0, branches={0: Strategy(function=0), 1: Strategy(function=1)})
    swapped = Strategy(query=0, branches={0: Strategy(function=1), 1: Strategy(function=0)})
    assert names_all(right, table)
    assert not names_all(right, table, lies=1)
    assert not names_all(swapped, table)
    assert not names_all(Strategy(query=0, branches={0: Strategy(function=0)}), table)


def test_subfamilies_that_no_query_helps_with_at_once_add_up():
    table = Table(np.kron(np.eye(3, dtype=int), tight(4).answers) + np.repeat(np.arange(3), 4)[:, None] * 2)
    assert packing_bound(table, np.arange(12).reshape(3, 4).tolist()) == 9
    with pytest.raises(SettingsError, match="of one group only, found one that does of two"):
        packing_bound(tight(5), [[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1], [1, 1], [0, 1]], "should differ in an answer, found functions 0 and 2 alike"),
        (np.empty((0, 2), int), "at least one function, found none"),
    ],
)
def test_families_that_are_none_are_refused(rows, message):
    with pytest.raises(SettingsError, match=message):
        Table(np.array(rows))


def test_more_functions_than_answers_are_not_drawn():
    with pytest.raises(SettingsError, match="separate at most 4 functions, found 5"):
        drawn(5, 2, 2, np.random.default_rng(0))
