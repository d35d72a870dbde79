"""Commands do the same wherever their work is done."""

from importlib.util import find_spec

import pytest
from tests.zoo.test_build import same

from rnnatlas.emulation.model import read_metrics
from rnnatlas.zoo.store import Zoo

from .test_examples import RUN, ZOO, call, changes

SLURM = ["--executor=slurm", "--set=executor.cluster=local"]


@pytest.mark.slow
def test_a_zoo_and_a_run_made_elsewhere_are_those_made_here(tmp_path, monkeypatch, capsys):
    if find_spec("submitit") is None:
        pytest.skip("no submitit")
    monkeypatch.chdir(tmp_path)
    build = ["zoo", "build", "formal-languages", *changes(ZOO)]
    assert not call(*build, "--out=here", "--workers=1")
    assert not call(*build, "--out=there", *SLURM)
    assert same(Zoo.open("there"), Zoo.open("here"))
    train = ["train", "here", "--encoder=interactive", *changes(RUN)]
    assert not call(*train, "--out=run")
    assert not call(*train, "--out=other", *SLURM)
    assert read_metrics(tmp_path / "other") == read_metrics(tmp_path / "run")
    assert call(*train, "--out=other", *SLURM) == 1
    assert "other exists already" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there", "run", "other"}


def test_an_executor_that_there_is_not_is_named(tmp_path, capsys):
    assert call("zoo", "build", "formal-languages", f"--out={tmp_path / 'zoo'}", "--executor=slum") == 2
    assert "did you mean 'slurm'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
