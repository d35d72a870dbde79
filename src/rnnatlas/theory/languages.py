"""The family of theorem 3.3: which language { aⁿ bⁿ⁺ᵐᵇ cⁿ⁺ᵐᶜ … } is it, by what may come next?"""

import dataclasses
import functools
import itertools
import string

import numpy as np
from jaxtyping import Bool, Int, UInt8

from rnnatlas.errors import SettingsError
from rnnatlas.theory.interactive import Strategy


@dataclasses.dataclass(frozen=True)
class Languages:
    """Languages { aⁿ bⁿ⁺ᵐᵇ cⁿ⁺ᵐᶜ … : n ≥ max(0, −min m) }, each m between two bounds.

    A *prefix* is any string of letters. The function of a language maps a prefix to the set of what may come
    next, letters or the end, in strings of the language that begin with the prefix; to the empty set if there
    are none. So it is total, and `allowed` computes it. Prefixes whose letters are not in alphabetical order
    are answered by the empty set in every language, so only the others are queries: numbers of a, b, ….

    Args:
        tokens: Letters of the alphabet.
        smallest: Smallest m.
        largest: Largest m.
    """

    tokens: int = 4
    smallest: int = -3
    largest: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.tokens <= 7:
            raise SettingsError(
                f"tokens should lie between 2 and 7, found {self.tokens}; choose another number"
            )
        if self.smallest > self.largest:
            raise SettingsError(
                f"smallest should be at most largest, found {self.smallest} and {self.largest}; exchange them"
            )

    @property
    def values(self) -> int:
        """How many values an m can have."""
        return self.largest - self.smallest + 1

    @property
    def long(self) -> int:
        """The smallest n for which every letter comes at least once in every language."""
        return max(0, -self.smallest) + 1

    @functools.cached_property
    def shifts(self) -> Int[np.ndarray, "language shift"]:
        """The numbers m of every language."""
        values = range(self.smallest, self.largest + 1)
        return np.array(list(itertools.product(values, repeat=self.tokens - 1)), dtype=np.int64)

    def allowed(
        self,
        prefixes: Int[np.ndarray, "prefix letter"],
        shifts: Int[np.ndarray, "language shift"] | None = None,
    ) -> UInt8[np.ndarray, "language prefix"]:
        """What may come next: bit i is letter i, the bit after the last letter is the end of the string."""
        shifts = self.shifts if shifts is None else shifts
        answers = np.zeros((len(prefixes), len(shifts)), np.uint8)
        for n in np.unique(prefixes[:, 0]):
            whole = np.pad(n + shifts.T, ((1, 1), (0, 0)), constant_values=((n, 1), (0, 0)))
            exists = np.asarray((whole >= 0).all(0))
            after = [1 << last + 1 + (whole[last + 1 :] > 0).argmax(0) for last in range(self.tokens)]
            for place in np.flatnonzero(prefixes[:, 0] == n):
                last = int(np.flatnonzero(prefixes[place]).max(initial=0))
                answers[place] = _answer(prefixes[place, : last + 1], whole, exists, after[last])
        return np.ascontiguousarray(answers.T)

    def long_prefixes(self, n: int | None = None) -> Int[np.ndarray, "prefix letter"]:
        """Prefixes aⁿ b… from the first b on, of one n so large that every letter comes in every language.

        The last letter of a prefix comes n + t times, t one of the values of m. They sort the languages alike
        whatever n is, so another n is another way of asking the same.
        """
        n = self.long if n is None else n
        return self._prefixes(n, n + self.smallest)

    def all_prefixes(self) -> Int[np.ndarray, "prefix letter"]:
        """Prefixes of all n up to `long`: any other prefix tells no more than one of them does."""
        counts = range(self.long + 1)
        return np.concatenate([part for n in counts for part in (self._only_a(n), self._prefixes(n, 1))])

    def _only_a(self, n: int) -> Int[np.ndarray, "1 letter"]:
        return np.array([[n, *[0] * (self.tokens - 1)]])

    def _prefixes(self, n: int, least: int) -> Int[np.ndarray, "prefix letter"]:
        """Prefixes with a letter after aⁿ, the last letter `least` times or more."""
        whole = range(max(0, n + self.smallest), n + self.largest + 1)
        rows = [
            (n, *counts, last, *[0] * (self.tokens - 2 - place))
            for place in range(self.tokens - 1)
            for counts in itertools.product(whole, repeat=place)
            for last in range(max(1, least), n + self.largest + 1)
        ]
        return np.array(rows, dtype=np.int64).reshape(len(rows), self.tokens)

    def fixed_list(self) -> list[int]:
        """Numbers of long prefixes that separate all languages: of the last letter every other t.

        With an even number of values no list is shorter; with an odd one it may be.
        """
        places = {prefix: place for place, prefix in enumerate(map(tuple, self.long_prefixes().tolist()))}
        whole = self.long + np.arange(self.smallest, self.largest + 1)
        ways = itertools.product(whole.tolist(), repeat=self.tokens - 2)
        return [places[self.long, *way, last] for way in ways for last in whole[::2].tolist()]

    def interview(self) -> Strategy:
        """The strategy of theorem 3.3 over long prefixes: letter by letter, each m by halving."""
        places = {prefix: place for place, prefix in enumerate(map(tuple, self.long_prefixes().tolist()))}
        number = {shifts: language for language, shifts in enumerate(map(tuple, self.shifts.tolist()))}

        def ask(known: tuple[int, ...], low: int, high: int) -> Strategy:
            """Which m of the next letter, from `low` to `high`?"""
            if low == high:
                known = (*known, low)
                if len(known) < self.tokens - 1:
                    return ask(known, self.smallest, self.largest)
                return Strategy(function=number[known])
            letter, middle = len(known) + 1, (low + high) // 2
            prefix = [self.long, *(self.long + m for m in (*known, middle))]
            branches = {1 << letter: ask(known, middle + 1, high), 2 << letter: ask(known, middle, middle)}
            if low < middle:
                branches[0] = ask(known, low, middle - 1)
            query = places[*prefix, *[0] * (self.tokens - len(prefix))]
            return Strategy(query=query, branches=branches)

        return ask((), self.smallest, self.largest)

    def proved(self) -> dict[str, int]:
        """Bounds that docs/theory.md proves, by what they are about.

        `long` and `any`: least depth over long prefixes and over any. `fixed, any`: least list of prefixes of
        any n. `strings`: list of whole strings. That of whole strings is exact, as is `long`.
        """
        values = np.arange(self.smallest, self.largest + 1)
        others = itertools.product(values.tolist(), repeat=self.tokens - 2)
        floors = (max(self.smallest, min(0, *way, 0)) for way in others)
        positive = self.largest - max(self.smallest, 1) + 1
        return {
            "long": (self.tokens - 1) * (self.values.bit_length() - 1),
            "any": (self.tokens - 1) * max(0, positive.bit_length() - 1) if positive > 0 else 0,
            "fixed, any": sum(max(0, self.largest - floor + 1) // 2 for floor in floors),
            "strings": self.values ** (self.tokens - 2),
        }

    def strings(self) -> Int[np.ndarray, "prefix letter"]:
        """Whole strings to be read with every answer on the way: one long string a language."""
        return self.long + np.pad(self.shifts, ((0, 0), (1, 0)))

    def string_answers(self) -> Int[np.ndarray, "language string"]:
        """Number of the list of answers that a language gives along each of the strings."""
        columns = []
        for whole in self.strings():
            ends = np.cumsum(whole)
            steps = np.arange(1, ends[-1] + 1)
            counts = np.clip(steps[:, None] - (ends - whole), 0, whole)
            columns.append(np.unique(self.allowed(counts), axis=0, return_inverse=True)[1])
        return np.stack(columns, axis=1)

    def show(self, prefix: Int[np.ndarray, " letter"]) -> str:
        """A prefix for people: "aaaabb"."""
        return "".join(letter * int(count) for letter, count in zip(string.ascii_lowercase, prefix))


def _answer(
    prefix: Int[np.ndarray, " letter"],
    whole: Int[np.ndarray, "count language"],
    exists: Bool[np.ndarray, " language"],
    after: Int[np.ndarray, " language"],
) -> UInt8[np.ndarray, " language"]:
    """What may come next in each language.

    Args:
        prefix: How often each letter comes, up to the last one there.
        whole: How often each letter comes in the language's string of that n, and the end once.
        exists: Whether the language has such a string.
        after: What follows the last letter in that string.
    """
    last = len(prefix) - 1
    fits = exists
    for count, own in zip(whole[1:last], prefix[1:], strict=False):
        fits = fits & (count == own)
    answer = np.where(fits & (whole[last] == prefix[last]), after, 0).astype(np.uint8)
    if last:
        answer[fits & (whole[last] > prefix[last])] = 1 << last
    else:
        answer |= 1  # strings of any larger n are there
    return answer
