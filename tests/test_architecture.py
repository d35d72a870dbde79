"""Who may import whom: rooms by a table, and modules in no circle."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rnnatlas

ROOT = Path(rnnatlas.__file__).parent
GROUND = {"_version", "errors", "registry", "seeds", "files", "settings", "tables", "intervals", "devices"}
GROUND |= {"captured", "checked", "folders", "presets", "texts", "yaml_files", "hub"}
"""Modules that everything uses."""

LEARNING = {"rnn", "tasks", "zoo", "encoders", "emulation"}
ALLOWED = {
    "executors": set(),
    "rnn": set(),
    "importers": {"rnn"},
    "tasks": {"rnn"},
    "theory": {"rnn", "tasks"},
    "zoo": {"executors", "rnn", "importers", "tasks"},
    "encoders": {"rnn"},
    "emulation": (LEARNING - {"emulation"}) | {"importers"},
    "properties": {"rnn", "tasks", "zoo", "encoders"},
    "evaluation": LEARNING | {"properties"},
    "atlas": LEARNING | {"executors", "importers", "properties", "evaluation"},
    "report": LEARNING | {"properties", "evaluation", "atlas"},
    "reproduce": LEARNING | {"executors", "properties", "evaluation", "atlas", "report"},
    "exploration": LEARNING | {"properties", "evaluation", "atlas", "report"},
    "benchmarks": LEARNING | {"executors"},
    "cli": LEARNING
    | {
        "executors",
        "importers",
        "properties",
        "evaluation",
        "atlas",
        "report",
        "exploration",
        "reproduce",
        "benchmarks",
        "theory",
    },
}
"""Each room with those that it imports besides itself and the ground floor."""

HEAVY = {"lightning", "plotly", "ray", "pacmap", "umap", "datasets", "sklearn", "matplotlib", "triton"}
FILES = sorted(ROOT.rglob("*.py"))


def module(path):
    """The name under which a file is imported."""
    parts = ("rnnatlas", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imported(path):
    """Modules of the package that a file imports, functions and what is for type checkers alone included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} should name modules in full"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in MODULES else str(node.module) for name in whole]
        else:
            continue
        yield from (name for name in found if name.partition(".")[0] == "rnnatlas")


def room(name):
    """The second part of a module's name; none of the package itself and `python -m rnnatlas`."""
    return None if name in ("rnnatlas", "rnnatlas.__main__") else name.split(".")[1]


INSIDE = [name for name in MODULES if room(name) is not None]


def test_every_module_lies_in_a_room_or_on_the_ground_floor():
    assert {room(name) for name in INSIDE} == GROUND | set(ALLOWED)


@pytest.mark.parametrize("name", INSIDE)
def test_rooms_import_what_the_table_allows(name):
    own = room(name)
    allowed = GROUND if own in GROUND else GROUND | ALLOWED[own] | {own}
    for other in imported(MODULES[name]):
        assert other != "rnnatlas", f"{name} should import what it needs from where it is, not from rnnatlas"
        assert room(other) in allowed, f"{name} must not import {other}"


def test_modules_import_one_another_in_no_circle():
    graph = {name: set(imported(MODULES[name])) for name in INSIDE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_the_table_itself_has_an_order():
    assert list(TopologicalSorter(ALLOWED).static_order())
    assert all(rooms <= set(ALLOWED) for rooms in ALLOWED.values())


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_unpickled(path):
    """`importers.pickles` follows pickles without running them; `Call` is what our own processes say."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = {ast.unparse(call) for call in calls}
    assert not named & {"torch.load", "torch.jit.load", "torch.export.load", "joblib.load", "yaml.load"}
    running = {name for name in named if name.startswith(("pickle.", "cloudpickle.", "dill.", "marshal."))}
    own = {"cloudpickle.dumps", "pickle.loads"} if path == ROOT / "executors" / "calls.py" else set()
    assert running == own
    assert "allow_pickle=True" not in path.read_text()
