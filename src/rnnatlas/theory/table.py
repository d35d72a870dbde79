"""A finite game of interrogation: which of these functions is it?"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Integer

from rnnatlas.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class Table:
    """Answers of n pairwise different functions to q queries, as whole numbers.

    The interrogator knows the table. One of the functions is in a black box, and it is to be named after few
    queries (Herrmann et al. 2024, section 3). Only which answers to a query are the same matters, so what the
    numbers stand for is left to whoever made the table.

    Args:
        answers: A row a function, a column a query.

    Raises:
        SettingsError: There is no function, or two of them answer every query alike, so nobody can tell
            which of the two it is.
    """

    answers: Integer[np.ndarray, "function query"]

    def __post_init__(self) -> None:
        if not len(self.answers):
            raise SettingsError("a family should hold at least one function, found none; add one")
        known: dict[bytes, int] = {}
        for function, row in enumerate(self.answers):
            other = known.setdefault(row.tobytes(), function)
            if other != function:
                raise SettingsError(
                    f"functions should differ in an answer, found functions {other} and {function} alike; "
                    "leave one out or add a query that separates them"
                )

    @property
    def functions(self) -> int:
        """How many functions there are."""
        return self.answers.shape[0]

    @property
    def queries(self) -> int:
        """How many queries there are."""
        return self.answers.shape[1]

    @property
    def most_answers(self) -> int:
        """The largest number of different answers to one query."""
        return int(max((len(np.unique(column)) for column in self.answers.T), default=1))

    def kinds(self) -> Int[np.ndarray, " kind"]:
        """The first query of each kind: queries that sort the functions alike are of one kind."""
        patterns = np.empty(self.answers.shape[::-1], np.int64)
        for pattern, column in zip(patterns, self.answers.T, strict=True):
            _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
            pattern[:] = first[inverse]  # answers are called by who gives them first
        _, first = np.unique(patterns, axis=0, return_index=True)
        constant = (patterns == 0).all(1)
        return np.sort(first[~constant[first]])


def separates(table: Table, queries: Sequence[int]) -> bool:
    """Whether no two functions answer all of these queries alike."""
    return len({row.tobytes() for row in table.answers[:, list(queries)]}) == table.functions


def distance(table: Table, queries: Sequence[int]) -> int:
    """In how many of their answers to these queries the two functions most alike differ.

    A query that is listed several times counts as often. The queries separate all functions if this is 1 or
    more, and still do so when any e answers are wrong if it is 2e + 1 or more.
    """
    chosen = table.answers[:, list(queries)]
    apart = [(chosen[i + 1 :] != chosen[i]).sum(1).min() for i in range(table.functions - 1)]
    return int(min(apart, default=len(queries)))


def tight(functions: int) -> Table:
    """The family of theorem 3.2: each function but the last answers 1 to one query, its own, and else 0."""
    return Table(np.eye(functions, dtype=np.int64)[:, :-1])


def drawn(functions: int, queries: int, answers: int, random: np.random.Generator) -> Table:
    """A family of functions whose answers are drawn alike, drawn again until they are pairwise different.

    Raises:
        SettingsError: So few queries cannot separate so many functions.
    """
    if answers**queries < functions:
        raise SettingsError(
            f"{queries} queries of {answers} answers separate at most {answers**queries} functions, found "
            f"{functions}; take fewer"
        )
    rows: dict[bytes, np.ndarray] = {}
    while len(rows) < functions:
        row = random.integers(answers, size=queries)
        rows.setdefault(row.tobytes(), row)
    return Table(np.stack(list(rows.values())))
