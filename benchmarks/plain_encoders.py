"""Times a training step of encoders beside one written in torch in the plain way, in one run on one machine.

    python benchmarks/plain_encoders.py --json docs/results/bench-plain-encoders.json

The plain way, written from the method's description: probed RNNs are a functional LSTM under torch.func.vmap,
one step at a time; the emulator is an nn.LSTM that runs all sequences to their end; the reader of interactive
probing is made of nn.LSTMCell, that of non-interactive probing, which may read a whole sequence at once, of
nn.LSTM. Encoders that read weights are modules of torch alone in this package, so they are the same on both
sides. Both sides start from the same weights and see the same batches; before anything is timed, embeddings
and losses are compared. A step embeds, emulates and learns: total variation up to the first EOS, backward,
clipping, AdamW.

Three ways of this package take turns with the plain one, step by step: as it is; with products of bfloat16
numbers (emulation.products), where the processor has them; and without the compiled layers that emulator and
reader run on, as was the case before there were any. Ratios are of medians, with the quartiles of the ratios
of single turns.
"""

import argparse
import dataclasses
import itertools
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import clip_grad_norm_

from rnnatlas import encoders
from rnnatlas.benchmarks.base import quartiles, shown
from rnnatlas.benchmarks.encoders import Sizes, stepper
from rnnatlas.benchmarks.report import about
from rnnatlas.emulation.data import population_of, unpack
from rnnatlas.encoders.interactive import InteractiveProbing
from rnnatlas.encoders.probing import StepwiseReading
from rnnatlas.executors.base import limited
from rnnatlas.rnn import Population
from rnnatlas.rnn.backends import layers

STDERR = Console(stderr=True)
ALONE = "emulator alone"
MANY = "interactive, M = 8"
PLAIN, BEFORE, HERE, HALF = "plain", "without compiled layers", "here", "here, bfloat16 products"
TIMED = ("statistics", "flat", "dws", "noninteractive", "interactive", MANY)


# --- the plain way -----------------------------------------------------------------------------------


def lstm_step(
    weights: dict[str, Tensor], x: Tensor, state: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """One step of one RNN: an LSTM with a head, on [probe, input]."""
    following = []
    for layer, (h, c) in enumerate(state):
        gates = x @ weights[f"weight_ih_l{layer}"].T + weights[f"bias_ih_l{layer}"]
        gates = gates + h @ weights[f"weight_hh_l{layer}"].T + weights[f"bias_hh_l{layer}"]
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        x = o.sigmoid() * c.tanh()
        following.append((x, c))
    return x @ weights["head.weight"].T + weights["head.bias"], following


class Probing(nn.Module):
    """A probing encoder, with the weights of one of this package."""

    def __init__(self, own: StepwiseReading):
        super().__init__()
        self.interactive = isinstance(own, InteractiveProbing)
        self.settings, self.reads = own.settings, own.interface.input.size
        self.mean, self.sd = own.mean, own.sd
        self.generator, self.response, self.head = own.generator, own.response, own.head
        self.bos, self.eos = own.bos, own.eos
        width = own.settings.width
        kind = nn.LSTMCell if self.interactive else nn.LSTM
        self.cells = nn.ModuleList(kind(width, width) for _ in range(own.settings.layers))
        for cell, given in zip(self.cells, own.reader.cells, strict=True):
            end = "_l0" if self.interactive else ""
            cell.load_state_dict(
                {name.removesuffix(end): weight for name, weight in given.named_parameters()}
            )
        if not self.interactive:
            self.steps = own.steps

    def inputs(self, hidden: Tensor) -> Tensor:
        raw = self.generator(hidden).unflatten(-1, (self.settings.sequences, self.reads))
        return (raw * self.settings.logit_scale).softmax(-1)

    def encode(self, outputs: Tensor) -> Tensor:
        responses = (outputs.log_softmax(-1) - self.mean) / self.sd
        return self.response(responses.flatten(1)).sigmoid()

    def forward(self, weights: dict[str, Tensor], layers: int, hidden: int) -> Tensor:
        rnns = len(weights["head.bias"])
        zeros = torch.zeros(rnns, self.settings.sequences, hidden)
        state = [(zeros, zeros)] * layers
        step = torch.func.vmap(lstm_step)
        if self.interactive:
            last = self.interview(step, weights, state, rnns)
        else:
            encoded = []
            for inputs in self.inputs(cast(Tensor, self.steps)):
                outputs, state = step(weights, inputs.expand(rnns, -1, -1), state)
                encoded.append(self.encode(outputs))
            ends = [end.expand(rnns, -1) for end in (self.bos, self.eos)]
            signal = torch.stack([ends[0], *encoded, ends[1]])
            for cell in self.cells:
                signal = signal + cell(signal)[0]
            last = signal[-1]
        return normalize(self.head(last), dim=-1)

    def interview(self, step: Callable, weights: dict[str, Tensor], state: Any, rnns: int) -> Tensor:
        encoded = self.bos.expand(rnns, -1)
        memory = [(torch.zeros_like(encoded),) * 2 for _ in self.cells]

        def read(signal: Tensor) -> Tensor:
            for number, cell in enumerate(self.cells):
                memory[number] = cell(signal, memory[number])
                signal = signal + memory[number][0]
            return signal

        for _ in range(self.settings.steps):
            outputs, state = step(weights, self.inputs(read(encoded)), state)
            encoded = self.encode(outputs)
        read(encoded)
        return read(self.eos.expand(rnns, -1))


class Emulator(nn.Module):
    """An emulator, with the weights of one of this package."""

    def __init__(self, own: Any):
        super().__init__()
        self.input, self.embedding, self.lstm, self.output = own.input, own.embedding, own.lstm, own.output

    def forward(self, z: Tensor, inputs: Tensor) -> Tensor:
        signal = self.input(inputs).transpose(0, 1)
        signal = torch.cat([signal[:1] + self.embedding(z), signal[1:]])
        return self.output(self.lstm(signal)[0]).log_softmax(-1).transpose(0, 1)


def plain(training: Any, sizes: Sizes) -> tuple[Callable[[dict], Tensor], list[list[nn.Parameter]]]:
    """The loss of a batch in the plain way, and the parameters of encoder and emulator."""
    probing = isinstance(training.encoder, StepwiseReading)
    encoder: nn.Module = Probing(training.encoder) if probing else training.encoder
    emulator = Emulator(training.emulator)

    def loss(batch: dict) -> Tensor:
        inputs, targets, mask = unpack(batch, sizes.task)
        rnns = cast(Population, population_of(batch, sizes.task))
        z = encoder(dict(rnns.weights), sizes.spec.layers, sizes.spec.hidden) if probing else encoder(rnns)
        predicted = emulator(z, inputs.squeeze(1))
        distance = 0.5 * (targets.squeeze(1).exp() - predicted.exp()).abs().sum(-1)
        mask = mask.squeeze(1)
        return ((distance * mask).sum(1) / mask.sum(1)).mean()

    return loss, [list(encoder.parameters()), list(emulator.parameters())]


def plain_stepper(training: Any, sizes: Sizes) -> Callable[[], None]:
    """One training step in the plain way."""
    loss_of, parts = plain(training, sizes)
    settings, numbers = sizes.emulation, itertools.count()
    every = [parameter for part in parts for parameter in part]
    optimizer = torch.optim.AdamW(every, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def step() -> None:
        batch = sizes.snapshots.draw(settings.rnns, settings.rollouts, 0, next(numbers))
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        for part in parts:
            if part:
                clip_grad_norm_(part, settings.clip)
        optimizer.step()

    return step


# --- measuring ---------------------------------------------------------------------------------------


def training_of(sizes: Sizes, name: str) -> Any:
    if name != MANY:
        return sizes.training(encoders.CONTROL if name == ALONE else name)
    return sizes.trainings(["interactive"])[MANY]


def check(sizes: Sizes, name: str, tolerance: float) -> float:
    """Embeddings and loss of a batch both ways, which should agree; their largest difference."""
    training = training_of(sizes, name).eval()
    batch = sizes.snapshots.draw(sizes.emulation.rnns, sizes.emulation.rollouts, 0, 0)
    with torch.no_grad():
        gaps = [plain(training, sizes)[0](batch) - training.loss(batch).mean()]
        if isinstance(training.encoder, StepwiseReading):
            rnns = cast(Population, population_of(batch, sizes.task))
            z = Probing(training.encoder)(dict(rnns.weights), sizes.spec.layers, sizes.spec.hidden)
            gaps.append(z - training.encoder(rnns))
    gap = max(float(each.abs().max()) for each in gaps)
    assert gap < tolerance, f"{name}: embeddings or losses differ by {gap}"
    return gap


def sides(sizes: Sizes, rounded: Sizes, name: str) -> dict[str, Callable[[], None]]:
    """One training step each way."""
    before = stepper(training_of(sizes, name), sizes)

    def without_layers() -> None:
        with (
            patch("rnnatlas.rnn.backends.layers.applies", lambda *_: False),
            patch("rnnatlas.encoders.reader.applies", lambda *_: False),
        ):
            before()

    found = {
        PLAIN: plain_stepper(training_of(sizes, name), sizes),
        BEFORE: without_layers,
        HERE: stepper(training_of(sizes, name), sizes),
    }
    return found | ({HALF: stepper(training_of(rounded, name), rounded)} if layers.has_half() else {})


def measure(contenders: dict[str, Callable[[], None]], turns: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of wall-clock and processor time of each turn of each contender."""
    for contender in contenders.values():
        contender()
    times: dict[str, dict[str, list[float]]] = {name: {"wall": [], "processor": []} for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            wall, processor = time.perf_counter(), time.process_time()
            contender()
            times[name]["processor"].append(time.process_time() - processor)
            times[name]["wall"].append(time.perf_counter() - wall)
    return times


def compared(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Of each clock: seconds a step each way, and how many times as long the plain way takes."""
    found: dict[str, Any] = {}
    for clock in ("processor", "wall"):
        plainly = times[PLAIN][clock]
        for way, both in times.items():
            ratio = quartiles([one / other for one, other in zip(plainly, both[clock], strict=True)])
            ratio["median"] = statistics.median(plainly) / statistics.median(both[clock])
            found.setdefault(clock, {})[way] = {"seconds": quartiles(both[clock]), "ratio": ratio}
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--encoders", nargs="+", default=[ALONE, *TIMED])
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of embeddings and losses, both ways")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    sizes, rounded = Sizes(chosen.preset), Sizes(chosen.preset)
    rounded.emulation = dataclasses.replace(sizes.emulation, products="bfloat16")
    rows, load = [], round(os.getloadavg()[0], 2)
    for name in chosen.encoders:
        gap = check(sizes, name, chosen.tolerance)
        ways = sides(sizes, rounded, name)
        for threads in chosen.threads:
            with limited(threads):
                figures = compared(measure(ways, chosen.turns))
            row = {"what": name, "threads": threads, "gap": gap, **figures}
            rows.append(row)
            for clock in ("processor", "wall"):
                each = [
                    f"{way} {shown(of['seconds'], 1e3)} ms, {shown(of['ratio'])} ×"
                    for way, of in row[clock].items()
                ]
                STDERR.print(f"{name}, threads {threads}, {clock}: {'; '.join(each)}", highlight=False)
    if chosen.json:
        command = shlex.join(["python", *sys.argv])
        document = {"command": command, **about(), "preset": chosen.preset, "load_before": load, "rows": rows}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
