"""How well an emulator could do with any embedding: embeddings fitted to RNNs one by one."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from rnnatlas.emulation import suitable
from rnnatlas.emulation.data import Snapshots, unpack
from rnnatlas.emulation.divergence import last_counted, masked_mean
from rnnatlas.emulation.model import TrainedRun

STEPS, ROLLOUTS, RATE = 64, 4, 0.05
"""Updates of each embedding, rollouts an update, and Adam's learning rate, which falls to zero; four times
the updates lower the loss by less than 2 % (docs/decisions/0027-fitted-embeddings.md)."""

TOGETHER = 1024
"""RNNs whose embeddings are fitted together, which bounds memory."""


def fit(
    run: TrainedRun, data: Snapshots, z: Float[Tensor, "rnn embed"], rollouts: Int[Tensor, " rollout"]
) -> Float[Tensor, "rnn embed"]:
    """Embeddings of unit length with which the run's emulator imitates some rollouts of each RNN best.

    DYNAMO embeds a new network so, with its meta-model frozen (Cotler et al. 2023). Here steps start from the
    encoder's embedding, so that what they gain is what another encoder could gain with the same emulator. An
    embedding depends on its RNN's rollouts alone.

    Args:
        run: A finished run, whose emulator stays as it is.
        data: The RNNs with their rollouts.
        z: Where to start.
        rollouts: Positions of those to fit to, `ROLLOUTS` at a time in turn.
    """
    parts = torch.arange(len(data)).split(TOGETHER)
    return torch.cat([_fit(run, data, z[rows], rows, rollouts) for rows in parts])


def _fit(
    run: TrainedRun,
    data: Snapshots,
    z: Float[Tensor, "rnn embed"],
    rows: Int[Tensor, " rnn"],
    rollouts: Int[Tensor, " rollout"],
) -> Float[Tensor, "rnn embed"]:
    divergence = suitable(run.task.interface.output)[run.divergence]
    raw = z.to(run.device).clone().requires_grad_()
    adam = torch.optim.Adam([raw], lr=RATE)
    for step in range(STEPS):
        chosen = rollouts[torch.arange(step * ROLLOUTS, (step + 1) * ROLLOUTS) % len(rollouts)]
        batch = data.batch(rows, chosen.expand(len(rows), -1))
        inputs, targets, mask = (part.to(run.device) for part in unpack(batch, data.task))
        with torch.enable_grad():
            outputs = run.emulator(functional.normalize(raw, dim=1), inputs, last_counted(mask))
            pair = map(run.emulator.standardise, (targets, outputs))
            loss = masked_mean(divergence(*pair), mask).sum()  # a sum, so that RNNs do not share a scale
            [raw.grad] = torch.autograd.grad(loss, [raw])
        adam.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        adam.step()
    return functional.normalize(raw.detach(), dim=1).cpu()
