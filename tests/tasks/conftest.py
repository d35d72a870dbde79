from pathlib import Path

import pytest

from rnnatlas.tasks import digits

SHARED = Path(__file__).parents[3] / "shared" / "data" / "mnist.npz"


@pytest.fixture(scope="session")
def mnist_file():
    """MNIST as one .npz file, which is not part of the repository."""
    if not SHARED.is_file():
        pytest.skip(f"needs MNIST at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def _filled_cache(mnist_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(digits.CACHE, str(folder))
        digits.keep(digits.MNIST, mnist_file)
    return folder


@pytest.fixture
def mnist_cache(_filled_cache, monkeypatch):
    """A cache that holds MNIST, which is all that tasks see of it."""
    monkeypatch.setenv(digits.CACHE, str(_filled_cache))
