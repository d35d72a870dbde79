import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnatlas.errors import SettingsError
from rnnatlas.zoo.format import as_column, write_shard
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.verify import verify


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
