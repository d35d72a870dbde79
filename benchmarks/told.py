"""An encoder that is told what it should find out: the upper bound of emulation, not a way to embed RNNs.

    cd benchmarks
    rnnatlas train ZOO --plugin told --encoder told --set encoders.told.zoo=ZOO --preset demo --out told
    rnnatlas evaluate told --plugin told

It recognises each RNN of a zoo by its weights and reads its task, step and performance off the records.
What an emulator conditioned on these gets wrong is not for lack of a better encoder of them; what does
better found what they do not say.
"""

from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

import rnnatlas as ra
from rnnatlas.encoders.base import EMBED, Encoder, mlp
from rnnatlas.rnn import by_population
from rnnatlas.settings import settings


@settings
class ToldSettings:
    """Settings of `Told`.

    Args:
        zoo: The zoo whose records are read; all its tasks are one-hot vectors.
        hidden: Units of the MLP's two hidden layers.
    """

    zoo: str = ""
    hidden: int = 128


class Told(Encoder):
    """Embeds an RNN of a zoo by what the zoo says about it."""

    Settings = ToldSettings
    title: ClassVar[str | None] = "told task, step and performance"
    reads_weights = True
    any_architecture: ClassVar[bool] = True
    symmetries: ClassVar[frozenset[str]] = frozenset()
    marks: Tensor
    known: Tensor

    def __init__(self, interface, spec, settings, size=EMBED):
        super().__init__(interface, spec, settings, size)
        with torch.device("cpu"):  # also where an encoder is made only to ask what it accepts
            marks, known = read(ra.Zoo.open(settings.zoo))
        self.register_buffer("marks", marks, persistent=False)
        self.register_buffer("known", known, persistent=False)
        self.mlp = mlp(known.shape[1], settings.hidden, settings.hidden, size)

    @property
    def last(self) -> nn.Linear:
        return cast(nn.Linear, self.mlp[-1])

    def read(self, system: ra.Population) -> Float[Tensor, "rnn embed"]:
        if system.device.type == "meta":  # shapes alone, to count operations
            return self.mlp(torch.empty(len(system), self.known.shape[1], device="meta"))
        found = mark(system).to(self.marks)
        rows = torch.searchsorted(self.marks, found - 1e-9).clamp(max=len(self.marks) - 1)
        if ((self.marks[rows] - found).abs() > 1e-8).any():
            raise ValueError(f"some of these RNNs are none of those in {self.settings.zoo}")
        return self.mlp(self.known[rows])


def read(zoo: ra.Zoo) -> tuple[Float[Tensor, " rnn"], Float[Tensor, "rnn label"]]:
    """The marks of all RNNs of a zoo, in rising order, and what the zoo says about each."""
    assert zoo.task is not None, "an imported zoo says nothing of tasks"
    table = zoo.snapshots()
    parts = [zoo.population(table.slice(i, 512)) for i in range(0, len(table), 512)]
    marks, order = torch.cat([by_population(part, mark) for part in parts]).sort()
    steps = torch.from_numpy(table["step"].to_numpy())
    performance = torch.tensor(table["metrics"].combine_chunks().field("performance").to_pylist())
    known = [
        zoo.task.target(table["task"].to_pylist()),
        nn.functional.one_hot(steps.unique(return_inverse=True)[1]),
        performance[:, None],
    ]
    return marks, torch.cat([part.float() for part in known], 1)[order]


def mark(population: ra.Population) -> Float[Tensor, " rnn"]:
    """A number of each RNN that no other has."""
    weights = population.weights["weight_hh_l0"].detach().flatten(1).double()
    return (weights * torch.linspace(1, 2, weights.shape[1], dtype=torch.float64)).sum(1)


ra.register(Told, "told")
