"""Recurrent layers of other frameworks: under torch's names, with their gates in torch's order."""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn import GATES, FoundRNN
from rnnatlas.rnn.heads import Head, head_for, listed, shown
from rnnatlas.rnn.leaks import parse_cell
from rnnatlas.rnn.recognise import find_rnn

MOST_ENTRIES = 100_000
"""Of tensors, nodes or layers in one file."""


@dataclasses.dataclass(frozen=True)
class Direction:
    """The weights of a layer that reads in one direction, rows stacked gate by gate.

    Args:
        input: [gate·hidden, input].
        recurrent: [gate·hidden, hidden].
        input_bias: [gate·hidden]; None for none.
        recurrent_bias: Likewise; a GRU's reset gate scales its candidate's part of this one alone.
    """

    input: Tensor
    recurrent: Tensor
    input_bias: Tensor | None = None
    recurrent_bias: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear layer: weight [output, input] and bias."""

    weight: Tensor
    bias: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Layer:
    """A recurrent layer whose function is known.

    Args:
        name: What its file calls it.
        cell: Its cell; None for an Elman network whose nonlinearity the file does not tell.
        directions: Forwards, and backwards where it has both.
        read_by: Name of the recurrent layer that alone reads its outputs, and reads nothing else.
        head: Name of the linear layer that is certain to be its head.
        notes: What to know before trusting it.
    """

    name: str
    cell: str | None
    directions: tuple[Direction, ...]
    read_by: str | None = None
    head: str | None = None
    notes: tuple[str, ...] = ()


def needs(module: str) -> Any:
    """A library that reads a format.

    Raises:
        CheckpointError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CheckpointError(
            f"files of this format are read with {module}; pip install 'rnnatlas[formats]'"
        ) from None


def tensor(values: Any, name: str) -> Tensor:
    """An array as a tensor of floating-point numbers.

    Raises:
        CheckpointError: It holds others.
    """
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise CheckpointError(
            f"expected floating-point numbers in {shown(name)}, found {array.dtype}; save them as float32"
        )
    # not copied if it lies in a file that is mapped
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["A", "C", "W"]))


def kept(found: tuple[list[FoundRNN], dict[str, str]]) -> tuple[list[FoundRNN], dict[str, str]]:
    """The same with weights that are copies, where they were views of a file that is mapped."""
    rnns, unclear = found
    copies = [{name: weight.clone() for name, weight in rnn.weights.items()} for rnn in rnns]
    return [dataclasses.replace(rnn, weights=own) for rnn, own in zip(rnns, copies, strict=True)], unclear


def in_torch_order(rows: Tensor, order: str, cell: str) -> Tensor:
    """Rows that are stacked gate by gate in another order, one letter a gate as in `GATES`."""
    if rows.shape[0] % len(order):
        raise CheckpointError(f"expected rows for {len(order)} gates, found {rows.shape[0]}")
    gates = dict(zip(order, rows.chunk(len(order)), strict=True))
    return torch.cat([gates[gate] for gate in GATES[cell]])


def assemble(
    layers: Sequence[Layer], linear: Mapping[str, Linear], cell: str | None, head: Head
) -> tuple[list[FoundRNN], dict[str, str]]:
    """The RNNs that layers make, as one where they can be stacked.

    Args:
        layers: The layers of a file.
        linear: Linear layers that may be heads.
        cell: As for `Importer.find`.
        head: As for `Importer.find`.

    Returns:
        As `Importer.find`.
    """
    rnns, unclear = [], {}
    for stack in _stacks(layers):
        name = "+".join(layer.name for layer in stack)
        try:
            rnns.append(_found(name, stack, linear, cell, head))
        except CheckpointError as error:
            unclear[name] = str(error)
    return rnns, unclear


def _stacks(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Layers of one kind and size that read one another, from the lowest."""
    by_name = {layer.name: layer for layer in layers}
    above = {
        layer.name: by_name[layer.read_by]
        for layer in layers
        if layer.read_by in by_name and _alike(layer, by_name[layer.read_by])
    }
    stacks = []
    for layer in layers:
        if not any(layer is upper for upper in above.values()):
            stack = [layer]
            while stack[-1].name in above:
                stack.append(above[stack[-1].name])
            stacks.append(stack)
    return stacks


def _alike(lower: Layer, upper: Layer) -> bool:
    sizes = {tuple(each.recurrent.shape) for layer in (lower, upper) for each in layer.directions}
    read = {each.input.shape[-1] for each in upper.directions}
    width = lower.directions[0].recurrent.shape[-1] * len(lower.directions)
    same = lower.cell == upper.cell and len(lower.directions) == len(upper.directions)
    return same and len(sizes) == 1 and read == {width}


def _found(
    name: str, stack: Sequence[Layer], linear: Mapping[str, Linear], cell: str | None, head: Head
) -> FoundRNN:
    asked = head_for(head, name)
    chosen = stack[-1].head or "" if asked is None else asked
    tensors = {f"{name}.{key}": value for key, value in _weights(stack).items()}
    for other, layer in linear.items():
        tensors[f"{other}.weight"] = layer.weight
        if layer.bias is not None:
            tensors[f"{other}.bias"] = layer.bias
    known = stack[0].cell
    by_user, _ = parse_cell(cell)
    if known is None and (by_user or "").startswith("leaky-"):
        raise CheckpointError(f"{shown(name)} is an Elman network, without a leak, so not of cell {cell!r}")
    if known is not None and by_user in (None, "elman-relu", "leaky-tanh", "leaky-relu"):
        by_user = known
    found = find_rnn(tensors, cell=by_user, rnn=name, head=chosen)
    notes = [note for layer in stack for note in layer.notes]
    return dataclasses.replace(found, notes=(*found.notes, *dict.fromkeys(notes)))


def _weights(stack: Sequence[Layer]) -> dict[str, Tensor]:
    """Under torch's names, with zeros for a bias where another layer or direction has one."""
    weights = {}
    directions = [each for layer in stack for each in layer.directions]
    bias = any(each.input_bias is not None or each.recurrent_bias is not None for each in directions)
    for number, layer in enumerate(stack):
        for each, reverse in zip(layer.directions, ("", "_reverse"), strict=False):
            suffix = f"l{number}{reverse}"
            zeros = each.recurrent.new_zeros(each.recurrent.shape[:1])
            weights[f"weight_ih_{suffix}"] = each.input
            weights[f"weight_hh_{suffix}"] = each.recurrent
            if bias:
                weights[f"bias_ih_{suffix}"] = zeros if each.input_bias is None else each.input_bias
                weights[f"bias_hh_{suffix}"] = zeros if each.recurrent_bias is None else each.recurrent_bias
    return weights


def left_out(linear: Sequence[str]) -> str:
    """The note on linear layers one of which may be the head."""
    return f"linear layers left out, which may be its head: {listed(linear)} (--head NAME)"
