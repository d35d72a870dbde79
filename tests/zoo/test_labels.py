import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnatlas.errors import DataError, UnknownName
from rnnatlas.zoo.labels import in_order, of_files, read

FILES = ["nets/a.pt", "nets/b.pt", "nets/deep/b.pt", "nets/deep/c.ckpt"]


def matched(names, column="file", files=FILES, runs=(0, 1, 2, 3), **options):
    table = read({column: names, "x": list(range(len(names)))})
    return of_files(table, files, [f"{file}:rnn" for file in files], runs, **options)


@pytest.mark.parametrize("column", ["file", "path", "id", "Name"])
@pytest.mark.parametrize(
    "names",
    [
        ["nets/a.pt", "nets/b.pt", "nets/deep/b.pt", "nets/deep/c.ckpt"],
        ["./nets/a.pt", "nets/b", "deep/b.pt", "c"],
        ["a", "nets\\b.pt", "deep/b", "c.ckpt"],
        [str(Path(file).resolve()) for file in FILES],
        ["a.pt:rnn", "nets/b.pt:rnn", "deep/b.pt:rnn", "c.ckpt:rnn"],
    ],
)
def test_a_row_names_a_file_by_its_path_the_end_of_it_or_without_suffix(column, names):
    found = matched(names, column)
    assert found.table["x"].to_pylist() == [0, 1, 2, 3]
    assert not found.remarks


def test_a_path_relative_to_what_was_imported_goes_first():
    with pytest.raises(DataError, match=r"row of b.pt fits 2 files \(nets/b.pt, nets/deep/b.pt\)"):
        matched(["b.pt"])
    assert matched(["b.pt"], roots=["nets/"]).table["x"].to_pylist() == [None, 0, None, None]


def test_what_does_not_match_is_said_and_kept_with_nulls():
    found = matched(["c", "z.pt", "y"])
    assert found.table.to_pylist()[0] == {"file": None, "x": None}
    assert found.table["x"].to_pylist() == [None, None, None, 0]
    assert found.remarks == [
        "2 rows of the labels are about no RNN here: z.pt, y",
        "3 RNNs have no labels: nets/a.pt:rnn, nets/b.pt:rnn, nets/deep/b.pt:rnn",
    ]


def test_a_row_of_a_folder_or_of_one_checkpoint_is_about_the_whole_run():
    files, runs = ["s/step_1.pt", "s/step_2.pt", "t/step_1.pt"], (0, 0, 1)
    for names in (["s", "t"], ["s/step_2.pt", "t/step_1"]):
        assert matched(names, files=files, runs=runs).table["x"].to_pylist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("names", "column", "words"),
    [
        (["a.pt"], "which", r"a column that names the files of RNNs \(file, path, id, name\), found none of"),
        (["z", None], "file", "'file' with z, None"),
        (["a.pt", "nets/a.pt"], "file", "two rows of the labels are about nets/a.pt:rnn"),
    ],
)
def test_labels_that_fit_nothing_are_one_sentence(names, column, words):
    with pytest.raises(DataError, match=words) as caught:
        matched(names, column)
    assert "\n" not in str(caught.value)


# --- reading -------------------------------------------------------------------------------------------


def test_names_stay_text_and_kinds_are_told(tmp_path):
    text = "file,lr,hidden,good,note,\n007,0.5,8,true,x,0\n010,NaN,16,false,,1\n"
    (tmp_path / "a.csv").write_text(text)
    found = read(tmp_path / "a.csv")
    assert found.to_pylist() == [
        {"file": "007", "lr": 0.5, "hidden": 8, "good": "true", "note": "x", "index": 0},
        {"file": "010", "lr": None, "hidden": 16, "good": "false", "note": None, "index": 1},
    ]
    pq.write_table(found, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").equals(found)
    assert read(found.to_pydict()).equals(found)
    (tmp_path / "b.csv").write_text(text.replace(",", ";"))
    assert read(tmp_path / "b.csv").equals(found)


def test_data_frames_are_read():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.5, None], "kind": pandas.Categorical(["x", "y"])}, index=[7, 9])
    assert read(frame).to_pydict() == {"a": [1.5, None], "kind": ["x", "y"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("file,a\n", "a row for each network, found none"),
        ("file,a,a\nx,1,2\n", "found 'a' twice"),
        ("file,a\nx,inf\n", "the label 'a' of .* should be finite"),
        ("file,a\nx\n", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used_are_one_sentence(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("a.csv", "a.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match="a pipe or a device, not a file"):
            read(tmp_path / name)


def test_what_is_no_table_is_one_sentence():
    for given in (5, ["a"], object()):
        with pytest.raises(DataError, match="labels should be a table"):
            read(given)


def test_labels_in_memory_are_in_order():
    assert in_order(pa.table({"a": [1, 2]}), 2).table.num_rows == 2
    with pytest.raises(DataError, match="each of the 3 networks, found 2"):
        in_order(pa.table({"a": [1, 2]}), 3)
    with pytest.raises(UnknownName, match="no column 'task' to group by"):
        in_order(pa.table({"a": [1, 2]}), 2).column("task")
