"""Whether an RNN is like those that a run was trained on, by its responses to inputs that all share.

Embeddings do not show it: an encoder maps any RNN somewhere among those that it knows
(docs/decisions/0021-unlike-the-zoo.md).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from rnnatlas.checked import Kind, load_tensors, save_tensors
from rnnatlas.emulation.data import Snapshots
from rnnatlas.emulation.model import TrainedRun
from rnnatlas.encoders.base import chunks
from rnnatlas.errors import RunFormatError
from rnnatlas.rnn import System, run
from rnnatlas.zoo.store import Zoo

REFERENCE = "reference.safetensors"
_KIND = Kind("responses of training RNNs", RunFormatError, "evaluate the run again")

SEQUENCES = 8
"""Rollouts of training RNNs whose inputs are shown."""
RESPONSES, RNNS, NUMBERS = 1024, 1024, 2**20
"""At most so many numbers of an RNN's responses are looked at, of so many training RNNs, and together."""
FLAGGED = 0.95
"""An RNN is flagged if this share of held-out RNNs or more lies nearer to the training RNNs."""
FEWEST = 19
"""Held-out RNNs without which none can be flagged: 1/20 is the least that a conformal p-value can be."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """What training RNNs respond to some inputs, and how far from these responses held-out RNNs are.

    Attributes:
        inputs: What RNNs are shown: the first inputs of some training RNNs' rollouts.
        shown: Which positions of the responses, over all sequences, are looked at: some that count.
        mean: Of each number of the responses, over training RNNs.
        sd: Standard deviation of each.
        known: Standardised responses of training RNNs.
        distances: Of held-out RNNs from the nearest training RNN, in increasing order.
    """

    inputs: Float[Tensor, "sequence time input"]
    shown: Shaped[Tensor, " position"]
    mean: Float[Tensor, " response"]
    sd: Float[Tensor, " response"]
    known: Float[Tensor, "rnn response"]
    distances: Float[Tensor, " held_out"]

    def scores(self, trained: TrainedRun, system: System) -> Float[np.ndarray, " rnn"]:
        """For each RNN the share of held-out RNNs that lie nearer to the training RNNs than it does.

        One minus this is a conformal p-value: of RNNs like those held out about 5 % have .95 or more.
        """
        return self.share(self.distance(trained, system))

    @torch.no_grad()
    def distance(self, trained: TrainedRun, system: System) -> Float[Tensor, " rnn"]:
        """From the nearest training RNN: the root mean square over responses, in standard deviations."""
        inputs, shown = (part.to(trained.device) for part in (self.inputs, self.shown))
        return torch.cat(
            [
                _nearest((_respond(trained, part, inputs, shown) - self.mean) / self.sd, self.known)
                for part in chunks(system)
            ]
        )

    def share(self, distances: Float[Tensor, " rnn"]) -> Float[np.ndarray, " rnn"]:
        """Of held-out RNNs, those that are nearer than some distances."""
        nearer = torch.searchsorted(self.distances, distances)
        return nearer.double().numpy() / (len(self.distances) + 1)

    def save(self, path: Path) -> None:
        """Writes it, responses in half precision."""
        save_tensors(path, {**vars(self), "known": self.known.half()})

    @classmethod
    def load(cls, path: Path) -> "Reference | None":
        """Reads what `save` wrote; None where there is none, as in runs that were evaluated earlier.

        Raises:
            RunFormatError: The file is damaged.
        """
        if not path.is_file():
            return None
        tensors, _ = load_tensors(path, _KIND)
        with _KIND.reading(path):
            made = cls(**{**tensors, "known": tensors["known"].float()})
            width = made.known.shape[1]
            shapes = [list(part.shape) for part in (made.mean, made.sd, made.known[0])]
            positions, last = made.inputs[..., 0].numel(), int(made.shown.max())
            whole = made.shown.dim() == made.distances.dim() == 1 and not made.shown.is_floating_point()
            if shapes != [[width]] * 3 or not whole or not 0 <= int(made.shown.min()) <= last < positions:
                raise ValueError("its arrays do not fit one another")
            return made


def remark(like: Sequence[bool | None]) -> str | None:
    """What to say of RNNs where some are not `in_distribution`; None where there is nothing to say."""
    if odd := sum(one is False for one in like):
        return (
            f"{odd} of {len(like)} RNNs respond otherwise than the RNNs that the run was trained on "
            f"({FLAGGED:.0%} of held-out RNNs are nearer to those); predictions of them should not be trusted"
        )
    return None


@torch.no_grad()
def fit(trained: TrainedRun, zoo: Zoo, snapshots: pa.Table) -> Reference | None:
    """The reference of a run; None where there are too few RNNs.

    Distances are those of new runs and of the validation split and, where these are too few, of training RNNs
    from those of other runs, too.

    Args:
        trained: A finished run, whose encoder takes all snapshots.
        zoo: Has a task.
        snapshots: As `Zoo.snapshots` gives them.
    """
    assert zoo.task is not None, "evaluate refuses zoos without a task"
    size = zoo.task.interface.output.size
    split = np.asarray(snapshots["split"].to_pylist())
    train = snapshots.filter(pa.array(split == "train"))
    inputs, counts = _inputs(zoo, train)
    inputs = inputs.to(trained.device)
    kept = max(1, min(len(counts), RESPONSES // size))
    shown = counts[torch.linspace(0, len(counts) - 1, kept).long()].to(trained.device)
    width = kept * size

    def responses(table: pa.Table) -> tuple[Float[Tensor, "rnn response"], np.ndarray]:
        table = _spaced(table, max(FEWEST, min(RNNS, NUMBERS // width)))
        found = [_respond(trained, part, inputs, shown) for part in chunks(zoo.population(table))]
        return torch.cat(found), table["run"].to_numpy()

    known, runs = responses(train)
    sd, mean = torch.std_mean(known, 0, correction=0)
    sd = sd.clamp_min(max(0.1 * sd.square().mean().sqrt().item(), 1e-6))
    known = (known - mean) / sd
    distances = torch.zeros(0)
    if (chosen := np.isin(split, ("new-runs", "validation"))).any():
        held_out, _ = responses(snapshots.filter(pa.array(chosen)))
        distances = _nearest((held_out - mean) / sd, known)
    if len(distances) < FEWEST and len(np.unique(runs)) > 1:
        own = torch.from_numpy(runs[:, None] == runs[None])
        distances = torch.cat([distances, _nearest(known, known, own)])
    if len(distances) < FEWEST:
        return None
    return Reference(inputs.cpu(), shown.cpu(), mean, sd, known, distances.sort().values)


def _inputs(
    zoo: Zoo, train: pa.Table
) -> tuple[Float[Tensor, "sequence time input"], Shaped[Tensor, " position"]]:
    """Inputs of a rollout of each of some training RNNs, and which positions of them all count."""
    assert zoo.task is not None
    stored = Snapshots.of(zoo, _spaced(train, SEQUENCES)).stored
    each = torch.arange(len(stored))
    stored = stored[each, each % stored.shape[1]]
    return zoo.task.encode_inputs(stored).float(), zoo.task.mask(stored).flatten().nonzero().squeeze(1)


def _spaced(table: pa.Table, count: int) -> pa.Table:
    """At most so many rows, evenly spaced."""
    rows = np.linspace(0, table.num_rows - 1, min(count, table.num_rows)).astype(np.int64)
    return table.take(pa.array(rows))


def _respond(
    trained: TrainedRun, system: System, inputs: Tensor, shown: Tensor
) -> Float[Tensor, "rnn response"]:
    """Log-probabilities of tokens, or numbers, at the positions shown; run on the device of the inputs."""
    outputs, _ = run(system.to(inputs.device, torch.float32), inputs)
    return trained.task.interface.output.interpret(outputs).flatten(1, 2)[:, shown].flatten(1).cpu()


def _nearest(
    rows: Float[Tensor, "rnn response"],
    known: Float[Tensor, "known response"],
    hidden: Shaped[Tensor, "rnn known"] | None = None,
) -> Float[Tensor, " rnn"]:
    """Distance of the nearest known row that is not hidden; infinite where responses are not finite."""
    distances = torch.cdist(rows, known) / known.shape[1] ** 0.5
    if hidden is not None:
        distances = distances.masked_fill(hidden, torch.inf)
    return distances.amin(1).nan_to_num(nan=torch.inf)
