import pytest
from tests.made import make_zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """16 tiny RNNs at two steps."""
    return make_zoo(tmp_path_factory.mktemp("zoo") / "zoo")
