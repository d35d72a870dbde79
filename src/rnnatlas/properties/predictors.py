"""What reads a property off a vector of features: small networks, or one of the simpler `readouts`."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from rnnatlas import properties, seeds
from rnnatlas.checked import PLUGIN, Kind, load_tensors, save_tensors
from rnnatlas.encoders.base import mean_and_sd
from rnnatlas.errors import RunFormatError, SettingsError, UnknownName, warn
from rnnatlas.properties import readouts
from rnnatlas.properties.base import Property
from rnnatlas.properties.calibration import Calibration, calibrate
from rnnatlas.settings import above_zero, at_least_one, settings

FORMAT = "2"
_KIND = Kind("property predictors", RunFormatError, "evaluate the run again")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roles:
    """Masks over snapshots; all snapshots of a run serve for the same.

    Attributes:
        start: Snapshots that set an encoder's scales before it is trained, as in emulation.
        train: Those that predictors learn from.
        stopping: Those that choose when they stop.
        calibration: Those that calibrate predictions.
        held_out: Those that figures are of.
        together: What each snapshot belongs to, such as its task and its run, from large groups to small:
            intervals are to hold for RNNs of other groups. Without it each snapshot stands alone.
    """

    start: Bool[np.ndarray, " rnn"]
    train: Bool[np.ndarray, " rnn"]
    stopping: Bool[np.ndarray, " rnn"]
    calibration: Bool[np.ndarray, " rnn"]
    held_out: Bool[np.ndarray, " rnn"]
    together: tuple[Shaped[np.ndarray, " rnn"], ...] = ()

    @property
    def calibrated_together(self) -> list[Shaped[np.ndarray, " calibrating"]]:
        """`together` of those that calibrate."""
        return [groups[self.calibration] for groups in self.together]


@settings
class PredictorSettings:
    """How every predictor is built and trained, whatever features it reads.

    Args:
        kind: "mlp"; "ridge", which is exact and linear; "gp", a Gaussian process; "boosting", boosted trees.
            All other settings are of the MLP alone.
        width: Units of each of the two hidden layers.
        dropout: Share of hidden units left out in training.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        batch: RNNs a step; all of them where there are fewer.
        steps: Training steps at most.
        patience: Steps without a better loss of the stopping RNNs after which training ends.
        every: Steps between two looks at it.
    """

    kind: Literal["mlp", "ridge", "gp", "boosting"] = "mlp"
    width: int = 64
    dropout: float = 0.2
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    batch: int = 256
    steps: int = 600
    patience: int = 60
    every: int = 10

    def __post_init__(self) -> None:
        at_least_one(self, "width", "batch", "steps", "patience", "every")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"dropout should be from 0 to below 1, found {self.dropout}")
        above_zero(self, "learning_rate")


class Predictor(nn.Module):
    """An MLP with two hidden layers, or another readout, on standardised features.

    Args:
        features: Size of a feature vector.
        target: Size of what is predicted.
        settings: Width and dropout.
        layers: What reads the features instead of an MLP.
    """

    mean: Tensor
    scale: Tensor
    temperature: Tensor
    half_width: Tensor

    def __init__(
        self, features: int, target: int, settings: PredictorSettings, layers: nn.Module | None = None
    ):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("half_width", torch.tensor(math.inf))
        self.layers = layers or nn.Sequential(
            nn.Linear(features, settings.width),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.width, settings.width),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.width, target),
        )

    def forward(self, features: Float[Tensor, "rnn feature"]) -> Float[Tensor, "rnn target"]:
        """Logits or values, as the property's loss reads them."""
        return self.layers((features - self.mean) / self.scale)

    @property
    def calibration(self) -> Calibration:
        """Temperature, and half-width of intervals."""
        return Calibration(self.temperature.item(), self.half_width.item())

    @calibration.setter
    def calibration(self, found: Calibration) -> None:
        self.temperature.fill_(found.temperature)
        self.half_width.fill_(found.half_width)

    def standardise(self, features: Float[Tensor, "rnn feature"]) -> None:
        """Takes mean and standard deviation of each feature from those of training RNNs."""
        mean, scale = mean_and_sd(features, 0)
        self.mean.copy_(mean)
        self.scale.copy_(scale)


def fit(
    prop: Property,
    features: Float[Tensor, "rnn feature"],
    target: Float[Tensor, "rnn target"],
    roles: Roles,
    seed: int,
    settings: PredictorSettings | None = None,
) -> Predictor:
    """Trains a predictor on some RNNs and keeps it as it was at the lowest loss on others.

    Args:
        prop: What is predicted.
        features: One vector an RNN.
        target: `prop.target` of the same RNNs.
        roles: What the RNNs serve for.
        seed: Names the random streams.
        settings: How to train; the defaults without it.
    """
    settings = settings or PredictorSettings()
    rows, held_out = (torch.from_numpy(np.flatnonzero(mask)) for mask in (roles.train, roles.stopping))
    if settings.kind == "mlp":
        predictor = _trained(prop, features, target, rows, held_out, seed, settings)
    else:
        mean, scale = mean_and_sd(features[rows], 0)
        sides = [
            part for some in (rows, held_out) for part in ((features[some] - mean) / scale, target[some])
        ]
        layers = readouts.fit(settings.kind, prop, *sides)
        predictor = Predictor(features.shape[1], prop.width, settings, layers)
        predictor.standardise(features[rows])
    predictor.eval().requires_grad_(False)
    kept = torch.from_numpy(roles.calibration)
    outputs = predictor(features[kept])
    predictor.calibration = calibrate(prop, outputs, target[kept], roles.calibrated_together)
    return predictor


def _trained(
    prop: Property,
    features: Tensor,
    target: Tensor,
    rows: Int[Tensor, " row"],
    held_out: Int[Tensor, " held_out"],
    seed: int,
    settings: PredictorSettings,
) -> Predictor:
    """An MLP."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        noise = int(seeds.stream(seed, "predictor", prop.name).integers(1 << 62))
        torch.default_generator.manual_seed(noise)
        predictor = Predictor(features.shape[1], prop.width, settings)
        predictor.standardise(features[rows])
        optimiser = torch.optim.AdamW(
            predictor.layers.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        descend(
            predictor,
            lambda some: prop.loss(predictor(features[some]), target[some]),
            lambda: rows[torch.randperm(len(rows))[: settings.batch]],
            held_out,
            optimiser,
            steps=settings.steps,
            every=settings.every,
            patience=settings.patience,
        )
    return predictor


def descend(
    module: nn.Module,
    loss: Callable[[Int[Tensor, " row"]], Tensor],
    batch: Callable[[], Int[Tensor, " row"]],
    held_out: Int[Tensor, " row"],
    optimiser: torch.optim.Optimizer,
    *,
    steps: int,
    every: int,
    patience: int,
    clip: Callable[[], object] = lambda: None,
    advance: Callable[[int], None] = lambda steps: None,
    share_of_rate: Callable[[int], float] = lambda step: 1.0,
) -> float:
    """Trains a module and leaves it as it was at the lowest loss of RNNs held out.

    Args:
        module: What is trained.
        loss: Losses of some RNNs.
        batch: Draws RNNs to train on.
        held_out: The others.
        optimiser: Of the module's parameters.
        steps: Updates at most.
        every: Steps between two looks at RNNs held out.
        patience: Steps without a better loss after which training ends.
        clip: Called between gradients and step.
        advance: Called with the number of steps just made, and in the end with those that stopping saved.
        share_of_rate: What the optimiser's learning rates are multiplied by at a step (from 0).

    Returns:
        The lowest loss of RNNs held out.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share_of_rate)
    best, best_step, kept = math.inf, 0, {}
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            module.eval()
            with torch.no_grad():
                found = loss(held_out).mean().item()
            if found < best:
                best, best_step, kept = found, step, copy.deepcopy(module.state_dict())
            if step == steps or step - best_step >= patience:
                advance(steps - step)
                break
            module.train()
        optimiser.zero_grad(set_to_none=True)
        loss(batch()).mean().backward()
        clip()
        optimiser.step()
        schedule.step()
        advance(1)
    if kept:
        module.load_state_dict(kept)
    return best


def save(path: Path | str, predictors: Mapping[str, tuple[Property, Predictor]]) -> None:
    """Writes predictors by name of their property, with what makes their outputs readable."""
    tensors = {
        f"{name}/{key}": value
        for name, (_, predictor) in predictors.items()
        for key, value in predictor.state_dict().items()
    }
    known = {name: prop.as_dict() for name, (prop, _) in predictors.items()}
    kinds = {
        name: kind
        for name, (_, predictor) in predictors.items()
        for kind, cls in readouts.KINDS.items()
        if isinstance(predictor.layers, cls)
    }
    metadata = {"format": FORMAT, "properties": json.dumps(known), "kinds": json.dumps(kinds)}
    save_tensors(path, tensors, metadata)


def load(path: Path | str) -> dict[str, tuple[Property, Predictor]]:
    """Reads what `save` wrote, but for predictors of properties that no part here is called.

    Raises:
        RunFormatError: The file is damaged or of another format version.
    """
    tensors, metadata = load_tensors(path, _KIND)
    if metadata.get("format") != FORMAT:
        raise RunFormatError(
            f"{path} should be of format version {FORMAT}, found {metadata.get('format')}; "
            "evaluate the run again"
        )
    with _KIND.reading(path):
        known = json.loads(metadata["properties"])
        made = {
            name: properties.kind(name, "values" in own)(**own)
            for name, own in known.items()
            if _is_known(path, name)
        }
        kinds = json.loads(metadata.get("kinds", "{}"))  # those that are no MLP
        return {name: (prop, _rebuild(tensors, name, kinds.get(name))) for name, prop in made.items()}


def _is_known(path: Path | str, name: str) -> bool:
    """Whether there is such a property; what is left out otherwise is said."""
    try:
        properties.kind(name)
    except UnknownName as error:
        warn(f"left out of {path}: {error}; {PLUGIN}")
        return False
    return True


def _rebuild(tensors: Mapping[str, Tensor], name: str, kind: str | None) -> Predictor:
    named = {key.rpartition("/"): value for key, value in tensors.items()}
    state = {own: value for (prop, _, own), value in named.items() if prop == name}
    if kind is None:
        weights = [value for key, value in state.items() if key.endswith("weight")]
        settings = PredictorSettings(width=len(state["layers.0.bias"]))
        predictor = Predictor(len(state["mean"]), len(weights[-1]), settings)
    else:
        own = {
            key.removeprefix("layers."): value for key, value in state.items() if key.startswith("layers.")
        }
        predictor = Predictor(len(state["mean"]), 0, PredictorSettings(), readouts.KINDS[kind](own))
    predictor.load_state_dict(state)
    return predictor.eval().requires_grad_(False)
