"""How well emulations perform beside their originals, by level of performance (Herrmann et al., fig. 5)."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rnnatlas.evaluation.levels import levels
from rnnatlas.evaluation.roles import clusters
from rnnatlas.intervals import Interval, bootstrap, correlation, ranks
from rnnatlas.report.checks import EVERY, Check, Checks, counted, find
from rnnatlas.report.claims import Claim, Verdict
from rnnatlas.report.experiment import Results
from rnnatlas.report.published import NAMES, PUBLISHED
from rnnatlas.report.words import ENOUGH_SEEDS, name

BEST = 0.8
"""Originals that perform better than this are the best ones, and emulations perform like them that reach this
share of their performance."""

RANK = "emulated performance, rank correlation"
APART = "emulated performance, mean absolute difference"
SHARE = "emulated performance, share of the best originals'"
DEFINITIONS = {
    RANK: "Spearman correlation of an RNN's performance and its emulation's",
    APART: "mean absolute difference of an RNN's performance and its emulation's",
    SHARE: f"mean performance of the emulations of RNNs that perform better than {BEST}, divided by that of "
    "these RNNs",
}
TITLES = {RANK: "rank correlation", APART: "mean absolute difference", SHARE: "share of the best originals’"}
KINDS = {"emulated": "conditioned", "zero": "zero"}
"""Columns of emulated.parquet, and whose figures they are."""


def checks(results: Results) -> list[Check]:
    """All three, by encoder and split, and on all held-out splits together."""
    found: list[Check] = []
    for encoder, tables in results.emulated.items():
        if not tables:
            continue
        seeds = tuple(results.experiment.runs[encoder])
        for split in (*results.splits, EVERY):
            own = tables if split == EVERY else [table.filter(pc.field("split") == split) for table in tables]
            if own[0].num_rows > 1:
                found += _of_split(own, split, encoder, seeds)
    return found


def _of_split(
    tables: Sequence[pa.Table], split: str, encoder: str, seeds: tuple[int, ...]
) -> Iterator[Check]:
    original = np.stack([table["original"].to_numpy() for table in tables]).astype(np.float64)
    best = np.flatnonzero(original[0] > BEST)
    everything = np.arange(tables[0].num_rows)
    for column, of in KINDS.items():
        if column not in tables[0].column_names:
            continue
        emulated = np.stack([table[column].to_numpy() for table in tables])
        together = clusters(tables[0])
        found = {
            RANK: (everything, _ranked(emulated, original, together), False),
            APART: (everything, bootstrap(np.abs(emulated - original), together, bounds=(0.0, 1.0)), True),
        }
        if len(best):
            found[SHARE] = best, _share(emulated[:, best], original[:, best], together[best]), False
        for measure, (rows, interval, lower) in found.items():
            yield Check(
                name=measure,
                split=split,
                of=of,
                encoder=encoder,
                seeds=seeds,
                interval=interval,
                definition=f"{DEFINITIONS[measure]}; RNNs are spread evenly over performance",
                lower_is_better=lower,
                **counted(tables[0].take(pa.array(rows))),
            )


def _ranked(x: np.ndarray, y: np.ndarray, together: np.ndarray) -> Interval:
    alike = np.zeros(x.shape[1])
    return correlation(ranks(x, alike), ranks(y, alike), together)


def _share(emulated: np.ndarray, original: np.ndarray, together: np.ndarray) -> Interval:
    columns = np.stack([emulated, original])
    return bootstrap(columns, together, lambda means: means[0] / means[1], bounds=(0.0, np.inf))


@dataclasses.dataclass(frozen=True)
class Level:
    """The RNNs that stand for one level of performance.

    Attributes:
        original: Their mean performance.
        emulated: Mean of their emulations', over RNNs and seeds.
        spread: Half of the central 80 % of the emulations' performance, below and above.
        count: RNNs.
    """

    original: float
    emulated: float
    spread: tuple[float, float]
    count: int


def by_level(tables: Sequence[pa.Table], column: str = "emulated") -> list[Level]:
    """What emulations of each level came to."""
    original = tables[0]["original"].to_numpy().astype(np.float64)
    emulated = np.stack([table[column].to_numpy() for table in tables])
    numbers, found = levels(original), []
    for number in np.unique(numbers[numbers >= 0]):
        rows = numbers == number
        mean = float(emulated[:, rows].mean())
        low, high = np.quantile(emulated[:, rows], [0.1, 0.9])
        ends = max(mean - low, 0.0), max(high - mean, 0.0)
        found.append(Level(float(original[rows].mean()), mean, ends, int(rows.sum())))
    return found


def claims(checks: Checks, task: str, split: str) -> Iterable[Claim]:
    """That only interactive probing's emulations perform like their originals, as the paper finds."""
    shares = {
        check.encoder: check
        for check in checks
        if (check.name, check.split, check.of) == (SHARE, split, "conditioned")
    }
    if task not in PUBLISHED or "interactive" not in shares:
        return
    others = [encoder for encoder in NAMES if encoder in shares and encoder != "interactive"]
    text = (
        f"emulations perform like their originals (reach {BEST:.0%} of the performance of originals that "
        f"perform better than {BEST}) with interactive probing, and with no other encoder of the paper"
    )
    own = shares["interactive"].interval
    few = min(len(check.seeds) for check in shares.values()) < ENOUGH_SEEDS
    evidence = f"share of the best originals' performance on {split}: interactive probing {own}"
    evidence += "".join(
        f"; {name(one)} {check.interval}" for one, check in shares.items() if one != "interactive"
    )
    zero = find(checks, SHARE, split, "interactive", "zero")
    if zero is not None:
        evidence += f"; unconditional {zero}"
    outcome = "open" if few or not others else _verdict(own, [shares[encoder].interval for encoder in others])
    yield Claim(text, outcome, evidence)


def _verdict(own: Interval, others: Sequence[Interval]) -> Verdict:
    if own.high < BEST or any(other.low > BEST for other in others):
        return "not reproduced"
    return "reproduced" if own.low > BEST and all(other.high < BEST for other in others) else "open"
