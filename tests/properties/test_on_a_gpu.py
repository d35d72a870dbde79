"""Encoders are trained and evaluated on a GPU as on the CPU."""

import numpy as np
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
    steps=20,
    rnns=8,
    learning_rate=1e-2,
    validate_every=10,
    validation_rollouts=2,
    emulator=EmulatorSettings(width=8, layers=1),
)
END_TO_END = SupervisedSettings(properties=("task",), steps=4, rnns=8, every=2)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device")
@pytest.mark.parametrize("encoder", encoders.registry)
def test_a_gpu_comes_to_the_same(encoder, zoo, tmp_path):
    found, predicted, history = {}, {}, {}
    for device in ("cpu", "cuda"):
        run = tmp_path / device
        # orders of hidden units are drawn on the device
        own = {"permute": False} if encoder in ("flat", "transformer") else {}
        train(zoo, encoder, run, encoder_settings=own, settings=EMULATION, device=device, progress=False)
        evaluate(run, zoo, supervised=END_TO_END, device=device)
        found[device] = pq.read_table(run / "losses.parquet")
        rows = pq.read_table(run / "predictions.parquet", filters=[("predictor", "==", "supervised")])
        predicted[device] = np.array(rows["prediction"].to_pylist())
        history[device] = np.loadtxt(run / "history.csv", delimiter=",", skiprows=1)
    model, population = Model.load(tmp_path / "cpu"), zoo.population(zoo.snapshots())
    on_cpu, on_gpu = model.embed(population), model.to("cuda").embed(population)
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=0)
    for told in ("own", "shuffled", "zero"):
        assert found["cuda"][told].to_numpy() == pytest.approx(found["cpu"][told].to_numpy(), abs=1e-2)
    assert predicted["cuda"] == pytest.approx(predicted["cpu"], abs=5e-2)
    first, last = history["cuda"][[0, -1], 1]
    assert first - last > 0.02  # it learned


@pytest.mark.skipif(GPU, reason="there is a CUDA device")
def test_a_gpu_that_is_not_there(trained, zoo):
    with pytest.raises(SettingsError, match="finds no CUDA device; use --device cpu"):
        evaluate(trained, zoo, device="cuda")
