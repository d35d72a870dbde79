"""What invariants of weights say of a zoo's held-out RNNs, beside norms and layer-wise statistics.

    python benchmarks/invariants.py ZOO...

Printed are, for each zoo, kind of features and training RNNs, of RNNs of other runs: the R² of a ridge
regression of the logarithm of the training step, the accuracy of the nearest step and the rank correlation;
and the rank correlation of performance, predicted likewise, within a step (mean over steps). Where a zoo has
several architectures, RNNs of each are predicted from those of the others, too. Then, how long it takes.
"""

import sys
import time

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnnatlas.encoders.statistics import statistics
from rnnatlas.evaluation.features import COMPONENTS, invariant_components
from rnnatlas.rnn import canonical_bias, populations
from rnnatlas.rnn.invariants import invariants
from rnnatlas.zoo.store import Zoo


def blocks(rnns, read):
    """One block of columns for each architecture."""
    found = []
    for positions, population in populations(rnns):
        values = read(population)
        block = torch.zeros(len(rnns), values.shape[1])
        block[positions] = values
        found.append(block)
    return torch.cat(found, 1)


def norms(population):
    weights = canonical_bias(population).weights.values()
    return torch.stack([weight.flatten(1).norm(dim=1) for weight in weights], 1).clamp_min(1e-6).log()


def sizes(rnns):
    """Root mean square of input, recurrent and head's weights and of biases: of any architecture."""
    found = torch.zeros(len(rnns), 4)
    for positions, population in populations(rnns):
        weights = canonical_bias(population).weights
        for column, part in enumerate(("weight_ih", "weight_hh", "bias_ih", "head.weight")):
            own = torch.cat([weight.flatten(1) for name, weight in weights.items() if part in name], 1)
            own = own * population.spec.hidden**0.5
            found[positions, column] = own.square().mean(1).clamp_min(1e-12).log()
    return found


def features(rnns, train, shared):
    """Kinds of features; only those that all architectures share, or all."""
    found = {f"invariants, {COMPONENTS} components": invariant_components(rnns, train)}
    found["invariants, 16 components"] = found[f"invariants, {COMPONENTS} components"][:, :16]
    found["sizes of weights"] = sizes(rnns)
    if not shared:
        found |= {"norms": blocks(rnns, norms), "layer-wise statistics": blocks(rnns, statistics)}
    return found


def scores(values, snapshots, train, test):
    """Of the step R², accuracy and rank correlation; of performance the rank correlation within a step."""
    step = np.log2(1 + snapshots["step"].to_numpy().astype(float))
    performance = np.array([row["performance"] for row in snapshots["metrics"].to_pylist()])

    def predicted(target):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
        return model.fit(values[train], target[train]).predict(values[test])

    steps, found = np.unique(step), predicted(step)
    nearest = steps[abs(found[:, None] - steps).argmin(1)]
    r2 = 1 - ((found - step[test]) ** 2).mean() / step[test].var()
    within = predicted(performance)
    of_step = [step[test] == own for own in steps]
    ranks = [rank_correlation(within[own], performance[test][own]) for own in of_step]
    return r2, (nearest == step[test]).mean(), rank_correlation(found, step[test]), np.nanmean(ranks)


def rank_correlation(a, b):
    return np.corrcoef(rankdata(a), rankdata(b))[0, 1]


def show(path):
    zoo = Zoo.open(path)
    snapshots = zoo.snapshots()
    rnns = zoo.population(snapshots)
    split = np.array(snapshots["split"].to_pylist())
    cells = np.array(snapshots["spec"].to_pylist())
    sides = [("all", split == "train", split == held_out) for held_out in ("new-runs", "validation", "ood")]
    if len(kinds := np.unique(cells)) > 1:
        sides += [(f"all but {cell}", (split == "train") & (cells != cell), cells == cell) for cell in kinds]
    print(f"{path}: {', '.join(map(str, rnns.specs))}")
    print("trained on\theld out\tfeatures\tstep R²\tstep accuracy\tstep rank\tperformance within a step")
    for number, (name, train, test) in enumerate(sides):
        where = "another cell" if number > 2 else split[test][0]
        for of, values in features(rnns, train, shared=number > 2).items():
            found = [f"{score:.2f}" for score in scores(values.numpy(), snapshots, train, test)]
            print("\t".join([name, where, of, *found]))
    for _, population in populations(rnns):
        torch.set_num_threads(1)
        some = population.select(slice(0, 256))
        start = time.process_time()
        invariants(some)
        taken = (time.process_time() - start) / len(some)
        print(f"{population.spec}: {1e3 * taken:.2f} ms of processor time an RNN")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        show(path)
