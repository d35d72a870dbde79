"""Independent random streams, each named by a seed and a path.

A stream depends on its name alone, so results do not change with the number of workers, with chunking,
or with what else was drawn before.
"""

import zlib

import numpy as np
import torch


def _sequence(seed: int, path: tuple[int | str, ...]) -> np.random.SeedSequence:
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return np.random.SeedSequence(entropy=seed, spawn_key=tuple(words))


def stream(seed: int, *path: int | str) -> np.random.Generator:
    """The random stream called (seed, *path), e.g. `stream(0, "rollouts", run, step)`."""
    return np.random.Generator(np.random.Philox(_sequence(seed, path)))


def torch_generator(seed: int, *path: int | str) -> torch.Generator:
    """The same for torch, on the CPU."""
    state = int(_sequence(seed, path).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state % (1 << 63))
