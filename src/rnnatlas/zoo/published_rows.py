"""What rows of published arrays mean: steps, runs and figures by their values, strings and images as ours."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn import Population, RNNSpec, run
from rnnatlas.tasks.base import Instance
from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings
from rnnatlas.tasks.tiled_mnist import LABEL, PIXELS, ROTATED, UNKNOWN, TiledMNIST
from rnnatlas.zoo.published_columns import Columns, columns, is_share, is_whole, numbered, training

LOOKED_AT = 64
"""Rows from which is told which tokens begin and end a string."""
CLEAR = 3
"""Standard errors by which training has to be better than validation on average, to be told from it."""
ATOL, RTOL = 5e-3, 2e-3
"""Of log-probabilities, which may have been computed with the fewer digits of a GPU."""
CERTAIN = 10
"""How many times as far off as a string's best repair all others have to be."""


def log_probs(
    system: Population, inputs: Float[Tensor, "rnn rollout time input"]
) -> Float[Tensor, "rnn rollout time output"]:
    """Log-probabilities that RNNs give out."""
    return system.interface.output.interpret(run(system, inputs)[0])


def times_off(
    outputs: Float[Tensor, "rnn rollout time output"], expected: Float[Tensor, "rnn rollout time output"]
) -> Float[Tensor, "rnn rollout"]:
    """Largest difference of a rollout, in units of what rounding explains."""
    off = (outputs - expected).abs() / (ATOL + RTOL * expected.abs())
    return off.flatten(2).amax(-1).nan_to_num(torch.inf)


def _stored(values: np.ndarray) -> Float[Tensor, "rnn rollout time output"]:
    """Log-probabilities that are stored, as such or as logits, in single precision."""
    return torch.from_numpy(np.array(values, np.float32)).log_softmax(-1)


# --- languages ------------------------------------------------------------------------------------------


class Languages:
    """Strings that RNNs wrote; tokens are put into our order, the letters first, then BOS and EOS."""

    measured: ClassVar[bool] = True
    """Whether figures are measured anew, from the weights."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.sequences, self.logits = arrays["sequences"], arrays["logits"]
        shape, gives = self.sequences.shape, self.logits.shape
        if len(gives) != 4 or len(shape) not in (3, 4) or shape[:3] != (*gives[:2], gives[2] + 1):
            raise CheckpointError(
                "sequences of languages should be tokens [row, rollout, time] and logits [row, rollout, "
                f"time − 1, token], found {list(shape)} and {list(gives)}"
            )
        size, shifts = gives[-1], np.asarray(arrays["tasks"]).reshape(gives[0], -1)
        if size < 4 or shifts.shape[1] != size - 3 or (shifts % 1 != 0).any() or np.abs(shifts).max() > 99:
            raise CheckpointError(
                f"tasks of languages with {size} tokens should be {size - 3} small whole numbers a row, the "
                f"m of all letters but the first, found {list(shifts.shape)} such as {shifts[0].tolist()}"
            )
        least, most = min(-3, int(shifts.min())), max(2, int(shifts.max()))
        own = FormalLanguagesSettings(tokens=size - 2, smallest=least, largest=most, length=shape[2])
        self.task = FormalLanguages(own)
        letters = self.task.letters[1:]
        self.instances: list[Instance] = [dict(zip(letters, map(int, row), strict=True)) for row in shifts]
        self.order, self.remarks = self._tokens(size)
        found = columns(arrays["num_step_correct"])
        shares = [column for column in found if is_share(column) and not is_whole(column)]
        shares = shares or [column for column in found if is_share(column)]
        steps = [column for column in found if not any(column is share for share in shares)]
        if len(shares) != 1 or not 1 <= len(steps) <= 2 or not all(map(is_whole, steps)):
            raise CheckpointError(
                "num_step_correct.npy should have a column of steps and one of shares between 0 and 1, "
                f"perhaps one of numbers of runs, found {len(found)} columns, {len(shares)} of them shares"
            )
        keys = [self.task.key(instance) for instance in self.instances]
        self.run, self.step, said = numbered(steps, keys, self.task.noun)
        self.remarks.append(said)
        self.metrics = {"counted": shares[0]}
        self.told = self.anew = 0

    def _tokens(self, size: int) -> tuple[np.ndarray, list[str]]:
        """Number in the files of each of our tokens, by what most strings begin and end with."""
        self.order = np.arange(size)
        rows = np.unique(np.linspace(0, len(self.sequences) - 1, LOOKED_AT).astype(int))
        known = self.given(rows).numpy()
        first, last = (np.bincount(known[..., place].ravel(), minlength=size) for place in (0, -1))
        eos = int(last.argmax())
        first[eos] = 0  # where BOS was overwritten
        bos = int(first.argmax())
        if not first[bos]:
            raise CheckpointError(f"strings should begin with BOS and end with EOS, all begin with {eos}")
        order = np.array([*(token for token in range(size) if token not in (bos, eos)), bos, eos])
        other = f"in the files BOS is token {bos} and EOS {eos}; weights and strings are put into our order"
        return order, [] if (order == self.order).all() else [other]

    def population(self, spec: RNNSpec, vectors: Float[Tensor, "rnn parameter"]) -> Population:
        """RNNs that read and give out tokens in our order."""
        population = Population.unflatten(spec, vectors)
        weights, order = dict(population.weights), torch.from_numpy(self.order)
        weights["weight_ih_l0"] = weights["weight_ih_l0"][..., order]
        weights |= {name: weights[name][:, order] for name in ("head.weight", "head.bias")}
        return Population(spec, weights, self.task.interface)

    def given(self, rows: np.ndarray) -> UInt8[Tensor, "rnn rollout stored"]:
        """Strings as they are stored."""
        values = np.asarray(self.sequences[rows])
        values = values.argmax(-1) if values.ndim == 4 else values
        size = len(self.order)
        if (values % 1 != 0).any() or values.min() < 0 or values.max() >= size:
            raise CheckpointError(
                f"sequences.npy should hold tokens from 0 to {size - 1}, found {values.min()} to "
                f"{values.max()}"
            )
        return torch.from_numpy(np.argsort(self.order)[values.astype(np.int64)].astype(np.uint8))

    def expected(self, rows: np.ndarray) -> Float[Tensor, "rnn rollout time output"]:
        """Log-probabilities that are stored."""
        return _stored(self.logits[rows][..., self.order])

    def inputs(self, given: UInt8[Tensor, "rnn rollout stored"]) -> Float[Tensor, "rnn rollout time input"]:
        """What RNNs read."""
        return self.task.encode_inputs(given)

    def stored(self, given: UInt8[Tensor, "rnn rollout stored"]) -> UInt8[Tensor, "rnn rollout stored"]:
        """Strings as our zoos keep them."""
        return given

    def overwritten(self, given: UInt8[Tensor, "rnn rollout stored"]) -> Bool[Tensor, "rnn rollout"]:
        """Strings that begin with EOS, in the place of BOS or of the first letter, and go on."""
        ends = given == self.task.eos
        return ends[..., 0] | (ends[..., 1] & ~ends[..., 1:].all(-1))

    def mend(
        self,
        system: Population,
        given: UInt8[Tensor, "rnn rollout stored"],
        expected: Float[Tensor, "rnn rollout time output"],
        streams: Sequence[np.random.Generator],
    ) -> tuple[UInt8[Tensor, "rnn rollout stored"], list[str | None]]:
        """Strings with what EOS stands in place of, where the outputs tell it, else others; and notes."""
        task, overwritten = self.task, self.overwritten(given)
        if not overwritten.any():
            return given, [None] * len(given)
        place = torch.where(given[..., 0] == task.eos, 0, 1)[..., None]
        trials = (given.scatter(2, place, token) for token in range(len(self.order)))
        off = torch.stack([times_off(log_probs(system, self.inputs(one)), expected) for one in trials], -1)
        best, second = off.sort(-1).values[..., :2].unbind(-1)
        token = off.argmin(-1)
        told = overwritten & (best <= 1) & (second >= CERTAIN * best) & (token != task.eos)
        told &= (place[..., 0] == 1) | (token == task.bos)
        anew = overwritten & ~told
        sampled = torch.from_numpy(task.rollouts(system, [], streams, given.shape[1]).inputs)
        sampled = torch.where((sampled == task.eos).cumsum(-1) > 0, task.eos, sampled).byte()
        mended = torch.where(told[..., None], given.scatter(2, place, token[..., None].byte()), given)
        counts = [(int(one), int(other)) for one, other in zip(told.sum(1), anew.sum(1), strict=True)]
        self.told += int(told.sum())
        self.anew += int(anew.sum())
        return torch.where(anew[..., None], sampled, mended), [
            f"strings began with EOS: in {one} the token is known from outputs, {other} were sampled anew"
            if one + other
            else None
            for one, other in counts
        ]

    def found(self, performance: Float[np.ndarray, " rnn"]) -> list[str]:
        """What there is to say once all rows were read, with the performance that was measured."""
        said = []
        if self.told + self.anew:
            said.append(
                f"{self.told + self.anew} strings began with EOS and went on: in {self.told} the token that "
                f"was overwritten is known from the outputs, {self.anew} were replaced by newly sampled ones"
            )
        trials = self.task.settings.performance_samples
        ours, theirs = np.nanmean(performance), np.nanmean(self.metrics["counted"])
        return [
            *said,
            f"performance is measured anew, exactly, in {trials} strings that each RNN samples (mean "
            f"{ours:.3f}); counted is that of the files, by counts of letters in whatever order "
            f"(mean {theirs:.3f})",
        ]


# --- rotated digits -------------------------------------------------------------------------------------


class Digits:
    """Images that RNNs read tile by tile."""

    measured: ClassVar[bool] = False

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.sequences, self.logits = arrays["sequences"], arrays["logits"]
        self.task = TiledMNIST()
        shape, gives = self.sequences.shape, self.logits.shape
        reads, classes = self.task.interface.sizes
        times = (self.task.time - 1, self.task.time)
        fits = len(shape) == 4 and shape[2] in times and shape[3] == reads
        if not fits or gives != (*shape[:2], self.task.time, classes):
            raise CheckpointError(
                f"sequences of digits should be tiles [row, rollout, {times[0]} or {times[1]}, {reads}] and "
                f"logits [row, rollout, {times[1]}, {classes}], found {list(shape)} and {list(gives)}"
            )
        angles = np.asarray(arrays["tasks"], dtype=np.float64).reshape(gives[0], -1)
        if angles.shape[1] != 1 or not 2 * np.pi < angles.max() < 360 or angles.min() < 0:
            raise CheckpointError(
                "tasks of digits should be an angle a row, in degrees from 0 to below 360, found "
                f"{list(angles.shape)} from {angles.min():.4g} to {angles.max():.4g}"
            )
        self.instances: list[Instance] = [{"angle": float(own), "weight_decay": None} for own in angles[:, 0]]
        steps = columns(arrays["num_step"])
        if not all(map(is_whole, steps)):
            raise CheckpointError("num_step.npy should hold whole numbers from 0 up, found others")
        self.run, self.step, said = numbered(steps, angles[:, 0].tolist(), self.task.noun)
        self.remarks = [
            said,
            "which digit an image shows is not in the files; all are taken to be rotated by the RNN's angle",
            "figures are those of the files, measured on images that these RNNs were not trained on",
        ]
        self.rounded = 0.0
        """Largest change of a pixel, of 255, by rounding."""
        self.metrics = self._figures(columns(arrays["accuracy_losses"]))

    def _figures(self, found: Columns) -> dict[str, np.ndarray]:
        """Accuracies lie between 0 and 1, losses exceed 1 somewhere; training is better than validation."""
        shares = [column for column in found if is_share(column)]
        losses = [column for column in found if not is_share(column)]
        order = training(shares[1], shares[0], self.step) if len(shares) == 2 else CLEAR + 1
        if not 1 <= len(shares) <= 2 or len(losses) > 2 or abs(order) < CLEAR:
            raise CheckpointError(
                "accuracy_losses.npy should have one accuracy, or two of which that of training is larger, "
                f"and at most two losses, found {len(shares)} columns of shares and {len(losses)} others"
            )
        figures = {"performance": shares[1] if len(shares) == 2 and order > 0 else shares[0]}
        if len(losses) == 1:
            return figures | {"loss": losses[0]}
        order = training(losses[0], losses[1], self.step) if losses else 0.0
        if abs(order) < CLEAR:
            self.remarks += ["losses are left out: which is of training data, is not clear"] if losses else []
            return figures
        less, more = losses if order > 0 else losses[::-1]
        self.remarks.append("of the two losses that which is smaller on average is taken to be of training")
        return figures | {"validation_loss": more, "training_loss": less, "generalisation_gap": more - less}

    def population(self, spec: RNNSpec, vectors: Float[Tensor, "rnn parameter"]) -> Population:
        """RNNs that read tiles."""
        return Population.unflatten(spec, vectors, self.task.interface)

    def given(self, rows: np.ndarray) -> Float[Tensor, "rnn rollout time input"]:
        """Tiles after zeros for BOS."""
        tiles = torch.from_numpy(np.array(self.sequences[rows], np.float32))
        if tiles.shape[2] < self.task.time:
            return torch.nn.functional.pad(tiles, (0, 0, 1, 0))
        if tiles[:, :, 0].any():
            raise CheckpointError("sequences of digits should begin with a tile of zeros (BOS), found others")
        return tiles

    def expected(self, rows: np.ndarray) -> Float[Tensor, "rnn rollout time output"]:
        """Log-probabilities that are stored."""
        return _stored(self.logits[rows])

    def inputs(
        self, given: Float[Tensor, "rnn rollout time input"]
    ) -> Float[Tensor, "rnn rollout time input"]:
        """What RNNs read."""
        return given

    def overwritten(self, given: Float[Tensor, "rnn rollout time input"]) -> Bool[Tensor, "rnn rollout"]:
        """No image is."""
        return torch.zeros(given.shape[:2], dtype=torch.bool)

    def mend(
        self,
        system: Population,
        given: Float[Tensor, "rnn rollout time input"],
        expected: Float[Tensor, "rnn rollout time output"],
        streams: Sequence[np.random.Generator],
    ) -> tuple[Float[Tensor, "rnn rollout time input"], list[str | None]]:
        """Images as they are."""
        return given, [None] * len(given)

    def found(self, performance: Float[np.ndarray, " rnn"]) -> list[str]:
        """What there is to say once all rows were read."""
        return [f"pixels were rounded to whole ones, by at most {self.rounded:.2g} of 255"]

    def stored(self, given: Float[Tensor, "rnn rollout time input"]) -> UInt8[Tensor, "rnn rollout stored"]:
        """Images as our zoos keep them."""
        pixels = 255 * self.task.picture(given)
        images = pixels.round()
        if images.min() < 0 or images.max() > 255:
            raise CheckpointError(
                "tiles should be of images from 0 to 255, normalised with mean 0.1307 and standard deviation "
                f"0.3081 of 1, found {pixels.min():.4g} to {pixels.max():.4g}"
            )
        self.rounded = max(self.rounded, float((pixels - images).abs().max()))
        stored = torch.zeros(*given.shape[:2], PIXELS + images[0, 0].numel(), dtype=torch.uint8)
        stored[..., ROTATED], stored[..., LABEL] = 1, UNKNOWN
        stored[..., PIXELS:] = images.flatten(2).byte()
        return stored
