"""Made-up atlases and tiny real experiments that several rooms are tested on."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnatlas.atlas.embed import embed
from rnnatlas.atlas.index import Atlas, with_places
from rnnatlas.atlas.layouts import place
from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.emulation.training import train
from rnnatlas.evaluation import evaluate as evaluation
from rnnatlas.evaluation.model import load
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.report.experiment import Experiment
from rnnatlas.rnn import Interface, Population, Tokens
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.build import build
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.train import ZooSettings

SHIFTS = {0: "", 1: "⁺¹", 2: "⁺²", -1: "⁻¹", -2: "⁻²", -3: "⁻³"}
STEPS = (0, 100, 200, 500)


def make_atlas(runs: int = 24, layout: str = "pca", letters: str = "bc") -> Atlas:
    """`runs` runs with four snapshots each."""
    random = np.random.default_rng(0)
    m = random.integers(-3, 3, (runs, len(letters)))
    basis = random.normal(size=(len(letters), 6, 16))
    rows = []
    for run in range(runs):
        for age, step in enumerate(STEPS):
            share = 1 - np.exp(-age * random.uniform(0.6, 1.4))
            vector = share * sum(basis[i, m[run, i] + 3] for i in range(len(letters)))
            vector = vector + random.normal(0, 0.35, 16) + 0.7
            power = "".join(
                f"{letter}ⁿ{SHIFTS[value]}" for letter, value in zip("abcd", (0, *m[run]), strict=False)
            )
            n = random.integers(3, 6, 3)
            rows.append(
                {
                    "id": f"{run:04d}-{step:06d}",
                    "run": run,
                    "source": "zoo",
                    "spec": "lstm-5-16x1-5",
                    "embedding": (vector / np.linalg.norm(vector)).astype(np.float32).tolist(),
                    "label": power,
                    "task": dict(zip(letters, m[run].tolist(), strict=True)),
                    "step": step,
                    "split": ["train", "new-runs", "validation", "ood"][run % 4],
                    "metrics": {
                        "performance": float(share * random.uniform(0.8, 1.0)),
                        "loss": float(1 - share),
                    },
                    "samples": ["a" * k + "b" * k + "c" * k + ("⏎" if share > 0.2 else "…") for k in n],
                }
            )
    task = pa.struct([(letter, pa.int8()) for letter in letters])
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("run", pa.int64()),
            ("source", pa.string()),
            ("spec", pa.string()),
            ("embedding", pa.list_(pa.float32(), 16)),
            ("label", pa.string()),
            ("task", task),
            ("step", pa.int64()),
            ("split", pa.string()),
            ("metrics", pa.struct([("performance", pa.float64()), ("loss", pa.float64())])),
            ("samples", pa.list_(pa.string())),
        ]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    card = {"encoder": "interactive", "seed": 0, "layout": layout, "layout_seed": 0}
    return Atlas(card, with_places(table, place(layout, vectors)))


EMULATION = EmulationSettings(
    steps=4, rnns=4, validate_every=2, validation_rollouts=2, emulator=EmulatorSettings(width=8, layers=1)
)
ENCODERS = {
    "statistics": {"width": 8},
    "interactive": {"sequences": 2, "steps": 4, "width": 8, "hidden": 8, "layers": 1},
}


def make_experiment(folder):
    """Fills a folder with a zoo, two encoders of two seeds each, and an atlas, all evaluated."""
    task = FormalLanguages.from_settings(
        {"tokens": 2, "length": 12, "largest_n": 4, "performance_samples": 20}
    )
    settings = ZooSettings(
        runs=20,
        hidden=4,
        layers=1,
        batch=4,
        snapshots=(0, 40),
        rollouts=4,
        split=SplitSettings(train=0.5, validation=0.2, ood=0.3, new_runs=0.3),
    )
    zoo = build(task, settings, folder / "zoo", workers=1)
    runs = {name: {seed: f"{name}-{seed}" for seed in (0, 1)} for name in ENCODERS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "TRIALS", 8)
        for name, own in runs.items():
            for seed, run in own.items():
                control = folder / f"statistics-{seed}" if name != "statistics" else None
                train(
                    zoo,
                    name,
                    folder / run,
                    seed,
                    encoder_settings=ENCODERS[name],
                    settings=EMULATION,
                    control=control,
                    progress=False,
                )
                evaluation.evaluate(folder / run, zoo, PredictorSettings(steps=10, width=8))
    embed(load(folder / "interactive-0"), [folder / "zoo"], "pca").save(folder / "atlas")
    command = "rnnatlas demo <script>alert(1)</script>"
    Experiment(
        zoo="zoo",
        runs=runs,
        atlas="atlas",
        map="map.html",
        command=command,
        timings={"zoo": 3.0, "rest": 1.0},
    ).save(folder)
    return folder


# --- a tiny zoo to train encoders on

PROBING = {"sequences": 2, "steps": 4, "width": 8, "hidden": 8, "layers": 1}
SMALL = EmulationSettings(
    steps=10,
    rnns=4,
    rollouts=2,
    learning_rate=3e-3,
    warmup=2,
    decay=True,
    validate_every=3,
    validation_rollouts=2,
    emulator=EmulatorSettings(width=8, layers=1),
)


def make_zoo(folder):
    """16 tiny RNNs at two steps."""
    task = FormalLanguages.from_settings(
        {"tokens": 2, "length": 12, "largest_n": 4, "performance_samples": 20}
    )
    settings = ZooSettings(
        runs=16,
        hidden=4,
        layers=1,
        batch=4,
        snapshots=(0, 60),
        rollouts=6,
        split=SplitSettings(train=0.5, validation=0.25, ood=0.25, new_runs=0.2),
    )
    return build(task, settings, folder, workers=1)


def tokens(spec):
    """The interface of RNNs that read and write tokens."""
    return Interface(Tokens(spec.input), Tokens(spec.output_size))


def different_leaks(population):
    """The same RNNs, with an α of its own for each hidden unit of leaky ones."""
    weights = dict(population.weights)
    for number, name in enumerate(population.spec.fixed):
        own = np.random.default_rng(number).uniform(0.1, 1, weights[name].shape)
        weights[name] = torch.from_numpy(own).to(weights[name])
    return Population(population.spec, weights, population.interface)
