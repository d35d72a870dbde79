"""How differently RNNs behave: what they give out on shared inputs, and how far noise changes it."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from rnnatlas.rnn import Signal, System, Tokens, run
from rnnatlas.seeds import stream

NOISE = (0.1, 0.3, 1.0)
"""Standard deviations of noise added to inputs, in units of the inputs' own; for tokens, the share of them
that is drawn anew."""
LEAST = 1e-3
"""Smallest change of outputs that is told from none, in standard deviations of the outputs."""
FLOOR = -20.0
"""Least log-probability that is told from none."""
NUMBERS = 5e7
"""Outputs of all RNNs on all trials that are held at a time, about; of more, fewer trials are read."""


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What each of N RNNs does on the same trials.

    Attributes:
        responses: Outputs at the positions that count, numbers or log-probabilities, in units of their
            standard deviations over RNNs and trials.
        sensitivity: For each strength of noise and each step, the logarithm of how far outputs change.
        trials: How many trials were read.
    """

    responses: Float[np.ndarray, "rnn response"]
    sensitivity: Float[np.ndarray, "rnn change"]
    trials: int

    @property
    def distances(self) -> Float[np.ndarray, "rnn rnn"]:
        """Distances of all pairs: of responses and of sensitivities, each over its median, as one Euclidean.

        Responses alone say little where a training leaves outputs open, and sensitivities alone confuse
        RNNs that are equally robust; together they found how networks had been trained where neither did
        (docs/decisions/0020-exploring-without-training.md).
        """
        parts = [_scaled(_distances(part)) for part in (self.responses, self.sensitivity)]
        return np.sqrt(sum(part**2 for part in parts))


@torch.no_grad()
@np.errstate(over="ignore", invalid="ignore")  # what overflows is far, see _finite
def behaviour(
    system: System,
    inputs: Shaped[np.ndarray, "trial *stored"],
    mask: Bool[np.ndarray, "trial time"] | None = None,
    seed: int = 0,
) -> Behaviour:
    """Runs RNNs on shared trials, as they are and with noise.

    Args:
        system: RNNs with one interface.
        inputs: Token numbers [trial, time], or numbers [trial, time, channel].
        mask: Positions that count; all without one.
        seed: Of the noise, and of which trials are read where there are too many.
    """
    signal, size = system.interface.input, system.interface.output.size
    most = max(1, int(NUMBERS / (len(system) * inputs.shape[1] * size)))
    if len(inputs) > most:
        chosen = np.sort(stream(seed, "explore", "trials").permutation(len(inputs))[:most])
        inputs, mask = inputs[chosen], None if mask is None else mask[chosen]
    counted = np.ones(inputs.shape[:2], bool) if mask is None else mask.astype(bool)
    clean = _outputs(system, signal, inputs)
    deviation = clean[:, counted].std(axis=(0, 1), dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1.0)
    steps = counted.any(axis=0)
    weights = counted[:, steps] / counted[:, steps].sum(axis=0)
    changes = []
    for strength in NOISE:
        noisy = _outputs(system, signal, _with_noise(signal, inputs, strength, seed))
        squares = (((noisy - clean) / scale) ** 2).mean(axis=-1)[:, :, steps]
        changes.append(np.log(LEAST + np.sqrt((squares * weights).sum(axis=1))))
    responses = (clean / scale)[:, counted].reshape(len(system), -1)
    return Behaviour(
        _finite(responses).astype(np.float32), _finite(np.concatenate(changes, axis=1)), len(inputs)
    )


def _outputs(
    system: System, signal: Signal, inputs: Shaped[np.ndarray, "trial *stored"]
) -> Float[np.ndarray, "rnn trial time output"]:
    """Numbers as they are; of tokens log-probabilities, less their mean, which logits alone decide."""
    read: Tensor = signal.encode(torch.from_numpy(inputs)).to(system.device, system.dtype)
    outputs, _ = run(system, read)
    if isinstance(system.interface.output, Tokens):
        outputs = outputs.log_softmax(-1).clamp_min(FLOOR)
        outputs = outputs - outputs.mean(-1, keepdim=True)
    return outputs.cpu().numpy()


def _with_noise(
    signal: Signal, inputs: Shaped[np.ndarray, "trial *stored"], strength: float, seed: int
) -> Shaped[np.ndarray, "trial *stored"]:
    """The trials with Gaussian noise, or with a share of the tokens drawn anew."""
    own = stream(seed, "explore", "noise", str(strength))
    if isinstance(signal, Tokens):
        anew = own.random(inputs.shape) < strength
        return np.where(anew, own.integers(0, signal.size, inputs.shape), inputs).astype(inputs.dtype)
    deviation = float(inputs.std(dtype=np.float64)) or 1.0
    noisy = inputs + strength * deviation * own.standard_normal(inputs.shape)
    if signal.low is not None and signal.high is not None:
        noisy = noisy.clip(signal.low, signal.high)
    return noisy.astype(inputs.dtype)


def _finite(values: Float[np.ndarray, "rnn number"]) -> Float[np.ndarray, "rnn number"]:
    """Numbers that overflowed, or that are none, as the largest that others gave."""
    finite = np.isfinite(values)
    largest = np.abs(values[finite]).max(initial=1.0)
    return np.nan_to_num(values, nan=largest, posinf=largest, neginf=-largest)


def _distances(points: Float[np.ndarray, "rnn number"]) -> Float[np.ndarray, "rnn rnn"]:
    """Root mean squared differences of all pairs."""
    from scipy.spatial.distance import pdist, squareform

    return squareform(pdist(points.astype(np.float64))) / np.sqrt(points.shape[1])


def _scaled(distances: Float[np.ndarray, "rnn rnn"]) -> Float[np.ndarray, "rnn rnn"]:
    """Over the median of all pairs that differ."""
    different = distances[np.triu_indices(len(distances), 1)]
    different = different[different > 0]
    return distances / np.median(different) if len(different) else distances
