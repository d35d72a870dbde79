"""Finding RNNs among tensors: what is read is read whole, all else is refused by name."""

import random
import re

import pytest
import torch
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn import Population, RNNSpec, find_rnn, find_rnns, run
from rnnatlas.rnn.recognise import ASSUMED_TANH

SPECS = [
    RNNSpec(cell="lstm", input=2, hidden=3),
    RNNSpec(cell="gru", input=4, hidden=3, layers=2, bidirectional=True),
    RNNSpec(cell="elman-tanh", input=2, hidden=3, layers=3, bias=False),
]


def state_dict(spec=SPECS[0], prefix="rnn.", seed=0):
    weights = Population.initialise(spec, [torch.Generator().manual_seed(seed)]).state_dicts()[0]
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


def refusal(tensors, **options):
    """The one reason why nothing is read."""
    rnns, unclear = find_rnns(tensors, **options)
    assert rnns == []
    [reason] = unclear.values()
    with pytest.raises(CheckpointError, match=re.escape(reason)):
        find_rnn(tensors, **options)
    return reason


# --- layers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", ["1", "2_reverse", "999999999", "9" * 5000, "00", "٣"], ids=lambda layer: layer[:9]
)
def test_a_missing_layer_is_named_whatever_number_another_has(layer):
    reason = refusal({f"rnn.weight_hh_l{layer}": torch.zeros(12, 3)})
    assert "but no weight_hh_l0" in reason
    assert len(reason) < 300
    more = {**state_dict(), f"rnn.weight_hh_l{layer}": torch.zeros(12, 3)}
    expected = "but no weight_hh_l1" if layer != "1" else "no rnn.weight_ih_l1 of shape"
    assert expected in refusal(more)


def test_a_direction_has_to_be_whole():
    for spec in (SPECS[0], SPECS[1]):
        tensors = state_dict(spec)
        last = f"l{spec.layers - 1}"
        tensors.pop(f"rnn.weight_hh_{last}")
        tensors[f"rnn.weight_hh_{last}_reverse"] = torch.zeros(12, 3)
        assert f"no rnn.weight_hh_{last}" in refusal(tensors)


def test_names_of_a_cell_and_of_layers_do_not_mix():
    tensors = {**nn.LSTMCell(2, 3).state_dict(), **state_dict(prefix="")}
    assert "'weight_hh', 'weight_hh_l0'; expected" in refusal(tensors)


# --- tensors ----------------------------------------------------------------------------------------

ODD = {
    "numbers of type int8": lambda weight: weight.to(torch.int8),
    "numbers of type bool": lambda weight: weight > 0,
    "numbers of type complex64": lambda weight: weight.to(torch.complex64),
    "numbers of type float8_e4m3fn": lambda weight: weight.to(torch.float8_e4m3fn),
    "a sparse tensor": lambda weight: weight.to_sparse(),
    "a tensor without its data": lambda weight: weight.to("meta"),
    "an expanded tensor": lambda weight: torch.ones(()).expand(weight.shape),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_tensors_are_named(kind):
    tensors = {**state_dict(), "fc.weight": torch.randn(4, 3), "fc.bias": torch.randn(4)}
    for name in tensors:
        reason = refusal({**tensors, name: ODD[kind](tensors[name])})
        assert f"in {name}, found " in reason
        assert kind in reason


@pytest.mark.filterwarnings("ignore:.*(uantize|prototype)")
def test_quantised_and_nested_tensors_are_named():
    quantised = torch.quantize_per_tensor(torch.randn(12, 3), 0.1, 0, torch.qint8)
    nested = torch.nested.nested_tensor([torch.randn(2), torch.randn(3)])
    for odd, kind in ((quantised, "a quantised tensor"), (nested, "a nested tensor")):
        assert kind in refusal({**state_dict(), "rnn.weight_hh_l0": odd})
    assert find_rnns({**state_dict(), "other.weight": nested, "other.bias": nested})[1] == {}


@pytest.mark.parametrize("shape", [(), (0,), (12,), (0, 0), (12, 0), (2, 12, 3)], ids=str)
def test_matrices_are_matrices(shape):
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0"):
        assert f"should have a matrix {name}" in refusal({**state_dict(), name: torch.zeros(shape)})
    if len(shape) == 2:
        reason = refusal({**state_dict(), "fc.weight": torch.zeros(shape)}, head="fc")
        assert "should have a matrix fc.weight" in reason


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rnn.bias", (12,)),  # of cells that have one
        ("rnn.weight_ch_i", (3,)),  # peepholes
        ("rnn.ln_ih.weight", (12,)),  # layer normalisation
        ("rnn.alpha", ()),
        ("rnn.h0", (1, 3)),
        ("rnn.weight_hh_l0_scale", ()),
        ("rnn.weight_hh_l1_orig", (12, 3)),  # pruned
        ("rnn.bias_ih_l1", (12,)),
    ],
)
def test_tensors_of_an_rnn_that_would_be_left_out_are_named(name, shape):
    assert repr(name) in refusal({**state_dict(), name: torch.zeros(shape)})
    assert repr(name[4:]) in refusal({**state_dict(prefix=""), name[4:]: torch.zeros(shape)})


def test_layers_below_an_rnn_are_left_out_as_elsewhere():
    module = nn.GRU(5, 3)
    module.embedding, module.fc = nn.Embedding(7, 5), nn.Linear(3, 4)
    assert str(find_rnn(module.state_dict()).spec) == "GRU 5→3→4"
    assert str(find_rnn(module.state_dict(), head="").spec) == "GRU 5→3"


@pytest.mark.parametrize("missing", ["bias_ih_l0", "bias_hh_l0", "bias_ih_l1", "bias_hh_l1_reverse"])
def test_half_a_bias_is_no_bias(missing):
    tensors = state_dict(SPECS[1])
    del tensors[f"rnn.{missing}"]
    assert f"has no rnn.{missing} of shape" in refusal(tensors)


@pytest.mark.parametrize("name", ["\x1b[31mred.", "two\nlines.", "\ud800.", "\u202eder.", "\u2028."])
def test_names_that_cannot_be_printed_are_escaped(name):
    reason = refusal(state_dict(prefix=name))
    assert "expected names of printable characters" in reason
    assert ascii(name)[1:-2] in reason
    head = {**state_dict(), f"{name}weight": torch.zeros(4, 3)}
    assert ascii(name)[1:-2] in refusal(head)


def test_modules_lie_only_so_deep_within_one_another():
    with pytest.raises(CheckpointError, match=r"expected names of at most 64 levels, found 'a\.a\.a\."):
        find_rnns(state_dict(prefix="a." * 70))
    assert find_rnn(state_dict(prefix="a." * 60)).prefix


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_whatever_happens_to_a_tensor_is_noticed(spec):
    """No RNN is read with less than its file holds of it, and nothing is raised."""
    draw = random.Random(0)
    whole = state_dict(spec)
    changes = [
        lambda tensors, name: tensors.pop(name),
        lambda tensors, name: tensors.update({f"{name}_x": tensors.pop(name)}),
        lambda tensors, name: tensors.update({f"{name}_x": tensors[name]}),
        lambda tensors, name: tensors.update({name: tensors[name][..., :-1]}),
        lambda tensors, name: tensors.update({name: tensors[name][None]}),
        lambda tensors, name: tensors.update({name: tensors[name].flatten()[0]}),
        lambda tensors, name: tensors.update({name: tensors[name].int()}),
    ]
    for change in changes * 10:
        tensors = dict(whole)
        change(tensors, draw.choice(list(whole)))
        rnns, unclear = find_rnns({**tensors, **state_dict(prefix="other.")})
        assert "other." in [rnn.prefix for rnn in rnns]
        read = [rnn for rnn in rnns if rnn.prefix == "rnn."]
        assert len(read) + len(unclear) == 1
        assert all(len(rnn.weights) == len(tensors) for rnn in read), change


# --- several RNNs, heads ----------------------------------------------------------------------------


def test_one_unclear_rnn_leaves_the_others():
    lstm = {f"enc.{name}": weight for name, weight in nn.LSTM(2, 5, proj_size=3).state_dict().items()}
    rnns, unclear = find_rnns({**lstm, **state_dict(prefix="dec.")})
    assert [rnn.prefix for rnn in rnns] == ["dec."]
    assert list(unclear) == ["enc."]
    assert "projection (enc.weight_hr_l0)" in unclear["enc."]
    assert find_rnn({**lstm, **state_dict(prefix="dec.")}, rnn="dec").prefix == "dec."


def test_heads_belong_to_the_nearest_rnn():
    members = nn.ModuleList(nn.ModuleDict({"rnn": nn.GRU(2, 3), "out": nn.Linear(3, 4)}) for _ in range(3))
    rnns, unclear = find_rnns(members.state_dict())
    assert [rnn.head for rnn in rnns] == ["0.out.", "1.out.", "2.out."]
    assert unclear == {}
    decoder = nn.ModuleDict({"rnn": nn.GRU(2, 8), "mix": nn.Linear(3, 3)})  # mix is none of the encoder's
    both = nn.ModuleDict({"encoder": nn.GRU(2, 3), "decoder": decoder})
    assert [rnn.head for rnn in find_rnns(both.state_dict())[0]] == [None, None]
    both["out"] = nn.Linear(3, 2)
    assert [rnn.head for rnn in find_rnns(both.state_dict())[0]] == ["out.", None]


def test_a_misshapen_bias_of_a_head_is_named():
    for shape in ((), (3,), (4, 1)):
        tensors = {**state_dict(), "fc.weight": torch.zeros(4, 3), "fc.bias": torch.zeros(shape)}
        assert f"should have fc.bias of shape (4,), found {shape}" in refusal(tensors)


def test_a_head_that_fits_one_rnn_alone_is_left_out_of_the_other():
    tensors = {**state_dict(), **state_dict(RNNSpec(cell="gru", input=2, hidden=5), "gru.")}
    rnns, _ = find_rnns({**tensors, "fc.weight": torch.zeros(4, 3)}, head="fc")
    assert [(rnn.prefix, rnn.head) for rnn in rnns] == [("rnn.", "fc."), ("gru.", None)]
    assert "'fc' does not fit behind it" in rnns[1].remark
    rnns, unclear = find_rnns({**tensors, "fc.weight": torch.zeros(4, 3)}, head="gru=fc")
    assert [rnn.head for rnn in rnns] == ["fc."]  # its own, as nobody named it
    assert "fc.weight of shape (4, 5), found (4, 3)" in unclear["gru."]


# --- notes ------------------------------------------------------------------------------------------


def test_what_a_state_dict_does_not_tell_is_noted():
    relu = nn.RNN(2, 3, nonlinearity="relu").state_dict()
    assert find_rnn(relu).notes == (ASSUMED_TANH,)
    assert find_rnn(relu, cell="elman-relu").notes == ()
    assert find_rnn(relu, cell="elman-tanh").notes == ()
    assert find_rnn(nn.GRU(2, 3).state_dict()).notes == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_noted(value):
    tensors = {f"{name}": weight.double() for name, weight in nn.LSTMCell(2, 3).state_dict().items()}
    assert find_rnn(tensors).not_finite is None
    tensors["bias_hh"][2] = value
    found = find_rnn(tensors)
    assert found.not_finite == "bias_hh"
    assert found.notes == ("weights are not finite: bias_hh",)


def test_weights_that_were_never_written_are_noted():
    assert find_rnn({name: torch.zeros_like(w) for name, w in state_dict().items()}).notes == (
        "all weights are zero",
    )


def test_gradients_flow_through_what_is_found():
    module = nn.LSTM(2, 3)
    population = Population.from_state_dicts([dict(module.named_parameters())])
    outputs, _ = run(population, torch.ones(1, 1, 2, 2))
    outputs.sum().backward()
    assert module.weight_hh_l0.grad is not None
