"""What a probing encoder learns of a folder of RNNs, and how well labels are predicted with it or not."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Shaped

from rnnatlas.atlas.embed import embed
from rnnatlas.atlas.index import Atlas
from rnnatlas.evaluation.emulations import losses
from rnnatlas.evaluation.model import Model, train
from rnnatlas.evaluation.roles import HELD_OUT
from rnnatlas.exploration.structure import are_numbers, is_known
from rnnatlas.intervals import Interval, bootstrap, difference
from rnnatlas.rnn import System
from rnnatlas.rnn.mixed import populations
from rnnatlas.seeds import stream
from rnnatlas.zoo.store import Zoo

STEPS = 1000
ROLLOUTS = 16
"""Rollouts of each held-out RNN by which emulations are judged."""
FOLDS, REPEATS = 5, 10
FEWEST = 15
"""RNNs with a label from which it is predicted at least."""
COMPONENTS = 16
"""Principal components that predictors read, as many as an embedding has numbers."""

ENCODER = "responses"
TRIVIAL = "trivial"
SOURCES = {
    "embedding": "the learned embedding",
    "behaviour": f"{COMPONENTS} principal components of responses and sensitivities, without training",
    "weights": "sizes, cell, and quantiles of the weights of each kind",
    TRIVIAL: "the mean, or the most frequent class, of the other RNNs",
}


def settings(zoo: Zoo) -> dict[str, Any]:
    """Of an encoder and an emulator for as many RNNs as a folder has, and trials as long."""
    assert zoo.task is not None, "an explored folder has trials"
    return {
        "emulation": {
            "steps": STEPS,
            "rnns": min(32, max(2, len(zoo) // 2)),
            "rollouts": 4,
            "learning_rate": 0.002,
            "warmup": 100,
            "decay": True,
            "validate_every": 100,
            "emulator": {"width": 64, "layers": 1},
        },
        "encoders": {ENCODER: {"sequences": 8, "steps": min(24, zoo.task.time), "hidden": 64}},
    }


@dataclasses.dataclass(frozen=True)
class Learned:
    """A trained encoder on a folder of RNNs.

    Attributes:
        model: The encoder.
        atlas: All RNNs of the zoo, embedded.
        places: Where those that were compared are in the atlas.
        emulation: Split → what the emulator was conditioned on → mean loss on its RNNs.
        seconds: How long all this took.
    """

    model: Model
    atlas: Atlas
    places: Sequence[int]
    emulation: Mapping[str, Mapping[str, Interval]]
    seconds: float

    @property
    def z(self) -> Float[np.ndarray, "rnn embed"]:
        """Embedding of each RNN that was compared."""
        return self.atlas.embeddings[self.places]

    @property
    def xy(self) -> Float[np.ndarray, "rnn 2"]:
        """Where each of them is on the map."""
        table = self.atlas.table.take(self.places)
        return np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)


def learn(zoo: Zoo, rows: pa.Table, out: Path, seed: int = 0, progress: bool = False) -> Learned:
    """Trains an encoder of responses on a folder's RNNs, and embeds all of them.

    Args:
        zoo: The RNNs with their rollouts and splits.
        rows: Those to embed, as `Zoo.snapshots` gives them.
        out: Folder of the run.
        seed: Of the training.
        progress: Whether to show a bar.
    """
    began = time.perf_counter()
    model = train(zoo, ENCODER, out, seed, changes=settings(zoo), progress=progress)
    atlas = embed(model, [zoo], seed=seed)
    places = [atlas.position(id) for id in rows["id"].to_pylist()]
    found = {}
    for split in HELD_OUT:
        held_out = zoo.snapshots(split=split) if split in zoo.table["split"].to_pylist() else rows.slice(0, 0)
        if held_out.num_rows:
            table = losses(model, zoo, held_out, ROLLOUTS)
            table = table.filter(pa.array(np.asarray(table["divergence"].to_pylist()) == model.divergence))
            kinds = [kind for kind in ("conditioned", "shuffled", "zero") if kind in table.column_names]
            runs = table["run"].to_numpy()
            found[split] = {
                kind: bootstrap(table[kind].to_numpy()[None], runs, bounds=(0.0, np.inf)) for kind in kinds
            }
    return Learned(model, atlas, places, found, time.perf_counter() - began)


# --- labels ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Predicted:
    """How well a label is predicted, by cross-validation over whole groups.

    Attributes:
        name: The label.
        score: "accuracy" of classes, "R²" of numbers.
        of: Where predictions come from, a name of `SOURCES` → the score.
        gain: Source → its score less that of the best of the trivial and the weights' predictions, paired.
        known: RNNs with the label.
    """

    name: str
    score: str
    of: Mapping[str, Interval]
    gain: Mapping[str, Interval]
    known: int


def predict(
    features: Mapping[str, Float[np.ndarray, "rnn feature"]],
    labels: Mapping[str, Sequence[Any]],
    groups: Shaped[np.ndarray, " rnn"],
    seed: int = 0,
) -> list[Predicted]:
    """How well labels are predicted from features: ridge and logistic regression, cross-validated.

    Five folds of whole groups, ten times; an RNN's score is its mean over repetitions, and intervals are over
    groups. Labels with too few values, or with classes too rare for five folds, are left out.
    """
    found = []
    for name, values in labels.items():
        kept = np.flatnonzero(list(map(is_known, values)))
        known = [values[i] for i in kept.tolist()]
        of_numbers = are_numbers(known)
        if len(kept) < FEWEST or len(np.unique(groups[kept])) < FOLDS or len(set(map(str, known))) < 2:
            continue
        if of_numbers:
            target = np.array(known, dtype=np.float64)
        else:
            _, target, counts = np.unique(list(map(str, known)), return_inverse=True, return_counts=True)
            if counts.min() < 2 or len(counts) > len(kept) / 3:
                continue
        sides = {source: values[kept] for source, values in features.items()}
        sides[TRIVIAL] = np.zeros((len(kept), 1))
        scores = {
            source: _scores(_scaled(source, values), target, groups[kept], of_numbers, seed)
            for source, values in sides.items()
        }
        found.append(_compared(name, scores, groups[kept], of_numbers))
    return found


def _compared(name: str, scores: Mapping[str, np.ndarray], groups: np.ndarray, of_numbers: bool) -> Predicted:
    of = {source: bootstrap(values[None], groups) for source, values in scores.items()}
    base = max((source for source in (TRIVIAL, "weights") if source in scores), key=lambda s: of[s].mean)
    gain = {
        source: difference(values[None], scores[base][None], groups, same_seeds=True)
        for source, values in scores.items()
        if source not in (TRIVIAL, "weights")
    }
    return Predicted(name, "R²" if of_numbers else "accuracy", of, gain, len(groups))


def _scaled(source: str, values: Float[np.ndarray, "rnn feature"]) -> Float[np.ndarray, "rnn feature"]:
    """Statistics of weights standardised one by one, as their units differ; coordinates all by one factor.

    There may be as many coordinates as RNNs, the last ones next to 0; standardised one by one, these would
    count as much as the first.
    """
    from sklearn.preprocessing import StandardScaler

    if source == "weights":
        return StandardScaler().fit_transform(values)
    centred = values - values.mean(0)
    return centred / (centred.std() or 1.0)


def _scores(
    features: Float[np.ndarray, "rnn feature"],
    target: Shaped[np.ndarray, " rnn"],
    groups: Shaped[np.ndarray, " rnn"],
    of_numbers: bool,
    seed: int,
) -> Float[np.ndarray, " rnn"]:
    """Each RNN's share right, or 1 less its squared error over the variance: their mean is accuracy or R²."""
    from sklearn.linear_model import LogisticRegression, RidgeCV

    scores = np.zeros(len(target))
    names, membership = np.unique(groups, return_inverse=True)
    for repeat in range(REPEATS):
        order = stream(seed, "explore", "folds", repeat).permutation(len(names))
        fold = (order % FOLDS)[membership]
        for number in range(FOLDS):
            test, train_ = fold == number, fold != number
            if of_numbers:
                regressor = RidgeCV(np.logspace(-2, 4, 13))
            elif len(np.unique(target[train_])) < 2:
                scores[test] += target[test] == target[train_][0]
                continue
            else:
                regressor = LogisticRegression(C=1.0, max_iter=1000)
            fitted = regressor.fit(features[train_], target[train_])
            given = fitted.predict(features[test])
            if of_numbers:
                scores[test] += 1 - (given - target[test]) ** 2 / target.var()
            else:
                scores[test] += given == target[test]
    return scores / REPEATS


def weight_statistics(system: System) -> Float[np.ndarray, "rnn feature"]:
    """Sizes (logarithms) and cell, and quantiles and norm (logarithm) of the weights of each kind.

    Kinds are weights from the inputs, from the hidden states, biases, and the head's.
    """
    rows: dict[int, np.ndarray] = {}
    cells = sorted({spec.cell for spec in system.specs})
    for index, population in populations(system):
        spec = population.spec
        kinds: dict[str, list[torch.Tensor]] = {"_ih_": [], "_hh_": [], "bias": [], "head": []}
        for name, weight in population.weights.items():
            kind = next((kind for kind in ("head", "bias", "_hh_", "_ih_") if kind in name), None)
            if kind is not None:
                kinds[kind].append(weight.detach().float().flatten(1))
        parts = [torch.tensor([spec.hidden, spec.layers, spec.parameters]).log().expand(len(population), 3)]
        parts.append(
            torch.tensor([[spec.cell == cell for cell in cells]]).float().expand(len(population), -1)
        )
        for weights in kinds.values():
            whole = torch.cat(weights, 1) if weights else torch.zeros(len(population), 1)
            quantiles = np.quantile(whole.cpu().numpy(), (0.05, 0.25, 0.5, 0.75, 0.95), axis=1).T
            parts += [torch.from_numpy(quantiles), whole.norm(dim=1, keepdim=True).clamp_min(1e-6).log()]
        rows.update(zip(index.tolist(), torch.cat(parts, 1).cpu().numpy(), strict=True))
    return np.stack([rows[place] for place in range(len(system))])
