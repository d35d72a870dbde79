"""Milliseconds per training step with each encoder, beside a step of the emulator alone, in the same run.

    python benchmarks/encoder_step.py --size demo --json encoder_step.json

A step is what training does: embed, emulate, divergence, backward, clip, AdamW. Encoders take turns, so
that whatever else the machine does meets all of them alike. Weights and rollouts are random numbers.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.nn.utils import clip_grad_norm_

import rnnatlas
from rnnatlas import encoders
from rnnatlas.emulation import divergences
from rnnatlas.emulation.data import Snapshots, unpack
from rnnatlas.emulation.divergence import masked_mean
from rnnatlas.emulation.model import EmulationSettings, RunSettings, TaskSettings, make_parts
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.settings import as_dict, build, preset
from rnnatlas.tasks.formal_languages import FormalLanguages

PAPER: dict[str, Any] = {"task": {}, "zoo": {"hidden": 32, "layers": 2}, "emulation": {}, "encoders": {}}


def snapshots(task: FormalLanguages, spec: RNNSpec, count: int) -> Snapshots:
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])
    stored = torch.randint(task.settings.tokens, (count, 4, task.stored), dtype=torch.uint8)
    targets = torch.randn(count, 4, task.time, task.output).log_softmax(-1).half()
    return Snapshots(
        spec=spec, task=task, table=pa.table({}), weights=population.flatten(), stored=stored, targets=targets
    )


def stepper(name: str, data: Snapshots, chosen: dict[str, Any], device: str) -> Any:
    """A function that does one training step."""
    settings = build(EmulationSettings, chosen["emulation"])
    task = TaskSettings(name=data.task.name, settings=as_dict(data.task.settings))
    own = chosen["encoders"].get(name, {})
    run = RunSettings(
        encoder=name,
        seed=0,
        zoo="",
        zoo_identity="",
        spec=data.spec.slug,
        task=task,
        encoder_settings=own,
        emulation=settings,
    )
    encoder, emulator = (part.to(device) for part in make_parts(data.spec, data.task, run))
    groups = [group for part in (encoder, emulator) if (group := list(part.parameters()))]
    optimizer = torch.optim.AdamW([parameter for group in groups for parameter in group], fused=True)
    divergence = divergences[settings.divergence]

    def step(number: int) -> None:
        batch = data.draw(settings.rnns, settings.rollouts, 0, number)
        batch = {key: tensor.to(device) for key, tensor in batch.items()}
        population, inputs, targets, mask = unpack(batch, data.spec, data.task)
        loss = masked_mean(divergence(targets, emulator(encoder(population), inputs)), mask).mean()
        optimizer.zero_grad()
        loss.backward()
        for group in groups:
            clip_grad_norm_(group, settings.clip)
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def measure(size: str, rounds: int, device: str) -> dict[str, Any]:
    chosen = PAPER if size == "paper" else preset(size, "formal-languages")
    task = FormalLanguages.from_settings(chosen["task"])
    zoo = chosen["zoo"]
    spec = RNNSpec(
        cell="lstm", input=task.input, hidden=zoo.get("hidden", 32), layers=zoo.get("layers", 2), output=task.output
    )
    data = snapshots(task, spec, 256)  # type: ignore[arg-type]
    names = ["zero", *encoders.registry]
    steppers = {name: stepper(name, data, chosen, device) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 3):
        for name, step in steppers.items():
            start = time.perf_counter()
            step(number)
            if number >= 3:  # the first ones warm up
                times[name].append(1000 * (time.perf_counter() - start))
    rows = []
    for name, own in times.items():
        low, median, high = np.quantile(own, [0.25, 0.5, 0.75])
        beyond = median - statistics.median(times["zero"])
        label = "emulator alone" if name == "zero" else name
        rows.append({"what": label, "ms": median, "low": low, "high": high, "encoder_ms": beyond})
    return {
        "benchmark": "encoder_step",
        "size": size,
        "spec": str(spec),
        "rounds": rounds,
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, 1 thread",
        "versions": {"rnnatlas": rnnatlas.__version__, "torch": torch.__version__},
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["demo", "paper"], default="demo")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments.size, arguments.rounds, arguments.device)
    print(f"{result['spec']}, {result['device']}, {result['rounds']} steps each: median (quartiles), ms")
    for row in result["rows"]:
        spread = f"({row['low']:.1f} – {row['high']:.1f})"
        print(f"{row['what']:<16}{row['ms']:8.1f}  {spread:<18} encoder {row['encoder_ms']:6.1f}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    sys.exit(main())
