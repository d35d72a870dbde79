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
    "leaky-tanh": ("h",),
    "leaky-relu": ("h",),
}
"""Cells, each with its gates in the order in which torch stacks their rows."""

_NAMES = {
    "lstm": "LSTM",
    "gru": "GRU",
    "elman-tanh": "Elman (tanh)",
    "elman-relu": "Elman (relu)",
    "leaky-tanh": "leaky RNN (tanh)",
    "leaky-relu": "leaky RNN (relu)",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNNSpec:
    """Architecture of an RNN as `torch.nn.LSTM`, `GRU` or `RNN` has it, with or without a linear head.

    Leaky cells are continuous-time RNNs by Euler's method, h ← (1 − α)·h + α·φ(W h + U x + b), where φ is
    tanh or relu and α, the time step over the time constant, is a number a hidden unit (`alpha_l0`).

    Args:
        cell: "lstm", "gru", "elman-tanh", "elman-relu", "leaky-tanh" or "leaky-relu".
        input: Size of an input vector.
        hidden: Hidden units per layer and direction.
        layers: Stacked layers.
        output: Size of the linear head's output; None for no head, where the last layer's hidden
            states are the outputs.
        bidirectional: Whether a second RNN reads the sequence backwards.
        bias: Whether the RNN has biases (`bias_ih` and `bias_hh`).
        head_bias: Whether the head has one.
        initial_state: Whether states start from learned ones, `h0_l0` and of LSTMs `c0_l0`, rather than
            from zeros, where none is given.
    """

    cell: str
    input: int
    hidden: int
    layers: int = 1
    output: int | None = None
    bidirectional: bool = False
    bias: bool = True
    head_bias: bool = True
    initial_state: bool = False

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
    def activation(self) -> str:
        """What bends the candidate state: "tanh" or "relu"."""
        return "relu" if self.cell.endswith("relu") else "tanh"

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the parts of a state."""
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Kinds of parameters that have one number a hidden unit, whatever the gates."""
        leak = ("alpha",) if self.cell.startswith("leaky-") else ()
        return leak + (tuple(f"{part}0" for part in self.state) if self.initial_state else ())

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of parameters that are part of the model and not trained: α, which has to stay in (0, 1]."""
        return tuple(f"alpha_{suffix}" for suffix in self.suffixes if "alpha" in self.vectors)

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
        """Parameter names and shapes, in torch's order; `vectors` end a layer, the head the list."""
        rows = len(self.gates) * self.hidden
        shapes: dict[str, tuple[int, ...]] = {}
        for index, suffix in enumerate(self.suffixes):
            below = self.input if index < self.directions else self.hidden * self.directions
            shapes[f"weight_ih_{suffix}"] = (rows, below)
            shapes[f"weight_hh_{suffix}"] = (rows, self.hidden)
            if self.bias:
                shapes[f"bias_ih_{suffix}"] = (rows,)
                shapes[f"bias_hh_{suffix}"] = (rows,)
            shapes |= {f"{kind}_{suffix}": (self.hidden,) for kind in self.vectors}
        if self.output is not None:
            shapes["head.weight"] = (self.output, self.hidden * self.directions)
            if self.head_bias:
                shapes["head.bias"] = (self.output,)
        return shapes

    @property
    def parameters(self) -> int:
        """Number of weights, biases and what else there is in `shapes`."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def __str__(self) -> str:
        """For people: "LSTM 6→32×2→6", "bidirectional GRU 64→8"."""
        direction = "bidirectional " if self.bidirectional else ""
        depth = f"×{self.layers}" if self.layers > 1 else ""
        head = "" if self.output is None else f"→{self.output}"
        remarks = [
            remark
            for remark, applies in (
                ("without biases", not self.bias),
                ("head without bias", self.output is not None and not self.head_bias),
                ("learned initial state", self.initial_state),
            )
            if applies
        ]
        remark = f" ({', '.join(remarks)})" if remarks else ""
        return f"{direction}{_NAMES[self.cell]} {self.input}→{self.hidden}{depth}{head}{remark}"

    @property
    def slug(self) -> str:
        """For folder names: "lstm-6-32x2-6"; `from_slug` reads it back."""
        parts = [self.cell, str(self.input), f"{self.hidden}x{self.layers}"]
        parts += [] if self.output is None else [str(self.output)]
        parts += ["bidirectional"] * self.bidirectional + ["nobias"] * (not self.bias)
        parts += ["noheadbias"] * (self.output is not None and not self.head_bias)
        parts += ["initialstate"] * self.initial_state
        return "-".join(parts)

    @classmethod
    def from_slug(cls, slug: str) -> "RNNSpec":
        """The spec that a folder name stands for.

        Raises:
            RNNSpecMismatch: The name is not one that `slug` makes.
        """
        match = re.fullmatch(
            rf"({'|'.join(GATES)})-(\d+)-(\d+)x(\d+)(?:-(\d+))?"
            r"(-bidirectional)?(-nobias)?(-noheadbias)?(-initialstate)?",
            slug,
        )
        if not match:
            raise RNNSpecMismatch(f"expected an architecture such as 'lstm-6-32x2-6', found {slug!r}")
        cell, inputs, hidden, layers, output, bidirectional, nobias, noheadbias, initialstate = match.groups()
        return cls(
            cell=cell,
            input=int(inputs),
            hidden=int(hidden),
            layers=int(layers),
            output=int(output) if output else None,
            bidirectional=bool(bidirectional),
            bias=not nobias,
            head_bias=not noheadbias,
            initial_state=bool(initialstate),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)
