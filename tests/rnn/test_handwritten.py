"""RNNs written by hand: read as their own module runs, once the cell is given, and never before."""

import re

import pytest
import torch
from torch import nn

from rnnatlas.errors import CheckpointError, UnknownName
from rnnatlas.importers.base import find
from rnnatlas.rnn import Population, find_rnn, find_rnns, run
from rnnatlas.rnn.leaks import parse_cell

NAMES = [
    ("input2h", "h2h", "fc"),
    ("i2h", "h2h", "h2o"),
    ("in_layer", "rec_layer", "out_layer"),
    ("W_in", "W_rec", "W_out"),
    ("Win", "Wrec", "Wout"),
    ("fc_in", "fc_rec", "fc_out"),
    ("input_layer", "recurrent_layer", "output_layer"),
]


class CTRNN(nn.Module):
    """As neuroscience writes it: h ← (1 − α)·h + α·φ(input(x) + recurrent(h)), where α is no tensor."""

    def __init__(self, inputs=3, hidden=8, outputs=2, names=NAMES[0], alpha=0.2, phi=torch.relu, bias=True):
        super().__init__()
        torch.manual_seed(0)
        self.names, self.alpha, self.phi = names, alpha, phi
        for name, (reads, gives) in zip(
            names, [(inputs, hidden), (hidden, hidden), (hidden, outputs)], strict=True
        ):
            setattr(self, name, nn.Linear(reads, gives, bias=bias))

    def forward(self, inputs):
        read, recurrent, output = (getattr(self, name) for name in self.names)
        h, outputs = torch.zeros(len(inputs), recurrent.in_features), []
        for x in inputs.unbind(1):
            h = (1 - self.alpha) * h + self.alpha * self.phi(read(x) + recurrent(h))
            outputs.append(output(h))
        return torch.stack(outputs, 1)


def check_runs_alike(module, found):
    inputs = torch.randn(4, 10, found.spec.input, generator=torch.Generator().manual_seed(1))
    population = Population(found.spec, {name: each[None].float() for name, each in found.weights.items()})
    with torch.no_grad():
        assert (run(population, inputs)[0][0] - module(inputs)).abs().max() < 1e-5


# --- what is read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
def test_is_read_as_its_module_runs(names):
    module = CTRNN(names=names)
    found = find_rnn(module.state_dict(), cell="leaky-relu:0.2")
    assert (str(found.spec), found.head) == ("leaky RNN (relu) 3→8→2", f"{names[2]}.")
    check_runs_alike(module, found)
    assert found.remark == (
        f"read as h ← (1 − α)·h + α·relu(W x + U h + b) with W '{names[0]}', U '{names[1]}', α = 0.2, "
        "as given; hand-written, so check that its forward does this"
    )
    module = CTRNN(names=names, alpha=1.0, phi=torch.tanh)
    found = find_rnn(module.state_dict(), cell="elman-tanh")
    check_runs_alike(module, found)
    assert f"read as h ← tanh(W x + U h + b) with W '{names[0]}', U '{names[1]}'" in found.remark


def test_names_tell_where_all_sizes_are_equal():
    module = CTRNN(8, 8, 8)
    check_runs_alike(module, find_rnn(module.state_dict(), cell="leaky-relu:0.2"))


def test_any_names_will_do_where_shapes_tell():
    module = CTRNN(names=("sensory", "lateral", "motor"))
    check_runs_alike(module, find_rnn(module.state_dict(), cell="leaky-relu:0.2"))


def test_biases_may_lack():
    module = CTRNN(bias=False)
    check_runs_alike(module, find_rnn(module.state_dict(), cell="leaky-relu:0.2"))
    module = CTRNN()
    module.h2h.bias = None
    check_runs_alike(module, find_rnn(module.state_dict(), cell="leaky-relu:0.2"))


def test_its_output_layer_may_lie_further_out():
    module = CTRNN()
    tensors = {
        f"rnn.{name}" if "fc" not in name else name: each for name, each in module.state_dict().items()
    }
    found = find_rnn(tensors, cell="leaky-relu:0.2")
    assert (found.place, found.head) == ("rnn", "fc.")
    check_runs_alike(module, found)
    assert find_rnn(module.state_dict(), cell="leaky-relu:0.2", head="").head is None


def test_is_named_by_its_own_names():
    module = CTRNN()
    module.h2h.weight.data[0, 0] = torch.nan
    assert find_rnn(module.state_dict(), cell="elman-relu").not_finite == "h2h.weight"


# --- what is refused --------------------------------------------------------------------------------


def refusal(tensors, cell=None):
    rnns, unclear = find_rnns(tensors, cell=cell)
    assert rnns == []
    [reason] = unclear.values()
    return reason


def test_is_not_read_before_its_cell_is_given():
    reason = refusal(CTRNN().state_dict())
    assert "look like a hand-written RNN of 3 inputs and 8 units" in reason
    assert "--cell elman-tanh, elman-relu, leaky-tanh or leaky-relu" in reason
    assert "leaky-relu:0.2, where there is no tensor alpha" in reason
    assert "not of cell 'gru'" in refusal(CTRNN().state_dict(), "gru")


def linear(**shapes):
    return {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (linear(a=(8, 8), b=(8, 8)), "which of 'b', 'a' reads the inputs"),
        (linear(i2h=(8, 3), c2h=(8, 2), h2h=(8, 8)), "'c2h' beside 'i2h' and 'h2h'"),
        (linear(a=(8, 3), b=(8, 2), h2h=(8, 8)), "which of 'a', 'h2h', 'b' reads the inputs"),
        (linear(W_r=(8, 3), U_r=(8, 8), W_z=(8, 3), U_z=(8, 8)), "is not clear; call them input2h and h2h"),
        (
            {**linear(i2h=(8, 3), h2h=(8, 8)), "norm.weight": torch.ones(8)},
            "'norm.weight' beside the weights",
        ),
        ({**linear(i2h=(8, 3), h2h=(8, 8)), "tau": torch.ones(1)}, "'tau' beside the weights"),
    ],
)
def test_what_may_be_something_else_is_refused_by_name(tensors, words):
    assert words in refusal(tensors, "leaky-relu:0.2")


def test_networks_without_recurrence_are_none():
    layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert find_rnns(layers.state_dict(), cell="elman-relu") == ([], {})
    attention = linear(query=(8, 8), key=(8, 8), value=(8, 8))
    assert find_rnns(attention) == ([], {})
    beside = {
        **layers.state_dict(prefix="mlp."),
        **linear(i2h=(8, 3), h2h=(8, 8)),
        **nn.GRU(3, 4).state_dict(),
    }
    rnns, unclear = find_rnns(beside, cell="elman-relu")
    assert ([rnn.spec.cell for rnn in rnns], unclear) == (["gru"], {})  # whose names are known


def test_tensors_without_their_numbers_are_none():
    tensors = linear(i2h=(8, 3), h2h=(8, 8))
    huge = {name: torch.empty(10**9, 10**9, device="meta") for name in tensors}
    assert find_rnns({**huge, "i2h.bias": torch.zeros(2)}, cell="elman-relu") == ([], {})


# --- α ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [torch.tensor(0.2), torch.full((1,), 0.2), torch.full((8,), 0.2)], ids=str)
@pytest.mark.parametrize("name", ["alpha", "alpha_l0"])
@pytest.mark.parametrize("given", ["", ":0.2"])
def test_alpha_may_be_a_tensor(name, alpha, given):
    module = CTRNN()
    found = find_rnn({**module.state_dict(), name: alpha}, cell=f"leaky-relu{given}")
    check_runs_alike(module, found)
    renamed = {
        name.replace("input2h.weight", "weight_ih_l0")
        .replace("input2h.bias", "bias_ih_l0")
        .replace("h2h.weight", "weight_hh_l0")
        .replace("h2h.bias", "bias_hh_l0"): each
        for name, each in {**module.state_dict(), name: alpha}.items()
    }
    check_runs_alike(module, find_rnn(renamed, cell=f"leaky-relu{given}"))


@pytest.mark.parametrize("tau", [torch.tensor(100), torch.full((8,), 100.0)], ids=str)
def test_alpha_may_be_a_time_step_over_a_time_constant(tau):
    module, more = CTRNN(), {"dt": torch.tensor(20.0), "tau": tau}
    found = find_rnn({**module.state_dict(), **more}, cell="leaky-relu")
    check_runs_alike(module, found)
    assert "α of 'dt' / 'tau'" in found.remark
    assert "than 0.3, which was given" in refusal({**module.state_dict(), **more}, "leaky-relu:0.3")
    assert "'dt', 'tau' beside the weights" in refusal({**module.state_dict(), **more}, "elman-relu")
    assert "--cell leaky-relu:0.2" in refusal({**module.state_dict(), "tau": tau}, "leaky-relu")


@pytest.mark.parametrize("told", [{"alpha": 0.2}, {"alpha": None, "dt": 1, "tau": 5.0}], ids=str)
def test_alpha_may_be_an_attribute_of_a_whole_module(tmp_path, told):
    module = CTRNN()
    vars(module).update(phi=None, **told)
    torch.save(module, tmp_path / "net.pt")
    _, [found], _ = find(tmp_path / "net.pt", cell="leaky-relu")
    check_runs_alike(CTRNN(), found)
    with pytest.raises(CheckpointError, match="beside the weights of Elman"):
        find(tmp_path / "net.pt", cell="elman-relu")


def test_one_alpha_is_of_all_layers():
    tensors = nn.RNN(2, 4, 2, bidirectional=True).state_dict()
    for found in (
        find_rnn({**tensors, "alpha": torch.tensor(0.5)}, cell="leaky-tanh"),
        find_rnn(tensors, cell="leaky-tanh:0.5"),
    ):
        assert len(found.spec.fixed) == 4
        assert all(torch.equal(found.weights[name], torch.full((4,), 0.5)) for name in found.spec.fixed)
        assert "h ← (1 − α)·h + α·tanh(W x + U h + b)" in found.remark


@pytest.mark.parametrize(
    ("alpha", "cell", "words"),
    [
        (
            None,
            "leaky-relu",
            "should have its α as alpha, one number or 8, or as dt and tau, found none; .*leaky-relu:0.2",
        ),
        (torch.tensor(1.5), "leaky-relu", "above 0 and at most 1 in 'alpha', found 1.5 to 1.5"),
        (torch.zeros(8), "leaky-relu", "above 0 and at most 1 in 'alpha', found 0 to 0"),
        (torch.tensor(torch.nan), "leaky-relu", "above 0 and at most 1 in 'alpha', found nan"),
        (torch.ones(3), "leaky-relu", r"one number or 8 in 'alpha', found shape \[3\]"),
        (torch.tensor(0.1), "leaky-relu:0.2", "another α in 'alpha' than 0.2"),
        (torch.tensor(0.1), "elman-relu", "'alpha' beside the weights of .* --cell leaky-tanh or leaky-relu"),
    ],
)
def test_alpha_that_does_not_fit_is_refused(alpha, cell, words):
    tensors = CTRNN().state_dict() | ({} if alpha is None else {"alpha": alpha})
    assert re.search(words, refusal(tensors, cell))


@pytest.mark.parametrize(
    "cell", ["leaky-relu:0", "leaky-relu:1.01", "leaky-tanh:nan", "leaky-tanh:", "leaky-relu:a"]
)
def test_alpha_is_above_0_and_at_most_1(cell):
    with pytest.raises(UnknownName, match=f"above 0 and at most 1, as in {cell[:10]}:0.2, found '{cell}'"):
        find_rnn(CTRNN().state_dict(), cell=cell)


def test_cells_are_parsed():
    assert parse_cell(None) == (None, None)
    assert parse_cell("gru") == ("gru", None)
    assert parse_cell("leaky-tanh:1") == ("leaky-tanh", 1.0)
    with pytest.raises(UnknownName, match="did you mean 'leaky-relu'"):
        parse_cell("leaky-rely:0.2")
    with pytest.raises(UnknownName, match="only leaky cells have an alpha"):
        parse_cell("elman-relu:0.2")
