"""Prints an experiment's main tables, claims and interviews as Markdown, for docs/results.

    python benchmarks/tables.py FOLDER [--since STEP | --summary]

FOLDER is what `rnnatlas demo` or `rnnatlas reproduce` wrote; nothing is run again. With --since, only
snapshots from a training step on count, and only tables are printed. With --summary, two tables with a row
an encoder or baseline are printed, the lowest loss first, how well emulations of good RNNs perform, and the
comparisons that count.
"""

import argparse
from pathlib import Path
from typing import Any

from rnnatlas import encoders
from rnnatlas.evaluation.features import FIXED_INPUTS, TRIVIAL
from rnnatlas.evaluation.figures import loss_name
from rnnatlas.evaluation.results import costs as costs_of
from rnnatlas.intervals import Interval, holm
from rnnatlas.report import page as report
from rnnatlas.report import words
from rnnatlas.report.claims import Records
from rnnatlas.report.experiment import Experiment, Results

TITLES = {
    "shuffled": "shuffled embedding",
    "supervised": "supervised (end to end)",
    "zero": "unconditional emulator (z = 0)",
}
"""Row titles of docs/results where they differ from the report's."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--since", type=int, default=0)
    parser.add_argument("--summary", action="store_true")
    chosen = parser.parse_args()
    results = Results(chosen.folder, Experiment.load(chosen.folder), chosen.since)
    if chosen.summary:
        print(*summary(results), sep="\n")
        return
    found = report.contents(results)
    for table in [*found["loss_tables"][0], *found["property_tables"][0]]:
        print(as_markdown(table, found["costs"]), end="\n\n")
    if chosen.since:
        return
    for sentence in [*found["ranking"], *found["orders"]]:
        print(sentence, end="\n\n")
    print(*(["| finding | here | figures |", "|---|---|---|"] if found["claims"] else []), sep="\n")
    for claim in found["claims"]:
        note = "" if claim.published else " (not in the paper)"
        print(f"| {words.capital(claim.text)}{note} | {claim.verdict} | {claim.evidence} |")
        if claim.trained:
            since = f"… from step {found['trained_from']} on"
            print(f"| {since} | {claim.trained.verdict} | {claim.trained.evidence} |")
    for seed, mean, highest in (found["probing"] or {}).get("differences", []):
        print(
            f"\nProbing inputs of different RNNs differ by {mean:.3f} on average with seed {seed}, "
            f"at most {highest:.3f} at a step."
        )


def as_markdown(table: dict[str, Any], costs: dict[str, str]) -> str:
    """One of the report's tables."""
    columns = [(split.replace("ood", "OOD"), counts) for split, counts in table["columns"]]
    splits = [split if counts is None else f"{split} ({counts[0]} RNNs)" for split, counts in columns]
    heads = [words.name(table["name"]).replace("_", " "), *splits, "encoder size; cost to embed one RNN"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for encoder, rows in table["groups"]:
        for kind, cells in rows:
            own = kind in ("conditioned", "embedding")
            alone = encoder in ("control", "trivial")
            title = TITLES.get(kind) or words.name(encoder if own else kind)
            title = title if own or alone else f"… {title}"
            figures = [text + (" ▴" if clear else "") for text, clear, *_ in cells]
            lines.append("| " + " | ".join([title, *figures, costs[encoder] if own else ""]) + " |")
    return "\n".join(lines)


def summary(results: Results) -> list[str]:
    """A table of losses and tasks, one of steps and performance; not of the split for model selection."""
    splits = [split for split in results.splits if split != "validation"]
    loss, task = loss_name(results.divergence), words.task_score(results.properties)
    found, costs = {}, costs_of(results.table)
    for row in results.table.to_pylist():
        if row["kind"] == "figure" and row["split"] in splits and row["value"] is not None:
            own = row["of"] in ("conditioned", "embedding")
            of = (row["encoder"], "") if own else (row["of"], ", no encoder")
            found.setdefault((of, row["name"]), {})[row["split"]] = row
    order = sorted(((encoder, "") for encoder in costs), key=lambda of: found[of, loss][splits[0]]["value"])
    order += [(of, ", no encoder") for of in ("zero", *TRIVIAL)]
    lines = []
    for names in ((loss, task), ("step accuracy", "performance correlation within step")):
        titles = [f"{words.name(name)}, {split}" for name in names if name for split in splits]
        lines += [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
        for of in order:
            cells = [
                _cell(found.get((of, name), {}).get(split)) for name in names if name for split in splits
            ]
            if any(cells):
                lines.append(f"| {words.name(of[0])}{of[1]} | {' | '.join(cells)} |")
        lines.append("")
    for encoder in costs:
        tables = [table.to_pandas() for table in results.emulated[encoder]]
        good = [(one[(one.split == split) & (one.original > 0.8)]) for one in tables for split in splits]
        shares = [f"{one.emulated.mean():.2f} of {one.original.mean():.2f} (n={len(one)})" for one in good]
        lines.append(f"{words.name(encoder)}, emulations of originals above .8: {', '.join(shares)}")
    return [*lines, "", *verdicts(results)]


def verdicts(results: Results) -> list[str]:
    """The comparisons that count (docs/decisions/0026-comparing-encoders.md), p-values corrected by Holm."""
    records = Records(results.table)
    loss, task = loss_name(results.divergence), words.task_score(results.properties)
    losses = {
        encoder: records.figure(loss, "validation", (encoder, "conditioned")) for encoder in records.seeds
    }
    by_weights = {
        encoder: found.mean
        for encoder, found in losses.items()
        if found is not None
        and encoder not in ("hybrid", "invariants")
        and encoder in encoders.registry
        and encoders.registry[encoder].reads_weights
    }
    pairs = [("responses", "interactive")]
    pairs += [(min(by_weights, key=by_weights.__getitem__), "invariants")] if by_weights else []
    found = {}
    for name, of in ((loss, "conditioned"), (task, "embedding")):
        for a, b in pairs:
            difference = records.difference(name or "", "ood", (a, of), (b, of))
            if difference is not None:
                title = f"{words.name(name or '')}, {words.name(a)} − {words.name(b)}"
                found[title] = difference
    lines = ["| comparison, OOD | difference | p | corrected |", "|---|---|---|---|"]
    corrected = holm([difference.p for difference in found.values()])
    for (title, difference), p in zip(found.items(), corrected, strict=True):
        lines.append(f"| {title} | {difference} | {difference.p:.2g} | {p:.2g} |")
    lines += ["", "| task accuracy, direct responses − | test | OOD |", "|---|---|---|"]
    for kind in FIXED_INPUTS:
        sides = ("responses", "embedding"), ("responses", kind)
        cells = [records.difference(task or "", split, *sides) for split in ("test", "ood")]
        if any(cells):
            lines.append(f"| {words.name(kind)} | {' | '.join(str(cell or '') for cell in cells)} |")
    return lines


def _cell(row: dict[str, Any] | None) -> str:
    return "" if row is None else str(Interval(row["value"], row["low"], row["high"], 0))


if __name__ == "__main__":
    main()
