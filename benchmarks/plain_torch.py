"""Trains the same RNNs of unrotated MNIST as zoos do and as one would with torch alone, and compares them.

    python benchmarks/plain_torch.py --rnns 5 --steps 20000 --data PATH

Both begin with the same weights and see the same images in the same order, cut into tiles by the task; the
schedule is the zoo's, the paper's by default. Run and backward pass, loss and AdamW are torch's own.
Prints validation accuracy (all 12 000 images, last step) of each, mean and standard deviation. Without
--data, digits come from the cache or a mirror.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, track
from torch.nn.functional import cross_entropy

from rnnatlas.executors.base import limited
from rnnatlas.rnn import Population
from rnnatlas.tasks.base import Instance
from rnnatlas.tasks.tiled_mnist import PIXELS, TiledMNIST
from rnnatlas.zoo.train import Chunk, ZooSettings, initialise, train

STDERR = Console(stderr=True)


class Upright(TiledMNIST):
    """MNIST that is not rotated."""

    def instance(self, run: int, seed: int) -> Instance:
        """No angle."""
        return {**super().instance(run, seed), "angle": 0.0, "weight_decay": 1e-4}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rnns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    task = Upright()
    task.prepare(chosen.data, progress=True)
    settings = ZooSettings(snapshots=(chosen.steps,))
    every = Chunk(task, settings, chosen.seed, range(chosen.rnns), ["train"] * chosen.rnns)
    with limited(1):
        with Progress(console=STDERR) as bar:
            updates = bar.add_task("as zoos do", total=chosen.rnns * chosen.steps)
            [(_, ours)] = train(every, lambda done: bar.advance(updates, done))
        plain = [in_torch(task, settings, chosen.seed, run, chosen.steps) for run in range(chosen.rnns)]
        accuracy = {
            "as zoos do": task.metrics(ours, every.instances, [])["performance"],
            "torch alone": task.metrics(Population.from_modules(plain), every.instances, [])["performance"],
        }
    for name, found in accuracy.items():
        each = " ".join(f"{one:.4f}" for one in found)
        print(f"{name}: {each}; mean {found.mean():.4f}, sd {found.std(ddof=1):.4f}")
    gaps = accuracy["as zoos do"] - accuracy["torch alone"]
    print(f"difference: mean {gaps.mean():+.4f}, standard error {gaps.std(ddof=1) / np.sqrt(len(gaps)):.4f}")


def in_torch(task: TiledMNIST, settings: ZooSettings, seed: int, run: int, steps: int) -> torch.nn.Module:
    """One of the RNNs, trained as a torch.nn.LSTM with a linear head."""
    alone = Chunk(task, settings, seed, [run], ["train"])
    [module] = initialise(alone).to_modules()
    optimiser = torch.optim.AdamW(module.parameters(), weight_decay=alone.instances[0]["weight_decay"])
    batches = task.batches(alone.instances, settings.batch, alone.streams("batches"))
    for step in track(range(steps), description=f"torch alone, RNN {run}", console=STDERR):
        batch = next(batches)
        stored = torch.zeros(settings.batch, PIXELS + task.side**2, dtype=torch.uint8)
        stored[:, PIXELS:] = batch.images[batch.chosen[0]].flatten(1)
        labels = batch.labels[batch.chosen[0]]
        outputs, _ = module(task.encode_inputs(stored))
        optimiser.param_groups[0]["lr"] = settings.rate(step)
        optimiser.zero_grad()
        cross_entropy(outputs.flatten(0, 1), labels.repeat_interleave(outputs.shape[1])).backward()
        optimiser.step()
    return module.requires_grad_(False)


if __name__ == "__main__":
    main()
