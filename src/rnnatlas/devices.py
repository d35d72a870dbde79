"""Where to compute."""

import torch

from rnnatlas.errors import SettingsError


def choose(asked: str) -> str:
    """Where to compute, "cpu" or "cuda".

    Args:
        asked: "cpu", "cuda" or "auto", which is a GPU where there is one.

    Raises:
        SettingsError: There is no such device.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device should be auto, cpu or cuda, found {asked!r}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            f"torch {torch.__version__} finds no CUDA device; use --device cpu, or install a driver and a "
            "build of torch for CUDA"
        )
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"
