"""Parts of the user's own: registered, by plugin and by entry point, on an equal footing."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from tests.made import make_zoo

import rnnatlas as ra
from rnnatlas.cli import main
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.emulation.training import train
from rnnatlas.encoders.base import Encoder
from rnnatlas.encoders.statistics import Statistics
from rnnatlas.errors import CheckpointError, SettingsError, UnknownName
from rnnatlas.evaluation.evaluate import evaluate
from rnnatlas.importers.base import find
from rnnatlas.importers.safetensors import Safetensors
from rnnatlas.properties.scalar import Metric, Performance
from rnnatlas.registry import PLUGINS, Registry, load_plugin, register
from rnnatlas.settings import build

MODULE = '''
import rnnatlas as ra
from rnnatlas.encoders.statistics import Statistics
from rnnatlas.importers.safetensors import Safetensors
from rnnatlas.properties.scalar import Performance
from rnnatlas.tasks.integrator import Integrator


@ra.register
class Mine(Integrator):
    """Integrate, in a module of one's own."""

    name = "mine"


@ra.register
class Halves(Performance):
    """Half of the performance."""

    name = "half"

    @classmethod
    def fit(cls, task, snapshots):
        return cls() if Performance.fit(task, snapshots) is not None else None

    def target(self, task, snapshots):
        return Performance().target(task, snapshots) / 2


class Figures(Statistics):
    """Statistics by another name."""


ra.register(Figures, "figures")


class Renamed(Safetensors):
    """Safetensors with another ending."""

    suffixes = (".tensors",)


ra.register(Renamed, "renamed")
'''
TINY = {
    "task": {"time": 12, "response": 3, "earliest": 3, "trials": 5},
    "zoo": {"runs": 12, "hidden": 3, "layers": 1, "batch": 4, "snapshots": [0, 5], "rollouts": 3},
    "emulation": {"steps": 4, "rnns": 4, "validate_every": 2, "emulator": {"width": 4, "layers": 1}},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_parts.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def registries(monkeypatch):
    """What a test registers is forgotten afterwards."""
    for registry in Registry.open:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_added", dict(registry._added))


def rnnatlas(folder, *words):
    """Runs the command line in a process of its own, as plugins change what a process knows."""
    environment = {name: value for name, value in os.environ.items() if name != PLUGINS}
    command = [sys.executable, "-m", "rnnatlas", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


def settings(*sections):
    return [
        word
        for section in sections
        for name, value in TINY[section].items()
        for word in ("--set", f"{section}.{name}={json.dumps(value)}")
    ]


@pytest.mark.slow
def test_a_plugin_goes_through_all_commands(folder):
    plugin = ("--plugin", "my_parts", "--quiet")
    for words in (
        ("zoo", "build", "mine", "--out", "zoo", "--workers", "2", *settings("task", "zoo")),
        ("train", "zoo", "--encoder", "figures", "--out", "run", *settings("emulation")),
        ("evaluate", "run", "--set", "predictors.steps=10"),
        ("embed", "run", "zoo", "--out", "atlas", "--layout", "pca"),
        ("predict", "run", "zoo", "--json"),
    ):
        found = rnnatlas(folder, *words, *plugin)
        assert found.returncode == 0, found.stderr
    assert "half" in json.loads(found.stdout)[0]
    without = rnnatlas(folder, "evaluate", "run")
    assert without.returncode == 2
    assert "no task is called 'mine'" in without.stderr


def test_lists_name_parts_of_plugins(folder):
    for command, name, line in (
        ("tasks", "mine", "Integrate, in a module of one's own."),
        ("formats", "renamed", "Safetensors with another ending."),
    ):
        found = rnnatlas(folder, command, "--json", "--plugin", "my_parts")
        assert {"name": name, "description": line} in json.loads(found.stdout)


def test_installed_packages_bring_parts_by_entry_points(folder, monkeypatch, registries):
    about = folder / "my_parts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[rnnatlas.tasks]\nborrowed = my_parts:Mine\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    registry = Registry("task", {}, group="rnnatlas.tasks")
    assert list(registry) == ["borrowed"]
    assert registry["borrowed"].name == "mine"
    assert "my_parts" in registry.description("borrowed")


def test_a_plugin_that_cannot_be_imported_is_one_sentence(folder, monkeypatch):
    monkeypatch.delenv(PLUGINS, raising=False)
    found = rnnatlas(folder, "tasks", "--plugin", "nowhere")
    assert found.returncode == 2
    assert found.stderr.startswith("error: the plugin nowhere cannot be imported")
    assert len(found.stderr.splitlines()) == 1
    with pytest.raises(SettingsError, match="or the name of a module"):
        load_plugin("no_such_module")
    monkeypatch.delenv(PLUGINS, raising=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", r"\(ZeroDivisionError: division by zero\)"),
        ("import no_such_module", r"\(ModuleNotFoundError: No module named 'no_such_module'\)"),
        ("this is no Python", r"\(SyntaxError: invalid syntax"),
        ("raise ValueError('one\\ntwo')", r"\(ValueError: one\)"),
        (
            "from rnnatlas import register\nfrom rnnatlas.properties.scalar import Performance\n"
            "class Mine(Performance): 'Taken.'\nregister(Mine)",
            "'performance' is the name of a property of rnnatlas; choose another one\n",
        ),
    ],
)
def test_a_plugin_that_raises_is_one_sentence(text, reason, tmp_path, monkeypatch, capsys, registries):
    (tmp_path / "raising.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(PLUGINS, raising=False)
    monkeypatch.delitem(sys.modules, "raising", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(SystemExit) as ended:
        main(["tasks", "--plugin", "raising"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert re.match(rf"error: the plugin raising cannot be (imported|used:) {reason}", said), said
    assert said.count("\n") == 1
    assert PLUGINS not in os.environ, "child processes do not try it again"


ENCODERS = '''
import torch

import rnnatlas as ra
from rnnatlas.encoders.base import Encoder, mlp
from rnnatlas.encoders.statistics import Statistics, StatisticsSettings


class Base(Encoder):
    """What they share."""

    Settings, reads_weights, symmetries = StatisticsSettings, True, frozenset()

    def __init__(self, interface, spec, settings, size=16):
        super().__init__(interface, spec, settings, size)
        self.mlp = mlp(3, size)

    @property
    def last(self):
        return self.mlp[-1]

    def read(self, population):
        return self.mlp(torch.ones(len(population), 3))


@ra.register
class Short(Base):
    """Five numbers."""

    name = "short"

    def read(self, population):
        return super().read(population)[:, :5]


@ra.register
class Listed(Base):
    """No tensor."""

    name = "listed"

    def read(self, population):
        return [1.0] * len(population)


@ra.register
class Missing(Base):
    """A weight that there is not."""

    name = "missing"

    def read(self, population):
        return population.weights["weight_hh"]


@ra.register
class Elsewhere(Base):
    """Another layer is whitened."""

    name = "elsewhere"
    last = torch.nn.Linear(2, 3)
'''


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "short",
            r"the encoder Short should read \d+ RNNs into a tensor of shape \[\d+, 16\], found .* 5\];",
        ),
        ("listed", r"the encoder Listed should read .*, found list; let its `read` give"),
        (
            "missing",
            r"encoders_of_mine\.py .* in line \d+ there is a KeyError: it lacks 'weight_hh'; mend that",
        ),
        (
            "elsewhere",
            r"`last` of the encoder Elsewhere should be a linear layer .* 16 outputs, found Linear\(",
        ),
    ],
)
def test_an_encoder_of_ones_own_that_is_wrong_is_one_sentence(name, sentence, tmp_path, capsys, registries):
    zoo = make_zoo(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.delitem(sys.modules, "encoders_of_mine", raising=False)
        patch.setenv(PLUGINS, "")
        (tmp_path / "encoders_of_mine.py").write_text(ENCODERS)
        importlib.invalidate_caches()
        words = ("--encoder", name, "--plugin", str(tmp_path / "encoders_of_mine.py"), "--quiet")
        with pytest.raises(SystemExit) as ended:
            main(["train", str(zoo.path), "--out", str(tmp_path / "run"), *words, *settings("emulation")])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert re.match(f"error: {sentence}", said), said
    assert said.count("\n") == 1


@pytest.mark.parametrize("given", ["./mine/parts.py", "./mine/parts"])
def test_a_plugin_may_be_given_by_the_path_of_its_file(given, folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "my_parts.py").rename(tmp_path / "mine" / "parts.py")
    found = rnnatlas(folder, "tasks", "--plugin", given)
    assert "Integrate, in a module of one's own." in found.stdout, found.stderr
    found = rnnatlas(folder, "tasks", "--plugin", "./mine/other.py")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "the plugin ./mine/other.py should be a module or its file, found none" in found.stderr


def test_a_plugin_without_a_part_is_refused(tmp_path, monkeypatch, registries):
    (tmp_path / "bare.py").write_text("class Part:\n    pass\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(PLUGINS, raising=False)
    with pytest.raises(SettingsError, match=r"found none; write @rnnatlas\.register above its class"):
        load_plugin(str(tmp_path / "bare.py"))


@pytest.mark.parametrize(
    ("found", "reason"),
    [("{'a': 1}, {}", "should give a list of FoundRNN"), ("[]", "not enough values"), ("1 / 0", "ZeroDiv")],
)
def test_an_importer_of_ones_own_that_is_wrong_is_named(found, reason, tmp_path, registries):
    class Wrong(Safetensors):
        """Gives something else."""

        name, suffixes, kinds = "wrong", (".wrong.txt",), ()

        def find(self, path, cell=None, head=None):
            return eval(found)

    register(Wrong)
    (tmp_path / "a.wrong.txt").write_text("text")
    with pytest.raises(CheckpointError, match=rf"by the importer wrong \(.*{reason}.*\); mend the importer"):
        find(tmp_path / "a.wrong.txt")


def test_a_metric_of_ones_own_that_no_rnn_has_is_said(tmp_path, registries, caplog):
    class Finnished(Metric):
        """Share of strings that end, misspelled."""

        name, bounds = "finnished", (0.0, 1.0)

    register(Finnished)
    zoo = make_zoo(tmp_path)
    run = train(
        zoo,
        "statistics",
        tmp_path / "run",
        settings=build(EmulationSettings, TINY["emulation"]),
        progress=False,
    )
    evaluate(run.path)
    assert "finnished is not predicted: it is not known of all RNNs; metrics are " in caplog.text


def test_what_an_encoder_lacks_is_named(registries):
    class Bare(Encoder):
        """Has a name alone."""

        name = "bare"

    with pytest.raises(
        SettingsError, match="Bare lacks Settings, last, read, reads_weights, symmetries, which every"
    ):
        register(Bare)

    class Narrow(Statistics):
        """Of fixed size."""

        name = "narrow"

        def __init__(self, interface, spec, settings):
            super().__init__(interface, spec, settings, 16)

    with pytest.raises(
        SettingsError, match="Narrow should be made of interface, spec, settings, size, as Enc"
    ):
        register(Narrow)


def test_a_name_of_this_package_cannot_be_taken(registries):
    class Other(Performance):
        """Something else."""

        name = "performance"

    with pytest.raises(SettingsError, match="'performance' is the name of a property of rnnatlas"):
        register(Other)
    assert register(Other, "other") is Other
    assert ra.properties["other"] is Other
    assert register(Other, "other") is Other, "a notebook's cell is run twice"


def test_what_is_no_part_is_refused(registries):
    for wrong in (int, dict):
        with pytest.raises(
            SettingsError, match=r"expected a subclass of Encoder or Importer or Property or Task"
        ):
            register(wrong)

    class Nameless(Performance):
        """Has no name of its own."""

        name = None

    with pytest.raises(SettingsError, match="has no name"):
        register(Nameless)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'noninteractive'"):
        ra.encoders["non-interactive"]
    assert "interactive" in ra.encoders
    assert len(ra.tasks) == len(list(ra.tasks))
