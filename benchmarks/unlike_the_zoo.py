"""Which score tells RNNs that are unlike a zoo's from held-out RNNs that are like them.

    python benchmarks/unlike_the_zoo.py RUN [ZOO]

RUN is a trained run of RNNs that read and give out tokens. RNNs unlike the zoo's are random ones, trained
ones with noise on their weights, and RNNs that learned Markov chains. Printed are, for each score, the AUROC
against held-out RNNs (new-runs and validation) and the share flagged where 5 % of these are.
"""

import sys

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from rnnatlas.encoders.base import chunks
from rnnatlas.evaluation import reference
from rnnatlas.evaluation.model import load
from rnnatlas.rnn import Population, RNNSpec, run
from rnnatlas.zoo.store import Zoo

COUNT = 128


def drawn(spec, scale):
    """Random RNNs, their weights times a scale."""
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(COUNT)])
    return changed(population, lambda weight: scale * weight)


def changed(population, change):
    return Population(
        population.spec,
        {name: change(weight) for name, weight in population.weights.items()},
        population.interface,
    )


def noisy(population, share, random):
    """Noise whose standard deviation is a share of that of each weight tensor."""

    def change(weight):
        sd = weight.std(tuple(range(1, weight.ndim)), keepdim=True)
        return weight + share * sd * torch.randn(weight.shape, generator=random)

    return changed(population, change)


def markov(spec, random, steps=150, count=64, batch=16, time=20):
    """RNNs each of which learned a Markov chain of its own."""
    size = spec.input
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])
    population.requires_grad_()
    chains = torch.rand(count, size, size, generator=random).pow(4)
    cumulative = (chains / chains.sum(2, keepdim=True)).cumsum(2)
    optimiser = torch.optim.Adam(population.parameters(), lr=1e-2)
    for _ in range(steps):
        tokens = [torch.randint(size, (count, batch), generator=random)]
        for uniform in torch.rand(time, count, batch, 1, generator=random):
            rows = cumulative[torch.arange(count)[:, None], tokens[-1]]
            tokens.append((rows < uniform).sum(2).clamp(max=size - 1))
        read = torch.stack(tokens, 2)
        outputs, _ = run(population, functional.one_hot(read[..., :-1], size).float())
        loss = functional.cross_entropy(outputs.reshape(-1, size), read[..., 1:].reshape(-1), reduction="sum")
        optimiser.zero_grad()
        (loss / (batch * time)).backward()
        optimiser.step()
    return population.detach()


def mahalanobis(known, rows):
    mean, covariance = known.mean(0), torch.cov(known.T)
    covariance += 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.linalg.solve(covariance, (rows - mean).T).T.mul(rows - mean).sum(1)


@torch.no_grad()
def scores(model, known, systems):
    """Name of a score → system → one number an RNN, high for those unlike training RNNs."""

    def own(system):  # responses to the encoder's probing inputs
        parts = [model.encoder._probe(part)[0].outputs.flatten(1) for part in chunks(system)]
        return torch.cat(parts)

    def nearest(features):
        train = features(known)
        sd = train.std(0).clamp_min(0.1 * train.std())
        return lambda system: torch.cdist(features(system) / sd, train / sd).amin(1)

    embedded = model.embed(known)
    found = {
        "responses to shared inputs": lambda system: model.reference.distance(model, system),
        "embedding, nearest": lambda system: torch.cdist(model.embed(system), embedded).amin(1),
        "embedding, Mahalanobis": lambda system: mahalanobis(embedded, model.embed(system)),
    }
    if not model.encoder.reads_weights:
        found["responses to probing inputs"] = nearest(own)
    return {
        name: {of: score(system).numpy() for of, system in systems.items()} for name, score in found.items()
    }


def auroc(inside, outside):
    ranks = np.argsort(np.argsort(np.concatenate([inside, outside]), kind="stable"))[len(inside) :]
    return (ranks.sum() - len(outside) * (len(outside) - 1) / 2) / (len(inside) * len(outside))


def main(path, where=None):
    model = load(path)
    zoo = Zoo.open(where or model.settings.zoo)
    snapshots = zoo.snapshots(where=model.settings.emulation.where)
    if model.reference is None:
        model.reference = reference.fit(model, zoo, snapshots)
    splits = {
        split: zoo.population(
            snapshots.filter(pa.array([own == split for own in snapshots["split"].to_pylist()]))
        )
        for split in ("train", "new-runs", "validation", "ood")
    }
    random = torch.Generator().manual_seed(0)
    spec = model.specs[0]
    gru = RNNSpec(cell="gru", input=spec.input, hidden=24, layers=1, output=spec.output)
    kinds = [spec] if model.encoder.reads_weights else [spec, gru]
    systems = {split: rnns for split, rnns in splits.items() if split != "train"}
    for kind in kinds:
        systems |= {f"random {kind}, × {scale}": drawn(kind, scale) for scale in (1, 3, 10)}
        systems[f"{kind} of Markov chains"] = markov(kind, random)
    for share in (0.5, 1, 2):
        systems[f"new runs with {share} sd of noise"] = noisy(splits["new-runs"], share, random)
    found = scores(model, splits["train"], systems)
    print("\t".join(["", *found]))
    for name in systems:
        cells = []
        for own in found.values():
            inside = np.concatenate([own["new-runs"], own["validation"]])
            limit = np.quantile(inside, reference.FLAGGED)
            cells.append(f"{auroc(inside, own[name]):.3f} ({np.mean(own[name] > limit):.0%} flagged)")
        print("\t".join([name, *cells]))


if __name__ == "__main__":
    main(*sys.argv[1:])
