import pytest

from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings
from rnnatlas.zoo.build import build
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.train import ZooSettings

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


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """16 tiny RNNs at two steps."""
    task = FormalLanguages(FormalLanguagesSettings(tokens=2, length=12, largest_n=4, performance_samples=20))
    settings = ZooSettings(
        runs=16,
        hidden=4,
        layers=1,
        batch=4,
        snapshots=(0, 60),
        rollouts=6,
        split=SplitSettings(train=0.5, validation=0.25, ood=0.25, new_runs=0.2),
    )
    return build(task, settings, tmp_path_factory.mktemp("zoo") / "zoo", workers=1)
