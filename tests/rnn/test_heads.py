"""Heads are taken where they are certain; else the RNN is read without one, and it is said why."""

import pytest
import torch
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn import Population, find_rnn, find_rnns, heads, run
from rnnatlas.rnn.heads import head_for, listed, named_heads


def net(**parts):
    """A network of parts in the order in which they are given."""
    return nn.ModuleDict(parts).state_dict()


def chosen(tensors, **options):
    """Prefix of each RNN → its head, and all notes."""
    rnns, unclear = find_rnns(tensors, **options)
    assert unclear == {}
    return {rnn.place: rnn.head and rnn.head.rstrip(".") for rnn in rnns}, " | ".join(
        note for rnn in rnns for note in rnn.notes
    )


def test_a_layer_before_the_rnn_is_no_head():
    for width in (4, 7):
        heads, notes = chosen(net(inp=nn.Linear(4, width), rnn=nn.GRU(4, 4)))
        assert heads == {"rnn": None}
        assert ("'inp' stands before it" in notes) == (width == 7)
    heads, notes = chosen(net(inp=nn.Linear(3, 4), rnn=nn.GRU(4, 4), out=nn.Linear(4, 4)))
    assert (heads, notes) == ({"rnn": "out"}, "")


def test_names_in_alphabetical_order_tell_nothing_of_what_is_before():
    tensors = net(rnn=nn.GRU(4, 4), input_layer=nn.Linear(4, 4))
    assert chosen(tensors)[0] == {"rnn": "input_layer"}
    assert chosen(dict(sorted(tensors.items())))[0] == {"rnn": None}
    tensors = dict(sorted(net(rnn=nn.LSTM(4, 5), fc=nn.Linear(5, 4)).items()))
    assert chosen(tensors) == ({"rnn": "fc"}, "")


@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_of_several_layers_is_no_head(ordered):
    tensors = net(rnn=nn.GRU(2, 5), fc1=nn.Linear(5, 4), fc2=nn.Linear(4, 3))
    heads, notes = chosen(tensors if ordered else dict(sorted(tensors.items())))
    assert heads == {"rnn": None}
    assert "'fc1' is only the first layer behind it, 'fc2' reads what that gives out" in notes
    assert "--head 'fc1'" in notes
    with pytest.raises(CheckpointError, match="only the first layer"):
        find_rnn(tensors)
    heads, notes = chosen(tensors, head="fc1")
    assert (heads, notes) == ({"rnn": "fc1"}, "left out, behind it: 'fc2'")


@pytest.mark.parametrize(
    ("between", "said"),
    [
        (nn.LayerNorm(5), "'mid' may lie between it and 'out'"),
        (nn.BatchNorm1d(5), "'mid' may lie between it and 'out'"),
        (nn.Linear(10, 5), "'out' may read what 'mid' gives out"),
    ],
)
def test_what_may_lie_between_makes_a_head_unclear(between, said):
    heads, notes = chosen(net(rnn=nn.GRU(2, 5), mid=between, out=nn.Linear(5, 3)))
    assert heads == {"rnn": None}
    assert said in notes
    assert chosen(net(mid=between, rnn=nn.GRU(2, 5), out=nn.Linear(5, 3)))[0] == {"rnn": "out"}


def test_attention_is_no_head():
    attention = nn.ModuleDict({"query": nn.Linear(5, 3), "v": nn.Linear(3, 1)})
    heads, notes = chosen(net(rnn=nn.LSTM(2, 5), attn=attention, out=nn.Linear(10, 3)))
    assert (heads, notes) == ({"rnn": None}, "left out, behind it: 'attn.query', 'attn.v', 'out'")


def test_in_a_stack_the_last_has_the_head():
    stack = net(a=nn.LSTMCell(2, 5), b=nn.LSTMCell(5, 5), out=nn.Linear(5, 3))
    for tensors in (stack, dict(sorted(stack.items()))):
        for head in (None, "out"):
            heads, notes = chosen(tensors, head=head)
            assert heads == {"a": None, "b": "out"}
            assert "'out' lies behind 'b' | 'b' may read what it gives out" in notes
    cells = nn.ModuleList([nn.GRUCell(2, 5), nn.GRUCell(5, 5), nn.GRUCell(5, 5)])
    heads, _ = chosen(net(cells=cells, out=nn.Linear(5, 3)))
    assert heads == {"cells.0": None, "cells.1": None, "cells.2": "out"}
    heads, notes = chosen(net(actor=nn.GRU(5, 5), critic=nn.GRU(5, 5), out=nn.Linear(5, 3)))
    assert heads == {"actor": None, "critic": None}
    assert "--head 'critic=out'" in notes


def test_heads_are_named_one_by_one():
    tensors = net(a=nn.GRU(2, 5), b=nn.GRU(2, 5), x=nn.Linear(5, 3), y=nn.Linear(5, 4))
    assert chosen(tensors, head=["a=x", "b=y"])[0] == {"a": "x", "b": "y"}
    assert chosen(tensors, head=["x", "b="])[0] == {"a": "x", "b": None}
    assert chosen(tensors, head="b=y")[0] == {"a": None, "b": "y"}
    with pytest.raises(CheckpointError, match="named for 'c'; the RNNs are 'a', 'b'"):
        find_rnns(tensors, head="c=x")
    assert [head_for(["x", "b=y."], rnn) for rnn in ("a", "b")] == ["x", "y"]
    assert (head_for("", "a"), head_for(None, "a")) == ("", None)
    assert named_heads(["x", "b=y"]) == {"x", "y"}


def test_tied_layers_without_biases_are_one():
    tied = nn.Linear(5, 7, bias=False)
    tensors = net(encoder=tied, rnn=nn.LSTM(5, 5), decoder=nn.Linear(5, 7, bias=False))
    tensors["decoder.weight"] = tensors["encoder.weight"]
    assert chosen(tensors)[0] == {"rnn": "decoder"}
    assert chosen(dict(sorted(tensors.items())))[0] == {"rnn": "encoder"}


@pytest.mark.parametrize("name", ["h0", "c_0", "init_hidden", "initial_state", "lstm_init_h", "hx"])
def test_an_initial_state_beside_an_rnn_is_noted(name):
    for shape in ((1, 5), (5,), (1, 1, 5)):
        _, notes = chosen({**net(rnn=nn.LSTM(2, 5)), name: torch.zeros(shape)})
        assert notes == f"initial state left out, taken as zero: {name!r}"
    _, notes = chosen({**net(rnn=nn.LSTM(2, 5)), f"{name}.weight": torch.zeros(5, 9)})
    assert f"initial state left out, taken as zero: {name!r}" in notes


STATES = [
    (nn.LSTM(2, 5), ("h0", "c0"), (5,)),
    (nn.LSTM(2, 5), ("lstm_init_h", "lstm_init_c"), (1, 1, 5)),
    (nn.LSTM(2, 5, num_layers=2, bidirectional=True), ("init_hidden", "init_cell"), (4, 1, 5)),
    (nn.GRU(2, 5, num_layers=3), ("initial_state",), (3, 5)),
    (nn.RNN(2, 5, bidirectional=True), ("hidden_state_init",), (1, 2, 5)),
]


@pytest.mark.parametrize(("rnn", "names", "shape"), STATES, ids=lambda part: str(part))
@pytest.mark.parametrize("own", [False, True])
def test_a_learned_initial_state_is_used_where_names_and_shapes_are_certain(rnn, names, shape, own):
    state = {f"{'rnn.' * own}{name}": torch.randn(shape) for name in names}
    tensors = net(rnn=rnn, fc=nn.Linear(5 * (1 + rnn.bidirectional), 3)) | state
    found = find_rnn(tensors)
    assert found.spec.initial_state
    assert f"learned initial state: {listed(state)}" in found.notes
    population = Population(found.spec, {name: weight[None] for name, weight in found.weights.items()})
    x = torch.randn(4, 7, 2)
    outputs, _ = run(population, x)
    start = [value.reshape(-1, 1, 5).expand(-1, 4, -1).contiguous() for value in state.values()]
    rnn.batch_first = True
    hidden, _ = rnn(x, tuple(start) if len(start) == 2 else start[0])
    head = torch.nn.functional.linear(hidden, tensors["fc.weight"], tensors["fc.bias"])
    torch.testing.assert_close(outputs[0], head)


@pytest.mark.parametrize(
    "tensors",
    [
        net(a=nn.GRU(2, 5), b=nn.GRU(2, 5)) | {"h0": torch.ones(5)},  # of which?
        net(rnn=nn.GRU(2, 5, num_layers=2)) | {"h0": torch.ones(1, 5)},  # of which layer?
        net(rnn=nn.GRU(2, 5)) | {"h0": torch.ones(1, 5), "init_hidden": torch.ones(1, 5)},
        net(rnn=nn.GRU(2, 5)) | {"c0": torch.ones(1, 5)},
        net(rnn=nn.LSTM(2, 5)) | {"h0": torch.ones(1, 5)},
        net(rnn=nn.LSTM(2, 5)) | {"init_state": torch.ones(2, 5)},
        net(rnn=nn.GRU(2, 5)) | {"h0": torch.ones(1, 5, dtype=torch.int64)},
        net(rnn=nn.GRU(2, 5)) | {"h0": torch.ones(1).expand(1, 5)},
    ],
)
def test_an_initial_state_that_is_not_certain_is_noted(tensors):
    rnns, _ = find_rnns(tensors)
    assert rnns
    for rnn in rnns:
        assert not rnn.spec.initial_state
        assert "initial state left out, taken as zero" in " ".join(rnn.notes)


def test_what_is_left_out_is_listed_in_short():
    layers = nn.ModuleList(nn.Conv1d(5, 5, 1) for _ in range(9))
    _, notes = chosen(net(before=nn.Conv1d(2, 2, 1), rnn=nn.GRU(2, 5), body=layers))
    assert notes == "left out, behind it: 'body.0', 'body.1', 'body.2', 'body.3' and 5 more"
    _, notes = chosen({**net(rnn=nn.GRU(2, 5)), "transitions": torch.zeros(3, 3), "other.x": torch.zeros(3)})
    assert notes == "left out, behind it: 'transitions'"


def test_many_rnns_and_many_layers_are_looked_at_only_so_far():
    """Else a file of a few MB takes hours."""
    cell = nn.GRUCell(1, 1).state_dict()
    tensors = {f"r{i}.{name}": value for i in range(300) for name, value in cell.items()}
    tensors |= {f"fc{i}.weight": torch.zeros(2, 1) for i in range(300)}
    rnns, _ = find_rnns(tensors)
    assert all(f"and {heads.MOST // 4 - 4} more; name" in str(rnn.question) for rnn in rnns)
