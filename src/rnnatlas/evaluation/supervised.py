"""Encoder and predictor trained together on a property: what pre-training is compared with."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from rnnatlas import seeds
from rnnatlas.emulation.model import Model
from rnnatlas.encoders.base import EMBED, TOGETHER
from rnnatlas.evaluation.features import Groups, set_scales, started
from rnnatlas.evaluation.roles import Roles
from rnnatlas.properties import registry
from rnnatlas.properties.base import Property
from rnnatlas.properties.calibration import calibrate
from rnnatlas.properties.predictors import Predictor, PredictorSettings, descend
from rnnatlas.settings import above_zero, at_least_one, settings


@settings
class SupervisedSettings:
    """How encoder and predictor are trained together, once for each property.

    The predictor is built and trained as all others; clipping and weight decay of the encoder are those
    of emulation.

    Args:
        properties: Those for which it is done; None for all that the zoo's RNNs have.
        steps: Updates at most; None for as many as emulation had.
        rnns: RNNs a step.
        learning_rate: AdamW's, for the encoder.
        every: Steps between two looks at the loss of the stopping RNNs.
        patience: Steps without a better one after which training ends.
    """

    properties: tuple[str, ...] | None = None
    steps: int | None = None
    rnns: int = 64
    learning_rate: float = 3e-4
    every: int = 50
    patience: int = 1200

    def __post_init__(self) -> None:
        for name in self.properties or ():
            registry.description(name)  # raises for an unknown name
        at_least_one(self, "steps", "rnns", "every", "patience")
        above_zero(self, "learning_rate")


def updates(settings: SupervisedSettings, model: Model) -> int:
    """How many updates training takes at most."""
    return settings.steps or model.settings.emulation.steps


class Supervised(nn.Module):
    """An encoder with a predictor on top, over the snapshots of a zoo.

    Args:
        model: A trained run, whose kind of encoder starts anew as that of the run did, on its device; the
            predictor stays on the CPU.
        prop: What is predicted.
        groups: Weights of all snapshots.
        roles: What these serve for.
        head: How the predictor is built.
    """

    def __init__(self, model: Model, prop: Property, groups: Groups, roles: Roles, head: PredictorSettings):
        super().__init__()
        fresh = started(model, model.settings.seed).to(model.device)
        set_scales(fresh, groups, roles.start)
        self.encoder = fresh.encoder.eval()
        self.predictor = Predictor(EMBED, prop.width, head)
        self._populations = [population.to(model.device) for _, population in groups]
        self._where = np.zeros((len(roles.train), 2), dtype=np.int64)
        for number, (positions, _) in enumerate(groups):
            self._where[positions] = np.stack([np.full(len(positions), number), np.arange(len(positions))], 1)
        with torch.no_grad():
            self.predictor.standardise(self._embed(np.flatnonzero(roles.train)))

    def forward(self, rows: Int[np.ndarray, " row"]) -> Float[Tensor, "row target"]:
        """The predictor's outputs for some of the snapshots."""
        return self.predictor(self._embed(rows))

    def _embed(self, rows: Int[np.ndarray, " row"]) -> Float[Tensor, "row embed"]:
        vectors = torch.empty(len(rows), EMBED)
        number, place = self._where[rows].T
        for one in np.unique(number):
            own = np.flatnonzero(number == one)
            chunks = np.array_split(own, math.ceil(len(own) / TOGETHER))
            population = self._populations[one]
            parts = [self.encoder(population.select(place[chunk].tolist())).cpu() for chunk in chunks]
            vectors = vectors.index_copy(0, torch.from_numpy(own), torch.cat(parts))
        return vectors


def fit(
    model: Model,
    prop: Property,
    groups: Groups,
    target: Float[Tensor, "rnn target"],
    roles: Roles,
    settings: SupervisedSettings,
    head: PredictorSettings | None = None,
    tell: Callable[[int], None] = lambda steps: None,
) -> Supervised:
    """Trains the kind of encoder that a run has, from where it started, together with a predictor.

    Args:
        model: The run; it is not changed.
        prop: What is predicted.
        groups: Weights of all snapshots.
        target: `prop.target` of them.
        roles: What they serve for.
        settings: How to train.
        head: How the predictor is built and trained; the defaults without it.
        tell: Called with the number of steps just made, and in the end with those that stopping saved.
    """
    head = head or PredictorSettings()
    gpus = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(gpus), torch.enable_grad():
        noise = int(seeds.stream(model.settings.seed, "predictor", prop.name).integers(1 << 62))
        seeds.seed_torch(noise, model.device)
        whole = Supervised(model, prop, groups, roles, head)
        emulation = model.settings.emulation
        parts = [
            {
                "params": list(whole.encoder.parameters()),
                "lr": settings.learning_rate,
                "weight_decay": emulation.weight_decay,
            },
            {
                "params": list(whole.predictor.layers.parameters()),
                "lr": head.learning_rate,
                "weight_decay": head.weight_decay,
            },
        ]
        rows, held_out = (torch.from_numpy(np.flatnonzero(mask)) for mask in (roles.train, roles.stopping))
        descend(
            whole,
            lambda some: prop.loss(whole(some.numpy()), target[some]),
            lambda: rows[torch.randint(len(rows), (settings.rnns,))],
            held_out,
            torch.optim.AdamW(parts, fused=True),
            steps=updates(settings, model),
            every=settings.every,
            patience=settings.patience,
            clip=lambda: clip_grad_norm_(whole.encoder.parameters(), emulation.clip),
            tell=tell,
        )
    whole.eval().requires_grad_(False)
    kept = np.flatnonzero(roles.calibration)
    whole.predictor.sure = calibrate(prop, whole(kept), target[torch.from_numpy(kept)])
    return whole
