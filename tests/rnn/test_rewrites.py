"""Weights in parts are made whole as torch makes them; others are refused by name."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn import find_rnn, find_rnns, rewrites

NAMES = ("weight_hh_l0", "weight_ih_l0")


def effective(module):
    return {name: getattr(module, name).detach().clone() for name in NAMES}


def read(module):
    """The RNN of a module whose head is in parts, too."""
    return find_rnn(module.state_dict())


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("make", [weight_norm, parametrizations.weight_norm])
@pytest.mark.parametrize("sizes", [(3, 4), (1, 1)])
def test_weight_norm(make, dim, sizes):
    module = nn.GRU(*sizes)
    for name in NAMES:
        make(module, name, dim=dim)
        for part in module.parameters():
            part.data.mul_(1.3)
    with torch.no_grad():
        module(torch.zeros(2, 1, sizes[0]))  # which works out the weights
    expected = effective(module)
    found = read(module)
    assert rewrites.WEIGHT_NORM in found.notes
    for name in NAMES:
        assert torch.allclose(found.weights[name], expected[name])


def test_pruned_weights():
    module = nn.LSTM(3, 4)
    for name in NAMES:
        prune.random_unstructured(module, name, amount=0.5)
    expected = {name: getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask") for name in NAMES}
    found = read(module)
    assert all(torch.equal(found.weights[name], expected[name]) for name in NAMES)
    assert found.notes == (rewrites.PRUNED,)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [spectral_norm, parametrizations.spectral_norm])
def test_spectral_norm_as_in_evaluation(make):
    module = nn.Linear(3, 5)  # torch itself has no recurrent layer with it that runs
    net = nn.ModuleDict({"rnn": nn.GRU(2, 3), "out": make(module)})
    net.eval()
    expected = net["out"](torch.eye(3)) - module.bias
    found = read(net)
    assert torch.allclose(found.weights["head.weight"].T, expected, atol=1e-6)


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("wrapped", ["module.", ""])
def test_weight_drop_uses_the_raw_weights(copies, wrapped):
    """With a dropped-out copy beside them, or none; in the module, or outside of it as fastai has it."""
    tensors = {
        f"rnn.module.{name}": value for name, value in nn.LSTM(3, 4, num_layers=2).state_dict().items()
    }
    raw = tensors["rnn.module.weight_hh_l0"]
    tensors[f"rnn.{wrapped}weight_hh_l0_raw"] = raw
    tensors["rnn.module.weight_hh_l0"] = raw * 0
    if not copies:
        del tensors["rnn.module.weight_hh_l0"]
    found = find_rnn(tensors)
    assert str(found.spec) == "LSTM 3→4×2"
    assert torch.equal(found.weights["weight_hh_l0"], raw)
    assert found.notes == (rewrites.RAW,)


class Doubled(nn.Module):
    def forward(self, weight):
        return weight * 2


def test_other_parametrizations_are_refused_by_name():
    module = nn.GRU(3, 4)
    for make in (lambda: parametrize.register_parametrization(module, "weight_hh_l0", Doubled()),):
        make()
        with pytest.raises(
            CheckpointError, match=r"no weight_hh_l0|parametrizations\.weight_hh_l0\.original"
        ):
            read(module)
    tensors = {**nn.GRU(3, 4).state_dict(), "weight_hh_l0_orig": torch.zeros(12, 4)}
    with pytest.raises(CheckpointError, match="'weight_hh_l0_orig' beside"):
        find_rnn(tensors)


def test_stacked_networks_come_apart():
    nets = [nn.ModuleDict({"rnn": nn.GRU(3, 4), "out": nn.Linear(4, 2)}) for _ in range(5)]
    stacked, _ = torch.func.stack_module_state(nets)
    rnns, unclear = find_rnns(stacked)
    assert unclear == {}
    assert [(rnn.place, rnn.head) for rnn in rnns] == [(f"{i}.rnn", f"{i}.out.") for i in range(5)]
    for rnn, net in zip(rnns, nets, strict=True):
        assert torch.equal(rnn.weights["head.weight"], net["out"].weight)
        assert rewrites.STACKED in rnn.notes
    del stacked["rnn.bias_hh_l0"]
    stacked["rnn.bias_hh_l0"] = torch.zeros(4, 12)
    assert find_rnns(stacked)[0] == []


def test_one_bias_is_not_dropped():
    for cell in (nn.LSTMCell(3, 4), nn.RNNCell(3, 4)):
        tensors = cell.state_dict()
        both = tensors.pop("bias_ih") + tensors.pop("bias_hh")
        found = find_rnn({**tensors, "bias": both})
        assert torch.equal(found.weights["bias_ih_l0"] + found.weights["bias_hh_l0"], both)
        assert "one bias" in found.remark
    tensors = nn.GRUCell(3, 4, bias=False).state_dict()
    with pytest.raises(CheckpointError, match="'bias' beside"):  # r·(W h + b) and r·W h + b differ
        find_rnn({**tensors, "bias": torch.zeros(12)})


@pytest.mark.parametrize("alpha", [torch.tensor(0.2), torch.full((1,), 0.2), torch.linspace(0.1, 1, 4)])
def test_a_leaky_cell_has_to_be_said(alpha):
    tensors = {**nn.RNNCell(3, 4).state_dict(), "alpha": alpha}
    with pytest.raises(CheckpointError, match=r"'alpha' beside .* --cell leaky-tanh"):
        find_rnn(tensors)
    found = find_rnn(tensors, cell="leaky-relu")
    assert found.spec.cell == "leaky-relu"
    assert torch.equal(found.weights["alpha_l0"], alpha.expand(4))
