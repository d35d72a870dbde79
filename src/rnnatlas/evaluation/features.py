"""What a predictor may read: embeddings, and the trivial things that they must beat."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from rnnatlas import seeds
from rnnatlas.emulation.model import TrainedRun
from rnnatlas.encoders.base import Examples, chunks, mean_and_sd
from rnnatlas.encoders.invariants import CLIP, Scales, principal_components
from rnnatlas.encoders.responses import KNOWN, joined, scales, standard
from rnnatlas.evaluation import dsa
from rnnatlas.rnn import Mixed, Population, by_population, canonical_bias, populations
from rnnatlas.rnn import run as run_rnns
from rnnatlas.rnn.dynamics import jacobians, log_moduli, lyapunov, state_size
from rnnatlas.rnn.spectra import quantiles

COMPONENTS = 64
"""Principal components of raw weights, of invariants and of responses to fixed inputs."""

DRIVEN, LEADING, SETTLING, PLACES = (2, 24), 32, 4, 16
"""Dynamics: rollouts and their steps that drive RNNs, Lyapunov exponents that are followed, first steps that
do not count, and how many quantiles say what exponents and moduli are."""

QUERIES = (8, 22)
"""Fixed inputs, sequences and steps, beside encoders that show RNNs none themselves."""

TURNS = 24
"""Rotations of fixed images, at most."""

FIXED = (
    f"the first {COMPONENTS} principal components of the responses, standardised, to as many fixed inputs as "
    "the encoder shows ({} × {} where it shows none),".format(*QUERIES)
)

DEFINITIONS: Mapping[str, str] = {
    "embedding": "the embedding by the trained encoder, which is not changed any more",
    "untrained": "the embedding of the same encoder with random weights of its own, never trained, but "
    "whitened on training RNNs as the trained encoder was at its start",
    "supervised": "the embedding of the same encoder, which started as the frozen one did but was trained "
    "end to end with the predictor, on this property instead of emulation",
    "direction": "the two numbers of the embedding that turn with the RNN, all turned and scaled alike as "
    "fits training RNNs best",
    "untrained-direction": "the same two numbers of the untrained encoder's embedding",
    "pca": f"the first {COMPONENTS} principal components of the raw weights",
    "nearest": "the raw weights, and averages what the nearest training RNNs have",
    "nearest-responses": "the standardised responses to the same random inputs as principal components are "
    "taken of, and averages what the training RNNs with the nearest responses have",
    "fixed-rollouts": f"{FIXED} taken from rollouts of training RNNs",
    "fixed-random": f"{FIXED} drawn at random",
    "fixed-task": f"{FIXED} made for the task, such as counting strings",
    "fixed-turned": f"{FIXED} made for the task, each in up to {TURNS} rotations (images)",
    "scan": f"nothing but how probable an RNN finds the digits of fixed images in up to {TURNS} turns, at "
    "the encoder's number of queries, and says the mean direction of these, weighted by the product "
    "of probabilities at the last step; nobody trained it, but it knows the digits",
    "interview": f"{FIXED} that the RNN goes on with itself, as the interview of theorem 3.3 does: aⁿ, and "
    "then always the token that it finds most probable",
    "invariants": f"the first {COMPONENTS} principal components of `rnnatlas.invariants`: spectra of the "
    "weights and their moments over hidden units",
    "dynamics": f"principal components of {PLACES} quantiles each of the {LEADING} largest Lyapunov "
    f"exponents on {DRIVEN[0]} rollouts, and of the moduli of eigenvalues of a step's Jacobian, at rest and "
    "at the end of a rollout",
    "dsa": f"coordinates, {COMPONENTS} at most, by multidimensional scaling of DSA distances: of eigenvalues "
    f"of linear models of hidden states on {dsa.QUERIES[0]} rollouts",
    "norms": "the logarithm of the norm of each weight tensor, both biases of a gate as one",
    "step": "the training step of the snapshot, one-hot",
    "architecture": "which architecture the RNN has, one-hot",
    "constant": "nothing",
}
"""What a predictor reads, by name; all but `NEAREST` are read by the same kind of predictor."""

FIXED_INPUTS = ("fixed-rollouts", "fixed-random", "fixed-task", "fixed-turned", "interview")
"""What RNNs respond to inputs that nobody has learned: the strongest of all that need no encoder."""

NEAREST = ("nearest", "nearest-responses")
"""What neighbours are near in."""

TRIVIAL = (
    *(*FIXED_INPUTS, "scan", "pca", *NEAREST),
    *("invariants", "dynamics", "dsa", "norms", "step", "architecture", "constant"),
)
"""Features that need no encoder."""

RNNs = Population | Mixed
"""RNNs whose weights can be read."""


def features(
    run: TrainedRun,
    rnns: RNNs,
    snapshots: pa.Table,
    train: Bool[np.ndarray, " rnn"],
    examples: Examples,
    slow: bool = False,
    compare: bool = False,
) -> dict[str, Float[Tensor, "rnn feature"]]:
    """Features of some snapshots that a predictor can read, by name.

    Args:
        run: The trained encoder.
        rnns: The snapshots' RNNs.
        snapshots: As `Zoo.snapshots` gives them.
        train: Those that set the scales of features.
        examples: Sequences of inputs, such as those of training RNNs' rollouts.
        slow: Whether to follow Lyapunov exponents, too.
        compare: Whether to compare every pair of RNNs by DSA, too.
    """
    found = {
        "embedding": run.embed(rnns),
        "untrained": untrained(run, rnns, train, examples).embed(rnns),
        "pca": weight_components(rnns, train, int(seeds.stream(run.settings.seed, "pca").integers(1 << 31))),
        "invariants": invariant_components(rnns, train),
        "norms": _norms(rnns),
        "step": _one_hot(snapshots["step"].to_numpy()),
        "constant": torch.ones(len(rnns), 1),
    }
    found |= _fixed(run, rnns, train, examples)
    if slow and any(not spec.bidirectional for spec in rnns.specs):
        found["dynamics"] = _dynamics(rnns, train, examples)
    if compare:
        inputs = examples("rollouts", dsa.QUERIES[1])
        inputs = inputs[torch.linspace(0, len(inputs) - 1, dsa.QUERIES[0]).long()]
        found["dsa"] = dsa.places(dsa.distances(rnns, inputs), train, COMPONENTS)
    if len(rnns.specs) > 1:
        found["architecture"] = _one_hot(snapshots["spec"].to_numpy(zero_copy_only=False))
    return found


def untrained(run: TrainedRun, rnns: RNNs, train: Bool[np.ndarray, " rnn"], examples: Examples) -> TrainedRun:
    """The same encoder as it would start training under another seed."""
    fresh = started(run, int(seeds.stream(run.settings.seed, "untrained").integers(1 << 31)))
    fresh.to(run.device).encoder.eval().requires_grad_(False)
    set_scales(fresh, rnns, train, examples)
    return fresh


def started(run: TrainedRun, seed: int) -> TrainedRun:
    """The run as training starts with it, before its scales are set."""
    return TrainedRun(run.path, dataclasses.replace(run.settings, seed=seed))


def set_scales(run: TrainedRun, rnns: RNNs, train: Bool[np.ndarray, " rnn"], examples: Examples) -> None:
    """Does with the encoder what emulation does at its start, on training RNNs."""
    chosen = rnns.select(np.flatnonzero(train).tolist())
    run.encoder.calibrate(chosen, examples)


@torch.no_grad()
def _fixed(
    run: TrainedRun, rnns: RNNs, train: Bool[np.ndarray, " rnn"], examples: Examples
) -> dict[str, Float[Tensor, "rnn feature"]]:
    """Principal components of responses to fixed inputs, at the encoder's own number of queries."""
    task = run.task
    kinds = {"fixed-rollouts": "rollouts", "fixed-random": "random"}
    if task.probe_kinds:
        kinds["fixed-task"] = task.probe_kinds[0]
    if task.turns:
        kinds["fixed-turned"] = task.probe_kinds[0]
    sequences, steps = _queries(run)
    turns = {"fixed-turned": min(TURNS, sequences)}
    found = {}
    for name, kind in kinds.items():
        own = _responses(run, rnns, examples, name, kind, turns.get(name, 1))
        found[name] = _components(own, train)
    interviews = [task.interview(some, sequences, steps) for some in chunks(rnns)]
    if answered := [part for part in interviews if part is not None]:
        found["interview"] = _components(joined(torch.cat(answered), task.interface.output), train)
    return found


@torch.no_grad()
def scan(run: TrainedRun, rnns: RNNs) -> Float[Tensor, "rnn 2"] | None:
    """See `Task.scan`, at the encoder's own number of queries."""
    sequences, _ = _queries(run)
    turns = min(TURNS, sequences)
    found = [run.task.scan(some, sequences // turns, turns) for some in chunks(rnns)]
    known = [part for part in found if part is not None]
    return torch.cat(known) if known else None


@torch.no_grad()
def random_responses(
    run: TrainedRun, rnns: RNNs, train: Bool[np.ndarray, " rnn"], examples: Examples
) -> Float[Tensor, "rnn response"]:
    """What "fixed-random" takes principal components of, standardised on some of the RNNs."""
    responses = _responses(run, rnns, examples, "fixed-random", "random")
    return standard(responses, *scales(responses[torch.from_numpy(train)]))


def _queries(run: TrainedRun) -> tuple[int, int]:
    """The encoder's own number of sequences and steps."""
    settings = run.encoder.settings
    sequences, steps = getattr(settings, "sequences", 0), getattr(settings, "steps", 0)
    return (sequences * getattr(settings, "turns", 1), steps) if sequences and steps else QUERIES


def _responses(
    run: TrainedRun, rnns: RNNs, examples: Examples, name: str, kind: str, turns: int = 1
) -> Float[Tensor, "rnn response"]:
    """Responses to fixed inputs of a kind, each in so many turns, side by side."""
    sequences, steps = _queries(run)
    output = run.task.interface.output
    given = examples(kind, steps, turns).unflatten(0, (turns, -1))
    chosen = seeds.stream(run.settings.seed, name).permutation(given.shape[1])[: sequences // turns]
    inputs = given[:, torch.from_numpy(chosen)].flatten(0, 1)
    parts = [output.interpret(run_rnns(some, inputs)[0]) for some in chunks(rnns)]
    return joined(torch.cat(parts), output)


def _dynamics(
    rnns: RNNs, train: Bool[np.ndarray, " rnn"], examples: Examples
) -> Float[Tensor, "rnn feature"]:
    """Quantiles of Lyapunov exponents and of log moduli (Vogt et al. 2024); all alike of bidirectional RNNs.

    A state that has overflown counts as one in which nothing grows.
    """
    inputs = examples("rollouts", DRIVEN[1])
    inputs = inputs[torch.linspace(0, len(inputs) - 1, DRIVEN[0]).long()]
    places = tuple(np.linspace(0, 1, PLACES).tolist())
    found = torch.zeros(len(rnns), 3 * PLACES)
    for positions, population in populations(rnns):
        if population.spec.bidirectional:
            continue
        rows = []
        for some in chunks(population):
            exponents = lyapunov(some, inputs, min(LEADING, state_size(some.spec)), SETTLING)
            _, last = run_rnns(some, inputs[:1, :-1])
            moduli = [
                log_moduli(some, jacobians(some, read, state))[:, 0]
                for read, state in ((torch.zeros_like(inputs[:1, 0]), None), (inputs[:1, -1], last))
            ]
            rows.append(torch.cat([quantiles(own, places) for own in (exponents, *moduli)], 1))
        found[positions] = torch.cat(rows)
    found, chosen = found.nan_to_num(0.0, 0.0, 0.0), torch.from_numpy(train)
    mean, sd = mean_and_sd(found[chosen], 0)
    scaled = ((found - mean) / sd).clamp(-CLIP, CLIP)
    return _projected(scaled, chosen)


def _components(
    responses: Float[Tensor, "rnn response"], train: Bool[np.ndarray, " rnn"]
) -> Float[Tensor, "rnn feature"]:
    """Principal components of standardised responses, taken on some of the RNNs."""
    known = torch.from_numpy(np.flatnonzero(train))
    known = known[:: -(-len(known) // KNOWN)]
    responses = standard(responses, *scales(responses[known]))
    mean = responses[known].mean(0)
    _, _, components = torch.linalg.svd(responses[known] - mean, full_matrices=False)
    return (responses - mean) @ components[:COMPONENTS].T


def raw_weights(population: Population) -> Float[Tensor, "rnn parameter"]:
    """All weights as a vector, both biases of a gate as one."""
    return canonical_bias(population).flatten()


def weight_components(
    rnns: RNNs, train: Bool[np.ndarray, " rnn"], random_state: int
) -> Float[Tensor, "rnn feature"]:
    """Principal components of raw weights, taken on some of the RNNs.

    One block of columns for each architecture that these have, zero for RNNs of the others.
    """
    from sklearn.decomposition import PCA

    blocks = []
    for positions, population in populations(rnns):
        known, vectors = train[positions.numpy()], raw_weights(population).numpy()
        size = min(COMPONENTS, known.sum() - 1, vectors.shape[1])
        if size < 1:
            continue
        pca = PCA(size, svd_solver="randomized", random_state=random_state).fit(vectors[known])
        block = torch.zeros(len(rnns), size)
        block[positions] = torch.from_numpy(pca.transform(vectors)).float()
        blocks.append(block)
    return torch.cat(blocks, dim=1) if blocks else torch.zeros(len(rnns), 1)


def _projected(
    scaled: Float[Tensor, "rnn feature"], train: Bool[Tensor, " rnn"]
) -> Float[Tensor, "rnn component"]:
    """Principal components, taken on some of the RNNs."""
    known = scaled[train]
    return (scaled - known.mean(0)) @ principal_components(known, COMPONENTS).float().T


def invariant_components(rnns: RNNs, train: Bool[np.ndarray, " rnn"]) -> Float[Tensor, "rnn feature"]:
    """Invariants of all architectures together, standardised on training RNNs and clipped."""
    scales = Scales()
    scales.fit(rnns.select(np.flatnonzero(train).tolist()))
    return _projected(by_population(rnns, scales), torch.from_numpy(train))


def _norms(rnns: RNNs) -> Float[Tensor, "rnn feature"]:
    """One block of columns for each architecture, zero for RNNs of the others."""
    blocks = []
    for positions, population in populations(rnns):
        weights = canonical_bias(population).weights.values()
        norms = torch.stack([weight.flatten(1).norm(dim=1) for weight in weights], dim=1)
        block = torch.zeros(len(rnns), norms.shape[1])
        block[positions] = norms.clamp_min(1e-6).log().float()
        blocks.append(block)
    return torch.cat(blocks, dim=1)


def _one_hot(values: Shaped[np.ndarray, " rnn"]) -> Float[Tensor, "rnn feature"]:
    _, classes = np.unique(values, return_inverse=True)
    return functional.one_hot(torch.from_numpy(classes)).float()
