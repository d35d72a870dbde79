"""Training steps of 2×32 LSTMs a second: a population at once against `nn.LSTM` one at a time.

    python benchmarks/zoo_training.py [--out results.json] [--rnns 64]

A step is all of it: forward, cross-entropy, backward and AdamW, for a batch of 32 sequences of 41 tokens out
of 6. Both run in one process with torch's default threads, and in one process a core with one thread each, as
`rnnatlas zoo build` does.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import torch
from torch import nn

from measure import matrix_product, quartiles, write
from rnnatlas.rnn import Population, RecurrentNetwork, RNNSpec, run

SPEC = RNNSpec(cell="lstm", input=6, hidden=32, layers=2, output=6)
BATCH, TIME = 32, 41


def batch(*lead):
    tokens = torch.randint(6, (*lead, BATCH, TIME + 1))
    return nn.functional.one_hot(tokens[..., :-1], 6).float(), tokens[..., 1:]


def cross_entropy(outputs, targets, reduction):
    """With tokens first: torch's loops over a last axis as short as this one take four times as long."""
    return nn.functional.cross_entropy(outputs.T.contiguous()[None], targets[None], reduction=reduction)


class Together:
    """A population of RNNs, one optimiser."""

    def __init__(self, rnns):
        generators = [torch.Generator().manual_seed(i) for i in range(rnns)]
        self.population = Population.initialise(SPEC, generators).requires_grad_()
        self.optimiser = torch.optim.AdamW(self.population.parameters(), lr=1e-3, fused=True)
        self.inputs, self.targets = batch(rnns)

    def step(self):
        outputs, _ = run(self.population, self.inputs)
        loss = cross_entropy(outputs.flatten(0, 2), self.targets.flatten(), "sum")
        self.optimiser.zero_grad()
        (loss / (BATCH * TIME)).backward()
        self.optimiser.step()


class Alone:
    """One torch module."""

    def __init__(self):
        self.module = RecurrentNetwork(SPEC)
        self.optimiser = torch.optim.AdamW(self.module.parameters(), lr=1e-3, fused=True)
        self.inputs, self.targets = batch()

    def step(self):
        outputs, _ = self.module(self.inputs)
        loss = cross_entropy(outputs.flatten(0, 1), self.targets.flatten(), "mean")
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def rate(function, seconds, rnns=1):
    """RNN-steps per second."""
    start, steps = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        function()
        steps += rnns
    return steps / passed


def serve(pipe, rnns):
    """A process of one thread that trains one of both whenever it is told which and for how long."""
    torch.set_num_threads(1)
    steps = {"population": (Together(rnns).step, rnns), "nn.LSTM": (Alone().step, 1)}
    for step, _ in steps.values():
        step()
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        name, seconds = order
        pipe.send(rate(steps[name][0], seconds, steps[name][1]))


def main():
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--out", type=Path, default=Path("zoo_training.json"))
    parser.add_argument("--rnns", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipes = []
    for _ in range(len(os.sched_getaffinity(0))):
        pipe, other = context.Pipe()
        context.Process(target=serve, args=(other, arguments.rnns), daemon=True).start()
        pipe.recv()
        pipes.append(pipe)
    together, alone = Together(arguments.rnns), Alone()
    product, operations = matrix_product()
    together.step()
    alone.step()

    def a_process_a_core(name, seconds):
        for pipe in pipes:
            pipe.send((name, seconds))
        return sum(pipe.recv() for pipe in pipes)

    contenders = {
        "population, a process a core": lambda seconds: a_process_a_core("population", seconds),
        "population, default threads": lambda seconds: rate(together.step, seconds, arguments.rnns),
        "nn.LSTM, a process a core": lambda seconds: a_process_a_core("nn.LSTM", seconds),
        "nn.LSTM, default threads": lambda seconds: rate(alone.step, seconds),
        "matrix product, GFLOP": lambda seconds: rate(product, seconds) * operations / 1e9,
    }
    rates = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, contender in contenders.items():
            rates[name].append(contender(arguments.seconds))
    for pipe in pipes:
        pipe.send(None)
    own = quartiles(rates["population, a process a core"])[1]
    rows = []
    for name, values in rates.items():
        low, middle, high = quartiles(values)
        print(f"{name:28} {middle:8.1f} a second ({low:.1f}-{high:.1f}); first × {own / middle:.2f}")
        rows.append({"name": name, "per_second": {"low": low, "median": middle, "high": high}})
    write(arguments.out, rows)


if __name__ == "__main__":
    main()
