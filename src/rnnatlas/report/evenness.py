"""How evenly encoders predict all properties (Herrmann et al., figs. 8, 19 and 20)."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from rnnatlas.evaluation.evaluate import PREDICTIONS
from rnnatlas.evaluation.roles import HELD_OUT, clusters
from rnnatlas.intervals import Interval, bootstrap
from rnnatlas.report.checks import Check, Checks, counted, find, verdict
from rnnatlas.report.claims import Claim
from rnnatlas.report.experiment import Results
from rnnatlas.report.published import NAMES, PUBLISHED
from rnnatlas.report.words import name

SKILL, WORST = "skill", "lowest skill"
TRAINED = ("embedding", "supervised")
CONSTANT = "constant"
NOT_EVEN = ("task", "angle", "direction")
"""Properties that the paper's finding on evenness is not about."""

DEFINITION = (
    "1 less the loss divided by that of a constant prediction: 1 is perfect, 0 as good as a constant, below "
    "that worse"
)
LOWEST = f"the lowest of the skills in {{}}; skill: {DEFINITION}"

Losses = dict[tuple[str, str], np.ndarray]
"""Property, and what is read → losses [seed, item]."""


def skill(prop: str) -> str:
    """What the figure of a property is called."""
    return f"{SKILL}, {prop}"


def properties(checks: Checks) -> list[str]:
    """Those with skills."""
    names = dict.fromkeys(check.name for check in checks if check.name.startswith(f"{SKILL}, "))
    return [one.removeprefix(f"{SKILL}, ") for one in names]


def checks(results: Results) -> list[Check]:
    """Skill in every property, the lowest of them, and paired differences of the lowest between encoders."""
    found: list[Check] = []
    known: dict[tuple[str, str], tuple[pa.Table, Losses]] = {}
    for encoder in results.encoders:
        tables = results.tables(encoder, PREDICTIONS)
        for split in HELD_OUT:
            if (read := _losses(tables, split)) is not None:
                known[encoder, split] = read
    for (encoder, split), (items, losses) in known.items():
        seeds = tuple(results.experiment.runs[encoder])
        shared = {"split": split, "encoder": encoder, "seeds": seeds, **counted(items)}
        for of in TRAINED:
            own = [prop for prop, read in losses if read == of and (prop, CONSTANT) in losses]
            for prop in own:
                interval = _lowest([losses], [prop], of, items)
                found.append(
                    Check(name=skill(prop), of=of, interval=interval, definition=DEFINITION,
                          lower_is_better=False, **shared)
                )  # fmt: skip
            some = _compared(own)
            if len(some) > 1:
                interval = _lowest([losses], some, of, items)
                found.append(
                    Check(name=WORST, of=of, interval=interval, definition=LOWEST.format(", ".join(some)),
                          lower_is_better=False, **shared)
                )  # fmt: skip
    return found + list(_differences(results, known))


def _compared(props: Sequence[str]) -> list[str]:
    return [prop for prop in props if prop not in NOT_EVEN]


def _losses(tables: Sequence[pa.Table], split: str) -> tuple[pa.Table, Losses] | None:
    """Losses on one split, calibrated where they are so, of the same items in the same order."""
    if not tables:
        return None
    columns = [np.asarray(tables[0][one].to_pylist()) for one in ("split", "property", "predictor")]
    found: Losses = {}
    items: list[pa.Table] = []
    for prop in dict.fromkeys(columns[1]):
        for of in (*TRAINED, CONSTANT):
            rows = np.flatnonzero((columns[0] == split) & (columns[1] == prop) & (columns[2] == of))
            if not len(rows):
                continue
            items.append(tables[0].take(pa.array(rows)).select(["id", "split", "run", "task"]))
            if items[-1]["id"].equals(items[0]["id"]):
                found[str(prop), of] = np.stack([_loss(table.take(pa.array(rows))) for table in tables])
    return (items[0], found) if items else None


def _loss(table: pa.Table) -> np.ndarray:
    calibrated = "calibrated_loss" in table.column_names and table["calibrated_loss"].null_count == 0
    values = table["calibrated_loss" if calibrated else "loss"].to_numpy().astype(np.float64)
    return values if np.isfinite(values).all() else table["loss"].to_numpy().astype(np.float64)


def _lowest(sides: Sequence[Losses], props: Sequence[str], of: str, items: pa.Table) -> Interval:
    """The lowest skill of an encoder, or that of one less that of another."""
    columns = [losses[prop, read] for losses in sides for prop in props for read in (of, CONSTANT)]

    def figure(means: np.ndarray) -> np.ndarray:
        lowest = [
            (1 - half[0::2] / np.maximum(half[1::2], 1e-12)).min(axis=0)
            for half in np.split(means, len(sides))
        ]
        return lowest[0] - lowest[1] if len(lowest) > 1 else lowest[0]

    highest = 1.0 if len(sides) == 1 else np.inf
    return bootstrap(np.stack(columns), clusters(items), figure, bounds=(-np.inf, highest))


def _differences(results: Results, known: dict[tuple[str, str], tuple[pa.Table, Losses]]) -> Iterator[Check]:
    """Of encoders that were judged on the same items with the same seeds."""
    for (a, split), (b, other) in itertools.permutations(known, 2):
        (items, left), (others, right) = known[a, split], known[b, other]
        seeds = tuple(results.experiment.runs[a])
        if split != other or seeds != tuple(results.experiment.runs[b]):
            continue
        if items["id"].to_pylist() != others["id"].to_pylist():
            continue
        for of in TRAINED:
            some = _compared([prop for prop, read in left if read == of and (prop, of) in right])
            if len(some) < 2 or any(
                (prop, CONSTANT) not in losses for prop in some for losses in (left, right)
            ):
                continue
            yield Check(name=WORST, split=split, encoder=a, seeds=seeds, of=of, versus=(b, of),
                        interval=_lowest([left, right], some, of, items), lower_is_better=False,
                        definition=LOWEST.format(", ".join(some)), **counted(items))  # fmt: skip


def rows(
    checks: Checks, split: str, of: str
) -> list[tuple[str, list[Interval | None], Interval | None, int]]:
    """Of each encoder its skills, the lowest of those compared, and its worst rank among encoders.

    The order of the skills is that of `properties`.
    """
    props = properties(checks)
    encoders = list(dict.fromkeys(c.encoder for c in checks if (c.split, c.of) == (split, of)))
    table = {one: [find(checks, skill(prop), split, one, of) for prop in props] for one in encoders}
    worst = dict.fromkeys(encoders, 1)
    for place, prop in enumerate(props):
        if prop in NOT_EVEN:
            continue
        for one in encoders:
            own = table[one][place]
            means = [known.mean for row in table.values() if (known := row[place]) is not None]
            if own is not None:
                worst[one] = max(worst[one], 1 + sum(mean > own.mean for mean in means))
    return [(one, table[one], find(checks, WORST, split, one, of), worst[one]) for one in encoders]


def claims(checks: Checks, task: str, split: str) -> Iterable[Claim]:
    """That DWS is the most even of all encoders, as the paper finds."""
    of, dws = "embedding", "dws"
    own = find(checks, WORST, split, dws, of)
    if task not in PUBLISHED or own is None:
        return
    gaps = {
        check.versus[0]: check.interval
        for check in checks
        if (check.name, check.split, check.encoder, check.of) == (WORST, split, dws, of) and check.versus
    }
    seeds = next(len(check.seeds) for check in checks if check.encoder == dws)
    some = ", ".join(_compared(properties(checks)))
    evidence = f"lowest skill in {some} on {split}, of frozen embeddings: {name(dws)} {own}"
    for other, gap in gaps.items():
        evidence += f"; {name(other)} {find(checks, WORST, split, other, of)} (paired difference {gap})"
    yield Claim(
        f"{name(dws)} is the most even: its lowest skill in {some} is higher than that of any other "
        "encoder of the paper",
        verdict([gap for other, gap in gaps.items() if other in NAMES], seeds),
        evidence,
    )
