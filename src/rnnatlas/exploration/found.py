"""What was found in a folder of RNNs, and where it lies."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from rnnatlas.exploration.behaviour import Behaviour
from rnnatlas.exploration.learned import Learned, Predicted
from rnnatlas.exploration.structure import Explained, Groups
from rnnatlas.zoo.store import Zoo

REPORT, TABLE, DISTANCES, MAP = "report.html", "rnns.csv", "distances.npy", "map.html"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exploration:
    """What was found in a folder of RNNs.

    Attributes:
        folder: Where all of it lies.
        zoo: The RNNs, with their answers to the inputs.
        rows: Those that were compared, as `Zoo.snapshots` gives them; RNNs of one file are one network and
            one row, see `zoo.networks`.
        members: Rows of the zoo that each of them stands for.
        labels: Name of a label → its value for each of them; architecture among them.
        behaviour: What they do.
        distances: How differently each pair behaves.
        places: Where each stands on the map: classical scaling of d / (d + median), such that a
            few that are far away leave room for the others.
        odd: Which are unlike nearly all others.
        groups: RNNs that behave alike; None where chance finds as good ones.
        explained: How far each label explains the distances.
        left_out: What was not read, or not compared, and why: a sentence each.
        remarks: What was assumed, a sentence each.
        learned: The encoder; None before it is trained, or without one.
        predicted: How well labels are predicted.
        seconds: How long the comparison without training took.
    """

    folder: Path
    zoo: Zoo
    rows: pa.Table
    members: Sequence[Sequence[int]]
    labels: Mapping[str, Sequence[Any]]
    behaviour: Behaviour
    distances: Float[np.ndarray, "rnn rnn"]
    places: Float[np.ndarray, "rnn 2"]
    odd: Bool[np.ndarray, " rnn"]
    groups: Groups | None
    explained: Sequence[Explained]
    left_out: Sequence[str]
    remarks: Sequence[str]
    seconds: float
    learned: Learned | None = None
    predicted: Sequence[Predicted] = ()

    def __repr__(self) -> str:
        found = "no groups" if self.groups is None else f"{self.groups.count} groups"
        odd = f", {int(self.odd.sum())} unlike all others" if self.odd.any() else ""
        return f"Exploration({str(self.folder)!r}: {self.rows.num_rows} RNNs, {found}{odd})"

    @property
    def names(self) -> list[str]:
        """Ids without what all have in common: their folder, and their place in the file."""
        ids = self.rows["id"].to_pylist()
        paths, places = zip(*(id.rpartition(":")[::2] if ":" in id else (id, "") for id in ids), strict=True)
        folder = os.path.commonpath(paths) if len(set(paths)) > 1 else ""
        if len(set(places)) > 1 or len(set(paths)) < len(paths):
            paths = ids
        return [os.path.relpath(path, folder) if folder else path for path in paths]

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / REPORT
