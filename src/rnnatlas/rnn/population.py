"""N RNNs of one architecture, stacked."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import running
from rnnatlas.rnn.modules import RecurrentNetwork, read_module
from rnnatlas.rnn.recognise import find_rnn
from rnnatlas.rnn.signals import Interface
from rnnatlas.rnn.spec import RNNSpec
from rnnatlas.rnn.system import Index, positions

ALPHA = 0.2
"""α of new leaky RNNs: a time step of 20 ms over a time constant of 100 ms (Yang et al. 2019)."""


class Population:
    """N RNNs of one architecture, each parameter stacked along a leading `rnn` axis: a `System`.

    Plain data: indexing, moving and reshaping give new populations and change nothing; gradients flow
    through all of it.

    Args:
        spec: The architecture.
        weights: Parameter name → [rnn, …], with the names and shapes of `spec.shapes`.
        interface: What the RNNs read and give out; unbounded numbers without it.

    Raises:
        RNNSpecMismatch: Names or shapes are not those of `spec`, or the numbers of RNNs differ.

    Example:
        >>> import rnnatlas as ra, torch
        >>> population = ra.Population.from_modules([torch.nn.LSTM(5, 16), torch.nn.LSTM(5, 16)])
        >>> population
        Population(2 × LSTM 5→16, torch.float32, cpu)
        >>> population[1]
        Population(1 × LSTM 5→16, torch.float32, cpu)
    """

    def __init__(self, spec: RNNSpec, weights: Mapping[str, Tensor], interface: Interface | None = None):
        if set(weights) != set(spec.shapes):
            raise RNNSpecMismatch(
                f"the parameters of {spec} should be {', '.join(spec.shapes)}, found {', '.join(weights)}"
            )
        if interface is not None and interface.sizes != (spec.input, spec.output_size):
            raise RNNSpecMismatch(
                f"{spec} reads {spec.input} numbers a step and gives out {spec.output_size}, which does not "
                f"fit {interface}"
            )
        weights = {name: weights[name].resolve_neg() for name in spec.shapes}
        count = len(next(iter(weights.values())))
        for name, shape in spec.shapes.items():
            if tuple(weights[name].shape) != (count, *shape):
                raise RNNSpecMismatch(
                    f"{name} of {count} RNNs {spec} should have shape {(count, *shape)}, "
                    f"found {tuple(weights[name].shape)}"
                )
        self.spec = spec
        self.weights = weights
        self.interface = interface or Interface.of(spec)

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def __repr__(self) -> str:
        return f"Population({len(self)} × {self.spec}, {self.dtype}, {self.device})"

    def __getitem__(self, index: int | Index) -> "Population":
        """Some of the RNNs, a single one by its position."""
        return self.select(index if isinstance(index, slice) else torch.as_tensor(index).reshape(-1))

    def __iter__(self) -> Iterator["Population"]:
        """Each RNN as a population of one."""
        return (self[i] for i in range(len(self)))

    @property
    def specs(self) -> tuple[RNNSpec, ...]:
        """The one architecture."""
        return (self.spec,)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.weights.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next(iter(self.weights.values())).dtype

    # --- making and taking apart ---------------------------------------------------------------

    @classmethod
    def initialise(cls, spec: RNNSpec, generators: Sequence[torch.Generator]) -> "Population":
        """Draws RNNs as torch initialises its modules, each from its own generator.

        Learned initial states are drawn like weights; α of leaky RNNs is `ALPHA`.

        Args:
            spec: The architecture.
            generators: One an RNN; an RNN's weights depend on its own generator alone.
        """
        recurrent, head = spec.hidden**-0.5, (spec.hidden * spec.directions) ** -0.5
        rows: dict[str, list[Tensor]] = {name: [] for name in spec.shapes}
        for generator in generators:
            for name, shape in spec.shapes.items():
                if name in spec.fixed:
                    rows[name].append(torch.full(shape, ALPHA))
                    continue
                bound = head if name.startswith("head.") else recurrent
                rows[name].append(torch.empty(shape).uniform_(-bound, bound, generator=generator))
        return cls(spec, {name: torch.stack(tensors) for name, tensors in rows.items()})

    @classmethod
    def from_modules(cls, modules: Sequence[nn.Module | tuple[nn.Module, nn.Linear]]) -> "Population":
        """Stacks torch modules.

        Args:
            modules: Each an `nn.LSTM`, `nn.GRU` or `nn.RNN`, a pair (RNN, linear head), or a module that
                holds exactly one RNN and at most one linear layer that fits behind it. Layers in front of
                the RNN are left out.

        Whatever has a forward of its own, hooks or parametrizations is run once on random inputs, in
        evaluation mode, and compared with its RNN and head alone (`comparing.compare`).

        Raises:
            RNNSpecMismatch: The modules differ in architecture, or one cannot be read or does something else.
        """
        return cls._stack([read_module(module) for module in modules])

    @classmethod
    def from_state_dicts(
        cls, state_dicts: Sequence[Mapping[str, Tensor]], spec: RNNSpec | None = None
    ) -> "Population":
        """Stacks state_dicts of torch modules, each of which holds one RNN and at most one head.

        Args:
            state_dicts: One an RNN; parameter names may carry any prefix.
            spec: The architecture, where known. Needed for relu Elman networks, which a state_dict does
                not tell from tanh, and for leaky RNNs and learned initial states, whose names should be
                those of `spec.shapes`, as `state_dicts` and `to_modules` give them.

        Raises:
            CheckpointError: A state_dict holds no RNN, several, or a head that is not clear.
            RNNSpecMismatch: Architectures differ from one another or from `spec`.
        """
        if spec is not None and spec.vectors:
            return cls._stack([(spec, _named(state_dict, spec)) for state_dict in state_dicts])
        cell = spec.cell if spec is not None else None
        found = [find_rnn(state_dict, cell=cell) for state_dict in state_dicts]
        population = cls._stack([(rnn.spec, rnn.weights) for rnn in found])
        if spec is not None and population.spec != spec:
            raise RNNSpecMismatch(f"expected {spec}, the state_dicts hold {population.spec}")
        return population

    @classmethod
    def _stack(cls, found: Sequence[tuple[RNNSpec, Mapping[str, Tensor]]]) -> "Population":
        if not found:
            raise RNNSpecMismatch("a population needs at least one RNN, found none")
        spec = found[0][0]
        for position, (other, _) in enumerate(found):
            if other != spec:
                raise RNNSpecMismatch(
                    f"all RNNs of a population have one architecture, but the first is {spec} and number "
                    f"{position + 1} is {other}; make one population for each"
                )
        return cls(spec, {name: torch.stack([weights[name] for _, weights in found]) for name in spec.shapes})

    def state_dicts(self) -> list[dict[str, Tensor]]:
        """One state_dict an RNN, with the names of `spec.shapes`."""
        return [{name: stacked[i] for name, stacked in self.weights.items()} for i in range(len(self))]

    def to_modules(self) -> list[RecurrentNetwork]:
        """One torch module an RNN, with copies of the weights."""
        modules = []
        for state_dict in self.state_dicts():
            module = RecurrentNetwork(self.spec).to(device=self.device, dtype=self.dtype)
            names = {name: name if name.startswith("head.") else f"rnn.{name}" for name in state_dict}
            module.load_state_dict({names[name]: weight for name, weight in state_dict.items()})
            modules.append(module)
        return modules

    def flatten(self) -> Float[Tensor, "rnn parameter"]:
        """All weights of each RNN as one vector, in the order of `spec.shapes`."""
        return torch.cat([stacked.flatten(1) for stacked in self.weights.values()], dim=1)

    @classmethod
    def unflatten(
        cls, spec: RNNSpec, vectors: Float[Tensor, "rnn parameter"], interface: Interface | None = None
    ) -> "Population":
        """The reverse of `flatten`; the weights are views of `vectors`.

        Raises:
            RNNSpecMismatch: The vectors do not have as many entries as RNNs of `spec` have parameters.
        """
        if vectors.shape[1] != spec.parameters:
            raise RNNSpecMismatch(
                f"{spec} has {spec.parameters} parameters, found vectors of {vectors.shape[1]}"
            )
        sizes = [torch.Size(shape).numel() for shape in spec.shapes.values()]
        parts = zip(spec.shapes.items(), vectors.split(sizes, dim=1), strict=True)
        return cls(spec, {name: part.unflatten(1, shape) for (name, shape), part in parts}, interface)

    # --- running -------------------------------------------------------------------------------

    def run(
        self,
        inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
        state: running.State | None = None,
    ) -> tuple[Float[Tensor, "rnn batch time output"], running.State]:
        """See `rnnatlas.run`."""
        return running.run(self, inputs, state)

    def step(
        self,
        inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"],
        state: running.State | None = None,
    ) -> tuple[Float[Tensor, "rnn batch output"], running.State]:
        """See `rnnatlas.step`."""
        return running.step(self, inputs, state)

    def without_head(self) -> "Population":
        """The same RNNs without their heads: what they give out are the last layer's hidden states."""
        spec = dataclasses.replace(self.spec, output=None, head_bias=True)
        return Population(spec, {name: self.weights[name] for name in spec.shapes})

    # --- choosing and moving -------------------------------------------------------------------

    def select(self, index: Index) -> "Population":
        """The RNNs at the positions given, in that order."""
        forward = isinstance(index, slice) and (index.step is None or index.step > 0)
        chosen = index if forward else positions(index, len(self), self.device)
        return self._map(lambda weight: weight[chosen])

    @classmethod
    def concat(cls, populations: Sequence["Population"]) -> "Population":
        """One population of the RNNs of several.

        Raises:
            RNNSpecMismatch: Their architectures differ.
        """
        specs = {population.spec for population in populations}
        if len(specs) != 1:
            raise RNNSpecMismatch(
                "populations to be joined should share one architecture, found "
                + (", ".join(sorted(map(str, specs))) or "none")
            )
        first = populations[0]
        weights = {name: torch.cat([each.weights[name] for each in populations]) for name in first.weights}
        return cls(first.spec, weights, first.interface)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Population":
        """The same RNNs on another device or in another precision."""
        return self._map(lambda weight: weight.to(device=device, dtype=dtype))

    def detach(self) -> "Population":
        """The same RNNs, cut from the graph; memory is shared."""
        return self._map(lambda weight: weight.detach())

    def clone(self) -> "Population":
        """A copy that shares no memory."""
        return self._map(lambda weight: weight.clone())

    def requires_grad_(self, requires_grad: bool = True) -> "Population":
        """Asks for gradients in the weights, in place, as `torch.nn.Module.requires_grad_` does."""
        for weight in self.weights.values():
            weight.requires_grad_(requires_grad)
        return self

    def parameters(self) -> list[Tensor]:
        """The stacked weights for an optimiser: all but those that are `spec.fixed`."""
        fixed = self.spec.fixed
        return [weight for name, weight in self.weights.items() if name not in fixed]

    def _map(self, function: Any) -> "Population":
        weights = {name: function(weight) for name, weight in self.weights.items()}
        return Population(self.spec, weights, self.interface)


def _named(state_dict: Mapping[str, Tensor], spec: RNNSpec) -> dict[str, Tensor]:
    """The parameters of an RNN that torch has no module for, from those of a `RecurrentNetwork` too."""
    weights = {name.removeprefix("rnn."): tensor for name, tensor in state_dict.items()}
    if set(weights) != set(spec.shapes):
        raise RNNSpecMismatch(
            f"the parameters of {spec} should be {', '.join(spec.shapes)}, found {', '.join(state_dict)}"
        )
    return weights
