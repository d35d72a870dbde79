"""Files that know whether they are as they were written."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from rnnatlas.checked import Kind, load_tensors, read_json, read_table, save_tensors, write_table
from rnnatlas.errors import AtlasFormatError
from rnnatlas.tables import is_number, is_text

KIND = Kind("figures", AtlasFormatError, "make them again")
COLUMNS = {"name": is_text, "value": is_number}
TABLE = pa.table({"name": [f"rnn {i}" for i in range(50)], "value": np.random.default_rng(0).normal(size=50)})
TENSORS = {"a": torch.randn(5, 3), "b": torch.arange(4), "c": torch.tensor(0.5), "d": torch.zeros(2).half()}


def read_tensors(path):
    tensors, metadata = load_tensors(path, KIND)
    return metadata.get("made"), {name: (str(own.dtype), own.tolist()) for name, own in tensors.items()}


FILES = {
    "table": (lambda path: write_table(path, TABLE), lambda path: read_table(path, KIND, COLUMNS)),
    "tensors": (lambda path: save_tensors(path, TENSORS, {"made": "today"}), read_tensors),
}


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_stays_unseen(name, tmp_path):
    write, read = FILES[name]
    path = tmp_path / "file"
    write(path)
    before, whole = read(path), path.read_bytes()
    silent = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            silent += before != read(path)
        except AtlasFormatError as error:
            assert "is damaged" in str(error)  # noqa: PT017
    assert silent == 0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), MemoryError(), OSError(24, "no"), OSError(5, "no")]
)
def test_what_cannot_be_got_at_is_not_called_damaged(name, error, tmp_path, monkeypatch):
    write, read = FILES[name]
    write(tmp_path / "file")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("pathlib.Path.open", fail)
    with pytest.raises(AtlasFormatError, match="cannot be read") as found:
        read(tmp_path / "file")
    assert "make them again" not in str(found.value)


def test_files_of_older_versions_are_read(tmp_path):
    pq.write_table(TABLE, tmp_path / "a")
    assert read_table(tmp_path / "a", KIND, COLUMNS).equals(TABLE)
    safetensors.torch.save_file(TENSORS, tmp_path / "b")
    assert load_tensors(tmp_path / "b", KIND)[1] == {}


def test_other_programs_read_them(tmp_path):
    for name, (write, _) in FILES.items():
        write(tmp_path / name)
    assert pq.read_table(tmp_path / "table").equals(TABLE)
    assert safetensors.torch.load_file(tmp_path / "tensors")["b"].tolist() == [0, 1, 2, 3]


def test_the_same_tensors_and_texts_make_the_same_file(tmp_path):
    path, contents = tmp_path / "file", set()
    for _ in range(10):
        save_tensors(path, TENSORS, {name: name for name in "abcdef"})
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert safetensors.torch.load_file(path)["a"].equal(TENSORS["a"])


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"name": [1, 2], "value": [1, 2]}, "'name' is of the type int64"),
        ({"name": ["a", None], "value": [1, 2]}, "'name' lacks values"),
        ({"name": ["a"]}, "one column 'value', found 0"),
    ],
)
def test_tables_with_other_columns_are_refused(columns, why, tmp_path):
    write_table(tmp_path / "a", pa.table(columns))
    with pytest.raises(AtlasFormatError, match=why):
        read_table(tmp_path / "a", KIND, COLUMNS)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[NaN]", "\udcff", "1" * 5000])
def test_json_that_is_none_of_ours_is_refused(text, tmp_path):
    (tmp_path / "a").write_text(text, errors="surrogateescape")
    with pytest.raises(AtlasFormatError, match="is damaged"):
        read_json(tmp_path / "a", KIND)
    (tmp_path / "a").write_text(json.dumps([1]))
    assert read_json(tmp_path / "a", KIND) == [1]
