"""Encoders are trained and evaluated on a GPU as on the CPU."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rnnatlas import encoders
from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings, TrainedRun
from rnnatlas.emulation.training import train
from rnnatlas.errors import SettingsError
from rnnatlas.evaluation.evaluate import evaluate
from rnnatlas.evaluation.supervised import SupervisedSettings

GPU = torch.cuda.is_available()
EMULATION = EmulationSettings(
    steps=12,
    rnns=8,
    learning_rate=1e-2,
    validate_every=4,
    validation_rollouts=2,
    emulator=EmulatorSettings(width=8, layers=1),
)
ENCODERS = [name for name, kind in encoders.registry.items() if not kind.turns]  # languages have none
END_TO_END = SupervisedSettings(properties=("task",), steps=4, rnns=8, every=4)  # nothing to choose among


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_training_goes_the_same_way(encoder, zoo, tmp_path, stop_at):
    """From a state that training on the CPU left: whitening at the start blows rounding up."""
    # orders of hidden units are drawn on the device
    own = {"augment": "none"} if encoder in ("flat", "transformer") else {}
    zero = train(zoo, "zero", tmp_path / "zero", settings=EMULATION, device="cpu", progress=False)
    asked = {"encoder_settings": own, "settings": EMULATION, "control": zero.path, "progress": False}
    with stop_at(4):
        train(zoo, encoder, tmp_path / "cpu", device="cpu", **asked)
    shutil.copytree(tmp_path / "cpu", tmp_path / "cuda")
    history = {}
    for device in ("cpu", "cuda"):
        train(zoo, encoder, tmp_path / device, device=device, resume=True, **asked)
        history[device] = np.loadtxt(tmp_path / device / "history.csv", delimiter=",", skiprows=1)[:, 2]
    learned = abs(np.diff(history["cpu"])).max()  # lost steps would be missed by that much
    assert learned > 1e-3
    assert abs(history["cuda"] - history["cpu"]).max() < learned / 4


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_run_is_evaluated_alike(encoder, zoo, tmp_path):
    train(zoo, encoder, tmp_path / "cpu", settings=EMULATION, device="cpu", progress=False)
    shutil.copytree(tmp_path / "cpu", tmp_path / "cuda")
    found, predicted = {}, {}
    for device in ("cpu", "cuda"):
        evaluate(tmp_path / device, zoo, supervised=END_TO_END, device=device)
        found[device] = pq.read_table(tmp_path / device / "losses.parquet")
        rows = pq.read_table(tmp_path / device / "predictions.parquet").to_pylist()
        predicted[device] = {
            name: np.concatenate([row["prediction"] for row in rows if row["predictor"] == name])
            for name in ("embedding", "supervised")
        }
    for kind in ("conditioned", "shuffled", "zero"):
        assert found["cuda"][kind].to_numpy() == pytest.approx(found["cpu"][kind].to_numpy(), abs=1e-4)
    assert np.corrcoef(predicted["cuda"]["embedding"], predicted["cpu"]["embedding"])[0, 1] > 0.95
    assert np.isfinite(predicted["cuda"]["supervised"]).all()
    model, population = TrainedRun.load(tmp_path / "cpu"), zoo.population(zoo.snapshots())
    on_cpu, on_gpu = model.embed(population), model.to("cuda").embed(population)
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=0)


@pytest.mark.skipif(GPU, reason="there is a CUDA device")
def test_a_gpu_that_is_not_there(trained, zoo):
    with pytest.raises(SettingsError, match="finds no CUDA device; use --device cpu"):
        evaluate(trained, zoo, device="cuda")
