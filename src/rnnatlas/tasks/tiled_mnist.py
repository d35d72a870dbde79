"""Recognising rotated digits that are read tile by tile (Herrmann et al. 2024, section 5.2)."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, System, Tokens, Values, run
from rnnatlas.seeds import stream
from rnnatlas.settings import at_least_one, settings
from rnnatlas.tasks import digits
from rnnatlas.tasks.base import Instance, Rollouts, Task, cross_entropy
from rnnatlas.tasks.digits import Digits
from rnnatlas.tasks.tiles import Images, draws, rotation, tiled, untiled

CLASSES = 10
AT_ONCE = 8192
"""Images that are answered at a time when metrics are measured, all RNNs taken together; bounds memory."""
SHARED = 1000
"""Validation images that unrotated rollouts are drawn from."""
ROTATED, LABEL, PIXELS = 0, 1, 2
"""Where a stored rollout keeps whether its image is rotated, which digit it shows, and the image."""
UNKNOWN = 255
"""The digit where it is not known."""


@settings
class TiledMNISTSettings:
    """How digits are cut, and what RNNs differ in; the defaults are the paper's.

    Args:
        tile: Side of a tile in pixels; it should divide that of the images.
        weight_decays: Each RNN is trained with one of them, drawn at random.
        ood_from: Angles of so many degrees and more, below 360, are out of distribution.
        metric_images: Validation images, and training images, that metrics are measured on at most.
    """

    tile: int = 4
    weight_decays: tuple[float, ...] = (0.0, 0.001, 0.01, 0.1)
    ood_from: float = 312.0
    metric_images: int = 12_000

    def __post_init__(self) -> None:
        at_least_one(self, "tile", "metric_images")
        if not self.weight_decays or not all(0 <= own < np.inf for own in self.weight_decays):
            raise SettingsError(
                "weight_decays should be one number or more, finite and none negative, found "
                f"{self.weight_decays}"
            )
        if not 0 < self.ood_from <= 360:
            raise SettingsError(f"ood_from should be above 0 and at most 360 degrees, found {self.ood_from}")


@settings
class TiledDigitsSettings(TiledMNISTSettings):
    """The same for images of 8×8."""

    tile: int = 2


class TiledMNIST(Task):
    """MNIST, each RNN with an angle of its own by which all its images are rotated.

    An RNN reads zeros first (BOS), then the tiles in raster order, normalised, and gives out logits of
    the ten digits at every step; the last ones count as its answer. Rotation is counter-clockwise about
    the centre, bilinear, with black outside and values rounded to whole ones: what torchvision's
    `rotate` does to tensors of bytes. Of the training images every fifth, drawn once for all zoos, serves
    for validation.

    Half of the rollouts read validation images rotated by the RNN's own angle. Such images give the angle
    away, so the other half reads unrotated ones, drawn from a set that all RNNs share.

    Args:
        settings: How digits are cut, and what RNNs differ in.

    Raises:
        SettingsError: Tiles do not fit the images.
    """

    name: ClassVar[str] = "tiled-mnist"
    noun: ClassVar[str] = "angle"
    reads: ClassVar[str] = (
        "images that it was not trained on, every other one rotated by its own angle. A rotated image gives "
        "the angle away; unrotated ones, drawn from a set that all RNNs share, do not."
    )
    performs: ClassVar[str] = "Share of rotated validation images that are classified right"
    Settings: ClassVar[type] = TiledMNISTSettings
    settings: TiledMNISTSettings
    side: ClassVar[int] = 28
    """Pixels of an image in each direction."""
    mean: ClassVar[float] = 0.1307
    """Mean of all pixels of all images, black 0 and white 1."""
    sd: ClassVar[float] = 0.3081
    """Their standard deviation."""

    def __init__(self, settings: TiledMNISTSettings | None = None):
        super().__init__(settings or self.Settings())
        tile = self.settings.tile
        if self.side % tile:
            raise SettingsError(
                f"task: tile should divide {self.side}, the side of the images of {self.name}, found {tile}"
            )
        pixels = Values(tile**2, low=-self.mean / self.sd, high=(1 - self.mean) / self.sd)
        self.interface = Interface(pixels, Tokens(CLASSES))
        self.time = (self.side // tile) ** 2 + 1

    def prepare(self, data: Path | None = None, progress: bool = False) -> None:
        """See `Task.prepare`."""
        if data is not None:
            digits.keep(digits.MNIST, data)
        digits.fetch(digits.MNIST, progress)

    def digits(self) -> Digits:
        """All images, of which most serve for training and the others for validation.

        Raises:
            DataError: They are nowhere to be had.
        """
        return digits.load(digits.MNIST)

    def _part(self, part: str) -> Digits:
        """The images of "training" or "validation"."""
        everything = self.digits()
        count = len(everything.labels)
        order = stream(0, "digits").permutation(count)
        cut = count * 4 // 5
        chosen = order[:cut] if part == "training" else order[cut:]
        return Digits(everything.images[chosen], everything.labels[chosen])

    # --- instances ---------------------------------------------------------------------------
    @property
    def struct(self) -> pa.StructType:
        """Angle in degrees, and weight decay."""
        return pa.struct([("angle", pa.float64()), ("weight_decay", pa.float64())])

    def instance(self, run: int, seed: int) -> Instance:
        """An angle from all around, and one of the weight decays."""
        own = stream(seed, "tasks", run)
        return {"angle": 360 * own.random(), "weight_decay": float(own.choice(self.settings.weight_decays))}

    def label(self, instance: Instance) -> str:
        """For people: "271°"."""
        return f"{round(instance['angle']) % 360}°"

    def key(self, instance: Instance) -> float:
        """The angle."""
        return instance["angle"]

    def is_ood(self, instances: Sequence[Instance], share: float) -> Bool[np.ndarray, " rnn"]:
        """Angles from the setting `ood_from` on, whatever the share; none if it is zero."""
        return (_angles(instances) >= self.settings.ood_from) & (share > 0)

    def target(self, instances: Sequence[Instance]) -> Float[Tensor, "rnn target"]:
        """Sine and cosine of the angle."""
        radians = np.deg2rad(_angles(instances))
        return torch.from_numpy(np.stack([np.sin(radians), np.cos(radians)], axis=1)).float()

    # --- images ------------------------------------------------------------------------------
    def _normalise(self, pixels: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return (pixels - 255 * self.mean) / (255 * self.sd)

    def _show(
        self, images: Shaped[Tensor, "rnn batch height width"], grid: Float[Tensor, "rnn tile pixel axis"]
    ) -> Float[Tensor, "rnn batch time input"]:
        """Images as RNNs read them, rotated as the grid says."""
        pixels = F.grid_sample(images.float(), grid, align_corners=False).round_()
        return F.pad(self._normalise(pixels), (0, 0, 1, 0))

    # --- training ----------------------------------------------------------------------------
    def batches(
        self, instances: Sequence[Instance], batch: int, streams: Sequence[np.random.Generator]
    ) -> Iterator[Images]:
        """The training images, in another order in each epoch."""
        everything = self._images("training", instances)
        drawn = [draws(own, len(everything.labels), batch) for own in streams]
        while True:
            chosen = torch.from_numpy(np.stack([next(own) for own in drawn]))
            yield dataclasses.replace(everything, chosen=chosen)

    def _images(self, part: str, instances: Sequence[Instance]) -> Images:
        """All images of a part, none of them chosen yet."""
        found = self._part(part)
        return Images(
            images=torch.from_numpy(found.images),
            labels=torch.from_numpy(found.labels).long(),
            grid=tiled(rotation(_angles(instances), self.side), self.settings.tile),
            chosen=torch.empty(len(instances), 0, dtype=torch.int64),
        )

    def loss(self, system: System, batch: Images) -> Float[Tensor, " rnn"]:
        """Cross-entropy, mean over images and all time steps."""
        return self._losses(system, batch)[0]

    def _losses(self, system: System, batch: Images) -> tuple[Float[Tensor, " rnn"], Float[Tensor, " rnn"]]:
        """Mean loss, and the share of images whose digit is the most probable one at the last step."""
        batch = batch.to(system.device)
        inputs = self._show(batch.images[batch.chosen], batch.grid)
        outputs, _ = run(system, inputs.to(system.dtype))
        labels = batch.labels[batch.chosen]
        loss = cross_entropy(outputs, labels.unsqueeze(-1).expand(outputs.shape[:-1])).flatten(1).mean(1)
        return loss, (outputs[:, :, -1].argmax(-1) == labels).to(loss).mean(1)

    # --- what a trained RNN does ---------------------------------------------------------------
    @torch.no_grad()
    def rollouts(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        count: int,
    ) -> Rollouts:
        """Validation images drawn for each RNN, by turns rotated and, from a shared set, unrotated.

        Outputs are log-probabilities of the digits.
        """
        part = self._part("validation")
        sizes = np.where(np.arange(count) % 2, min(SHARED, len(part.labels)), len(part.labels))
        drawn = np.stack([own.integers(sizes) for own in streams])
        images = torch.from_numpy(part.images[drawn])
        grid = rotation(_angles(instances), self.side)
        rotated = F.grid_sample(images[:, ::2].float(), grid, align_corners=False)
        images[:, ::2] = rotated.round().byte()
        stored = np.empty((*drawn.shape, PIXELS + self.side**2), dtype=np.uint8)
        stored[..., ROTATED] = np.arange(count) % 2 == 0
        stored[..., LABEL] = part.labels[drawn]
        stored[..., PIXELS:] = images.flatten(2).numpy()
        outputs = self.outputs(system, torch.from_numpy(stored).to(system.device))
        return Rollouts(inputs=stored, outputs=self.interface.output.store(outputs))

    @torch.no_grad()
    def metrics(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        trials: int | None = None,
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Losses and accuracies ("performance" is that of validation) on rotated images, the same for all."""
        loss, accuracy = {}, {}
        for name in ("training", "validation"):
            loss[name], accuracy[name] = self._measure(system, self._images(name, instances), trials)
        return {
            "performance": accuracy["validation"],
            "validation_loss": loss["validation"],
            "training_accuracy": accuracy["training"],
            "training_loss": loss["training"],
            "generalisation_gap": loss["validation"] - loss["training"],
        }

    def _measure(self, system: System, part: Images, trials: int | None) -> Float[np.ndarray, "figure rnn"]:
        """Mean loss and accuracy over the first images of a part."""
        part = part.to(system.device)
        count = min(trials or self.settings.metric_images, len(part.labels))
        places = torch.arange(count, device=system.device).expand(len(system), -1)
        total = np.zeros((2, len(system)))
        for chosen in places.split(max(1, AT_ONCE // len(system)), dim=1):
            figures = self._losses(system, dataclasses.replace(part, chosen=chosen))
            total += torch.stack(figures).cpu().numpy() * chosen.shape[1]
        return total / count

    def encode_inputs(self, stored: UInt8[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time input"]:
        """The stored image, normalised and cut into tiles, after zeros for BOS."""
        places = torch.arange(self.side**2).float().view(1, self.side, self.side, 1)
        order = PIXELS + tiled(places, self.settings.tile).long().flatten(1)[0]
        tiles = stored[..., order.to(stored.device)].unflatten(-1, (self.time - 1, self.interface.input.size))
        return F.pad(self._normalise(tiles.float()), (0, 0, 1, 0))

    def mask(self, stored: UInt8[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time"]:
        """1 everywhere: an image has no padding."""
        return stored.new_ones((*stored.shape[:-1], self.time), dtype=torch.float32)

    def parts(self, stored: UInt8[Tensor, "*batch stored"]) -> dict[str, Float[Tensor, "*batch time"]]:
        """Rotated images, which give the angle away, and unrotated ones, which do not."""
        everything = self.mask(stored)
        rotated = everything * stored[..., ROTATED, None]
        return {"rotated": rotated, "unrotated": everything - rotated}

    def picture(self, inputs: Float[Tensor, "*batch time input"]) -> Float[Tensor, "*batch height width"]:
        """Tiles where an RNN takes them to be: the first step, where it expects BOS, shows nothing."""
        tiles = inputs[..., 1 : self.time, :] * self.sd + self.mean
        return untiled(F.pad(tiles, (0, 0, 0, self.time - 1 - tiles.shape[-2]), value=torch.nan))

    probe_kinds: ClassVar[tuple[str, ...]] = ("images",)
    turns: ClassVar[bool] = True

    def probes(self, kind: str, steps: int) -> Float[Tensor, "probe time input"]:
        """Unrotated images of the set that all RNNs share, whole whatever the steps; see `Task.probes`."""
        if kind not in self.probe_kinds:
            return super().probes(kind, steps)
        return self._turned(torch.from_numpy(self._part("validation").images[:SHARED]), 1)[0]

    def turned(
        self, inputs: Float[Tensor, "*batch time input"], count: int
    ) -> Float[Tensor, "turn *batch time input"]:
        """Images rotated counter-clockwise by 0°, 360°/count, …; see `Task.turned`."""
        images = (255 * self.picture(inputs)).round_().flatten(0, -3)
        return self._turned(images, count).unflatten(1, inputs.shape[:-2])

    def _turned(
        self, images: Shaped[Tensor, "image height width"], count: int
    ) -> Float[Tensor, "turn image time input"]:
        angles = np.arange(count) * (360 / count)
        grid = tiled(rotation(angles, self.side), self.settings.tile).to(images.device)
        return self._show(images.expand(count, -1, -1, -1), grid)

    def scan(self, system: System, sequences: int, turns: int) -> Float[Tensor, "rnn target"]:
        """Mean direction, as sine and cosine, of the rotations of a few images.

        Weights are the probabilities of the digits at the last step, those of all images multiplied.
        """
        part = self._part("validation")
        shown = self._turned(torch.from_numpy(part.images[:sequences]), turns).flatten(0, 1)
        outputs, _ = run(system, shown.to(system.device, system.dtype))
        known = outputs[:, :, -1].log_softmax(-1).unflatten(1, (turns, sequences))
        labels = torch.from_numpy(part.labels[:sequences]).long().to(known.device)
        found = known.gather(-1, labels.view(1, 1, -1, 1).expand(len(known), turns, -1, 1))
        directions = self.target([{"angle": 360 / turns * turn} for turn in range(turns)])
        return found.sum((2, 3)).softmax(1).float().cpu() @ directions

    def show(self, stored: UInt8[np.ndarray, "rollout stored"]) -> list[str]:
        """The digit on each image, "?" where it is not known, with "↺" where it is rotated."""
        digits = ("?" if own[LABEL] == UNKNOWN else str(own[LABEL]) for own in stored)
        return [digit + ("↺" if own[ROTATED] else "") for digit, own in zip(digits, stored, strict=True)]


class TiledDigits(TiledMNIST):
    """The same with the 1797 images of 8×8 that come with scikit-learn: small, and needs no download."""

    name: ClassVar[str] = "tiled-digits"
    Settings: ClassVar[type] = TiledDigitsSettings
    side: ClassVar[int] = 8
    mean: ClassVar[float] = 0.3053
    sd: ClassVar[float] = 0.3759

    def prepare(self, data: Path | None = None, progress: bool = False) -> None:
        """See `Task.prepare`."""
        Task.prepare(self, data, progress)

    def digits(self) -> Digits:
        """All images."""
        return digits.small_digits()


def _angles(instances: Sequence[Instance]) -> Float[np.ndarray, " rnn"]:
    return np.array([instance["angle"] for instance in instances], dtype=np.float64)
