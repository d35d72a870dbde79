"""Examples in docstrings run as they stand, in a folder with a zoo, a run and an atlas."""

import doctest
import shutil

import pytest

import rnnatlas as ra
from rnnatlas.registry import Registry

EXAMPLES = {
    "Atlas.search": ra.Atlas.search,
    "BlackBox": ra.BlackBox,
    "Mixed": ra.Mixed,
    "Population": ra.Population,
    "Zoo.from_modules": ra.Zoo.from_modules,
    "Zoo.open": ra.Zoo.open,
    "embed": ra.embed,
    "hidden": ra.hidden,
    "invariants": ra.invariants,
    "load": ra.load,
    "register": ra.register,
    "run": ra.run,
    "train": ra.train,
}


@pytest.fixture
def folder(experiment, tmp_path, monkeypatch):
    """Where examples run: the names that they use."""
    for name, source in {"zoo": "zoo", "run": "interactive-0", "atlas": "atlas"}.items():
        shutil.copytree(experiment / source, tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_runs_as_it_stands(name, folder, monkeypatch):
    for registry in Registry.open:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    found = doctest.DocTestFinder(recurse=False).find(EXAMPLES[name], name, globs={})
    examples = [test for test in found if test.examples]
    assert examples, "a public function shows an example"
    failed = sum(doctest.DocTestRunner().run(test).failed for test in examples)
    assert not failed
