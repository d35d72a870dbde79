"""Networks of several RNNs: which rows are of one network, and one row for each (decision 0023)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float


def network_of(snapshots: pa.Table) -> list[str | None]:
    """The file of each row that is one of several RNNs in it, which have roles; None of all others."""
    if not {"role", "source"} <= set(snapshots.column_names):
        return [None] * snapshots.num_rows
    pairs = zip(snapshots["role"].to_pylist(), snapshots["source"].to_pylist(), strict=True)
    return [None if role is None else source for role, source in pairs]


def members(networks: Sequence[str | None]) -> list[list[int]]:
    """Positions of the rows of each network, in the order of their first; a row of none is its own."""
    found: dict[Any, list[int]] = {}
    for place, network in enumerate(networks):
        found.setdefault(place if network is None else network, []).append(place)
    return list(found.values())


def joined(table: pa.Table, groups: Sequence[Sequence[int]], networks: Sequence[str | None]) -> pa.Table:
    """One row for each group: what its rows agree in, and nulls where they do not.

    The id of a group of several rows is its network; `rnns` has the ids of its rows. Notes are all kept.
    """
    if all(len(group) == 1 for group in groups):
        return table
    columns: dict[str, Any] = {}
    for field in table.schema:
        values = table[field.name].to_pylist()
        if field.name == "id":
            found = [networks[own[0]] if len(own) > 1 else values[own[0]] for own in groups]
            columns["rnns"] = pa.array([[values[i] for i in own] for own in groups], pa.list_(pa.string()))
        elif field.name == "notes":
            notes = [dict.fromkeys(filter(None, (values[i] for i in own))) for own in groups]
            found = ["; ".join(own) or None for own in notes]
        else:
            found = [agreed([values[i] for i in own]) for own in groups]
        columns[field.name] = pa.array(found, field.type)
    return pa.table(columns)


def agreed(values: Sequence[Any]) -> Any:
    """What values have in common, of dictionaries each item; None where they differ."""
    if all(isinstance(value, dict) for value in values):
        return {name: agreed([value[name] for value in values]) for name in values[0]}
    return values[0] if all(value == values[0] for value in values) else None


def between(
    distances: Float[np.ndarray, "rnn rnn"], groups: Sequence[Sequence[int]], roles: Sequence[str | None]
) -> Float[np.ndarray, "network network"]:
    """Distances of networks: means over the roles that both have; where they share none, over all pairs."""
    if all(len(group) == 1 for group in groups):
        return distances
    share = np.zeros((len(groups), len(distances)))
    places: dict[str | None, list[tuple[int, int]]] = {}
    for number, own in enumerate(groups):
        share[number, list(own)] = 1 / len(own)
        for rnn in own:
            places.setdefault(roles[rnn], []).append((number, rnn))
    total, count = np.zeros((2, len(groups), len(groups)))
    for pairs in places.values():
        network, rnn = np.array(pairs).T
        total[np.ix_(network, network)] += distances[np.ix_(rnn, rnn)]
        count[np.ix_(network, network)] += 1
    found = np.where(count > 0, total / np.maximum(count, 1), share @ distances @ share.T)
    np.fill_diagonal(found, 0.0)
    return found


def said(groups: Sequence[Sequence[int]]) -> str | None:
    """How many networks of several RNNs there are; None for none."""
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    what = f"{len(several)} files are networks" if len(several) > 1 else "one file is a network"
    return f"{what} of several RNNs ({sum(map(len, several))} in all), each one point; --separate parts them"
