"""Files as the trainers of guitar amplifiers write them, beside the networks that they train."""

import json
import os

import numpy as np
import pytest
import torch
from tests.importers.outputs import difference, rnns
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import find

os.environ.setdefault("KERAS_BACKEND", "torch")
X = np.random.default_rng(0).normal(size=(2, 7, 1)).astype("float32")


class SimpleRNN(nn.Module):
    """The network of Automated-GuitarAmpModelling: an RNN, a linear layer, and the input added again."""

    def __init__(self, unit, skip):
        super().__init__()
        self.rec = getattr(nn, unit)(1, 5, batch_first=True)
        self.lin = nn.Linear(5, 1)
        self.skip = skip

    def forward(self, x):
        return self.lin(self.rec(x)[0]) + (x[..., : self.skip] if self.skip else 0)


def write(path, document):
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("unit", ["LSTM", "GRU", "RNN"])
def test_an_amplifier_answers_as_its_network(tmp_path, unit, skip):
    torch.manual_seed(0)
    module = SimpleRNN(unit, skip)
    data = {"model": "SimpleRNN", "unit_type": unit, "hidden_size": 5, "skip": skip}
    weights = {name: weight.tolist() for name, weight in module.state_dict().items()}
    [(place, found)] = rnns(write(tmp_path / "amp.json", {"model_data": data, "state_dict": weights})).items()
    with torch.no_grad():
        expected = module(torch.as_tensor(X)).numpy()
    assert (place, found.head) == ("rec", "lin.")
    assert difference(found, X, expected - skip * X) < 1e-5
    assert ("adds to its outputs" in str(found.remark)) == bool(skip)


def rtneural(model):
    """As the exporter of RTNeural writes a Keras model."""
    kinds = {"LSTM": "lstm", "GRU": "gru", "Dense": "dense", "TimeDistributed": "time-distributed-dense"}
    return {
        "in_shape": [None, None, 1],
        "layers": [
            {
                "type": kinds[type(layer).__name__],
                "activation": "tanh" if type(layer).__name__ in ("LSTM", "GRU") else "",
                "weights": [weight.tolist() for weight in layer.get_weights()],
            }
            for layer in model.layers
        ],
    }


def model(*kinds):
    keras = pytest.importorskip("keras")
    recurrent = [getattr(keras.layers, kind)(5, return_sequences=True) for kind in kinds]
    made = keras.Sequential([keras.Input((None, 1)), *recurrent, keras.layers.Dense(1)])
    random = np.random.default_rng(1)
    made.set_weights([random.normal(size=weight.shape) * 0.5 for weight in made.get_weights()])
    with torch.no_grad():
        return made, np.asarray(made(X).cpu())


@pytest.mark.parametrize("kinds", [("LSTM",), ("GRU",), ("LSTM", "LSTM"), ("GRU", "GRU")])
def test_a_file_of_rtneural_answers_as_its_keras_model(tmp_path, kinds):
    made, expected = model(*kinds)
    [found] = rnns(write(tmp_path / "model.json", rtneural(made))).values()
    assert (found.spec.layers, found.spec.output) == (len(kinds), 1)
    assert difference(found, X, expected) < 1e-5


def test_what_differs_is_refused_or_said(tmp_path):
    document = rtneural(model("GRU")[0])
    [found] = rnns(write(tmp_path / "model.json", {**document, "in_skip": 1})).values()
    assert "adds to its outputs" in found.remark
    document["layers"][0]["weights"][2] = document["layers"][0]["weights"][2][0]
    with pytest.raises(CheckpointError, match="reset_after"):
        find(write(tmp_path / "model.json", document))
    document["layers"][0]["activation"] = "relu"
    with pytest.raises(CheckpointError, match="activation relu"):
        find(write(tmp_path / "model.json", document))
    document["layers"][0] |= {"activation": "tanh", "weights": [1, "a"]}
    with pytest.raises(CheckpointError, match="lists of numbers"):
        find(write(tmp_path / "model.json", document))


def test_a_part_of_a_file_is_one_sentence(tmp_path):
    path = tmp_path / "model.json"
    for part in ("", "{", "[" * 10**6, "PK"):
        path.write_text(part)
        with pytest.raises(CheckpointError, match="found something else or a part"):
            find(path)


@pytest.mark.parametrize("document", [[], {}, {"layers": []}, {"layers": [3]}, {"state_dict": {}}])
def test_other_json_holds_no_rnn(tmp_path, document):
    with pytest.raises(CheckpointError, match="expected the weights of an LSTM"):
        find(write(tmp_path / "config.json", document))
