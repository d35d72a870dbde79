"""Independent random streams, each named by a seed and a path.

A stream depends on its name alone, so what is drawn does not change with the number of workers, with
chunking, or with what else was drawn before. What is computed from it may, in the last digits:
docs/robustness.md says where it does.
"""

import zlib

import numpy as np
import torch

from rnnatlas.errors import SettingsError

END = 2**63
"""Seeds are below this, because zoos keep them as 64-bit whole numbers."""


def check(seed: int) -> None:
    """Makes sure that a seed can be used.

    Raises:
        SettingsError: It cannot.
    """
    if not 0 <= seed < END:
        raise SettingsError(f"a seed should be a whole number from 0 to {END - 1}, found {seed}")


def _sequence(seed: int, path: tuple[int | str, ...]) -> np.random.SeedSequence:
    check(seed)
    numbers = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    words = [number if number >= 0 else END - number for number in numbers]  # −1 is a step that nobody knows
    return np.random.SeedSequence(entropy=seed, spawn_key=tuple(words))


def stream(seed: int, *path: int | str) -> np.random.Generator:
    """The random stream called (seed, *path), e.g. `stream(0, "rollouts", run, step)`."""
    return np.random.Generator(np.random.Philox(_sequence(seed, path)))


def torch_generator(seed: int, *path: int | str) -> torch.Generator:
    """The same for torch, on the CPU."""
    state = int(_sequence(seed, path).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state % (1 << 63))


def seed_torch(number: int, device: torch.device) -> None:
    """Seeds torch's own generators of the CPU and of the device, and of no other GPU."""
    torch.default_generator.manual_seed(number)  # torch.manual_seed takes milliseconds
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
