"""Linear layers that commute with reorderings of the hidden units of stacked RNNs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rnnatlas.rnn import RNNSpec

FAR = 2
"""Layers at least so many apart share their weights, whatever the distance; those above and below do not."""

CACHED = 2**20
"""Bytes of a tensor that are worked on at a time, so that what is made of them stays in a core's cache."""


class Part(NamedTuple):
    """A tensor of weights, with the axis that each of its dimensions runs along.

    Args:
        kind: "recurrent", "bias", "input" (weights of the first layer that read inputs), "below" (those of
            other layers, which read the layer below), one of `RNNSpec.vectors`, "head" or "head bias".
        axes: Names of the axes. Dimensions of one name are reordered together.
        layer: Layer of the RNN; the head comes after the last.
        direction: Direction of the RNN that uses the tensor; 1 reads backwards.
        source: Direction of the RNN, a layer below, that it reads.
    """

    kind: str
    axes: tuple[str, ...]
    layer: int
    direction: int = 0
    source: int = 0

    @property
    def square(self) -> bool:
        """Whether both dimensions run along one axis, so that there is a diagonal."""
        return self.axes == self.axes[:1] * 2


class Slot(NamedTuple):
    """A vector along one axis, or a scalar, that sums a tensor up or that is spread over it.

    Args:
        part: The tensor.
        view: "rows", "columns", "diagonal" or "itself" for vectors; "mean" or "trace" for scalars.
    """

    part: Part
    view: str


Features = dict[Part, Tensor]
"""For each tensor of weights [rnn, its axes, channel]."""


def parts(spec: RNNSpec) -> list[Part]:
    """The tensors of RNNs of one architecture, each bias as one tensor, gates as channels."""
    found = []
    directions = range(spec.directions)
    for layer in range(spec.layers):
        for to in directions:
            own = f"hidden {layer} {to}"
            found.append(Part("recurrent", (own, own), layer, to, to))
            if layer == 0:
                found.append(Part("input", (own, "input"), layer, to, to))
            else:
                below = [f"hidden {layer - 1} {source}" for source in directions]
                found += [Part("below", (own, below[source]), layer, to, source) for source in directions]
            if spec.bias:
                found.append(Part("bias", (own,), layer, to, to))
            found += [Part(kind, (own,), layer, to, to) for kind in spec.vectors]
    if spec.output is not None:
        top = spec.layers
        found += [Part("head", ("output", f"hidden {top - 1} {way}"), top, 0, way) for way in directions]
        if spec.head_bias:
            found.append(Part("head bias", ("output",), top))
    return found


class Equivariant(nn.Module):
    """The complete linear map between weight tensors that commutes with reorderings along axes.

    Each tensor is summarised by means: along either dimension, over all entries, and of the diagonal
    where there is one. All summaries along one axis are mixed with one another, so are all scalars, and
    the results are spread over the tensors again; besides, each entry reaches itself and its transpose.
    That is every equivariant linear map between any two tensors (docs/decisions/0010-dws.md). Weights
    are shared between pairs of tensors that stand alike to each other in the stack of layers.

    Args:
        parts: The tensors.
        channels: Channels of each, before and after.
    """

    def __init__(self, parts: Sequence[Part], channels: tuple[int, int]):
        super().__init__()
        self.parts = list(parts)
        axes = dict.fromkeys(axis for part in parts for axis in part.axes)
        self.along = [[slot for part in parts for slot in _vectors(part, axis)] for axis in axes]
        self.scalars = [slot for part in parts for slot in _scalars(part)]
        self.vector_mix = Mix(self.along, _vector_tie, channels)
        self.scalar_mix = Mix([self.scalars], _scalar_tie, channels)
        matrices = [part for part in parts if len(part.axes) == 2]
        ties = dict.fromkeys([_entry_tie(part) for part in matrices] + ["transposed"])
        self.entries = nn.ParameterDict({tie: _drawn(channels[0], *channels) for tie in ties})
        constants = dict.fromkeys(_constant(slot) for slot in self.scalars)
        self.constants = nn.ParameterDict({name: torch.zeros(channels[1]) for name in constants})

    def forward(self, features: Features) -> Features:
        """The map, with constants added."""
        entries: Features = {}
        summaries: dict[Slot, Tensor] = {}
        for part in self.parts:
            entries[part], own = _summarised(part, features[part])
            summaries |= own
        mixed: dict[Slot, Tensor] = {}
        for group, slots in enumerate(self.along):
            mixed |= zip(slots, self.vector_mix([summaries[slot] for slot in slots], group), strict=True)
        scalars = self.scalar_mix([summaries[slot] for slot in self.scalars], 0)
        for slot, scalar in zip(self.scalars, scalars, strict=True):
            mixed[slot] = scalar + self.constants[_constant(slot)]
        return {part: self._outcome(part, entries[part], mixed) for part in self.parts}

    def _outcome(self, part: Part, entries: Tensor, mixed: dict[Slot, Tensor]) -> Tensor:
        everywhere = mixed[Slot(part, "mean")].unsqueeze(1)
        if len(part.axes) == 1:
            return mixed[Slot(part, "itself")] + everywhere
        rows, columns = mixed[Slot(part, "rows")] + everywhere, mixed[Slot(part, "columns")]
        weights, diagonal = self.entries[_entry_tie(part)], None
        if part.square:
            weights = torch.cat([weights, self.entries["transposed"]], 1)
            diagonal = mixed[Slot(part, "diagonal")] + mixed[Slot(part, "trace")].unsqueeze(1)
        return cast(Tensor, Spread.apply(entries, weights, rows, columns, diagonal))


class Summaries(Function):
    """Means along either dimension, and the diagonal of square tensors.

    Written out, as `Spread`, because torch's own gradients make several passes over the largest tensors
    for each of them. The entries pass through, so that their gradient comes back here to be added to.
    """

    @staticmethod
    def forward(ctx: Any, entries: Tensor, square: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Entries, rows, columns and the diagonal, if there is one."""
        ctx.sizes = entries.shape[1:3]
        diagonal = _diagonal(entries).contiguous() if square else None
        return entries.view_as(entries), entries.mean(2), entries.mean(1), diagonal

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, entries: Tensor, rows: Tensor, columns: Tensor, diagonal: Tensor | None
    ) -> tuple[Tensor, None]:
        """The gradient in the entries."""
        entries.add_((rows / ctx.sizes[1]).unsqueeze(2)).add_((columns / ctx.sizes[0]).unsqueeze(1))
        if diagonal is not None:
            _diagonal(entries).add_(diagonal)
        return entries, None


class Rectified(Function):
    """ReLU in place, its gradient as well.

    So what reads the outcome must be one operation, whose gradient is a tensor of its own, as `Spread`'s is
    and that of a mean; of two operations, torch makes a sum.
    """

    @staticmethod
    def forward(ctx: Any, entries: Tensor) -> Tensor:
        """The entries, those below 0 set to 0."""
        ctx.mark_dirty(entries)
        ctx.save_for_backward(entries.relu_())
        return entries

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outcome: Tensor) -> Tensor:
        """The gradient in the entries."""
        (entries,) = ctx.saved_tensors
        outcome = outcome.contiguous()
        return torch.ops.aten.threshold_backward.grad_input(outcome, entries, 0, grad_input=outcome)


class Spread(Function):
    """Products of entries with weights; vectors added to rows, columns and the diagonal.

    Where there is a diagonal, weights of two products lie side by side; the second product is transposed.
    It goes a few RNNs at a time (`CACHED`).
    """

    @staticmethod
    def forward(
        ctx: Any, entries: Tensor, weights: Tensor, rows: Tensor, columns: Tensor, diagonal: Tensor | None
    ) -> Tensor:
        """The entries that come out."""
        ctx.save_for_backward(entries, weights)
        ctx.diagonal = diagonal is not None
        outcome = entries.new_empty(*entries.shape[:-1], rows.shape[-1])
        for given, row, column, made in _pieces(entries, rows, columns, outcome):
            own, *transposed = (given @ weights).split(rows.shape[-1], -1)
            torch.add(own, row.unsqueeze(2), out=made)
            made.add_(column.unsqueeze(1))
            for product in transposed:
                made.add_(product.transpose(1, 2))
        if diagonal is not None:
            _diagonal(outcome).add_(diagonal)
        return outcome

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outcome: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients in all of them."""
        entries, weights = ctx.saved_tensors
        d_entries, d_weights = entries.new_empty(entries.shape), torch.zeros_like(weights)
        for given, d_made, d_given in _pieces(entries, outcome, d_entries):
            if ctx.diagonal:
                d_made = torch.cat([d_made, d_made.transpose(1, 2)], -1)
            d_weights.addmm_(given.flatten(0, 2).T, d_made.flatten(0, 2))
            torch.mm(d_made.flatten(0, 2), weights.T, out=d_given.view(-1, d_given.shape[-1]))
        d_diagonal = _diagonal(outcome) if ctx.diagonal else None
        return d_entries, d_weights, outcome.sum(2), outcome.sum(1), d_diagonal


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of a few RNNs at a time; on a GPU, which has no such cache, of all."""
    size = len(tensors[0])
    if size and tensors[0].device.type == "cpu":
        size = max(1, CACHED * size // max(tensor.nbytes for tensor in tensors))
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def _diagonal(entries: Float[Tensor, "rnn axis axis channel"]) -> Float[Tensor, "rnn axis channel"]:
    """A view."""
    return entries.diagonal(dim1=1, dim2=2).transpose(1, 2)


class Mix(nn.Module):
    """Linear maps from all slots of a group to all slots of the group.

    Args:
        groups: The slots that are mixed with one another.
        tie: What tells apart the weights of pairs (to, from); pairs of one name share theirs.
        channels: Channels of a slot, before and after.
    """

    def __init__(
        self, groups: Sequence[Sequence[Slot]], tie: Callable[[Slot, Slot], str], channels: tuple[int, int]
    ):
        super().__init__()
        ties: dict[str, int] = {}
        for number, group in enumerate(groups):
            table = [[ties.setdefault(tie(to, source), len(ties)) for to in group] for source in group]
            self.register_buffer(f"table{number}", torch.tensor(table), persistent=False)
        inputs = max(len(group) for group in groups) * channels[0]
        self.weight = nn.Parameter(_drawn(inputs, len(ties), *channels))

    def forward(
        self, slots: list[Float[Tensor, "rnn *axis channel"]], group: int
    ) -> list[Float[Tensor, "rnn *axis mixed"]]:
        """The mixed slots of one group."""
        table = self.get_buffer(f"table{group}")
        blocks = self.weight.index_select(0, table.flatten()).unflatten(0, table.shape)
        matrix = blocks.transpose(1, 2).flatten(2).flatten(0, 1)
        return list((torch.cat(slots, -1) @ matrix).split(blocks.shape[-1], -1))


def _drawn(inputs: int, *shape: int) -> Tensor:
    """Random weights that keep the size of activations, where four products add up and ReLU follows."""
    return torch.randn(shape) * (2 / (4 * inputs)) ** 0.5


def _vectors(part: Part, axis: str) -> list[Slot]:
    """The vectors along one axis that sum a tensor up."""
    if len(part.axes) == 1:
        views = ["itself"]
    elif part.square:
        views = ["rows", "columns", "diagonal"]
    else:
        views = [view for view, own in zip(("rows", "columns"), part.axes, strict=True) if own == axis]
    return [Slot(part, view) for view in views if axis in part.axes]


def _scalars(part: Part) -> list[Slot]:
    return [Slot(part, "mean")] + [Slot(part, "trace")] * part.square


def _summarised(part: Part, entries: Tensor) -> tuple[Tensor, dict[Slot, Tensor]]:
    """The entries again, and what sums them up."""
    if len(part.axes) == 1:
        return entries, {Slot(part, "itself"): entries, Slot(part, "mean"): entries.mean(1)}
    entries, rows, columns, diagonal = cast(tuple[Tensor, ...], Summaries.apply(entries, part.square))
    found = {"rows": rows, "columns": columns, "mean": rows.mean(1)}
    if part.square:
        found |= {"diagonal": diagonal, "trace": diagonal.mean(1)}
    return entries, {Slot(part, view): summary for view, summary in found.items()}


def _vector_tie(to: Slot, source: Slot) -> str:
    same = "same" if to.part.direction == source.part.direction else "other"
    return f"{_role(to)} < {_role(source)} {same}"


def _role(slot: Slot) -> str:
    """What a vector is to the axis it runs along: what feeds a layer, what reads it, or its own."""
    part, view = slot
    axis = part.axes[-1 if view == "columns" else 0].split()[0]
    role = f"{part.kind} {view}"
    return f"{axis} {role} {part.direction == part.source}"


def _scalar_tie(to: Slot, source: Slot) -> str:
    offset = max(-FAR, min(FAR, source.part.layer - to.part.layer))
    same = to.part.direction == source.part.direction
    ends = [f"{part.kind} {view} {part.direction == part.source}" for part, view in (to, source)]
    return f"{ends[0]} < {ends[1]} {offset} {same}"


def _entry_tie(part: Part) -> str:
    return f"{part.kind} {'across' if part.direction != part.source else 'along'}"


def _constant(slot: Slot) -> str:
    return f"{slot.part.kind} {slot.view}"
