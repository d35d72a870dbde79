"""Encoder and predictor trained together on a property: what pre-training is compared with."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from rnnatlas import seeds
from rnnatlas.emulation.model import TrainedRun, share_of_rate
from rnnatlas.encoders.base import TOGETHER, Examples
from rnnatlas.errors import SettingsError
from rnnatlas.evaluation.features import RNNs, set_scales, started
from rnnatlas.evaluation.roles import Roles
from rnnatlas.properties import registry
from rnnatlas.properties.base import LABEL, Property
from rnnatlas.properties.calibration import calibrate
from rnnatlas.properties.predictors import Predictor, PredictorSettings, descend
from rnnatlas.settings import at_least_one, settings


@settings
class SupervisedSettings:
    """How encoder and predictor are trained together, once for each property.

    The predictor is built and trained as all others; clipping and weight decay of the encoder are those
    of emulation.

    Args:
        properties: Those for which it is done; None for all that the zoo's RNNs have.
        steps: Updates at most; None for as many as emulation had.
        rnns: RNNs a step.
        learning_rates: AdamW's, for the encoder: each is tried, and the one with the lowest loss of the
            stopping RNNs is kept.
        warmup: Steps over which learning rates rise from zero.
        decay: Whether they then fall linearly, to zero after `steps`.
        every: Steps between two looks at the loss of the stopping RNNs.
        patience: Steps without a better one after which training ends.
    """

    properties: tuple[str, ...] | None = None
    steps: int | None = None
    rnns: int = 64
    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    warmup: int = 100
    decay: bool = True
    every: int = 50
    patience: int = 1200

    def __post_init__(self) -> None:
        for name in self.properties or ():
            if not name.startswith(LABEL):
                registry.description(name)  # raises for an unknown name
        at_least_one(self, "steps", "rnns", "every", "patience")
        if not self.learning_rates:
            raise SettingsError("learning_rates should be one or more, found none")
        for rate in self.learning_rates:
            if not 0 < rate < math.inf:
                raise SettingsError(f"learning_rates should be finite and above 0, found {rate}")
        if self.warmup < 0:
            raise SettingsError(f"warmup should be 0 or more, found {self.warmup}")


def updates(settings: SupervisedSettings, run: TrainedRun) -> int:
    """How many updates training takes at most, over all learning rates."""
    return _steps(settings, run) * len(settings.learning_rates)


def _steps(settings: SupervisedSettings, run: TrainedRun) -> int:
    return settings.steps or run.settings.emulation.steps


class Supervised(nn.Module):
    """An encoder with a predictor on top, over the snapshots of a zoo.

    Args:
        run: A trained run, whose kind of encoder starts anew as that of the run did, on its device; the
            predictor stays on the CPU.
        prop: What is predicted.
        rnns: All snapshots' RNNs.
        roles: What these serve for.
        head: How the predictor is built.
        examples: Sequences of inputs, such as those of training RNNs' rollouts.
    """

    def __init__(
        self,
        run: TrainedRun,
        prop: Property,
        rnns: RNNs,
        roles: Roles,
        head: PredictorSettings,
        examples: Examples,
    ):
        super().__init__()
        fresh = started(run, run.settings.seed).to(run.device)
        set_scales(fresh, rnns, roles.start, examples)
        self.encoder = fresh.encoder.eval()
        self.predictor = Predictor(fresh.encoder.size, prop.width, head)
        self._rnns = rnns.to(run.device)
        with torch.no_grad():
            self.predictor.standardise(self._embed(np.flatnonzero(roles.train)))

    def forward(self, rows: Int[np.ndarray, " row"]) -> Float[Tensor, "row target"]:
        """The predictor's outputs for some of the snapshots."""
        return self.predictor(self._embed(rows))

    def _embed(self, rows: Int[np.ndarray, " row"]) -> Float[Tensor, "row embed"]:
        chosen = torch.from_numpy(rows)
        return torch.cat([self.encoder(self._rnns.select(some)).cpu() for some in chosen.split(TOGETHER)])


def fit(
    run: TrainedRun,
    prop: Property,
    rnns: RNNs,
    target: Float[Tensor, "rnn target"],
    roles: Roles,
    settings: SupervisedSettings,
    examples: Examples,
    head: PredictorSettings | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> Supervised:
    """Trains the kind of encoder that a run has, from where it started, together with a predictor.

    Args:
        run: The run; it is not changed.
        prop: What is predicted.
        rnns: All snapshots' RNNs.
        target: `prop.target` of them.
        roles: What they serve for.
        settings: How to train.
        examples: Sequences of inputs, such as those of training RNNs' rollouts.
        head: How the predictor is built and trained; the defaults without it.
        advance: Called with the number of steps just made, and in the end with those that stopping saved.
    """
    head = head or PredictorSettings()
    emulation = run.settings.emulation
    gpus = [run.device] if run.device.type == "cuda" else []
    steps = _steps(settings, run)
    rows, held_out = (torch.from_numpy(np.flatnonzero(mask)) for mask in (roles.train, roles.stopping))

    def trained(rate: float) -> tuple[Supervised, float]:
        with torch.random.fork_rng(gpus), torch.enable_grad():
            noise = int(seeds.stream(run.settings.seed, "predictor", prop.name).integers(1 << 62))
            seeds.seed_torch(noise, run.device)
            whole = Supervised(run, prop, rnns, roles, head, examples)
            parts = [
                {
                    "params": list(whole.encoder.parameters()),
                    "lr": rate,
                    "weight_decay": emulation.weight_decay,
                },
                {
                    "params": list(whole.predictor.layers.parameters()),
                    "lr": head.learning_rate,
                    "weight_decay": head.weight_decay,
                },
            ]
            loss = descend(
                whole,
                lambda some: prop.loss(whole(some.numpy()), target[some]),
                lambda: rows[torch.randint(len(rows), (settings.rnns,))],
                held_out,
                torch.optim.AdamW(parts, fused=True),
                steps=steps,
                every=settings.every,
                patience=settings.patience,
                clip=lambda: clip_grad_norm_(whole.encoder.parameters(), emulation.clip),
                advance=advance,
                share_of_rate=lambda step: share_of_rate(step, steps, settings.warmup, settings.decay),
            )
        return whole, loss

    whole, _ = min(map(trained, settings.learning_rates), key=lambda one: one[1])
    whole.eval().requires_grad_(False)
    kept = np.flatnonzero(roles.calibration)
    known = target[torch.from_numpy(kept)]
    whole.predictor.calibration = calibrate(prop, whole(kept), known, roles.calibrated_together)
    return whole
