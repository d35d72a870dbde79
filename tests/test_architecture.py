"""Imports point one way: from each room of ORDER to those before it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rnnatlas

ROOT = Path(rnnatlas.__file__).parent
ORDER = ["executors", "rnn", "importers", "tasks", "zoo", "encoders", "emulation", "properties", "evaluation"]
ORDER += ["atlas", "report", "reproduce", "benchmarks", "cli"]
HEAVY = {"lightning", "plotly", "ray", "pacmap", "umap", "datasets", "sklearn", "matplotlib", "triton"}
FILES = sorted(ROOT.rglob("*.py"))


def room(path):
    """The package of a file; modules beside the packages, except reproduce, are the ground (-1)."""
    name = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return ORDER.index(name) if name in ORDER else -1


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    if path.parent == ROOT and path.stem in ("__init__", "__main__"):
        return  # these two name everything, lazily
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] == "rnnatlas" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= room(path), f"{path.name} must not import {name}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name == "__init__.py"], ids=lambda path: path.parent.name
)
def test_no_module_takes_the_place_of_what_its_package_defines(path):
    """As importing a module for the first time would, where both have one name."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    defined = {target.id for target in targets if isinstance(target, ast.Name)}
    defined |= {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert not defined & {other.stem for other in path.parent.iterdir()}


def test_heavy_libraries_are_imported_where_used():
    # emulation.fit, which is the Lightning part of training, is itself imported when training starts
    rooms = ["rnn", "zoo.build", "zoo.store", "emulation.training", "evaluation.evaluate", "atlas.embed"]
    code = "import sys, " + ", ".join(f"rnnatlas.{room}" for room in rooms)
    code += f"; print(*sorted(set({sorted(HEAVY)}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_every_command_exists_and_shows_an_example(capsys):
    from rnnatlas.cli import COMMANDS, main

    for path in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([*path.split(), "--help"])
        assert stop.value.code == 0, path
        shown = capsys.readouterr().out
        assert f"rnnatlas {path}" in shown.split("Parameters")[0].split("\n", 1)[1], f"{path} has no example"
        for flag in ("--config", "--print-config", "--quiet", "--debug"):
            assert flag in shown, path
