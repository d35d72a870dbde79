"""`run` forward, and forward with backward: compiled, eager, and `torch.nn` one RNN at a time.

    python benchmarks/run_backends.py [--out results.json] [--threads N] [--only lstm]

The floating-point operations counted are those of matrix products alone, backward counted as twice
forward; `peak` is their rate as a share of a 1024×1024 product's, timed in the same turns.
"""

import argparse
from pathlib import Path

import torch

from measure import matrix_product, quartiles, take_turns, write
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.rnn.backends import eager, native

# cell, hidden, layers, RNNs, batch, time
CASES = [
    ("lstm", 8, 1, 32, 16, 41),
    ("lstm", 16, 1, 16, 8, 41),
    ("lstm", 16, 1, 16, 32, 41),
    ("lstm", 32, 2, 8, 32, 41),
    ("lstm", 32, 2, 64, 1, 41),
    ("lstm", 32, 2, 64, 1, 1),
    ("lstm", 48, 1, 8, 32, 41),
    ("lstm", 64, 1, 4, 32, 41),
    ("lstm", 100, 1, 4, 32, 41),
    ("lstm", 128, 1, 2, 32, 41),
    ("lstm", 256, 1, 2, 32, 20),
    ("lstm", 256, 1, 1, 64, 20),
    ("lstm", 256, 1, 1, 1, 41),
    ("gru", 16, 1, 16, 32, 41),
    ("gru", 32, 2, 8, 32, 41),
    ("gru", 128, 1, 2, 32, 41),
    ("elman-tanh", 16, 1, 16, 32, 41),
    ("elman-tanh", 32, 2, 8, 32, 41),
    ("elman-tanh", 128, 1, 2, 32, 41),
]
INPUT = OUTPUT = 6


def contenders(cell, hidden, layers, rnns, batch, time):
    spec = RNNSpec(cell=cell, input=INPUT, hidden=hidden, layers=layers, output=OUTPUT)
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(rnns)])
    learning, modules = population.clone().requires_grad_(), population.to_modules()
    inputs, d_outputs = torch.randn(rnns, batch, time, INPUT), torch.randn(rnns, batch, time, OUTPUT)

    @torch.no_grad()
    def forward(backend):
        backend.run(population, inputs, None)

    def both(backend):
        outputs, _ = backend.run(learning, inputs, None)
        torch.autograd.grad(outputs, learning.parameters(), d_outputs)

    @torch.no_grad()
    def forward_alone():
        for module, own in zip(modules, inputs):
            module(own)

    def both_alone():
        for module, own, gradient in zip(modules, inputs, d_outputs):
            torch.autograd.grad(module(own)[0], list(module.parameters()), gradient)

    by_pass = {
        "forward": {
            "native": lambda: forward(native),
            "eager": lambda: forward(eager),
            "torch.nn": forward_alone,
        },
        "both": {"native": lambda: both(native), "eager": lambda: both(eager), "torch.nn": both_alone},
    }
    rows = len(spec.gates) * hidden
    products = rows * (INPUT + hidden) + (layers - 1) * rows * 2 * hidden + OUTPUT * hidden
    return by_pass, 2.0 * products * rnns * batch * time


def main():
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--out", type=Path, default=Path("run_backends.json"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--only", default="", help="part of a cell's name")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    product, product_operations = matrix_product()
    rows = []
    print(
        f"{'cell':10} hidden layers rnns batch time pass     native ms (quartiles)    eager × torch.nn × peak"
    )
    for case in CASES:
        if arguments.only not in case[0]:
            continue
        by_pass, operations = contenders(*case)
        for name, functions in by_pass.items():
            times = take_turns(functions | {"product": product}, arguments.seconds)
            spread = {key: quartiles(values) for key, values in times.items()}
            own, peak = spread["native"][1], product_operations / spread["product"][1]
            share = operations * (1 if name == "forward" else 3) / own / peak
            ratios = [spread[other][1] / own for other in ("eager", "torch.nn")]
            low, middle, high = (1e3 * value for value in spread["native"])
            print(
                f"{case[0]:10} {case[1]:6} {case[2]:6} {case[3]:4} {case[4]:5} {case[5]:4} {name:8} "
                f"{middle:8.3f} ({low:.3f}-{high:.3f})".ljust(74)
                + f" {ratios[0]:6.1f} {ratios[1]:10.1f} {share:6.2f}",
                flush=True,
            )
            keys = ("cell", "hidden", "layers", "rnns", "batch", "time")
            seconds = {key: dict(zip(("low", "median", "high"), values)) for key, values in spread.items()}
            rows.append(dict(zip(keys, case)) | {"pass": name, "seconds": seconds, "peak": share})
    write(arguments.out, rows)


if __name__ == "__main__":
    main()
