"""The architecture of an RNN; the order of gates is defined here and nowhere else."""

import dataclasses
import math
import re
from typing import Any

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.registry import nearest

GATES = {
    "lstm": ("i", "f", "g", "o"),
    "gru": ("r", "z", "n"),
    "elman-tanh": ("h",),
    "elman-relu": ("h",),
}
"""Cells, each with its gates in the order in which torch stacks their rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNNSpec:
    """Architecture of an RNN as `torch.nn.LSTM`, `GRU` or `RNN` has it, with or without a linear head.

    Args:
        cell: "lstm", "gru", "elman-tanh" or "elman-relu".
        input: Size of an input vector.
        hidden: Hidden units per layer and direction.
        layers: Stacked layers.
        output: Size of the linear head's output; None for no head, where the last layer's hidden
            states are the outputs.
        bidirectional: Whether a second RNN reads the sequence backwards.
        bias: Whether the RNN has biases (`bias_ih` and `bias_hh`).
        head_bias: Whether the head has one.
    """

    cell: str
    input: int
    hidden: int
    layers: int = 1
    output: int | None = None
    bidirectional: bool = False
    bias: bool = True
    head_bias: bool = True

    def __post_init__(self) -> None:
        if self.cell not in GATES:
            raise RNNSpecMismatch(f"no cell is called {self.cell!r}; {nearest(self.cell, GATES)}")
        sizes = {"input": self.input, "hidden": self.hidden, "layers": self.layers, "output": self.output}
        for name, size in sizes.items():
            if not (name == "output" and size is None) and (not isinstance(size, int) or size < 1):
                raise RNNSpecMismatch(f"{name} of an RNN should be a whole number from 1 up, found {size!r}")

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates in the order in which their rows are stacked."""
        return GATES[self.cell]

    @property
    def directions(self) -> int:
        """1, or 2 for a bidirectional RNN."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Size of what the RNN gives out at each time step, head or not."""
        return self.hidden * self.directions if self.output is None else self.output

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffix of each layer's parameter names, in torch's order: l0, l0_reverse, l1."""
        return tuple(
            f"l{layer}{direction}"
            for layer in range(self.layers)
            for direction in ("", "_reverse")[: self.directions]
        )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes, in the order of torch's state_dict; the head comes last."""
        rows = len(self.gates) * self.hidden
        shapes: dict[str, tuple[int, ...]] = {}
        for index, suffix in enumerate(self.suffixes):
            below = self.input if index < self.directions else self.hidden * self.directions
            shapes[f"weight_ih_{suffix}"] = (rows, below)
            shapes[f"weight_hh_{suffix}"] = (rows, self.hidden)
            if self.bias:
                shapes[f"bias_ih_{suffix}"] = (rows,)
                shapes[f"bias_hh_{suffix}"] = (rows,)
        if self.output is not None:
            shapes["head.weight"] = (self.output, self.hidden * self.directions)
            if self.head_bias:
                shapes["head.bias"] = (self.output,)
        return shapes

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def __str__(self) -> str:
        """For people: "LSTM 6→32×2→6", "bidirectional GRU 64→8"."""
        name = {"lstm": "LSTM", "gru": "GRU", "elman-tanh": "Elman (tanh)", "elman-relu": "Elman (relu)"}
        direction = "bidirectional " if self.bidirectional else ""
        depth = f"×{self.layers}" if self.layers > 1 else ""
        head = "" if self.output is None else f"→{self.output}"
        without = [
            word
            for word, missing in (
                ("without biases", not self.bias),
                ("head without bias", self.output is not None and not self.head_bias),
            )
            if missing
        ]
        remark = f" ({', '.join(without)})" if without else ""
        return f"{direction}{name[self.cell]} {self.input}→{self.hidden}{depth}{head}{remark}"

    @property
    def slug(self) -> str:
        """For folder names: "lstm-6-32x2-6"; `from_slug` reads it back."""
        parts = [self.cell, str(self.input), f"{self.hidden}x{self.layers}"]
        parts += [] if self.output is None else [str(self.output)]
        parts += ["bidirectional"] * self.bidirectional + ["nobias"] * (not self.bias)
        parts += ["noheadbias"] * (self.output is not None and not self.head_bias)
        return "-".join(parts)

    @classmethod
    def from_slug(cls, slug: str) -> "RNNSpec":
        """The spec that a folder name stands for.

        Raises:
            RNNSpecMismatch: The name is not one that `slug` makes.
        """
        match = re.fullmatch(
            rf"({'|'.join(GATES)})-(\d+)-(\d+)x(\d+)(?:-(\d+))?(-bidirectional)?(-nobias)?(-noheadbias)?",
            slug,
        )
        if not match:
            raise RNNSpecMismatch(f"expected an architecture such as 'lstm-6-32x2-6', found {slug!r}")
        cell, inputs, hidden, layers, output, bidirectional, nobias, noheadbias = match.groups()
        return cls(
            cell=cell,
            input=int(inputs),
            hidden=int(hidden),
            layers=int(layers),
            output=int(output) if output else None,
            bidirectional=bool(bidirectional),
            bias=not nobias,
            head_bias=not noheadbias,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)
