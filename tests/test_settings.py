"""Laws of layered settings: what lies on top counts, all else stays, and everything can be written down."""

import copy
import itertools

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnatlas.cli import main
from rnnatlas.settings import build, leaves, merge, preset, read_yaml, to_yaml
from rnnatlas.zoo.train import ZooSettings

VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["a", "true", "1e-4"]))
LAYERS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.one_of(VALUES, inner), max_size=3),
    max_leaves=8,
)


@given(LAYERS, LAYERS, LAYERS)
def test_layers_may_be_laid_over_one_another_in_any_grouping(a, b, c):
    before = copy.deepcopy((a, b, c))
    assert merge(merge(a, b), c) == merge(a, b, c)
    assert merge(a, {}) == merge({}, a) == merge(a, None) == merge(a, a) == a
    assert (a, b, c) == before, "layers stay as they are"


@given(LAYERS, LAYERS)
def test_what_the_upper_layer_names_counts_and_all_else_is_the_lower_ones(below, above):
    found, upper = leaves(merge(below, above)), leaves(above)
    for name, value in upper.items():
        if value != {}:
            assert found[name] == value
    for name, value in leaves(below).items():
        parts = name.split(".")
        ancestors = {".".join(parts[:size]) for size in range(1, len(parts) + 1)}
        if not ancestors & set(upper) and not any(other.startswith(f"{name}.") for other in upper):
            assert found[name] == value


@settings(max_examples=30)
@given(LAYERS)
def test_plain_values_survive_a_file(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("settings") / "a.yaml"
    path.write_text(to_yaml(values), encoding="utf-8")
    assert read_yaml(path) == values


@given(LAYERS)
def test_whole_names_say_all(values):
    again = merge(*({}, *(_nested(name.split("."), value) for name, value in leaves(values).items())))
    assert again == values


def _nested(parts, value):
    for part in reversed(parts):
        value = {part: value}
    return value


def printed(capsys, *flags):
    with pytest.raises(SystemExit) as ended:
        main(["zoo", "build", "formal-languages", "--out=z", "--print-config", *map(str, flags)])
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    return yaml.safe_load(out)["settings"]["zoo"]["runs"]


WAYS = {"preset": 384, "file": 11, "set": 12, "flag": 13}
"""Ways to say how many RNNs, from the lowest to the highest, each with what it says."""


@pytest.mark.parametrize(
    "ways", [ways for size in range(5) for ways in itertools.combinations(WAYS, size)], ids="-".join
)
def test_defaults_preset_file_set_and_flag_lie_over_one_another(ways, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("settings: {zoo: {runs: 11}}")
    words = {
        "preset": ["--preset=demo"],
        "file": ["--config", path],
        "set": ["--set=zoo.runs=12"],
        "flag": ["--runs=13"],
    }
    assert preset("demo", "formal-languages")["zoo"]["runs"] == WAYS["preset"]
    expected = WAYS[ways[-1]] if ways else ZooSettings().runs
    assert printed(capsys, *itertools.chain(*(words[way] for way in ways))) == expected


def test_of_the_same_setting_the_last_word_counts(tmp_path, capsys):
    assert printed(capsys, "--set=zoo.runs=5", "--set=zoo.batch=3", "--set=zoo.runs=6") == 6


@given(st.permutations(["runs", "batch", "rollouts"]))
def test_the_order_of_settings_does_not_matter(order):
    values = {"runs": 3, "batch": 4, "rollouts": 5}
    assert build(ZooSettings, {name: values[name] for name in order}) == ZooSettings(**values)
