"""Networks of one's own are judged as those of zoos are, and so are their labels."""

import numpy as np
import torch
from torch import nn

import rnnatlas as ra
from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.report.findings import of_run

EMULATION = EmulationSettings(
    steps=2, rnns=4, validate_every=2, validation_rollouts=2, emulator=EmulatorSettings(width=8, layers=1)
)
ENCODER = {"sequences": 2, "steps": 4, "width": 8, "layers": 1}


def test_each_held_out_split_and_each_label_has_its_findings(tmp_path):
    torch.manual_seed(0)
    networks = [(nn.GRU(2, 4), nn.Linear(4, 1)) for _ in range(24)]
    inputs = np.random.default_rng(0).standard_normal((8, 6, 2)).astype(np.float32)
    labels = {"way": ["left", "right"] * 12, "size": [0.5 * (i % 7) for i in range(24)]}
    zoo = ra.Zoo.from_modules(networks, tmp_path / "zoo", inputs=inputs, labels=labels)
    options = {"encoder_settings": ENCODER, "settings": EMULATION, "progress": False}
    model = ra.train(zoo, "noninteractive", tmp_path / "run", **options)
    model.evaluate()
    found = of_run(tmp_path / "run", str(tmp_path / "zoo"))
    assert [split for split, _ in found] == [
        "held-out networks (these chose the checkpoints)",
        "networks held out at random",
    ]
    for _, findings in found:
        questions = [question for question, _ in findings]
        assert "Does the embedding help the emulator?" in questions
    said = {question: finding.text for question, finding in found[0][1]}
    assert said["Does the frozen embedding predict way?"].startswith("labels.way accuracy")
    assert said["Does the frozen embedding predict size?"].startswith("labels.size loss")
