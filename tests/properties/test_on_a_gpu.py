"""Encoders are trained and evaluated on a GPU as on the CPU."""

import pyarrow.parquet as pq
import pytest
import torch

from rnnatlas import encoders
from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings, Model
from rnnatlas.emulation.training import train
from rnnatlas.errors import SettingsError
from rnnatlas.properties.evaluate import evaluate
from rnnatlas.properties.supervised import SupervisedSettings

GPU = torch.cuda.is_available()
EMULATION = EmulationSettings(
    steps=4, rnns=4, validate_every=2, validation_rollouts=2, emulator=EmulatorSettings(width=8, layers=1)
)
END_TO_END = SupervisedSettings(properties=("task",), steps=4, rnns=8, every=2)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device")
@pytest.mark.parametrize("encoder", encoders.registry)
def test_a_gpu_comes_to_the_same(encoder, zoo, tmp_path):
    found = {}
    for device in ("cpu", "cuda"):
        train(zoo, encoder, tmp_path / device, 0, settings=EMULATION, device=device, progress=False)
        evaluate(tmp_path / device, zoo, supervised=END_TO_END, device=device)
        found[device] = pq.read_table(tmp_path / device / "losses.parquet").to_pandas()
        predicted = pq.read_table(tmp_path / device / "predictions.parquet")
        assert "supervised" in predicted["predictor"].to_pylist()
    model, population = Model.load(tmp_path / "cpu"), zoo.population(zoo.snapshots())
    on_cpu, on_gpu = model.embed(population), model.to("cuda").embed(population)
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=0)
    for told in ("own", "shuffled", "zero"):
        assert found["cuda"][told].to_numpy() == pytest.approx(found["cpu"][told].to_numpy(), abs=1e-2)


@pytest.mark.skipif(GPU, reason="there is a CUDA device")
def test_a_gpu_that_is_not_there(trained, zoo):
    with pytest.raises(SettingsError, match="finds no CUDA device; use --device cpu"):
        evaluate(trained, zoo, device="cuda")
