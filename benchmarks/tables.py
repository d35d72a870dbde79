"""Prints an experiment's main tables, claims and interviews as Markdown, for docs/results.

    python benchmarks/tables.py FOLDER [--since STEP]

FOLDER is what `rnnatlas demo` or `rnnatlas reproduce` wrote; nothing is run again. With --since, only
snapshots from a training step on count, and only tables are printed.
"""

import argparse
from pathlib import Path
from typing import Any

from rnnatlas.report import page as report
from rnnatlas.report import words
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
    chosen = parser.parse_args()
    results = Results(chosen.folder, Experiment.load(chosen.folder), chosen.since)
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


if __name__ == "__main__":
    main()
