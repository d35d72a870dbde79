"""The map is one safe file that holds what readers can ask for."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from rnnatlas.atlas import colours
from rnnatlas.atlas.columns import colour_columns, default_column
from rnnatlas.atlas.index import Atlas
from rnnatlas.atlas.map import _packed_column, document, write_map
from rnnatlas.atlas.pages import packed, unpacked
from rnnatlas.cli import main
from rnnatlas.errors import OutputExists, SettingsError, UnknownName
from rnnatlas.tasks.tiled_mnist import TiledDigits

HOSTILE = "</script><img src=x onerror=alert(1)>"


def data_of(text: str) -> dict:
    """What the page's script reads."""
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert match
    return everything(json.loads(match[1]))


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def everything(value):
    """Data with what is packed in it unpacked."""
    if isinstance(value, dict):
        return unpacked(value) if "packed" in value else {key: everything(one) for key, one in value.items()}
    return [everything(one) for one in value] if isinstance(value, list) else value


def test_holds_everything_and_loads_nothing(atlas):
    text = document(atlas)
    data = data_of(text)
    assert data["ids"] == atlas.ids
    (encoder,) = data["encoders"]
    assert [layout["name"] for layout in encoder["layouts"]] == ["PCA"]
    assert np.array_equal(encoder["layouts"][0]["x"], atlas.table["x"].to_numpy())
    kept = encoder["embedding"].reshape(len(atlas), 16).astype(float)
    assert np.abs(cosines(kept) - cosines(atlas.embeddings)).max() < 1e-4
    keys = {column["key"] for column in data["columns"]}
    assert {"label", "metrics.performance", "step", "split", "task.b", "task.c", "spec"} <= keys
    assert not {"id", "x", "y", "embedding", "samples"} & keys
    assert data["color"] == "label"
    own = text[: text.index("plotly.js")] + text[text.rindex('id="data"') :]
    assert "http" not in own.replace("http-equiv", "").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "default-src 'none'" in text


def test_hostile_texts_do_not_become_markup(atlas):
    hostile = pa.array([HOSTILE] * len(atlas))
    table = atlas.table
    for name in ("id", "label", "source", "split"):
        table = table.set_column(table.column_names.index(name), name, hostile)
    samples = pa.array([[HOSTILE]] * len(atlas))
    table = table.set_column(table.column_names.index("samples"), "samples", samples)
    text = document(Atlas({**atlas.card, "encoder": HOSTILE}, table))
    assert HOSTILE not in text
    assert data_of(text)["ids"][0] == HOSTILE


@pytest.mark.parametrize("column", ["performance", "metrics.performance", "step", "task: b", "architecture"])
def test_colour_by_full_or_short_name(atlas, column):
    data = data_of(document(atlas, column))
    chosen = next(own for own in data["columns"] if own["key"] == data["color"])
    assert column in (chosen["key"], chosen["name"])


def test_columns_are_called_what_people_call_them():
    struct = pa.array([{"final_loss": 0.5}, {"final_loss": 0.25}])
    columns = {"labels": struct, "metrics": struct, "in_distribution": pa.array([True, False])}
    named = {column["key"]: column["name"] for column in colour_columns(pa.table(columns))}
    assert named == {
        "labels.final_loss": "final_loss",  # as its owner wrote it
        "metrics.final_loss": "final loss",
        "in_distribution": "like the zoo",
    }


def test_unknown_column_names_the_nearest(atlas):
    with pytest.raises(UnknownName, match="no column 'performnce' to colour by; did you mean 'performance'"):
        document(atlas, "performnce")


def test_columns_to_colour_by_are_listed_once(atlas):
    with pytest.raises(UnknownName, match="no column 'qqq' to colour by; known are ") as raised:
        document(atlas, "qqq")
    listed = str(raised.value).partition("known are ")[2].split(", ")
    assert len(listed) == len({name.rpartition(".")[2].replace("task: ", "") for name in listed}) > 3


def test_kinds_of_columns(atlas):
    columns = {column["key"]: column for column in colour_columns(atlas.table)}
    assert columns["metrics.performance"]["kind"] == "number"
    assert columns["step"]["kind"] == "ordered"
    assert columns["step"]["categories"] == ["0", "100", "200", "500"]
    assert columns["split"]["kind"] == "category"
    label = columns["label"]
    decoded = [label["categories"][code] for code in label["values"]]
    assert decoded == atlas.table["label"].to_pylist()
    tasks = {
        name: (task["b"], task["c"])
        for name, task in zip(decoded, atlas.table["task"].to_pylist(), strict=True)
    }
    assert label["categories"] == sorted(tasks, key=lambda name: tasks[name])
    assert len(set(label["colors"])) == len(label["categories"])


def test_angles_are_cyclic_and_missing_values_stay_missing():
    angles = [10.5, None, float("nan"), 300.0] * 5
    (column,) = colour_columns(pa.table({"angle": angles}))
    assert column["cyclic"]
    assert column["values"][:4] == [10.5, None, None, 300.0]


def test_lists_colour_no_map():
    lists = pa.array([["a"], ["b"]])
    assert [column["key"] for column in colour_columns(pa.table({"lists": lists, "step": [1, 2]}))] == [
        "step"
    ]


def test_angles_of_tasks_colour_the_map_first():
    tasks = [{"angle": float(angle)} for angle in range(20)]
    table = pa.table({"label": [f"{task['angle']}°" for task in tasks], "task": tasks})
    assert default_column(colour_columns(table)) == "task.angle"
    assert default_column(colour_columns(table.select(["label"]))) == "label"


def test_labels_of_angles_have_colours_that_go_round_and_see_angles_alone():
    angles = [359.7, 0.2, 1.0, 90.0, 180.0, 270.0, 359.0]
    tasks = [{"angle": angle, "weight_decay": 0.1 * place} for place, angle in enumerate(angles)]
    label, *_ = colour_columns(
        pa.table({"label": [TiledDigits().label(task) for task in tasks], "task": tasks})
    )
    assert label["categories"] == ["0°", "1°", "90°", "180°", "270°", "359°"]
    assert label["values"] == [0, 0, 1, 2, 3, 4, 5]

    def distance(a, b):
        a, b = (label["colors"][label["categories"].index(own)] for own in (a, b))
        return sum((int(a[i : i + 2], 16) - int(b[i : i + 2], 16)) ** 2 for i in (1, 3, 5)) ** 0.5

    assert distance("359°", "1°") < 10
    assert min(distance("90°", "270°"), distance("0°", "180°"), distance("180°", "270°")) > 50


def test_atlas_of_checkpoints_alone_has_a_map():
    vectors = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    table = pa.table(
        {
            "id": ["a.pt", "b.pt", "c.pt"],
            "source": ["a.pt", "b.pt", "c.pt"],
            "spec": ["lstm-5-16x1-5"] * 3,
            "samples": pa.array([[], [], []], pa.list_(pa.string())),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 16),
            "x": pa.array([0.0, 1.0, 0.5], pa.float32()),
            "y": pa.array([0.0, 1.0, 0.5], pa.float32()),
        }
    )
    data = data_of(document(Atlas({"encoder": "interactive", "layout": "pca"}, table)))
    assert data["columns"][0]["categories"] == ["LSTM 5→16→5"]


def test_nothing_is_overwritten(atlas, tmp_path):
    (tmp_path / "map.html").write_text("mine")
    with pytest.raises(OutputExists, match="exists already"):
        write_map(atlas, tmp_path / "map.html")
    assert (tmp_path / "map.html").read_text() == "mine"


def test_force_replaces_a_file_but_not_a_folder(atlas, tmp_path, capsys):
    atlas.save(tmp_path / "atlas")
    out = tmp_path / "map.html"
    out.write_text("mine")
    command = ["map", str(tmp_path / "atlas"), "--out", str(out)]
    for extra, status in ([], 1), (["--force"], 0):
        with pytest.raises(SystemExit) as ended:
            main([*command, *extra])
        assert (ended.value.code or 0) == status
        assert (out.read_text() == "mine") == bool(status)
    assert "--force" in capsys.readouterr().err
    with pytest.raises(OutputExists, match="found a folder"):
        write_map(atlas, tmp_path / "atlas", force=True)
    assert Atlas.open(tmp_path / "atlas").ids == atlas.ids


def test_further_layouts_and_encoders(atlas):
    order = np.random.default_rng(0).permutation(len(atlas))
    other = Atlas({**atlas.card, "layout": "tsne"}, atlas.table.take(pa.array(order)))
    data = data_of(document(atlas, layouts=["tsne"], others=[other]))
    first, second = data["encoders"]
    assert [first["name"], second["name"]] == ["interactive probing", "interactive probing (2)"]
    assert [layout["name"] for layout in first["layouts"]] == ["t-SNE", "PCA"]
    assert np.array_equal(first["embedding"], second["embedding"])
    assert np.array_equal(first["layouts"][1]["y"], second["layouts"][0]["y"])


def test_an_atlas_of_other_rnns_is_refused(atlas):
    other = Atlas(atlas.card, atlas.table.slice(1))
    with pytest.raises(SettingsError, match=f"without 1 of them, such as '{atlas.ids[0]}'"):
        document(atlas, others=[other])


def test_runs_of_one_number_in_two_zoos_are_two(atlas):
    sources = pa.array(["a", "b"] * (len(atlas) // 2))
    table = atlas.table.set_column(atlas.table.column_names.index("source"), "source", sources)
    runs = data_of(document(Atlas(atlas.card, table)))["runs"]
    assert len(set(runs["run"])) == 2 * len(set(atlas.table["run"].to_pylist()))
    assert runs["step"].tolist() == atlas.table["step"].to_pylist()
    single = atlas.table.filter(pa.compute.equal(atlas.table["step"], 0))
    assert data_of(document(Atlas(atlas.card, single)))["runs"] is None


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4", "u1", "u2", "u4"])
def test_packed_arrays_and_texts_come_back(kind):
    numbers = np.random.default_rng(0).integers(0, 100, 7).astype(kind)
    assert np.array_equal(unpacked(packed(numbers)), numbers)
    assert unpacked(packed(numbers)).dtype == numbers.dtype
    assert unpacked(packed(["ⁿ", None, [HOSTILE]])) == ["ⁿ", None, [HOSTILE]]


def test_numbers_keep_five_digits_whole_numbers_all():
    numbers = [123456.789, -0.000123456, 0.0, 1e30, None, float("inf")]
    table = pa.table({"loss": numbers * 3, "steps": [2**24 + 1 + i for i in range(18)]})
    steps, loss = colour_columns(table)
    assert loss["values"][:6] == [123460.0, -0.00012346, 0.0, 1e30, None, None]
    assert steps["values"] == table["steps"].to_pylist()
    data = everything(_packed_column(steps))
    assert data["values"].tolist() == steps["values"]


@pytest.mark.parametrize("count", [1, 8, 9, 40])
def test_categorical_colours_are_distinct(count):
    found = colours.categorical(count)
    assert len(set(found)) == count
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in found)


def test_near_tasks_get_near_colours():
    grid = [(b, c) for b in range(-3, 3) for c in range(-3, 3)]
    found = dict(zip(grid, colours.by_numbers(grid), strict=True))

    def distance(a, b):
        return sum((int(found[a][i : i + 2], 16) - int(found[b][i : i + 2], 16)) ** 2 for i in (1, 3, 5))

    assert distance((0, 0), (0, 1)) < distance((-3, -3), (2, 2))
    assert len(set(found.values())) == len(grid)
