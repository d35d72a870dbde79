"""All that `rnnatlas theory` finds out, as one document."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from rnnatlas.rnn import System
from rnnatlas.seeds import stream
from rnnatlas.tasks.base import Instance, Task
from rnnatlas.theory import noise
from rnnatlas.theory.interactive import Depth, interrogate, names_all
from rnnatlas.theory.languages import Languages
from rnnatlas.theory.noninteractive import Separation, packing_bound, separate
from rnnatlas.theory.practice import Examination
from rnnatlas.theory.table import Table, drawn, separates, tight

FAMILIES = 20
"""Random families of each size."""
SIZES = (4, 8, 12)
TIGHT = (2, 4, 8, 12)
SEARCHED = 4
"""Letters up to which the languages' counts are found by search; beyond, by what docs/theory.md proves."""
LETTERS = 6
"""Most letters that are looked at."""
WRONG = (0.0, 0.01, 0.05, 0.1, 0.2)
RISK = 0.05
SHOWN = (1, 2, 4, 6, 12, 18, 36, 108)
"""Numbers of queries for which intervals are given."""

Row = dict[str, Any]


def parts(seed: int, letters: int) -> list[tuple[str, str, Callable[[], Row | list[Row]]]]:
    """What there is to find out: the table that a row or rows belong to, what is being done, and the work.

    Args:
        seed: Of the random families.
        letters: Most letters of the languages' alphabets.
    """
    small = range(2, min(letters, 3) + 1)
    return [
        *(("random", f"random families of {n}", partial(random_families, n, seed)) for n in SIZES),
        *(("tight", f"the family that needs {n - 1}", partial(tight_family, n)) for n in TIGHT),
        *(("languages", f"languages of {k} letters", partial(languages, k)) for k in range(2, letters + 1)),
        *(("lies", f"{k} letters, {e} wrong", partial(lies, k, e)) for k in small for e in (0, 1, 2)),
        ("noise", "noise", lambda: [noisy(Languages(), wrong) for wrong in WRONG]),
    ]


def study(seed: int, letters: int, show: Callable[[str], None] = lambda doing: None) -> dict[str, Any]:
    """Theorems on random families, the languages' counts, and what wrong answers cost.

    Args:
        seed: Of the random families.
        letters: Most letters of the languages' alphabets.
        show: Is told of each part what is being done.
    """
    document: dict[str, Any] = {"seed": seed}
    for table, doing, work in parts(seed, letters):
        show(doing)
        found = work()
        document.setdefault(table, []).extend(found if isinstance(found, list) else [found])
    return document


def _row(depth: Depth, separation: Separation) -> Row:
    return {
        "interactive_lower": depth.lower,
        "interactive_upper": depth.upper,
        "fixed_lower": separation.lower,
        "fixed_upper": separation.upper,
    }


def random_families(functions: int, seed: int) -> Row:
    """Theorem 3.1 on random families: means, and whether it and the relations between both counts hold."""
    fixed, interactive, holds = [], [], True
    for number in range(FAMILIES):
        random = stream(seed, "theory", functions, number)
        answers = int(random.integers(2, 4))
        table = drawn(functions, functions + int(random.integers(0, 8)), answers, random)
        depth, separation = interrogate(table), separate(table)
        assert (depth.exact, separation.exact) == (True, True), "families this small are searched wholly"
        nodes = len({node.query for node in depth.strategy.nodes()})
        holds &= depth.upper <= separation.upper <= nodes <= functions - 1
        fixed.append(separation.upper)
        interactive.append(depth.upper)
    return {
        "functions": functions,
        "families": FAMILIES,
        "interactive_mean": float(np.mean(interactive)),
        "interactive_most": max(interactive),
        "fixed_mean": float(np.mean(fixed)),
        "fixed_most": max(fixed),
        "theorem": functions - 1,
        "holds": bool(holds),
    }


def tight_family(functions: int) -> Row:
    """Theorem 3.2: the counts of the family that needs n − 1 queries."""
    table = tight(functions)
    return {"functions": functions, **_row(interrogate(table), separate(table)), "theorem": functions - 1}


def languages(tokens: int) -> list[Row]:
    """Theorem 3.3: counts for one number of letters and each notion of a query."""
    family = Languages(tokens)
    long = Table(family.allowed(family.long_prefixes()))
    interview, chosen = family.interview(), family.fixed_list()
    assert names_all(interview, long), "the interview names every language"
    assert separates(long, chosen), "the list separates all languages"
    groups = np.arange(long.functions).reshape(-1, family.values)
    packed = packing_bound(long, groups.tolist())
    proved = family.proved()
    rows = {
        "prefixes, long": [proved["long"], interview.depth, packed, len(chosen)],
        "prefixes, any": [proved["any"], interview.depth, proved["fixed, any"], len(chosen)],
        "whole strings": [tokens - 1, tokens - 1, proved["strings"], proved["strings"]],
    }
    if tokens <= SEARCHED:
        every = family.allowed(np.concatenate([family.long_prefixes(), family.all_prefixes()]))
        tables = {"prefixes, any": Table(every), "whole strings": Table(family.string_answers())}
        for query, table in {"prefixes, long": long, **tables}.items():
            depth = interrogate(table, known=None if query == "whole strings" else interview)
            separation = separate(table)
            rows[query] = [depth.lower, depth.upper, separation.lower, separation.upper]
    names = ["interactive_lower", "interactive_upper", "fixed_lower", "fixed_upper"]
    return [
        {
            "tokens": tokens,
            "languages": long.functions,
            "query": query,
            **dict(zip(names, row, strict=True)),
            "by": "search" if tokens <= SEARCHED else "proof",
        }
        for query, row in rows.items()
    ]


def lies(tokens: int, wrong: int) -> Row:
    """Counts for long prefixes if up to so many answers in all may be wrong."""
    family = Languages(tokens)
    table = Table(family.allowed(family.long_prefixes()))
    depth, separation = interrogate(table, wrong), separate(table, 2 * wrong + 1)
    return {"tokens": tokens, "wrong": wrong, **_row(depth, separation)}


def noisy(family: Languages, wrong: float, risk: float = RISK) -> Row:
    """Answers that suffice if each is wrong with some probability: long prefixes, asked several times."""
    depth, listed = family.interview().depth, len(family.fixed_list())
    number = len(family.shifts)
    times = noise.repetitions(wrong, depth, risk)
    apart = noise.redundancy(wrong, number, risk)
    return {
        "wrong": wrong,
        "risk": risk,
        "times": times,
        "interactive": depth * times,
        "apart": apart,
        "fixed": listed * apart,
        "any strategy, at least": noise.fewest(wrong, number, 3, risk),
    }


def examine(system: System, instances: Sequence[Instance], task: Task | None, seed: int) -> dict[str, Any]:
    """What the same queries find out about trained RNNs."""
    examined = Examination(system, instances, task)
    curves = examined.curves(seed)
    depth = examined.languages.interview().depth
    wrong = examined.wrong()
    rows = []
    for name, curve in curves.items():
        for queries in (count for count in SHOWN if count <= curve.accuracy.shape[1]):
            found = curve.at(queries, examined.language)
            ideal = float(curve.ideal[:, queries - 1].mean())
            row = {"queries": queries, "accuracy": found.mean, "low": found.low, "high": found.high}
            rows.append({"asked": name, **row, "ideal": ideal})
    return {
        "rnns": len(examined.given),
        "languages": len(set(examined.language.tolist())),
        "n": list(examined.counts),
        **wrong,
        "depth": depth,
        "expected at that depth": (1 - wrong["wrong answers"]) ** depth,
        "rows": rows,
        "curves": {
            name: {"accuracy": curve.accuracy.mean(0).tolist(), "ideal": curve.ideal.mean(0).tolist()}
            for name, curve in curves.items()
        },
    }
