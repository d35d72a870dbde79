"""Predictions of every property from everything that may predict it, for RNNs held out."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas import properties
from rnnatlas.emulation.data import Snapshots, spaced
from rnnatlas.emulation.model import TrainedRun
from rnnatlas.errors import SettingsError, warn
from rnnatlas.evaluation import nearest, supervised
from rnnatlas.evaluation.emulations import keys
from rnnatlas.evaluation.features import NEAREST, RNNs, features, random_responses, scan
from rnnatlas.evaluation.roles import Roles, assign, without_ood
from rnnatlas.evaluation.supervised import SupervisedSettings
from rnnatlas.properties import labels, predictors
from rnnatlas.properties.angle import Direction, aligned
from rnnatlas.properties.base import Classes, Property
from rnnatlas.properties.calibration import CLAIMS, Calibration, calibrate, statements
from rnnatlas.properties.predictors import Predictor, PredictorSettings
from rnnatlas.zoo.store import Zoo

Fitted = dict[str, tuple[Property, Predictor]]
"""Predictors that read embeddings, by property."""


def predictions(
    run: TrainedRun,
    zoo: Zoo,
    snapshots: pa.Table,
    settings: PredictorSettings | None = None,
    end_to_end: SupervisedSettings | None = None,
    advance: Callable[[int], None] = lambda steps: None,
    slow: bool = False,
    compare: bool = False,
) -> tuple[pa.Table, Fitted]:
    """Trains a predictor of every property on every kind of features; see `roles.assign` for on what.

    Args:
        run: A finished run, whose encoder takes all snapshots.
        zoo: Has a task.
        snapshots: As `Zoo.snapshots` gives them.
        settings: How predictors are trained; the defaults without it.
        end_to_end: How the encoder is trained together with predictors; without it, it is not.
        advance: Called with the number of steps just made of such training.
        slow: Whether Lyapunov spectra are among the baselines.
        compare: Whether to compare every pair of RNNs by DSA, too, as a baseline.

    Returns:
        A row for each held-out snapshot, property and kind of features; and the predictors that read
        embeddings.

    Raises:
        SettingsError: Training end to end is asked for of a property that these RNNs do not have.
    """
    trained = () if end_to_end is None else asked_for(end_to_end, zoo, snapshots)
    rnns = zoo.population(snapshots)
    roles = assign(zoo, snapshots, run.settings.seed)
    start = np.flatnonzero(roles.start)
    some = snapshots.take(pa.array(start[spaced(len(start)).numpy()]))
    examples = Snapshots.of(zoo, some).examples
    found = features(run, rnns, snapshots, roles.start, examples, slow, compare)
    shown = random_responses(run, rnns, roles.start, examples)
    everywhere = _neighbours(rnns, shown, roles)
    about = keys(zoo.task, snapshots)
    parts, fitted = [], {}
    split = np.asarray(snapshots["split"].to_pylist())
    found_properties = known(zoo, snapshots)
    for name in filter(properties.registry.is_from_outside, properties.registry):
        if name not in found_properties:
            warn(f"{name} is not predicted: it is not known of all RNNs; metrics are {_metrics(snapshots)}")
    for name, prop in found_properties.items():
        seen = roles if prop.ood_joins else without_ood(roles, split)
        own_roles = roles_where(seen, prop.known(snapshots))
        if own_roles is None:
            warn(f"{name} is not predicted, since it is known of too few RNNs")
            continue
        near = everywhere if own_roles is roles else _neighbours(rnns, shown, own_roles)
        target = prop.target(zoo.task, snapshots)
        made: dict[str, tuple[Tensor, Calibration]] = {}
        for reads, own in found.items():
            if reads == name:  # the step predicts the step
                continue
            predictor = predictors.fit(prop, own, target, own_roles, run.settings.seed, settings)
            made[reads] = predictor(own), predictor.calibration
            if reads == "embedding" and prop.ood_joins:  # else another property has better ones
                fitted[name] = prop, predictor
        made |= {reads: of_nearest(prop, own, target, own_roles) for reads, own in near.items()}
        if isinstance(prop, Direction):
            for reads, outputs in _directions(run, rnns, found, target, own_roles).items():
                made[reads] = outputs, _calibrated(prop, outputs, target, own_roles)
        if end_to_end is not None and name in trained:
            whole = supervised.fit(
                run, prop, rnns, target, own_roles, end_to_end, examples, settings, advance
            )
            made["supervised"] = whole(np.arange(len(target))), whole.predictor.calibration
        for reads, (outputs, calibration) in made.items():
            parts.append(rows(prop, reads, outputs, target, calibration, about, own_roles))
    return joined(parts, about), fitted


def joined(parts: Sequence[pa.Table], about: pa.Table) -> pa.Table:
    """Tables of `rows` as one; without rows where RNNs have no properties, as imported ones without labels.

    Args:
        parts: The tables.
        about: The columns that all have.
    """
    nothing = about.slice(0, 0)
    for name in ("property", "predictor"):
        nothing = nothing.append_column(name, pa.array([], pa.string()))
    return pa.concat_tables([*parts, nothing], promote_options="default")


def asked_for(settings: SupervisedSettings, zoo: Zoo, snapshots: pa.Table) -> tuple[str, ...]:
    """The properties for which encoders are trained end to end.

    Raises:
        SettingsError: The snapshots do not have one of them.
    """
    names = tuple(known(zoo, snapshots))
    for name in settings.properties or ():
        if name not in names:
            raise SettingsError(
                f"supervised.properties should be among those that the zoo's RNNs have ({', '.join(names)}), "
                f"found {name}"
            )
    return settings.properties or names


def known(zoo: Zoo, snapshots: pa.Table) -> dict[str, Property]:
    """The properties that these snapshots have, by name."""
    found = {name: kind.fit(zoo.task, snapshots) for name, kind in properties.registry.items()}
    own = {name: prop for name, prop in found.items() if prop is not None}
    return {**own, **labels.fit(zoo.task, snapshots)}


def _metrics(snapshots: pa.Table) -> str:
    kind = snapshots.schema.field("metrics").type if "metrics" in snapshots.column_names else None
    names = [field.name for field in kind] if kind is not None and pa.types.is_struct(kind) else []
    return ", ".join(names) or "not there"


def roles_where(roles: Roles, known: Bool[np.ndarray, " rnn"]) -> Roles | None:
    """What snapshots serve for of which a property is known; None where it is known of too few."""
    if known.all():
        return roles
    masks = {name: mask & known for name, mask in vars(roles).items() if name not in ("start", "together")}
    enough = all(masks[name].any() for name in ("train", "stopping", "held_out"))
    return dataclasses.replace(roles, **masks) if enough else None


def _neighbours(
    rnns: RNNs, responses: Float[Tensor, "rnn response"], roles: Roles
) -> dict[str, nearest.Neighbours]:
    """Neighbours of each kind, by the name of the baseline."""
    found = nearest.find(rnns, roles.train), nearest.by_responses(responses, roles.train)
    return dict(zip(NEAREST, found, strict=True))


def _directions(
    run: TrainedRun, rnns: RNNs, found: dict[str, Tensor], target: Tensor, roles: Roles
) -> dict[str, Tensor]:
    """What predicts directions without a predictor."""
    outputs = {}
    for name, reads in (("direction", "embedding"), ("untrained-direction", "untrained")):
        own = run.encoder.direction(found[reads])
        if own is not None:
            outputs[name] = aligned(own, target, torch.from_numpy(roles.train))
    scanned = scan(run, rnns)
    return outputs if scanned is None else {**outputs, "scan": scanned}


def of_nearest(
    prop: Property, near: nearest.Neighbours, target: Tensor, roles: Roles
) -> tuple[Tensor, Calibration]:
    """What the nearest training RNNs predict, and its calibration."""
    outputs = nearest.predict(prop, near, target, roles.stopping)
    return outputs, _calibrated(prop, outputs, target, roles)


def _calibrated(prop: Property, outputs: Tensor, target: Tensor, roles: Roles) -> Calibration:
    kept = torch.from_numpy(roles.calibration)
    return calibrate(prop, outputs[kept], target[kept], roles.calibrated_together)


def rows(
    prop: Property,
    reads: str,
    outputs: Float[Tensor, "rnn target"],
    target: Float[Tensor, "rnn target"],
    calibration: Calibration,
    about: pa.Table,
    roles: Roles,
) -> pa.Table:
    """What was predicted of held-out snapshots, how good that was, and what was claimed of it."""
    chosen = torch.from_numpy(roles.held_out)
    outputs, target = outputs[chosen], target[chosen]
    table = about.filter(pa.array(roles.held_out))
    count = table.num_rows
    columns: dict[str, pa.Array] = {
        "property": pa.array([prop.name] * count),
        "predictor": pa.array([reads] * count),
    }
    for name, values in (prop.score(outputs, target) | prop.as_number(outputs, target)).items():
        columns[name] = pa.array(values.astype(np.float64))
    if isinstance(prop, Classes):
        columns["parts"] = pa.array([prop.parts] * count)
    used = roles.calibration[roles.held_out]  # what calibrated predictions cannot test that
    for name, values in statements(prop, outputs, target, calibration).items():
        hidden = used if name in CLAIMS else np.zeros_like(used)
        columns[name] = pa.array([None if own else one for own, one in zip(hidden, values.tolist())])
    for name, values in (("prediction", outputs), ("target", target)):
        columns[name] = pa.array(values.tolist(), pa.list_(pa.float32()))
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table
