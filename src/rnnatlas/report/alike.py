"""Which encoders were judged on the same RNNs: of a zoo of several architectures, some take only one."""

from collections.abc import Mapping

import pyarrow as pa

from rnnatlas.evaluation.figures import is_loss
from rnnatlas.report.words import left_out

OF = "conditioned"


def alike(table: pa.Table, split: str) -> list[list[str]]:
    """Groups of encoders that were judged on the same RNNs of a split; those with none of it are in none.

    Two are alike where the paired difference of their losses rests on as many snapshots as either loss.

    Args:
        table: An experiment's results.
        split: Of which RNNs.
    """
    counts: dict[str, int] = {}
    shared: dict[frozenset[str], int] = {}
    for row in table.to_pylist():
        if row["split"] == split and row["of"] == OF and is_loss(row["name"]):
            if row["kind"] == "figure":
                counts[row["encoder"]] = row["n_snapshots"]
            elif row["kind"] == "difference" and row["versus_of"] == OF:
                shared[frozenset((row["encoder"], row["versus"]))] = row["n_snapshots"]
    groups: list[list[str]] = []
    for encoder, count in counts.items():
        for group in groups:
            if counts[group[0]] == count == shared.get(frozenset((encoder, group[0]))):
                group.append(encoder)
                break
        else:
            groups.append([encoder])
    return groups


def all_alike(table: pa.Table) -> bool:
    """Whether all encoders were judged on the same RNNs of every split."""
    splits = {row["split"] for row in table.to_pylist() if row["split"] is not None}
    return all(len(alike(table, split)) <= 1 for split in splits)


def comparable(table: pa.Table, split: str) -> tuple[list[str], list[str]]:
    """The largest group of encoders judged on the same RNNs, and a sentence on the others, if any."""
    groups = alike(table, split)
    chosen = max(groups, key=len, default=[])
    others = [encoder for group in groups if group is not chosen for encoder in group]
    known = runs(table, split)
    absent = [encoder for encoder in encoders(table) if encoder not in known]
    return chosen, left_out({encoder: known[encoder] for encoder in others}, absent)


def runs(table: pa.Table, split: str) -> Mapping[str, int]:
    """How many RNNs of a split each encoder was judged on; those with none are left out."""
    return {
        row["encoder"]: row["n_runs"]
        for row in table.to_pylist()
        if (row["kind"], row["split"], row["of"]) == ("figure", split, OF) and is_loss(row["name"])
    }


def encoders(table: pa.Table) -> list[str]:
    """All encoders of an experiment."""
    return list(dict.fromkeys(table["encoder"].to_pylist()))
