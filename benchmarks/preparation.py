"""Times how much of a training step on rotated MNIST goes into preparing its images.

    python benchmarks/preparation.py --rnns 20

Images are random: what they show takes no part of the time. A step draws, rotates and cuts into tiles a batch
for each RNN, runs these forward and backward and updates them; preparation is what comes before the run. One
thread, processor time, medians and quartiles of contenders that take turns.
"""

import argparse

import numpy as np
import torch

from rnnatlas.benchmarks.base import shown, take_turns
from rnnatlas.executors.base import limited
from rnnatlas.tasks.digits import Digits
from rnnatlas.tasks.tiled_mnist import TiledMNIST
from rnnatlas.zoo.train import Chunk, ZooSettings, train


class Noise(TiledMNIST):
    """As many images of as many pixels, at random."""

    def digits(self) -> Digits:
        """All images."""
        random = np.random.default_rng(0)
        images = random.integers(256, size=(60_000, 28, 28), dtype=np.uint8)
        return Digits(images, random.integers(10, size=60_000, dtype=np.uint8))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rnns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    task, settings = Noise(), ZooSettings(snapshots=tuple(range(100_000)))
    chunk = Chunk(task, settings, 0, range(chosen.rnns), ["train"] * chosen.rnns)
    steps = train(chunk)
    batches = task.batches(chunk.instances, settings.batch, chunk.streams("batches"))

    def prepare() -> torch.Tensor:
        batch = next(batches)
        return task._show(batch.images[batch.chosen], batch.grid)

    with limited(1):
        next(steps)
        found = take_turns({"step": lambda: next(steps), "preparation": prepare}, chosen.seconds)
    for name, seconds in found.items():
        print(f"{name}: {shown(seconds, 1e3)} ms for {chosen.rnns} RNNs")
    share = found["preparation"]["median"] / found["step"]["median"]
    print(f"preparation is {share:.1%} of a step")


if __name__ == "__main__":
    main()
