"""An atlas that was made in parts is the one that was made at once."""

import pytest

from rnnatlas import executors
from rnnatlas.atlas import parts
from rnnatlas.atlas.embed import embed
from rnnatlas.atlas.parts import embed_in_parts
from rnnatlas.errors import SettingsError
from rnnatlas.evaluation.model import load
from rnnatlas.zoo.store import Zoo


def test_parts_are_made_once_and_are_the_whole(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART", 16)
    model, zoo = load(experiment / "interactive-0"), Zoo.open(experiment / "zoo")
    whole = embed(model, zoo, layout="pca")
    made = []
    original = parts.Part.__call__

    def interrupted(part, beat):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(part.start)
        original(part, beat)

    runner = executors.make("local", 1)
    with monkeypatch.context() as patch:
        patch.setattr(parts.Part, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed_in_parts(runner, tmp_path / "atlas", model, zoo, layout="pca")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(kept) == 2
    monkeypatch.setattr(
        parts.Part, "__call__", lambda part, beat: (made.append(part.start), original(part, beat))[1]
    )
    found = embed_in_parts(runner, tmp_path / "atlas", model, zoo, layout="pca")
    assert sorted(made) == list(range(0, len(zoo), 16))
    assert found.table.schema == whole.table.schema
    for name in ("id", "source", "spec", "step", "label", "samples", "notes"):
        assert found.table[name].to_pylist() == whole.table[name].to_pylist()
    for own, other in zip(found.table["embedding"].to_pylist(), whole.table["embedding"].to_pylist()):
        assert own == pytest.approx(other, abs=1e-5)
    assert found.card == whole.card
    assert not list(tmp_path.iterdir())


def test_jobs_need_a_run(tmp_path):
    with pytest.raises(SettingsError, match="embeds by a trained run, found --encoder invariants"):
        embed_in_parts(executors.make("local", 1), tmp_path / "atlas", "invariants", [])
