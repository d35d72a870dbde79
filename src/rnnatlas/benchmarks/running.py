"""`run` forward, and forward with backward: the compiled backend against three other ways."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rnnatlas.benchmarks.base import Benchmark, Row, Show, matrix_product, shown, take_turns
from rnnatlas.executors.base import limited
from rnnatlas.rnn import Population, RNNSpec, run
from rnnatlas.rnn.backends import eager

OTHERS = ("eager", "vmap", "torch.nn")
TOKENS = 6
"""Inputs and outputs of the RNNs: the formal languages' tokens."""


@dataclasses.dataclass(frozen=True)
class Case:
    """RNNs and what they read."""

    cell: str
    hidden: int
    layers: int
    rnns: int
    batch: int
    time: int

    @property
    def spec(self) -> RNNSpec:
        """The RNNs' architecture."""
        return RNNSpec(cell=self.cell, input=TOKENS, hidden=self.hidden, layers=self.layers, output=TOKENS)

    @property
    def positions(self) -> int:
        """Outputs that all RNNs give out together."""
        return self.rnns * self.batch * self.time


CASES = (
    Case("lstm", 8, 1, 32, 16, 41),
    Case("lstm", 16, 1, 16, 8, 41),
    Case("lstm", 16, 1, 16, 32, 41),
    Case("lstm", 32, 2, 8, 32, 41),
    Case("lstm", 32, 2, 64, 1, 41),
    Case("lstm", 32, 2, 64, 1, 1),
    Case("lstm", 64, 1, 4, 32, 41),
    Case("lstm", 100, 1, 4, 32, 41),
    Case("lstm", 128, 1, 2, 32, 41),
    Case("lstm", 256, 1, 2, 32, 20),
    Case("lstm", 256, 2, 1, 64, 41),  # the paper's emulator
    Case("gru", 16, 1, 16, 32, 41),
    Case("gru", 32, 2, 8, 32, 41),
    Case("gru", 128, 1, 2, 32, 41),
    Case("elman-tanh", 16, 1, 16, 32, 41),
    Case("elman-tanh", 32, 2, 8, 32, 41),
    Case("elman-tanh", 128, 1, 2, 32, 41),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running(Benchmark):
    """`rnnatlas.run` on one thread.

    Args:
        cases: What is run.
        seconds: How long each contender is run, in each case and pass.
    """

    cases: Sequence[Case] = CASES
    seconds: float = 0.3

    note: ClassVar[str] = (
        "One thread; milliseconds of processor time for all RNNs together, median (quartiles), and how many "
        "times as long the others take. eager: stacked products in plain torch. vmap: torch.func.vmap over "
        "one RNN's loop. torch.nn: one RNN at a time. Share of peak: floating-point operations of matrix "
        "products a second, over the upper quartile of a 1024 × 1024 product in the same turns."
    )

    def measure(self, show: Show) -> list[Row]:
        """See `Benchmark.measure`."""
        rows = []
        with limited(1):
            for number, case in enumerate(self.cases):
                show(number / len(self.cases), f"{case.rnns} × {case.spec}")
                both = contenders(case)
                rows += [measure_pass(case, name, both[name], self.seconds) for name in both]
        return rows

    @staticmethod
    def table(rows: Sequence[Row]) -> list[dict[str, str]]:
        """See `Benchmark.table`."""
        return [
            {
                "cell": row["cell"],
                "hidden × layers": f"{row['hidden']} × {row['layers']}",
                "RNNs, batch, time": f"{row['rnns']}, {row['batch']}, {row['time']}",
                "pass": row["pass"],
                "ms": shown(row["seconds"]["run"], 1e3),
                **{f"{name} ×": f"{ratio(row, name):.1f}" for name in OTHERS},
                "share of peak": f"{row['share_of_peak']:.2f}",
            }
            for row in rows
        ]


def ratio(row: Row, other: str) -> float:
    """How many times as long as `run` another contender took."""
    return row["seconds"][other]["median"] / row["seconds"]["run"]["median"]


def measure_pass(case: Case, name: str, functions: dict[str, Callable[[], Any]], seconds: float) -> Row:
    """A row for one pass, "forward" or "forward, backward"."""
    product, product_operations = matrix_product()
    spreads = take_turns({**functions, "product": product}, seconds)
    operations = case.positions * operations_each(case.spec, backward="backward" in name)
    peak = product_operations / spreads["product"]["low"]  # at its best
    return {
        **dataclasses.asdict(case),
        "pass": name,
        "seconds": spreads,
        "operations": operations,
        "share_of_peak": operations / spreads["run"]["median"] / peak,
    }


def operations_each(spec: RNNSpec, backward: bool) -> float:
    """Floating-point operations of matrix products a position; backward, inputs need no gradient."""
    sizes = {name: shape[0] * shape[1] for name, shape in spec.shapes.items() if len(shape) == 2}
    products = sum(sizes.values())
    return 2.0 * (3 * products - sizes["weight_ih_l0"] if backward else products)


def contenders(case: Case) -> dict[str, dict[str, Callable[[], Any]]]:
    """For each pass, the ways of doing it."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(case.rnns)]
    population = Population.initialise(case.spec, generators)
    learning, modules = population.clone().requires_grad_(), population.to_modules()
    inputs = torch.randn(case.rnns, case.batch, case.time, TOKENS)
    d_outputs = torch.randn_like(inputs)

    def alone() -> list[Tensor]:
        return [module(own)[0] for module, own in zip(modules, inputs, strict=True)]

    def alone_backward() -> None:
        for module, own, gradient in zip(modules, inputs, d_outputs, strict=True):
            torch.autograd.grad(module(own)[0], list(module.parameters()), gradient)

    together: dict[str, Callable[[Population], Tensor]] = {
        "run": lambda rnns: run(rnns, inputs)[0],
        "eager": lambda rnns: eager.run(rnns, inputs, None)[0],
        "vmap": lambda rnns: vmapped(rnns, inputs),
    }
    forward: dict[str, Callable[[], Any]] = {
        name: torch.no_grad()(lambda way=way: way(population)) for name, way in together.items()
    }
    backward: dict[str, Callable[[], Any]] = {
        name: lambda way=way: torch.autograd.grad(way(learning), learning.parameters(), d_outputs)
        for name, way in together.items()
    }
    return {
        "forward": {**forward, "torch.nn": torch.no_grad()(alone)},
        "forward, backward": {**backward, "torch.nn": alone_backward},
    }


def vmapped(
    population: Population, inputs: Float[Tensor, "rnn batch time input"]
) -> Float[Tensor, "rnn batch time output"]:
    """Outputs by the way that torch offers for ensembles, which fails over nn.LSTM itself: hence the loop."""
    spec = population.spec

    def one(weights: dict[str, Tensor], signal: Tensor) -> Tensor:
        for layer in range(spec.layers):
            w_x, w_h, b_x, b_h = (
                weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            state = signal.new_zeros(signal.shape[0], spec.hidden)
            state = (state, state)
            hidden = []
            for projected in F.linear(signal, w_x, b_x).unbind(1):
                state = _cell(spec.cell, projected, F.linear(state[0], w_h, b_h), state)
                hidden.append(state[0])
            signal = torch.stack(hidden, 1)
        return F.linear(signal, weights["head.weight"], weights["head.bias"])

    return torch.func.vmap(one)(population.weights, inputs)


def _cell(cell: str, x: Tensor, h: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The next (h, c) of one RNN; c means nothing but for LSTMs."""
    if cell == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = x.chunk(3, -1), h.chunk(3, -1)
        candidate = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        return torch.lerp(candidate, state[0], torch.sigmoid(z_x + z_h)), state[1]
    if cell == "lstm":
        i, f, g, o = (x + h).chunk(4, -1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    return torch.tanh(x + h), state[1]
