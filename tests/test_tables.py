"""Laws of conditions, for random tables: SQL chooses what a loop over the rows would."""

import operator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnatlas.errors import UnknownName
from rnnatlas.tables import flat, rows_where

COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "<>": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
"""SQL's comparisons and Python's."""
COLUMNS = ("step", "metrics.performance", "split")

numbers = st.integers(-3, 3)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "step": numbers,
            "metrics": st.fixed_dictionaries({"performance": numbers.map(lambda value: value / 2)}),
            "split": st.sampled_from(["train", "ood", "it's"]),
        }
    ),
    min_size=1,
    max_size=8,
)
FEW = settings(max_examples=40, deadline=None)


@st.composite
def comparisons(draw):
    """A comparison as SQL, and as a function of a row."""
    column, sign = draw(st.sampled_from(COLUMNS)), draw(st.sampled_from(sorted(COMPARE)))
    if column == "split":
        value = draw(st.sampled_from(["train", "ood", "it's", "none"]))
        text = "'{}'".format(value.replace("'", "''"))
    else:
        value = draw(numbers) / 2
        text = repr(value)
    return f"{column} {sign} {text}", lambda row: COMPARE[sign](entry(row, column), value)


def entry(row, column):
    for part in column.split("."):
        row = row[part]
    return row


def table(rows):
    return pa.Table.from_pylist(rows)


def chosen(rows, condition):
    return rows_where(table(rows), condition).tolist()


@FEW
@given(ROWS, comparisons())
def test_a_comparison_chooses_the_rows_that_it_holds_for_in_their_order(rows, comparison):
    condition, holds = comparison
    assert chosen(rows, condition) == [number for number, row in enumerate(rows) if holds(row)]


@FEW
@given(ROWS, comparisons(), comparisons())
def test_and_or_and_not_are_those_of_sets(rows, one, other):
    (a, holds_a), (b, holds_b) = one, other
    for condition, holds in (
        (f"({a}) AND ({b})", lambda row: holds_a(row) and holds_b(row)),
        (f"{a} OR {b}", lambda row: holds_a(row) or holds_b(row)),
        (f"NOT ({a})", lambda row: not holds_a(row)),
    ):
        assert chosen(rows, condition) == [number for number, row in enumerate(rows) if holds(row)]


@FEW
@given(ROWS, comparisons(), st.data())
def test_a_row_is_chosen_for_what_it_holds_alone(rows, comparison, data):
    """In another order, and where further columns stand beside it."""
    condition, _ = comparison
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = table(rows).take(pa.array(order))
    found = rows_where(shuffled, condition).tolist()
    assert sorted(order[place] for place in found) == chosen(rows, condition)
    wider = shuffled.append_column("other", pa.array([[1.0, 2.0]] * len(rows)))
    assert rows_where(wider, condition).tolist() == found


@FEW
@given(ROWS)
def test_missing_values_fit_no_comparison(rows):
    numbered = table(rows).append_column("loss", pa.array([None, *[1.0] * (len(rows) - 1)], pa.float64()))
    assert rows_where(numbered, "loss < 9").tolist() == list(range(1, len(rows)))
    assert rows_where(numbered, "NOT loss < 9").tolist() == []
    assert rows_where(numbered, "loss IS NULL").tolist() == [0]


def test_structs_become_columns_of_their_fields_however_deep_they_are():
    nested = table([{"a": {"b": {"c": 1}, "d": "x"}, "e": 2}])
    assert sorted(flat(nested).column_names) == ["a.b.c", "a.d", "e"]
    assert flat(flat(nested)).equals(flat(nested))
    assert rows_where(nested, "a.b.c = 1 AND d = 'x'").tolist() == [0]


@pytest.mark.parametrize("name", ["performanc", "metrics.perf", "splt"])
def test_names_that_are_none_are_refused_with_those_that_are(name):
    rows = [{"step": 1, "metrics": {"performance": 0.5}, "split": "ood"}]
    with pytest.raises(UnknownName, match="performance"):
        chosen(rows, f"{name} > 0")


@pytest.mark.parametrize(
    "condition", ["split = train", 'split = "train"', "split = steep", "split <> new-runs"]
)
def test_strings_without_quotes_are_told_from_names(condition):
    rows = [{"step": 1, "split": "train"}, {"step": 2, "split": "steep"}]
    with pytest.raises(
        UnknownName, match=r"no column is called .* \(a string stands in single quotes\); there"
    ):
        chosen(rows, condition)
