"""Predictors without gradient descent: ridge regression, a Gaussian process, boosted trees.

Each is fitted by squared error, of classes to their one-hot vectors, and is nothing but arrays: reading one
from a file runs no code (docs/decisions/0028-readouts.md).
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.properties.base import Classes, Property

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-12, 5))
"""Ridge penalties that are tried, over the number of RNNs."""
TUNED_ON, CONDITIONED_ON = 256, 2048
"""RNNs at most that the scales of a Gaussian process are fitted to, and that it is conditioned on."""
TREES, DEPTH = 200, 5
"""Boosted trees at most, for each number predicted, and how deep each is."""
BOOSTED: Mapping[str, Any] = {
    "learning_rate": 0.1,
    "max_leaf_nodes": 15,
    "max_depth": DEPTH,
    "min_samples_leaf": 10,
    "early_stopping": False,
}
"""Settings of scikit-learn's HistGradientBoostingRegressor."""
STEEPEST = 50.0
"""Largest slope from what is predicted of a one-hot vector to logits."""


class Readout(nn.Module):
    """What a fitted model gives out for standardised features: `slope` × its prediction + `offset`.

    Args:
        arrays: All that it is made of, by the names in `names`; slope 1 and offset 0 where they lack.
    """

    names: ClassVar[tuple[str, ...]]
    slope: Tensor
    offset: Tensor

    def __init__(self, arrays: Mapping[str, Tensor]):
        super().__init__()
        whole = {"slope": torch.tensor(1.0), "offset": torch.tensor(0.0), **arrays}
        if set(whole) != {"slope", "offset", *self.names}:
            raise ValueError(f"expected the arrays {', '.join(self.names)}, found {', '.join(arrays)}")
        for name, values in whole.items():
            self.register_buffer(name, values)

    def forward(self, features: Float[Tensor, "rnn feature"]) -> Float[Tensor, "rnn target"]:
        """Logits or values, as the property's loss reads them."""
        return self.slope * self.predict(features) + self.offset

    def predict(self, features: Float[Tensor, "rnn feature"]) -> Float[Tensor, "rnn target"]:
        """Values, of classes those of their one-hot vectors."""
        raise NotImplementedError


class Ridge(Readout):
    """Ridge regression in closed form."""

    names = ("weight", "bias")
    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, x_held: Tensor, y_held: Tensor) -> "Ridge":
        """Of `PENALTIES` the one with the least squared error on RNNs held out."""
        left, values, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        along = left.T @ (y - y.mean(0))
        tried = []
        for penalty in PENALTIES:
            weight = directions.T @ ((values / (values.square() + penalty * len(x)))[:, None] * along)
            bias = y.mean(0) - x.mean(0) @ weight
            tried.append(((x_held @ weight + bias - y_held).square().mean().item(), weight, bias))
        _, weight, bias = min(tried, key=lambda one: one[0])
        return cls({"weight": weight.float(), "bias": bias.float()})

    def predict(self, features: Float[Tensor, "rnn feature"]) -> Float[Tensor, "rnn target"]:
        """A linear function."""
        return features @ self.weight + self.bias


class GaussianProcess(Readout):
    """The mean of a Gaussian process with a squared-exponential kernel and noise."""

    names = ("known", "dual", "length", "mean")
    known: Tensor
    dual: Tensor
    length: Tensor
    mean: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, x_held: Tensor, y_held: Tensor) -> "GaussianProcess":
        """Variance, length and noise of the largest marginal likelihood; RNNs held out serve for nothing."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        mean, sd = y.mean(0), y.std(correction=0).clamp_min(1e-6)
        start = ConstantKernel(1.0, (1e-2, 1e3)) * RBF(math.sqrt(x.shape[1]), (1e-1, 1e3))
        kernel = start + WhiteKernel(0.3, (1e-4, 10))
        few = _spaced(len(x), TUNED_ON)
        tuned = GaussianProcessRegressor(kernel)
        with warnings.catch_warnings():  # of scales that end at their bounds
            warnings.simplefilter("ignore", ConvergenceWarning)
            tuned.fit(x[few].numpy(), ((y - mean) / sd)[few].numpy())
        found: Any = tuned.kernel_
        variance, noise = found.k1.k1.constant_value, found.k2.noise_level
        kept = _spaced(len(x), CONDITIONED_ON)
        known = x[kept]
        length = torch.tensor(float(found.k1.k2.length_scale), dtype=torch.float64)
        covariance = variance * _kernel(known, known, length)
        covariance.diagonal().add_(noise)
        dual = variance * torch.linalg.solve(covariance, (y - mean)[kept])
        return cls({"known": known, "dual": dual, "length": length, "mean": mean})

    def predict(self, features: Float[Tensor, "rnn feature"]) -> Float[Tensor, "rnn target"]:
        """The mean, given the RNNs known."""
        values = _kernel(features.double(), self.known, self.length) @ self.dual + self.mean
        return values.to(features.dtype)


class Boosting(Readout):
    """Gradient-boosted trees, as many for each number that is predicted."""

    names = ("feature", "threshold", "left", "right", "value", "baseline")
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    baseline: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, x_held: Tensor, y_held: Tensor) -> "Boosting":
        """As many trees as had the least squared error on RNNs held out."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        errors, fitted = np.zeros(TREES), []
        for column, held in zip(y.T.numpy(), y_held.T.numpy(), strict=True):
            model = HistGradientBoostingRegressor(max_iter=TREES, **BOOSTED).fit(x.numpy(), column)
            fitted.append(model)
            errors += [np.square(made - held).mean() for made in model.staged_predict(x_held.numpy())]
        return cls(_arrays(fitted, int(errors.argmin()) + 1))

    def predict(self, features: Float[Tensor, "rnn feature"]) -> Float[Tensor, "rnn target"]:
        """The sum of the leaves that an RNN comes to; a leaf leads to itself."""
        tree = torch.arange(len(self.feature))
        node = torch.zeros(len(features), len(tree), dtype=torch.long)
        for _ in range(DEPTH):
            low = features.double().gather(1, self.feature[tree, node]) <= self.threshold[tree, node]
            node = torch.where(low, self.left[tree, node], self.right[tree, node])
        leaves = self.value[tree, node].unflatten(1, (len(self.baseline), -1))
        return (leaves.sum(2) + self.baseline).to(features.dtype)


KINDS: Mapping[str, type[Any]] = {"ridge": Ridge, "gp": GaussianProcess, "boosting": Boosting}


def fit(
    kind: str,
    prop: Property,
    x: Float[Tensor, "rnn feature"],
    y: Float[Tensor, "rnn target"],
    x_held: Float[Tensor, "held feature"],
    y_held: Float[Tensor, "held target"],
) -> Readout:
    """A readout of some RNNs; others choose how smooth it is, and the slope and offset to logits of classes.

    Args:
        kind: A name of `KINDS`.
        prop: What is predicted.
        x: Standardised features of the RNNs to learn from.
        y: `prop.target` of them.
        x_held: Features of the RNNs that choose.
        y_held: `prop.target` of them.
    """
    readout = KINDS[kind].fit(x.double(), y.double(), x_held.double(), y_held.double())
    if isinstance(prop, Classes):
        slope, offset = _to_logits(prop, readout(x_held), y_held)
        readout.slope.fill_(slope)
        readout.offset.fill_(offset)
    return readout


def _to_logits(prop: Property, values: Tensor, target: Tensor) -> tuple[float, float]:
    """Slope and offset that make predicted one-hot vectors logits of the least loss (Platt scaling)."""
    from scipy.optimize import minimize

    def loss(free: np.ndarray) -> float:
        return prop.loss(math.exp(free[0]) * values.double() + free[1], target.double()).mean().item()

    bounds = [(0.0, math.log(STEEPEST)), (-STEEPEST, STEEPEST)]
    found = minimize(loss, [math.log(5.0), -2.5], bounds=bounds, method="L-BFGS-B")
    return math.exp(found.x[0]), float(found.x[1])


def _spaced(count: int, most: int) -> Tensor:
    return torch.linspace(0, count - 1, min(count, most)).long()


def _kernel(a: Tensor, b: Tensor, length: Tensor) -> Tensor:
    return (-torch.cdist(a, b).square() / (2 * length**2)).exp()


def _arrays(fitted: list[Any], count: int) -> dict[str, Tensor]:
    """The first so many trees of each model side by side, with nodes of none at the end of small ones."""
    trees = [own.nodes for model in fitted for (own,) in model._predictors[:count]]
    size = max(map(len, trees))
    nodes: Any = np.zeros((len(trees), size), trees[0].dtype)
    for row, own in zip(nodes, trees, strict=True):
        row[: len(own)] = own
    here = np.arange(size)
    split = nodes["is_leaf"] == 0
    split[:, 1:] &= nodes["count"][:, 1:] > 0
    own = {
        "feature": np.where(split, nodes["feature_idx"], 0).astype(np.int64),
        "threshold": np.where(split, nodes["num_threshold"], np.inf),
        "left": np.where(split, nodes["left"], here).astype(np.int64),
        "right": np.where(split, nodes["right"], here).astype(np.int64),
        "value": nodes["value"],
        "baseline": np.array([float(np.ravel(model._baseline_prediction)[0]) for model in fitted]),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in own.items()}
