"""What --print-config prints, --config reads, and both mean the same."""

import importlib.resources
import re

import pytest
import torch
import yaml
from tests.made import make_atlas

from rnnatlas import benchmarks
from rnnatlas.atlas import layouts
from rnnatlas.cli import COMMANDS, main
from rnnatlas.emulation import divergences
from rnnatlas.reproduce.settings import ZOOS
from rnnatlas.settings import presets

EXAMPLES = {
    "demo": ("", "--out d --zoo digits --seed 4 --workers 2 --device cpu --set zoo.hidden=9"),
    "reproduce": ("", "--out r --zoo mnist --preset paper --data images --set task.tile=7"),
    "zoo build": ("formal-languages", "--out z --runs 7 --preset demo --set task.tokens=2"),
    "explore": ("a.pt b.pt", "--out x --inputs i.npz --labels l.csv --group lesion --seed 3"),
    "zoo import": ("a.pt b.pt", "--out z --cell elman-relu"),
    "zoo show": ("z", "--json"),
    "zoo verify": ("z", "--sample 7 --all"),
    "zoo export": ("z", "--out d --format npy --license mit"),
    "publish": ("run", "--to user/name --dry-run"),
    "evaluate": ("run z", "--supervised --set predictors.width=9"),
    "embed": ("run z a.pt", "--out a --layout pca --cell elman-relu"),
    "search": ("a a.pt", "-k 3 --where x --run r --cell elman-relu --head x"),
    "predict": ("run z a.pt", "--json --head x"),
    "map": ("a", "--out m --colour step"),
    "inspect": ("a.pt b.pt", "--head x"),
    "bench": ("run", "--json"),
    "theory": ("", "--out t --zoo z --where x --rnns 9 --letters 3 --seed 4"),
    "sweep": ("plan.yaml", "--out s --executor ray --workers 3 --set executor.threads=2"),
    "encoders": ("", "--json"),
    "tasks": ("", "--json"),
    "formats": ("", "--json"),
}
"""Arguments, which a file cannot hold, and flags, which it can; `train` needs a zoo (test_train.py)."""


def call(capsys, *tokens):
    with pytest.raises(SystemExit) as ended:
        main([str(token) for token in tokens])
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("command", EXAMPLES)
def test_what_is_printed_is_read(command, tmp_path, capsys):
    arguments, flags = (text.split() for text in EXAMPLES[command])
    status, printed, err = call(capsys, *command.split(), *arguments, *flags, "--print-config")
    assert (status, err) == (0, "")
    named = {flag.lstrip("-").replace("colour", "color") for flag in flags if flag.startswith("-")}
    shown = yaml.safe_load(printed)
    assert named - {"set", "runs", "preset"} <= set(shown)  # these three are within the settings
    (tmp_path / "config.yaml").write_text(printed)
    config = ["--config", tmp_path / "config.yaml", "--print-config"]
    assert call(capsys, *command.split(), *arguments, *config) == (0, printed, "")


def test_all_commands_are_tried():
    assert {*EXAMPLES, "train"} == set(COMMANDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "zoo: nonsense",
            "--zoo should be languages, mixed, mnist, digits, integrator or both, found 'nonsense'",
        ),
        ("map: 3", "rnnatlas reproduce has no option --map (in "),
    ],
)
def test_a_file_with_what_the_command_does_not_take_is_refused(text, message, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(text)
    flags = ["--out", tmp_path / "out", "--config", tmp_path / "config.yaml", "--print-config"]
    status, out, err = call(capsys, "reproduce", *flags)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("zoo", ZOOS)
@pytest.mark.parametrize("chosen", presets())
def test_every_zoo_can_be_asked_for_and_a_preset_without_it_names_those_with_it(chosen, zoo, capsys):
    flags = ["--preset", chosen, "--zoo", zoo, "--out=out", "--print-config"]
    status, out, err = call(capsys, "reproduce", *flags)
    having = [name for name in presets() if f"\n{ZOOS[zoo]}:" in f"\n{preset_text(name)}"]
    if chosen in having:
        assert (status, yaml.safe_load(out)["zoo"], err) == (0, zoo, "")
    else:
        expected = (
            f"preset {chosen!r} has no settings for {ZOOS[zoo]}; presets that have: {', '.join(having)}"
        )
        assert (status, out, err) == (2, "", f"error: {expected}\n")


def preset_text(name):
    return importlib.resources.files("rnnatlas.presets").joinpath(f"{name}.yaml").read_text()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--print-config", "prints the settings of one zoo, found --zoo both"),
        (
            "--set=task.tokens=3",
            "settings should suit both zoos, but those of mnist: unknown setting task.tokens",
        ),
        (
            "--set=task.tile=4",
            "settings should suit both zoos, but those of languages: unknown setting task.til",
        ),
        ("--set=zoo.split.new_runs=0.2", "those of mnist: zoo.split.new_runs should be 0 for tiled-mnist"),
    ],
)
def test_what_both_zoos_do_not_share_is_refused(flag, message, tmp_path, capsys):
    status, out, err = call(capsys, "reproduce", "--zoo=both", "--out", tmp_path / "out", flag)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("command", "preset"), [("demo", "demo"), ("reproduce", "small")])
def test_the_device_is_passed_on(command, preset, tmp_path, capsys, monkeypatch):
    from rnnatlas import reproduce

    called = {}

    def made(out, preset, **flags):
        called.update(flags, preset=preset)
        return out

    monkeypatch.setattr(reproduce, "reproduce", made)
    monkeypatch.setattr("rnnatlas.report.findings.brief", lambda folder: [])
    monkeypatch.setattr("rnnatlas.atlas.index.Atlas.open", lambda folder: make_atlas(2))
    assert call(capsys, command, "--out", tmp_path / "out", "--device=cuda")[0] == 0
    assert (called["preset"], called["device"]) == (preset, "cuda")


def test_both_zoos_are_made_of_the_same_flags_and_only_mnist_has_data(tmp_path, capsys, monkeypatch):
    from rnnatlas import reproduce

    called = []

    def made(out, preset, **flags):
        called.append((out.name, flags["zoo"], flags["data"]))
        return out

    monkeypatch.setattr(reproduce, "reproduce", made)
    flags = ["--zoo=both", "--out", tmp_path, "--data", tmp_path / "images"]
    assert call(capsys, "reproduce", *flags)[0] == 0
    assert called == [
        ("mnist", "tiled-mnist", tmp_path / "images"),
        ("languages", "formal-languages", None),
    ]


@pytest.mark.parametrize("said", ["CUDA out of memory", "[enforce fail] you tried to: can't allocate memory"])
def test_torch_without_memory_is_one_sentence(said, capsys, monkeypatch):
    kind = torch.OutOfMemoryError if "CUDA" in said else RuntimeError

    def full(*_, **__):
        raise kind(said)

    monkeypatch.setattr("rnnatlas.reproduce.reproduce", full)
    status, _, err = call(capsys, "demo")
    expected = "error: not enough memory; use fewer RNNs or --workers at once, or a machine with more\n"
    assert (status, err) == (1, expected)


def test_other_errors_of_torch_are_not_taken_for_that(capsys, monkeypatch):
    monkeypatch.setattr("rnnatlas.reproduce.reproduce", lambda *_, **__: torch.ones(2) + torch.ones(3))
    with pytest.raises(RuntimeError, match="must match the size"):
        main(["demo"])


@pytest.mark.parametrize(
    ("command", "registry"),
    [
        ("bench", benchmarks.registry),
        ("train", divergences),
        ("embed", layouts.registry),
        ("map", layouts.registry),
    ],
)
def test_help_names_what_is_registered(command, registry, capsys):
    _, text, _ = call(capsys, command, "--help")
    for name in registry:
        assert re.search(rf"\b{name}\b", " ".join(text.replace("│", " ").split())), name
