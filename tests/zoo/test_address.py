"""Zoos in an object store are written and read as those in folders are."""

import dataclasses

import pytest

from rnnatlas.errors import DataError, OutputExists, RNNAtlasError, SettingsError
from rnnatlas.zoo import build as building
from rnnatlas.zoo.build import build
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.target import Target

from .conftest import SETTINGS, TASK
from .test_build import same

pytest.importorskip("s3fs")
FEW = dataclasses.replace(SETTINGS, runs_per_shard=3)


@pytest.fixture(scope="module")
def bucket():
    """The address of a bucket of a server on this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "anyone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_zoo_is_built_there_resumed_and_read(bucket, tmp_path, monkeypatch):
    place, written = f"{bucket}/a/zoo", []
    original = building.write_shard

    def write(path, *table):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        original(path, *table)

    monkeypatch.setattr(building, "write_shard", write)
    with pytest.raises(KeyboardInterrupt):
        build(TASK, FEW, place, seed=7, workers=1)
    with pytest.raises(RNNAtlasError, match="finish it with `rnnatlas zoo build --resume`"):
        Zoo.open(place)
    with pytest.raises(OutputExists, match="go on with a zoo begun there with --resume"):
        build(TASK, FEW, place, seed=7, workers=1)
    monkeypatch.undo()
    begun = Target(place).names()
    assert len([name for name in begun if name.endswith(".parquet")]) == 2
    zoo = build(TASK, FEW, place, seed=7, workers=1, resume=True)
    here = build(TASK, FEW, tmp_path / "zoo", seed=7, workers=1)
    assert same(zoo, here)
    assert Target(place).names() == Target(str(tmp_path / "zoo")).names()
    assert zoo.identity == here.identity
    assert not [path for path in Target(place).folder.rglob("*") if path.is_file()], "all was sent"


def test_what_is_not_there_or_not_to_be_had_is_one_sentence(bucket, monkeypatch):
    with pytest.raises(RNNAtlasError, match="there is no zoo at s3://bucket/none"):
        Zoo.open(f"{bucket}/none")
    with pytest.raises(DataError, match=r"s3://nowhere/zoo should be a place .* check the address"):
        build(TASK, FEW, "s3://nowhere/zoo", workers=1)
    with pytest.raises(SettingsError, match="nothing can be written to what://ever"):
        build(TASK, FEW, "what://ever", workers=1)
