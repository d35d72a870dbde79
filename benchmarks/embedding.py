"""How near embedding by interactive probing comes to the matrix products that it consists of.

    python benchmarks/embedding.py [COUNT] [THREADS]

Embeds COUNT LSTMs 6→32×2→6 (10 000) at the paper's settings and, in turns, makes the same matrix products, of
the same shapes, and nothing else. Prints RNNs a second of both and their ratio, the median over turns.
"""

import os
import statistics
import sys
import time
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rnnatlas.encoders import registry
from rnnatlas.encoders.base import TOGETHER, chunks
from rnnatlas.encoders.cost import PAPER, cost
from rnnatlas.rnn import Interface, Population, Tokens

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
TURNS = 5


class Recorder(TorchDispatchMode):
    """Counts matrix products by the shapes of what is multiplied."""

    def __init__(self):
        super().__init__()
        self.shapes = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in PRODUCTS:
            self.shapes[tuple(tuple(factor.shape) for factor in args[-2:])] += 1
        return function(*args, **(kwargs or {}))


def recorded(encoder, population):
    """The products of one pass, with the backend that makes them by torch."""
    os.environ["RNNATLAS_BACKEND"] = "eager"
    with Recorder() as recorder:
        encoder(population)
    del os.environ["RNNATLAS_BACKEND"]
    return recorder.shapes


def repeated(shapes):
    """Makes these products, into memory that is there already."""
    made = [([torch.randn(shape) for shape in factors], count) for factors, count in shapes.items()]
    outs = [torch.matmul(*factors) for factors, _ in made]

    def all_of_them():
        for (factors, count), out in zip(made, outs):
            for _ in range(count):
                torch.matmul(*factors, out=out)

    return all_of_them


@torch.no_grad()
def main(count="10000", threads="2"):
    torch.set_num_threads(int(threads))
    interface = Interface(Tokens(PAPER.input), Tokens(PAPER.output_size))
    kind = registry["interactive"]
    encoder = kind(interface, None, kind.Settings()).eval().requires_grad_(False)
    generators = [torch.Generator().manual_seed(i) for i in range(int(count))]
    parts = list(chunks(Population.initialise(PAPER, generators)))
    shapes = recorded(encoder, parts[0])
    products = sum(2 * n * a[0] * a[1] * (a[2] if len(a) > 2 else 1) * b[-1] for (a, b), n in shapes.items())
    counted = cost("interactive").flops
    print(f"{products / TOGETHER / 1e6:.1f} MFLOP an RNN recorded, {counted / 1e6:.1f} counted")
    multiply = repeated(shapes)
    encoder(parts[0])
    multiply()
    took, alone = [], []
    for turn in range(TURNS):
        own = parts[turn::TURNS]
        start = time.perf_counter()
        for part in own:
            encoder(part)
        middle = time.perf_counter()
        for _ in own:
            multiply()
        took.append((middle - start) / sum(map(len, own)))
        alone.append((time.perf_counter() - middle) / (len(own) * TOGETHER))
    ratio = statistics.median(one / whole for one, whole in zip(alone, took))
    print(f"embedding {count} RNNs, {threads} threads: {1 / statistics.median(took):.0f} RNNs a second")
    print(f"the products alone: {1 / statistics.median(alone):.0f} RNNs a second; share {ratio:.0%}")
    print("shares by turn:", ", ".join(f"{one / whole:.0%}" for one, whole in zip(alone, took)))


if __name__ == "__main__":
    main(*sys.argv[1:])
