"""Shape annotations are checked in every test; a global default that a test changes fails it."""

import contextlib
import os
import signal

from jaxtyping import install_import_hook

# before anything imports the package
_hook = install_import_hook("rnnatlas", "beartype.beartype")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# in the background of a shell Ctrl-C is ignored, by all that tests start as well
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _defaults_stay():
    """Fails a test that leaves torch's or the process's defaults changed."""
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), os.getcwd()  # noqa: PTH109
    yield
    after = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), os.getcwd()  # noqa: PTH109
    assert after == before


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    """Folder of a zoo, two encoders of two seeds each, and an atlas, all evaluated."""
    from tests.made import make_experiment

    return make_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture
def stop_at():
    """`with stop_at(step):` interrupts training when it asks for the batch of that step."""
    from rnnatlas.emulation.data import Snapshots

    draw = Snapshots.draw

    @contextlib.contextmanager
    def stopping(step):
        def until(self, rnns, rollouts, seed, number, *share):
            if number == step:
                raise KeyboardInterrupt
            return draw(self, rnns, rollouts, seed, number, *share)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Snapshots, "draw", until)
            with pytest.raises(KeyboardInterrupt):
                yield

    return stopping


def pytest_configure(config):
    torch.set_num_threads(1)
