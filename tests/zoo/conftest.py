import shutil

import pytest

from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings
from rnnatlas.zoo.build import build
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.train import ZooSettings

TASK = FormalLanguages(FormalLanguagesSettings(tokens=2, length=12, largest_n=4, performance_samples=40))
SETTINGS = ZooSettings(
    runs=14,
    hidden=6,
    layers=1,
    batch=8,
    learning_rate=((0, 0.02), (10, 0.01)),
    weight_decay=0.1,
    snapshots=(0, 4, 12),
    rollouts=5,
    runs_per_shard=4,
    split=SplitSettings(new_runs=0.2),
)


@pytest.fixture(scope="session")
def _built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    build(TASK, SETTINGS, folder, seed=7, workers=1)
    return folder


@pytest.fixture
def zoo_folder(_built, tmp_path):
    """A zoo of 14 RNNs in 4 shards that the test may damage."""
    return shutil.copytree(_built, tmp_path / "zoo")
