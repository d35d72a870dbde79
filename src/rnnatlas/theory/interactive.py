"""Queries that depend on earlier answers: the least worst-case number, by search with memory, with bounds."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping

from rnnatlas.theory.table import Table

POSITIONS = 20_000
"""Positions that the search may look at; a count, so that results do not depend on the machine."""

Position = tuple[int, ...]
"""Which functions are possible with 0, 1, … wrong answers so far, as bits of one number each."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What to ask, and how to go on after each answer; a leaf names a function.

    Attributes:
        function: The function that is named, of a leaf.
        query: What is asked, elsewhere.
        branches: How to go on, by the answer.
    """

    function: int | None = None
    query: int | None = None
    branches: Mapping[int, "Strategy"] = dataclasses.field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Queries in the worst case."""
        return 1 + max(branch.depth for branch in self.branches.values()) if self.branches else 0

    def nodes(self) -> Iterator["Strategy"]:
        """All places where something is asked."""
        if self.branches:
            yield self
            for branch in self.branches.values():
                yield from branch.nodes()


@dataclasses.dataclass(frozen=True)
class Depth:
    """A strategy, and how shallow one could be.

    Attributes:
        strategy: It names every function.
        lower: No strategy needs fewer queries in the worst case.
    """

    strategy: Strategy
    lower: int

    @property
    def upper(self) -> int:
        """The strategy's worst case."""
        return self.strategy.depth

    @property
    def exact(self) -> bool:
        """Whether no strategy is shallower, provably."""
        return self.lower == self.upper


def names_all(strategy: Strategy, table: Table, lies: int = 0) -> bool:
    """Whether a strategy names every function, whichever answers, up to `lies` of them, are wrong.

    Plays all games, and shares nothing with the search that found the strategy.
    """

    def right(node: Strategy, function: int, left: int) -> bool:
        if node.query is None:
            return node.function == function
        truth = int(table.answers[function, node.query])
        return truth in node.branches and all(
            right(branch, function, left - (answer != truth))
            for answer, branch in node.branches.items()
            if left or answer == truth
        )

    return all(right(strategy, function, lies) for function in range(table.functions))


def interrogate(
    table: Table, lies: int = 0, known: Strategy | None = None, positions: int = POSITIONS
) -> Depth:
    """The strategy that names every function after the fewest queries in the worst case.

    Iterative deepening from where answers would suffice (`Game.fits`), with a memory of positions, until a
    strategy is found or all of fewer queries than the greedy one are ruled out. The same query may be asked
    again, which helps only where answers may be wrong.

    Args:
        table: The family.
        lies: How many answers may be wrong in all (the game of Rényi and Ulam).
        known: A strategy that names every function, to begin with instead of the greedy one.
        positions: How many the search may look at; where they do not suffice, the greedy strategy is returned
            (or the known one) with the bound that was reached.
    """
    game = Game(table, lies)
    start = (2**table.functions - 1, *[0] * lies)
    best = known or game.greedy(start)
    depth = next(depth for depth in range(best.depth + 1) if game.fits(start, depth))
    game.left = positions
    try:
        while depth < best.depth:
            if game.solvable(start, depth):
                best = game.strategy(start, depth)
                break
            depth += 1
    except _Spent:
        pass
    assert names_all(best, table, lies)
    return Depth(best, depth)


class _Spent(Exception):
    """The search has looked at as many positions as it may."""


class Game:
    """Positions of the game of one table, and what is known of them.

    Args:
        table: The family.
        lies: How many answers may be wrong in all.
    """

    def __init__(self, table: Table, lies: int = 0):
        self.lies, self.most, self.left = lies, table.most_answers, 0
        self.queries: list[tuple[int, dict[int, int]]] = []
        for query in table.kinds().tolist():
            givers: dict[int, int] = {}
            for function, answer in enumerate(table.answers[:, query].tolist()):
                givers[answer] = givers.get(answer, 0) | 1 << function
            self.queries.append((query, givers))
        self._failed: dict[Position, int] = {}
        self._solved: dict[Position, tuple[int, int]] = {}

    def after(self, position: Position, givers: int) -> Position:
        """Where an answer leads: of those that do not give it, those stay that could have one more wrong."""
        before = (0, *position)
        return tuple(own & givers | less & ~givers for own, less in zip(position, before))

    @functools.cache  # noqa: B019
    def _room(self, depth: int, wrong: int) -> int:
        return sum(math.comb(depth, k) * (self.most - 1) ** k for k in range(wrong + 1))

    def fits(self, position: Position, depth: int) -> bool:
        """Whether there are as many lists of `depth` answers as lead to the functions that are possible.

        Each function needs a list for every way in which up to so many of its answers can be wrong
        (Berlekamp's weight); without wrong answers, one. If a query has fewer answers than the most, further
        ones that nobody gives do no harm: they leave fewer possible than any other.
        """
        needed = sum(
            own.bit_count() * self._room(depth, self.lies - wrong) for wrong, own in enumerate(position)
        )
        return needed <= self.most**depth or _possible(position) <= 1

    def moves(self, position: Position) -> list[tuple[int, int, dict[int, Position]]]:
        """Queries that tell something, one of each kind, those first whose worst answer leaves least."""
        alive = functools.reduce(int.__or__, position)
        weights = [(self.most + 1) ** (self.lies - wrong) for wrong in range(self.lies + 1)]
        moves, known = [], set()
        for query, givers in self.queries:
            answers = {answer: own for answer, own in givers.items() if own & alive}
            kind = frozenset(own & alive for own in answers.values())
            if len(kind) < 2 or kind in known:
                continue
            known.add(kind)
            ways = {answer: self.after(position, own) for answer, own in answers.items()}
            worst = max(sum(w * own.bit_count() for w, own in zip(weights, way)) for way in ways.values())
            moves.append((worst, query, ways))
        return sorted(moves, key=lambda move: move[:2])

    def solvable(self, position: Position, depth: int) -> bool:
        """Whether some strategy of that depth names every function that is possible."""
        if _possible(position) <= 1:
            return True
        if self._failed.get(position, -1) >= depth or not self.fits(position, depth):
            return False
        if position in self._solved and self._solved[position][0] <= depth:
            return True
        self.left -= 1
        if self.left < 0:
            raise _Spent
        for _, query, ways in self.moves(position):
            if all(self.fits(way, depth - 1) for way in ways.values()):
                hardest = sorted(ways.values(), key=lambda way: -sum(own.bit_count() for own in way))
                if all(self.solvable(way, depth - 1) for way in hardest):
                    self._solved[position] = depth, query
                    return True
        self._failed[position] = depth
        return False

    def strategy(self, position: Position, depth: int) -> Strategy:
        """The strategy that `solvable` found."""
        if _possible(position) <= 1:
            return _leaf(position)
        _, query = self._solved[position]
        [ways] = [ways for _, other, ways in self.moves(position) if other == query]
        return Strategy(
            query=query, branches={answer: self.strategy(way, depth - 1) for answer, way in ways.items()}
        )

    def greedy(self, position: Position) -> Strategy:
        """The strategy that always asks what leaves least after the worst answer."""
        if _possible(position) <= 1:
            return _leaf(position)
        _, query, ways = self.moves(position)[0]
        return Strategy(query=query, branches={answer: self.greedy(way) for answer, way in ways.items()})


def _possible(position: Position) -> int:
    return functools.reduce(int.__or__, position).bit_count()


def _leaf(position: Position) -> Strategy:
    return Strategy(function=functools.reduce(int.__or__, position).bit_length() - 1)
