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
    for seed, mean, highest in (found["probing"] or {}).get("differences", []):
        print(
            f"\nProbing inputs differ by {mean:.3f} on average with seed {seed}, "
            f"at most {highest:.3f} at a step."
        )


def as_markdown(table: dict[str, Any], costs: dict[str, str]) -> str:
    """One of the report's tables."""
    heads = [f"{split} ({runs} RNNs)" for split, runs, _ in table["columns"]]
    lines = [
        "| "
        + " | ".join(
            [words.name(table["name"]).replace("_", " "), *heads, "weights; products and time an RNN"]
        )
        + " |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for encoder, rows in table["groups"]:
        for kind, cells in rows:
            own = kind in ("conditioned", "embedding")
            alone = encoder in ("control", "trivial")
            title = words.name(encoder) if own else words.name(kind) if alone else f"… {words.name(kind)}"
            figures = [text + (" ▴" if clear else "") for text, clear in cells]
            lines.append("| " + " | ".join([title, *figures, costs[encoder] if own else ""]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
