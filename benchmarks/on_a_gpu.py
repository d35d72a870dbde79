"""What a GPU gains: passes of RNNs, training of a zoo, training steps of encoders.

    python benchmarks/on_a_gpu.py --json docs/results/bench-on-a-gpu.json

Needs a CUDA device; two or three minutes. Wall-clock time, medians and quartiles. `eager` is the same in
plain torch (RNNATLAS_BACKEND=eager), `nn.LSTM` and `torch.nn` one RNN after the other by cuDNN, `plain` a
training step without a CUDA graph. A zoo's `nn.LSTM` is one RNN's step, times their number.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from rnnatlas import encoders
from rnnatlas.benchmarks.base import on_backend, quartiles, shown
from rnnatlas.benchmarks.encoders import Sizes, stepper
from rnnatlas.benchmarks.report import about
from rnnatlas.benchmarks.zoo_training import Alone
from rnnatlas.rnn import Population, RecurrentNetwork, RNNSpec, run
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.train import Chunk, ZooSettings, train

TURNS, SECONDS = 7, 0.3
STEPS = 20


def turns(contenders: dict[str, Callable[[], Any]]) -> dict[str, dict[str, float]]:
    """Median and quartiles of seconds a call."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        for _ in range(5):  # compiles, captures
            call()
    for _ in range(TURNS):
        for name, call in contenders.items():
            torch.cuda.synchronize()
            start, calls = time.perf_counter(), 0
            while not calls or time.perf_counter() - start < SECONDS:
                call()
                calls += 1
                if calls % 8 == 0:
                    torch.cuda.synchronize()
            torch.cuda.synchronize()
            times[name].append((time.perf_counter() - start) / calls)
    return {name: quartiles(values) for name, values in times.items()}


def passes() -> Iterator[dict[str, Any]]:
    """Forward and backward of whole populations on batches of 32 sequences of 41 steps."""
    for cell, hidden, layers in (("lstm", 16, 1), ("lstm", 32, 2), ("lstm", 64, 1), ("gru", 32, 2)):
        for rnns in (1, 64, 1000):
            spec = RNNSpec(cell=cell, input=6, hidden=hidden, layers=layers, output=6)
            generators = [torch.Generator().manual_seed(number) for number in range(rnns)]
            population = Population.initialise(spec, generators).to("cuda").requires_grad_()
            inputs = torch.randn(rnns, 32, 41, 6, device="cuda")

            def step(name: str, population: Population = population, inputs: Any = inputs) -> None:
                with on_backend(name):
                    torch.autograd.grad(run(population, inputs)[0].sum(), population.parameters())

            contenders = {"triton": lambda: step(""), "eager": lambda: step("eager")}
            if rnns <= 64:
                modules = [RecurrentNetwork(spec).to("cuda") for _ in range(rnns)]

                def alone(modules: Any = modules, inputs: Any = inputs) -> None:
                    for module, own in zip(modules, inputs, strict=True):
                        torch.autograd.grad(module(own)[0].sum(), list(module.parameters()))

                contenders["torch.nn"] = alone
            for name, seconds in turns(contenders).items():
                yield {"rnns": f"{rnns} × {spec}", "how": name, "seconds": seconds}


def zoo_training() -> Iterator[dict[str, Any]]:
    """Training steps of a zoo: all of its RNNs take one step."""
    settings = ZooSettings()
    task = FormalLanguages.from_settings({})
    every = dataclasses.replace(settings, snapshots=tuple(range(0, 20_001, STEPS)))
    alone = Alone(settings, task)  # type: ignore[arg-type]
    alone.module.to("cuda")
    alone.inputs, alone.targets = alone.inputs.cuda(), alone.targets.cuda()
    for rnns in (64, 1000):
        chunk = Chunk(task, every, 0, range(rnns), ["train"] * rnns)
        for name in ("triton", "eager", "nn.LSTM"):
            if name == "nn.LSTM":
                [seconds] = turns({name: alone.step}).values()
                seconds = {key: value * rnns for key, value in seconds.items()}
            else:
                with on_backend("eager" if name == "eager" else ""):
                    training = train(chunk, device="cuda")
                    next(training)
                    next(training)
                    times = []
                    for _ in range(TURNS):
                        torch.cuda.synchronize()
                        start = time.perf_counter()
                        next(training)
                        torch.cuda.synchronize()
                        times.append((time.perf_counter() - start) / STEPS)
                    seconds = quartiles(times)
            yield {
                "rnns": f"{rnns} × {settings.spec(task)}",
                "how": name,
                "seconds": seconds,
                "steps_a_second": rnns / seconds["median"],
            }


def encoder_steps() -> Iterator[dict[str, Any]]:
    """Training steps of encoders at the paper's sizes, batches made and copied included."""
    sizes = Sizes("paper")
    trainings = {"emulator alone": sizes.training(encoders.CONTROL), **sizes.trainings()}
    for what, training in trainings.items():
        training.to("cuda")
        for how in ("plain", "graph"):  # one after the other, since both own the gradients
            [seconds] = turns({how: stepper(training, sizes, captured=how == "graph")}).values()
            yield {"what": what, "how": how, "seconds": seconds}


PARTS = {"passes": passes, "zoo-training": zoo_training, "encoders": encoder_steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", help="file for the figures")
    given = parser.parse_args()
    command = {"command": "python benchmarks/on_a_gpu.py"}
    figures: dict[str, Any] = command | about() | {"gpu": torch.cuda.get_device_name()}
    print(figures["gpu"], "torch", figures["torch"])
    for part, rows in PARTS.items():
        figures[part] = []
        for row in rows():
            figures[part].append(row)
            named = {key: value for key, value in row.items() if key not in ("seconds", "steps_a_second")}
            rate = f"  {row['steps_a_second']:,.0f} RNN-steps/s" if "steps_a_second" in row else ""
            print(
                f"{part:13} {', '.join(named.values()):48} {shown(row['seconds'], 1e3)} ms{rate}", flush=True
            )
            if given.json:
                Path(given.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
