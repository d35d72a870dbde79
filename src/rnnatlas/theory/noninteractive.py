"""Queries fixed in advance: the fewest that separate a family, by integer programming, with bounds."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped

from rnnatlas.errors import SettingsError
from rnnatlas.theory.table import Table, distance

NODES = 20_000
"""Branches that integer programming may take; a count, so that results do not depend on the machine."""

TOLERANCE = 1e-6
"""By how much HiGHS may miss a whole number."""


@dataclasses.dataclass(frozen=True)
class Separation:
    """Queries that separate a family, and how few there could be.

    Attributes:
        queries: Their numbers, one that is asked several times as often.
        lower: No fewer separate the family.
    """

    queries: tuple[int, ...]
    lower: int

    @property
    def upper(self) -> int:
        """How many they are."""
        return len(self.queries)

    @property
    def exact(self) -> bool:
        """Whether there are provably no fewer."""
        return self.lower == self.upper


def separate(table: Table, apart: int = 1, nodes: int = NODES) -> Separation:
    """The fewest queries on which any two functions differ in `apart` answers.

    A covering program: as few queries as possible, and for each pair of functions at least `apart` that
    separate them. Pairs are put in as solutions violate them; a solution that violates none is optimal, since
    the program with fewer pairs bounds the whole one from below.

    Args:
        table: The family.
        apart: The least number of answers; 2e + 1 bears e wrong ones. A query may be asked several times.
        nodes: Branches that the search may take; where they do not suffice, the queries of `greedy` are
            returned with the bound that was reached.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    kinds = table.kinds()
    answers = table.answers[:, kinds]
    found = greedy(table, apart)
    lower = max(counting_bound(table), pair_bound(table, apart))
    pairs = _hardest(answers)
    while lower < len(found):
        rows = (answers[pairs[:, 0]] != answers[pairs[:, 1]]).astype(float)
        solved = milp(
            np.ones(len(kinds)),
            integrality=np.ones(len(kinds)),
            bounds=Bounds(0, apart),
            constraints=LinearConstraint(_sparse(rows), lb=apart),
            options={"node_limit": nodes, "mip_rel_gap": 0.0},
        )
        if solved.mip_dual_bound is not None and math.isfinite(solved.mip_dual_bound):
            lower = max(lower, math.ceil(solved.mip_dual_bound - TOLERANCE))
        if solved.x is None or solved.status != 0:
            break
        times = np.round(solved.x).astype(int)
        violated = _violated(answers, times, apart)
        if not len(violated):
            found = np.repeat(kinds, times).tolist()
            break
        pairs = np.unique(np.concatenate([pairs, violated]), axis=0)
    assert distance(table, found) >= apart or table.functions == 1
    return Separation(tuple(map(int, found)), min(lower, len(found)))


def _sparse(rows: np.ndarray):
    from scipy.sparse import csr_array

    return csr_array(rows)


def _hardest(answers: Shaped[np.ndarray, "function query"]) -> Int[np.ndarray, "pair 2"]:
    """For each function the one that fewest queries separate from it."""
    pairs = set()
    for i, own in enumerate(answers):
        differ = (answers != own).sum(1)
        differ[i] = answers.shape[1] + 1
        pairs.add(tuple(sorted((i, int(differ.argmin())))))
    return np.array(sorted(pair for pair in pairs if pair[0] != pair[1]), dtype=np.int64).reshape(-1, 2)


def _violated(
    answers: Shaped[np.ndarray, "function query"], times: Int[np.ndarray, " query"], apart: int
) -> Int[np.ndarray, "pair 2"]:
    """For each function the nearest one after it, where that is too near."""
    used = np.flatnonzero(times)
    chosen, weights = answers[:, used], times[used]
    pairs = []
    for i in range(len(chosen) - 1):
        differ = (chosen[i + 1 :] != chosen[i]) @ weights
        if differ.min() < apart:
            pairs += [(i, i + 1 + int(j)) for j in np.flatnonzero(differ == differ.min())[:3]]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def greedy(table: Table, apart: int = 1) -> list[int]:
    """Queries in the order of how many pairs that are not yet `apart` they separate, until all are."""
    kinds = table.kinds()
    separated = _separated(table.answers[:, kinds])
    missing = np.full(separated.shape[1], apart)
    chosen: list[int] = []
    while missing.any():
        best = int((separated @ (missing > 0)).argmax())
        chosen.append(int(kinds[best]))
        missing -= separated[best] & (missing > 0)
    return chosen


def _separated(answers: Shaped[np.ndarray, "function query"]) -> Bool[np.ndarray, "query pair"]:
    first, second = np.triu_indices(len(answers), 1)
    return (answers[first] != answers[second]).T


def counting_bound(table: Table) -> int:
    """The least number of answers that can make as many different lists as there are functions."""
    count, most = 0, 1
    while most < table.functions:
        count, most = count + 1, most * table.most_answers
    return count


def pair_bound(table: Table, apart: int = 1) -> int:
    """The least number of queries that can separate all pairs, `apart` times each."""
    pairs = math.comb(table.functions, 2)
    alike = [np.unique(column, return_counts=True)[1].tolist() for column in table.answers.T]
    most = max((pairs - sum(math.comb(size, 2) for size in sizes) for sizes in alike), default=0)
    return math.ceil(apart * pairs / most) if pairs else 0


def packing_bound(table: Table, groups: Sequence[Sequence[int]]) -> int:
    """A lower bound from subfamilies that no query helps with two of at once.

    If none of the queries that separate two functions of one group separates two of another, then all groups
    together need as many queries as the sum of what each needs, which is found exactly.

    Raises:
        SettingsError: A query separates functions of two groups.
    """
    helped = np.zeros(table.queries, dtype=int)
    needs: dict[bytes, int] = {}
    total = 0
    for group in groups:
        answers = table.answers[list(group)]
        useful = np.flatnonzero((answers != answers[0]).any(0))
        helped[useful] += 1
        own = Table(answers[:, useful[Table(answers[:, useful]).kinds()]]) if len(group) > 1 else None
        if own is not None:
            key = own.answers.tobytes()
            needs[key] = needs[key] if key in needs else separate(own).lower
            total += needs[key]
    if helped.max(initial=0) > 1:
        raise SettingsError("a query should separate functions of one group only, found one that does of two")
    return total
