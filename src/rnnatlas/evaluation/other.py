"""RNNs of another zoo: which of them a run may be judged on, and what its predictors say of them.

Nothing is fitted to them: scales, components and predictors are those of the run's own zoo
(docs/decisions/0031-other-zoos.md).
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from rnnatlas.emulation.data import Snapshots, accepted, spaced
from rnnatlas.emulation.model import TrainedRun
from rnnatlas.encoders.base import Examples
from rnnatlas.errors import ZooFormatError, warn
from rnnatlas.evaluation import nearest
from rnnatlas.evaluation.emulations import keys
from rnnatlas.evaluation.features import RNNs, features, random_responses
from rnnatlas.evaluation.figures import CORRELATIONS, EMULATED, Figure, loss_figures, property_figures
from rnnatlas.evaluation.predictions import Fitted, joined, of_nearest, roles_where, rows
from rnnatlas.evaluation.roles import KNOWN, Roles, assign, clusters
from rnnatlas.intervals import correlation
from rnnatlas.properties import predictors
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.properties.scalar import Metric
from rnnatlas.rnn import Mixed, RNNSpec, populations
from rnnatlas.zoo.format import RECORDED
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.store import Zoo

ALL = "all"
"""Instead of an architecture: RNNs of all that there are."""

SAME = 0.01
"""Weights that differ by less of their norm are of one RNN; what is trained beside it changes rounding."""

OF_ONE = ("pca", "nearest", "norms", "architecture")
"""Features that say nothing of an architecture that no training RNN has."""


def check(run: TrainedRun, own: Zoo, zoo: Zoo) -> None:
    """Makes sure that it can be told which of a zoo's tasks a run was trained on.

    Args:
        run: The run.
        own: The zoo that it was trained on.
        zoo: The other one.

    Raises:
        ZooFormatError: It cannot.
    """
    known, found = own.card["task"], zoo.card["task"]
    if RECORDED in (known["name"], found["name"]):
        raise ZooFormatError(
            f"{zoo.path} should be a zoo of RNNs whose tasks are known, but networks were imported, so which "
            f"tasks were trained on cannot be told; use: rnnatlas predict {run.path} {zoo.path}"
        )
    for what, ours, theirs in (
        ("the task", known["name"], found["name"]),
        ("settings of the task", known["settings"], found["settings"]),
    ):
        if ours != theirs:
            raise ZooFormatError(
                f"{zoo.path} should have {what} of the run's own zoo, {ours}, found {theirs}, so which of "
                "its tasks were trained on cannot be told; build one with the same"
            )


def grouped(run: TrainedRun, own: Zoo, zoo: Zoo) -> pa.Table:
    """The snapshots of another zoo that the encoder takes, with `split` as the run's own zoo has it.

    Tasks that were trained on are `KNOWN`. Those that the run's own zoo lacks are "ood" where the task's rule
    says so (of angles, the range), else "test", since they are of the known kind and had no part in model
    selection.

    Raises:
        ZooFormatError: RNNs of it are in the run's own zoo.
        RNNSpecMismatch: The encoder takes none of it.
    """
    snapshots, reasons = accepted(run.encoder, zoo, zoo.snapshots(where=run.settings.emulation.where))
    for reason in reasons:
        warn(f"left out: {reason}")
    if shared := _shared(own, zoo, snapshots):
        raise ZooFormatError(
            f"{zoo.path} should be a zoo of its own, but {shared} of its snapshots are in the run's own zoo, "
            "too, so they may have been trained on; build one with another --seed"
        )
    splits = pa.array(splits_by_task(own, snapshots))
    return snapshots.set_column(snapshots.column_names.index("split"), "split", splits)


def splits_by_task(own: Zoo, snapshots: pa.Table) -> list[str]:
    """For each snapshot the split that its task has in the run's own zoo; see `grouped`."""
    task = own.task
    assert task is not None, "evaluate refuses zoos without a task"
    instances = own.table["task"].to_pylist()
    known = dict(zip(map(task.key, instances), own.table["split"].to_pylist(), strict=True))
    found = {task.key(instance): instance for instance in snapshots["task"].to_pylist()}
    unseen = [instance for key, instance in found.items() if key not in known]
    share = own.card["settings"].get("split", {}).get("ood", SplitSettings().ood)
    is_ood = task.is_ood([*instances, *unseen], share)[len(instances) :]
    for instance, ood in zip(unseen, is_ood, strict=True):
        known[task.key(instance)] = "ood" if ood else "test"
    called = {"train": KNOWN, "new-runs": KNOWN}
    splits = [known[task.key(instance)] for instance in snapshots["task"].to_pylist()]
    return [called.get(split, split) for split in map(str, splits)]


def _shared(own: Zoo, zoo: Zoo, snapshots: pa.Table) -> int:
    """How many of some snapshots have the weights of a snapshot of the run's own zoo, but for rounding."""
    known = {population.spec: population.flatten() for _, population in own.groups(own.snapshots())}
    count = 0
    for _, population in zoo.groups(snapshots):
        if population.spec in known:
            vectors = population.flatten()
            apart = [torch.cdist(part, known[population.spec]).amin(1) for part in vectors.split(1024)]
            count += int((torch.cat(apart) < SAME * vectors.norm(dim=1)).sum())
    return count


# --- predictions --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Together:
    """RNNs that predictors learn from, of the run's own zoo, and after them those of the other.

    Attributes:
        table: What is known of them.
        rnns: They themselves.
        roles: What they serve for: those of the other zoo are held out, and nothing else.
        examples: Sequences of inputs from rollouts of training RNNs.
    """

    table: pa.Table
    rnns: RNNs
    roles: Roles
    examples: Examples

    def covers(self, column: str) -> bool:
        """Whether training RNNs have every value of a column that RNNs of the other zoo have."""
        values = self.table[column].to_numpy()
        return set(values[self.roles.held_out]) <= set(values[self.roles.start])


def predictions(
    run: TrainedRun,
    own: Zoo,
    zoo: Zoo,
    snapshots: pa.Table,
    fitted: Fitted,
    settings: PredictorSettings | None = None,
) -> pa.Table:
    """What predictors of the run's own zoo predict of RNNs of another one.

    Predictors of embeddings are those that the run has. Those of baselines are trained as they were then.
    Of OOD tasks only those count that no predictor was trained on.

    Args:
        run: An evaluated run.
        own: The zoo that it was trained on.
        zoo: The other one.
        snapshots: As `grouped` gives them.
        fitted: The run's predictors.
        settings: How those of baselines are trained; the defaults without it.

    Returns:
        As `predictions.predictions`.
    """
    both = _together(run, own, zoo, snapshots)
    found = features(run, both.rnns, both.table, both.roles.start, both.examples)
    shown = random_responses(run, both.rnns, both.roles.start, both.examples)
    alike = both.covers("spec")
    without = [*(() if alike else OF_ONE), *(() if both.covers("step") else ("step",))]
    if without:
        warn(
            f"left out: the baselines {', '.join(without)}, which say nothing of architectures or steps that "
            "the run's own zoo lacks"
        )
    found = {reads: values for reads, values in found.items() if reads not in without}
    about = keys(own.task, both.table)
    parts = []
    for name, (prop, predictor) in fitted.items():
        roles = roles_where(both.roles, prop.known(both.table))
        if roles is None or (isinstance(prop, Metric) and prop.fit(own.task, snapshots) is None):
            warn(f"{name} is not predicted, since it is not known of these RNNs")
            continue
        target = prop.target(own.task, both.table)
        made = {"embedding": (predictor(found["embedding"]), predictor.calibration)}
        for reads, values in found.items():
            if reads not in (name, "embedding"):  # the step predicts the step
                other = predictors.fit(prop, values, target, roles, run.settings.seed, settings)
                made[reads] = other(values), other.calibration
        near = {"nearest-responses": nearest.by_responses(shown, roles.train)}
        if alike:
            near["nearest"] = nearest.find(both.rnns, roles.train)
        made |= {reads: of_nearest(prop, places, target, roles) for reads, places in near.items()}
        for reads, (outputs, calibration) in made.items():
            parts.append(rows(prop, reads, outputs, target, calibration, about, roles))
    return joined(parts, about)


def _together(run: TrainedRun, own: Zoo, zoo: Zoo, snapshots: pa.Table) -> _Together:
    assert own.task is not None, "evaluate refuses zoos without a task"
    learned, _ = accepted(run.encoder, own, own.snapshots(where=run.settings.emulation.where))
    roles = assign(own, learned, run.settings.seed)
    known = roles.train | roles.stopping
    in_known = {own.task.key(learned["task"][row].as_py()) for row in np.flatnonzero(known)}
    tested = [
        split == KNOWN or own.task.key(instance) not in in_known
        for split, instance in zip(snapshots["split"].to_pylist(), snapshots["task"].to_pylist(), strict=True)
    ]
    used = known | roles.start | roles.calibration
    learned = learned.filter(pa.array(used))
    none = np.zeros(len(tested), dtype=bool)
    kinds = [field.name for field in dataclasses.fields(roles) if field.name != "together"]
    masks = {name: np.concatenate([getattr(roles, name)[used], none]) for name in kinds}
    masks["held_out"] = np.concatenate([np.zeros(used.sum(), dtype=bool), tested])
    places = torch.arange(learned.num_rows + snapshots.num_rows).split([learned.num_rows, snapshots.num_rows])
    mixed = Mixed(list(zip(places, (own.population(learned), zoo.population(snapshots)), strict=True)))
    start = np.flatnonzero(roles.start[used])
    some = learned.take(pa.array(start[spaced(len(start)).numpy()]))
    both = pa.concat_tables([_columns(learned), _columns(snapshots)], promote_options="default")
    return _Together(
        both,
        populations(mixed)[0][1] if len(mixed.specs) == 1 else mixed,
        # those of the other zoo calibrate nothing, so what they belong to is never read
        Roles(**masks, together=tuple(np.resize(group[used], len(both)) for group in roles.together)),
        Snapshots.of(own, some).examples,
    )


def _columns(snapshots: pa.Table) -> pa.Table:
    """What is known of snapshots of any zoo."""
    wanted = ("id", "run", "step", "split", "task", "spec", "metrics", "labels")
    return snapshots.select([name for name in wanted if name in snapshots.column_names])


# --- figures ------------------------------------------------------------------------------------------


def by_architecture(
    snapshots: pa.Table, lost: pa.Table, predicted: pa.Table, emulated: pa.Table | None, counted: str
) -> Iterator[tuple[str, Figure]]:
    """Figures of all RNNs together, called `ALL`, and of each architecture.

    Args:
        snapshots: As `grouped` gives them.
        lost: Their losses.
        predicted: What was predicted of them.
        emulated: Their performance and that of their emulations, where it is known.
        counted: What the task's mask leaves, in words.
    """
    slugs = dict(zip(snapshots["id"].to_pylist(), snapshots["spec"].to_pylist(), strict=True))
    for slug in (None, *dict.fromkeys(slugs.values())):
        ids = pa.array([id for id, own in slugs.items() if slug in (None, own)])
        of_kind = [table.filter(pc.field("id").isin(ids)) for table in (lost, predicted)]
        figures = [*loss_figures([of_kind[0]], counted), *property_figures([of_kind[1]])]
        if emulated is not None:
            figures += _emulated_figures(emulated.filter(pc.field("id").isin(ids)))
        for figure in figures:
            yield ALL if slug is None else str(RNNSpec.from_slug(slug)), figure


def _emulated_figures(emulated: pa.Table) -> Iterator[Figure]:
    """How original and emulated performance correlate within training steps, on each split."""
    score = CORRELATIONS["correlation_within_step"]
    for split in emulated["split"].unique().to_pylist():
        table = emulated.filter(pc.field("split") == split)
        for of, column in (("conditioned", "emulated"), ("zero", "zero")):
            if column not in table.column_names:
                continue
            x, y = (table[name].to_numpy()[None] for name in (column, "original"))
            yield Figure(
                name="emulated performance correlation within step",
                split=split,
                of=of,
                interval=correlation(x, y, clusters(table), table["step"].to_numpy()),
                runs=len(table["run"].unique()),
                snapshots=table.num_rows,
                definition="Pearson correlation of original and emulated performance, each training step's "
                f"mean subtracted from both, of {EMULATED[of]}",
                lower_is_better=score.lower_is_better,
            )
