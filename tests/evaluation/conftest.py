"""A tiny zoo with a trained run, which the tests may evaluate."""

import pytest

from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.emulation.training import train
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.zoo.build import build
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.train import ZooSettings


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """20 RNNs at three steps."""
    task = FormalLanguages.from_settings(
        {"tokens": 2, "length": 12, "largest_n": 4, "performance_samples": 20}
    )
    settings = ZooSettings(
        runs=20,
        hidden=4,
        layers=1,
        batch=4,
        snapshots=(0, 20, 40),
        rollouts=4,
        split=SplitSettings(train=0.5, validation=0.2, ood=0.3, new_runs=0.3),
    )
    return build(task, settings, tmp_path_factory.mktemp("properties") / "zoo", workers=1)


@pytest.fixture(scope="session")
def trained(zoo, tmp_path_factory):
    """A finished run that has not been evaluated."""
    settings = EmulationSettings(
        steps=4, rnns=4, validate_every=2, validation_rollouts=2, emulator=EmulatorSettings(width=8, layers=1)
    )
    out = tmp_path_factory.mktemp("run") / "run"
    train(zoo, "statistics", out, 0, encoder_settings={"width": 8}, settings=settings, progress=False)
    return out
