"""RNNs of several architectures side by side."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn.modules import read_module
from rnnatlas.rnn.population import Population
from rnnatlas.rnn.signals import Interface
from rnnatlas.rnn.spec import RNNSpec
from rnnatlas.rnn.system import Index, System, positions

Group = tuple[Int[Tensor, " _"], System]
"""Positions among all RNNs, and the RNNs that are there."""


class Mixed:
    """An ordered list of systems with one interface, most often populations: a `System`.

    Each group is run by itself and its rows are put where they belong; gradients flow through. Groups of a
    mixed system among them become groups of this one.

    Args:
        systems: Systems, each with the positions of its RNNs; together the positions are 0 … N − 1.

    Raises:
        RNNSpecMismatch: Groups differ in input or output sizes, or positions are not those.

    Example:
        >>> import rnnatlas as ra, torch
        >>> mixed = ra.Mixed.from_modules([torch.nn.GRU(3, 8), torch.nn.LSTM(3, 8), torch.nn.GRU(3, 8)])
        >>> mixed
        Mixed(3 RNNs: 2 × GRU 3→8, 1 × LSTM 3→8)
        >>> ra.run(mixed, torch.zeros(4, 10, 3))[0].shape
        torch.Size([3, 4, 10, 8])
    """

    def __init__(self, systems: Sequence[tuple[Index, System]]):
        self.interface = _shared([system.interface for _, system in systems])
        count = sum(len(system) for _, system in systems)
        places = [positions(index, count, "cpu") for index, _ in systems]
        placed = torch.cat(places)
        each = all(len(index) == len(system) for index, (_, system) in zip(places, systems, strict=True))
        if not each or not torch.equal(placed.sort().values, torch.arange(count)):
            sizes = [len(system) for _, system in systems]
            raise RNNSpecMismatch(
                f"positions of {count} RNNs should be 0 to {count - 1}, each once, found "
                f"{[index.tolist()[:8] for index in places]} for {sizes} RNNs"
            )
        parts = _merged(
            [
                (place[inner], own)
                for place, (_, system) in zip(places, systems, strict=True)
                for inner, own in _placed(system)
            ]
        )
        self.groups: list[Group] = [(place.to(system.device), system) for place, system in parts]
        self._places = torch.cat([place for place, _ in parts]).argsort()
        """For each RNN, where it is when the groups stand one after the other; on the CPU, which reads it."""
        self._gather = self._places.to(self.device)

    @classmethod
    def from_modules(cls, modules: Sequence[nn.Module | tuple[nn.Module, nn.Linear]]) -> "Mixed":
        """Torch modules of any architectures with one input and one output size, in their order.

        Raises:
            RNNSpecMismatch: A module cannot be read, or sizes differ; see `Population.from_modules`.
        """
        specs = [read_module(module)[0] for module in modules]
        if not specs:
            raise RNNSpecMismatch("expected at least one RNN, found none")
        groups = []
        for spec in dict.fromkeys(specs):
            places = [place for place, other in enumerate(specs) if other == spec]
            groups.append((places, Population.from_modules([modules[place] for place in places])))
        return cls(groups)

    @property
    def specs(self) -> tuple[RNNSpec, ...]:
        """Architectures of the RNNs whose weights can be read."""
        return tuple(dict.fromkeys(spec for _, system in self.groups for spec in system.specs))

    @property
    def device(self) -> torch.device:
        """Where the RNNs are."""
        return self.groups[0][1].device

    @property
    def dtype(self) -> torch.dtype:
        """In which precision they are."""
        return self.groups[0][1].dtype

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        kinds = [
            f"{len(system)} × {', '.join(map(str, system.specs)) or type(system).__name__}"
            for _, system in self.groups
        ]
        return f"Mixed({len(self)} RNNs: {', '.join(kinds)})"

    def __getitem__(self, index: int | Index) -> System:
        """Some of the RNNs, a single one by its position."""
        return self.select(index if isinstance(index, slice) else torch.as_tensor(index).reshape(-1))

    def __iter__(self) -> Iterator[System]:
        """Each RNN as a system of one."""
        return (self[i] for i in range(len(self)))

    # --- running -------------------------------------------------------------------------------

    def run(
        self,
        inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "rnn batch time output"], Any]:
        """See `rnnatlas.run`; the state has one entry a group."""
        return self._each("run", inputs, state, shared=inputs.ndim == 3)

    def step(
        self, inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"], state: Any = None
    ) -> tuple[Float[Tensor, "rnn batch output"], Any]:
        """See `rnnatlas.step`; the state has one entry a group."""
        return self._each("step", inputs, state, shared=inputs.ndim == 2)

    def _each(self, function: str, inputs: Tensor, state: Any, shared: bool) -> tuple[Tensor, Any]:
        if not shared and len(inputs) != len(self):
            raise RNNSpecMismatch(f"expected inputs for {len(self)} RNNs, found inputs for {len(inputs)}")
        states = [None] * len(self.groups) if state is None else state
        if len(states) != len(self.groups):
            raise RNNSpecMismatch(
                f"expected a state of {len(self.groups)} groups, one entry each, found one of {len(states)}"
            )
        outputs, ends = [], []
        for (index, system), start in zip(self.groups, states, strict=True):
            given, end = getattr(system, function)(inputs if shared else inputs[index], start)
            outputs.append(given)
            ends.append(end)
        return torch.cat(outputs)[self._gather], tuple(ends)

    # --- choosing and moving -------------------------------------------------------------------

    def select(self, index: Index) -> System:
        """The RNNs at the positions given, in that order; a population where they share an architecture."""
        place = self._places[positions(index, len(self), "cpu")]
        if not len(place):
            return self.groups[0][1].select([])
        groups: list[tuple[Index, System]] = []
        first = 0
        for _, system in self.groups:
            here = ((place >= first) & (place < first + len(system))).nonzero().squeeze(1)
            if len(here):
                groups.append((here, system.select(place[here] - first)))
            first += len(system)
        return groups[0][1] if len(groups) == 1 else Mixed(groups)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Mixed":
        """The same RNNs on another device or in another precision."""
        return Mixed([(place, system.to(device, dtype)) for place, system in _placed(self)])


def groups(system: System) -> list[Group]:
    """The parts of a system that share an architecture, with their positions; a system itself elsewhere."""
    if isinstance(system, Mixed):
        return system.groups
    return [(torch.arange(len(system), device=system.device), system)]


def _placed(system: System) -> list[Group]:
    """`groups` with positions on the CPU, so that no GPU is waited for."""
    if not isinstance(system, Mixed):
        return [(torch.arange(len(system)), system)]
    own = [group for _, group in system.groups]
    return list(zip(system._places.argsort().split([len(group) for group in own]), own, strict=True))


def populations(system: System) -> list[tuple[Int[Tensor, " _"], Population]]:
    """The populations of a system whose weights can be read, with their positions."""
    return [(index, group) for index, group in groups(system) if isinstance(group, Population)]


def by_population(
    system: System, function: Callable[[Population], Shaped[Tensor, "_ *rest"]]
) -> Shaped[Tensor, "_ *rest"]:
    """What a function makes of a system's populations, a row an RNN, in the order of the RNNs."""
    parts = populations(system)
    rows = torch.cat([function(population) for _, population in parts])
    order = torch.cat([positions for positions, _ in parts]).argsort()
    return rows[order.to(rows.device)]


def _merged(parts: Sequence[Group]) -> list[Group]:
    """The groups, populations of one architecture as one."""
    merged: list[Group] = []
    for spec in dict.fromkeys(part.spec for _, part in parts if isinstance(part, Population)):
        alike = [(at, part) for at, part in parts if isinstance(part, Population) and part.spec == spec]
        population = alike[0][1] if len(alike) == 1 else Population.concat([part for _, part in alike])
        merged.append((torch.cat([at for at, _ in alike]), population))
    return merged + [(at, part) for at, part in parts if not isinstance(part, Population)]


def _shared(interfaces: Sequence[Interface]) -> Interface:
    if len({interface.sizes for interface in interfaces}) != 1:
        found = ", ".join(f"{reads}→{gives}" for reads, gives in {own.sizes for own in interfaces})
        raise RNNSpecMismatch(
            f"RNNs side by side should have one input and one output size, found {found or 'none'}"
        )
    return interfaces[0]
