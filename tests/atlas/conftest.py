import pytest
from tests.made import make_atlas

from rnnatlas.evaluation.model import load
from rnnatlas.zoo.store import Zoo


@pytest.fixture(scope="session")
def atlas():
    """96 entries of 24 runs."""
    return make_atlas()


@pytest.fixture(scope="session")
def zoo(experiment):
    """The experiment's zoo: 20 RNNs at two steps."""
    return Zoo.open(experiment / "zoo")


@pytest.fixture(scope="session")
def model(experiment):
    """A functionalist encoder with predictors."""
    return load(experiment / "interactive-0")


@pytest.fixture(scope="session")
def mechanistic(experiment):
    """An encoder that reads weights."""
    return load(experiment / "statistics-0")
