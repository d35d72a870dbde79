"""Images rotated and cut into tiles, many RNNs' at once."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Images:
    """Which images RNNs are shown at a step; they are rotated and cut into tiles where the RNNs are.

    All but `chosen` is the same at every step, so a GPU keeps it.
    """

    images: UInt8[Tensor, "image height width"]
    labels: Int[Tensor, " image"]
    grid: Float[Tensor, "rnn tile pixel axis"]
    chosen: Int[Tensor, "rnn batch"]

    def to(self, device: torch.device) -> "Images":
        """The same on another device."""
        return Images(*(getattr(self, field.name).to(device) for field in dataclasses.fields(self)))


def rotation(angles: Float[np.ndarray, " rnn"], side: int) -> Float[Tensor, "rnn height width axis"]:
    """Where to look in an image of so many pixels a side, for `grid_sample`, to see it rotated.

    Args:
        angles: In degrees, counter-clockwise.
        side: Pixels in each direction.
    """
    theta = torch.zeros(len(angles), 2, 3, dtype=torch.float64)
    radians = torch.from_numpy(np.deg2rad(angles))
    theta[:, 0, 0] = theta[:, 1, 1] = radians.cos()
    theta[:, 1, 0] = radians.sin()
    theta[:, 0, 1] = -radians.sin()
    return F.affine_grid(theta, [len(angles), 1, side, side], align_corners=False).float()


def tiled(raster: Float[Tensor, "rnn height width axis"], tile: int) -> Float[Tensor, "rnn tile pixel axis"]:
    """Something that is known of every pixel, in the order in which an RNN reads them.

    Args:
        raster: Of images as high as wide.
        tile: Side of a tile.
    """
    many, axes = raster.shape[1] // tile, raster.shape[-1]
    cut = raster.view(-1, many, tile, many, tile, axes).transpose(2, 3)
    return cut.reshape(-1, many**2, tile**2, axes)


def untiled(tiles: Float[Tensor, "*batch tile pixel"]) -> Float[Tensor, "*batch height width"]:
    """Tiles in the order in which an RNN reads them, laid out as the image."""
    many, tile = (math.isqrt(count) for count in tiles.shape[-2:])
    cut = tiles.unflatten(-1, (tile, tile)).unflatten(-3, (many, many))
    return cut.transpose(-3, -2).flatten(-4, -3).flatten(-2)


def draws(own: np.random.Generator, count: int, batch: int) -> Iterator[Int[np.ndarray, " batch"]]:
    """Batches of places, each place once an epoch; epochs follow one another without a break."""
    left = np.empty(0, dtype=np.int64)
    while True:
        while len(left) < batch:
            left = np.concatenate([left, own.permutation(count)])
        yield left[:batch]
        left = left[batch:]
