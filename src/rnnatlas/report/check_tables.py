"""The figures that only a report has, as its tables show them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rnnatlas.report import ablations, evenness, neighbourhoods, performance, stability
from rnnatlas.report.checks import EVERY, Check, Checks, find
from rnnatlas.report.experiment import Results
from rnnatlas.report.words import ENOUGH_SEEDS, name

Row = tuple[str | None, str, list[str]]
Table = dict[str, Any]
"""`title` and `head`, texts; `rows`, each an encoder (None for controls), a label and cells; `notes` on
columns, each a title and a definition."""


def all_checks(results: Results) -> list[Check]:
    """Every such figure of an experiment."""
    return [
        check
        for part in (performance, evenness, stability, neighbourhoods, ablations)
        for check in part.checks(results)
    ]


def tables(results: Results, checks: Checks) -> dict[str, list[Table]]:
    """Tables by section, one a split; the first of a section is shown at once, that of unseen tasks."""
    splits = [split for split in ("test", "validation", "new-runs", "ood") if split in results.splits]
    found = {
        "neighbours": [
            _table(checks, split, neighbourhoods.TITLES, "embedding", ("raw weights", "chance"))
            for split in splits
        ],
        "emulated": [
            _table(checks, split, performance.TITLES, "conditioned", ("zero",)) for split in (*splits, EVERY)
        ],
        "evenness": [_evenness(results, checks, split) for split in splits],
        "stability": [_stability(checks, next(iter(splits), ""))],
    }
    return {section: [table for table in own if table["rows"]] for section, own in found.items()}


def _table(checks: Checks, split: str, titles: Mapping[str, str], own: str, controls: Sequence[str]) -> Table:
    """A row an encoder; controls come once where they are the same beside all."""
    known = [check for check in checks if check.split == split and check.name in titles]
    shown = [measure for measure in titles if any(check.name == measure for check in known)]
    encoders = list(dict.fromkeys(check.encoder for check in known))

    def cells(encoder: str, of: str) -> list[str]:
        return [_text(find(known, measure, split, encoder, of)) for measure in shown]

    rows: list[Row] = [(encoder, name(encoder), cells(encoder, own)) for encoder in encoders]
    for of in controls:
        texts = {encoder: cells(encoder, of) for encoder in encoders}
        same = len({tuple(text) for text in texts.values()}) == 1
        for encoder in encoders[:1] if same else encoders:
            label = name(of) if same else f"{name(of)}, beside {name(encoder)}"
            if set(texts[encoder]) != {"–"}:
                rows.append((None, label, texts[encoder]))
    return {
        "title": split,
        "head": [titles[one] for one in shown],
        "rows": rows,
        "notes": _notes(known, titles),
    }


def _evenness(results: Results, checks: Checks, split: str) -> Table:
    props, rows = evenness.properties(checks), []
    for of in evenness.TRAINED:
        for encoder, skills, lowest, rank in evenness.rows(checks, split, of):
            label = name(encoder) if of == "embedding" else f"{name(encoder)}, {name(of)}"
            ranked = len(results.experiment.runs[encoder]) >= ENOUGH_SEEDS and lowest is not None
            cells = [*map(_text, skills), _text(lowest), str(rank) if ranked else "–"]
            rows.append((encoder if of == "embedding" else None, label, cells))
    head = [f"{prop.replace('_', ' ')}, skill" for prop in props]
    known = [check for check in checks if check.split == split and check.name == evenness.WORST]
    return {
        "title": split,
        "head": [*head, "lowest", "worst rank"],
        "rows": rows,
        "notes": _notes(known, {evenness.WORST: "lowest"}),
    }


def _stability(checks: Checks, split: str) -> Table:
    measures = [
        (stability.SD, split, "conditioned", "standard deviation of the final loss over seeds"),
        (stability.CURVES, "validation", "conditioned", "standard deviation of learning curves"),
        (stability.MOVED, EVERY, "embedding", "moved by permuted hidden units"),
    ]
    known = [check for check in checks if (check.name, check.split) in {one[:2] for one in measures}]
    encoders = dict.fromkeys(check.encoder for check in known)
    rows = [
        (one, name(one), [_text(find(known, which, where, one, of)) for which, where, of, _ in measures])
        for one in encoders
    ]
    titles = {measure: title for measure, *_, title in measures}
    return {"title": split, "head": [*titles.values()], "rows": rows, "notes": _notes(known, titles)}


def _notes(checks: Iterable[Check], titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """What each column is."""
    definitions = {check.name: check.definition for check in checks}
    return [(title, definitions[which]) for which, title in titles.items() if which in definitions]


def _text(interval: Any) -> str:
    if interval is None:
        return "–"
    return f"{interval.mean:.0e}" if 0 < interval.mean < 5e-4 else str(interval)
