"""Predicting properties of RNNs in zoos and files, of other architectures with the help of a few labels."""

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnnatlas.atlas.embed import finite, notes
from rnnatlas.atlas.sources import names, read_files, snapshots_of, sort
from rnnatlas.errors import DataError
from rnnatlas.evaluation.model import Model
from rnnatlas.properties.recalibration import FEWEST, known, recalibrate
from rnnatlas.rnn import RNNSpec, System
from rnnatlas.rnn.heads import Head
from rnnatlas.zoo import labels


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What is predicted of RNNs.

    Attributes:
        entries: For each RNN its `id`, `notes` on how it was read (None for none), what `Model.predict` gives
            and, where labels were given, names of the properties that are `recalibrated`.
        left_out: What was left out and why, a sentence each.
        remarks: What labels did, a sentence each.
    """

    entries: list[dict[str, Any]]
    left_out: list[str]
    remarks: list[str]


@dataclasses.dataclass(frozen=True)
class _Part:
    """RNNs with one input and output size, and where they stand among all."""

    positions: Sequence[int]
    ids: Sequence[str]
    files: Sequence[str]
    specs: Sequence[str]
    notes: Sequence[str | None]
    system: System

    def select(self, rows: np.ndarray) -> "_Part":
        """Those that a mask chooses."""
        chosen = np.flatnonzero(rows).tolist()
        lists = {name: own for name, own in vars(self).items() if name != "system"}
        some = {name: [own[row] for row in chosen] for name, own in lists.items()}
        return _Part(**some, system=self.system.select(chosen))


def predict(
    model: Model,
    paths: Sequence[Path | str],
    cell: str | None = None,
    head: Head = None,
    calibrate: Any = None,
) -> Predictions:
    """Predicts properties of all RNNs found at some paths.

    Args:
        model: An evaluated run.
        paths: As `embed`.
        cell: As `embed`.
        head: As `embed`.
        calibrate: What is known of some of these RNNs, as `labels.read` takes it: a row for each, which names
            it, and a column for each property. Predictions of RNNs of their architecture are recalibrated.

    Raises:
        DataError: The labels cannot be read, name none of the RNNs, no property, too few RNNs, or are equal.
        CheckpointError: As `embed`, and so are RNNSpecMismatch, UnknownName and ZooFormatError.
    """
    parts, left_out = _parts(model, paths, cell, head)
    vectors = [model.embed(part.system) for part in parts]
    ids = [one for part in parts for one in part.ids]
    known, reasons = finite(ids, torch.cat(vectors).numpy())
    if reasons:
        left_out += reasons
        rows = np.split(known, np.cumsum([len(z) for z in vectors])[:-1])
        some = [(part.select(own), z[own]) for part, z, own in zip(parts, vectors, rows) if own.any()]
        parts, vectors = map(list, zip(*some, strict=True))
    models: dict[str, Model] = {}
    remarks: list[str] = []
    if calibrate is not None:
        roots = [str(path) for path in paths if Path(path).is_dir()]
        models, remarks = _recalibrated(model, parts, torch.cat(vectors), calibrate, roots)
    entries: dict[int, dict[str, Any]] = {}
    for part, z in zip(parts, vectors, strict=True):
        like = model.likeness(part.system)
        for spec in dict.fromkeys(part.specs):
            own = models.get(spec, model)
            rows = [row for row, other in enumerate(part.specs) if other == spec]
            mended = [name for name in own.predictors if own.predictors[name] is not model.predictors[name]]
            for row, predicted in zip(rows, own.read(z[rows]), strict=True):
                about = {"id": part.ids[row], "notes": part.notes[row]}
                more = {} if calibrate is None else {"recalibrated": mended}
                entries[part.positions[row]] = {**about, **predicted, **like[row], **more}
    return Predictions([entries[place] for place in sorted(entries)], left_out, remarks)


def _parts(
    model: Model, paths: Sequence[Path | str], cell: str | None, head: Head
) -> tuple[list[_Part], list[str]]:
    """RNNs of files, then of zoos; and what was left out, a sentence each."""
    zoos, files = sort(paths)
    parts: list[_Part] = []
    left_out: list[str] = []
    if files:
        found = read_files(files, model, cell, head)
        left_out += found.left_out
        for positions, own in found.by_interface():
            specs, remarks = zip(*((rnn.spec.slug, rnn.remark) for rnn in own.rnns), strict=True)
            parts.append(_Part(positions, own.ids, own.sources, specs, remarks, own.population()))
    for zoo, name in zip(zoos, names(zoos), strict=True):
        snapshots, reasons = snapshots_of(model, zoo)
        left_out += reasons
        ids = [name + id for id in snapshots["id"].to_pylist()]
        first = sum(len(part.ids) for part in parts)
        places = range(first, first + len(ids))
        remarks, specs = notes(snapshots).to_pylist(), snapshots["spec"].to_pylist()
        parts.append(_Part(places, ids, ids, specs, remarks, zoo.population(snapshots)))
    return parts, left_out


# --- a few labels ----------------------------------------------------------------------------------


def _recalibrated(
    model: Model, parts: Sequence[_Part], z: torch.Tensor, given: Any, roots: Sequence[str]
) -> tuple[dict[str, Model], list[str]]:
    """The model with predictors mended for each architecture of which enough RNNs are labelled; remarks."""
    model.read(z[:0])  # raises where nothing can be predicted
    name = str(given) if isinstance(given, (str, Path)) else "the labels"
    files, ids, specs = (
        [one for part in parts for one in getattr(part, field)] for field in ("files", "ids", "specs")
    )
    found = labels.of_files(labels.read(given), files, ids, range(len(ids)), roots)
    said = {own: known(prop, found.table, name) for own, (prop, _) in model.predictors.items()}
    said = {own: one for own, one in said.items() if one is not None}
    if not said:
        raise DataError(
            f"{name} should have a column named as a property that the run predicts "
            f"({', '.join(model.predictors)}), found {', '.join(found.table.column_names)}; rename the column"
        )
    remarks = [remark for remark in found.remarks if "no RNN" in remark]
    mended: dict[str, dict[str, Any]] = defaultdict(dict)
    most = 0
    for own, (there, target) in said.items():
        prop, predictor = model.predictors[own]
        for spec in sorted({spec for spec, one in zip(specs, there, strict=True) if one}):
            rows = np.flatnonzero(there & (np.array(specs) == spec))
            most = max(most, len(rows))
            if len(rows) < FEWEST:
                continue
            kind = str(RNNSpec.from_slug(spec))
            if torch.equal(target[rows].amin(0), target[rows].amax(0)):
                raise DataError(
                    f"the values of {own} in {name} should differ, found {len(rows)} equal ones of {kind}; "
                    "label RNNs that differ, or leave the column out"
                )
            made = recalibrate(prop, predictor, z[rows], target[rows])
            mended[spec][own] = prop, made.predictor
            did = "recalibrated" if made.after < made.before else "not recalibrated, which would not help"
            remarks.append(
                f"{own} of {kind}: {did}; on {len(rows)} labelled RNNs, each predicted with the others, "
                f"the loss is {made.after:.3g}, before {made.before:.3g}"
            )
    if not mended:
        raise DataError(
            f"{name} should say a property of {FEWEST} RNNs of one architecture or more, found {most} at "
            "most; label more"
        )
    models = {}
    for spec, own in mended.items():
        models[spec] = copy.copy(model)
        models[spec].predictors = {**model.predictors, **own}
    return models, remarks
