import pytest
from tests.made import make_atlas

from rnnatlas.zoo.store import Zoo


@pytest.fixture(scope="session")
def atlas():
    """96 entries of 24 runs."""
    return make_atlas()


@pytest.fixture(scope="session")
def zoo(experiment):
    """The experiment's zoo: 20 RNNs at two steps."""
    return Zoo.open(experiment / "zoo")
