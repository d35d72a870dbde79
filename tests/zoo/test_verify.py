import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnatlas.errors import SettingsError, ZooFormatError
from rnnatlas.zoo.build import build
from rnnatlas.zoo.format import as_column, write_shard
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.verify import damaged, verify

from .conftest import SETTINGS, TASK


def change(zoo_folder, shard, row, edit, column="weights"):
    """Edits one row of an array column in place."""
    path = sorted(zoo_folder.glob("data/*/*.parquet"))[shard]
    table = pq.read_table(path)
    values = table[column].combine_chunks()
    array = np.stack([np.array(own) for own in values.to_pylist()]).astype(np.float32).copy()
    edit(array[row])
    write_shard(path, table.set_column(table.column_names.index(column), column, as_column(array)))
    return table["id"][row].as_py()


def test_a_zoo_as_it_was_built_agrees_throughout(zoo_folder):
    found = verify(Zoo.open(zoo_folder), sample=None)
    assert found.checked == found.agree == found.snapshots == 42
    assert found.diverged == 0
    assert found.largest_difference < 0.01


def test_a_sample_is_drawn_and_the_same_again(zoo_folder):
    zoo = Zoo.open(zoo_folder)
    assert verify(zoo, sample=5) == verify(zoo, sample=5)
    assert verify(zoo, sample=5).checked == 5
    with pytest.raises(SettingsError, match="1 or more"):
        verify(zoo, sample=0)


def test_tampered_weights_are_found(zoo_folder):
    def tamper(weights):
        weights[17] += 0.5

    tampered = change(zoo_folder, 1, 4, tamper)
    found = verify(Zoo.open(zoo_folder), sample=None)
    assert found.outputs_differ == [tampered]
    assert found.agree == 41


def test_weights_that_are_not_finite_are_found(zoo_folder):
    def tamper(weights):
        weights[0] = np.inf

    tampered = change(zoo_folder, 0, 2, tamper)
    found = verify(Zoo.open(zoo_folder), sample=None)
    assert found.not_finite == [tampered]
    assert found.agree == 41


def test_wrong_metrics_are_found(zoo_folder):
    path = sorted(zoo_folder.glob("data/*/*.parquet"))[0]
    table = pq.read_table(path)
    rows = table["metrics"].to_pylist()
    rows[5]["performance"] += 0.5
    metrics = pa.array(rows, table.schema.field("metrics").type)
    write_shard(path, table.set_column(table.column_names.index("metrics"), "metrics", metrics))
    found = verify(Zoo.open(zoo_folder), sample=None)
    assert found.metrics_differ == [table["id"][5].as_py()]
    assert not found.outputs_differ


def test_shards_that_are_not_as_they_were_written_are_named(zoo_folder):
    first, second, third, _ = sorted(zoo_folder.glob("data/*/*.parquet"))
    assert damaged(zoo_folder) == ({}, 4)
    content = bytearray(first.read_bytes())
    for place in (100, len(content) // 2, len(content) - 300):  # a page's header, a page, the footer
        content[place] ^= 1
        first.write_bytes(content)
        found, _ = damaged(zoo_folder)
        assert [name.rpartition("/")[2] for name in found] == [first.name]
        content[place] ^= 1
    first.write_bytes(content)
    shutil.copyfile(second, third)
    assert "another one" in damaged(zoo_folder)[0][str(third.relative_to(zoo_folder))]


def test_a_shard_over_another_or_of_another_zoo_is_refused(zoo_folder, tmp_path):
    first, second, *_ = sorted(zoo_folder.glob("data/*/*.parquet"))
    other = build(TASK, SETTINGS, tmp_path / "other", seed=8, workers=1).path
    kept = second.read_bytes()
    for source, why in (
        (first, "is another one"),
        (other / second.relative_to(zoo_folder), "of another zoo"),
    ):
        shutil.copyfile(source, second)
        with pytest.raises(ZooFormatError, match=f"{second.name} .* {why}"):
            Zoo.open(zoo_folder)
    write_shard(second, pq.read_table(first).replace_schema_metadata(None))  # as older versions wrote it
    with pytest.raises(ZooFormatError, match="holds snapshots twice"):
        Zoo.open(zoo_folder)
    second.write_bytes(kept)
    card = zoo_folder / "zoo.json"
    card.write_text(card.read_text().replace('"seed": 7', '"seed": 6'))
    with pytest.raises(ZooFormatError, match="settings or seed are others"):
        Zoo.open(zoo_folder)


def test_zoos_of_older_versions_are_read(zoo_folder):
    for path in zoo_folder.glob("data/*/*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    card = zoo_folder / "zoo.json"
    card.write_text(re.sub(r',\s*"shards_of": ".*"', "", card.read_text()))
    assert "shards_of" not in card.read_text()
    assert len(Zoo.open(zoo_folder).population(range(42))) == 42
    assert damaged(zoo_folder) == ({}, 4)
