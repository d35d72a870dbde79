"""RNNs of several architectures side by side are what each of them is alone."""

import pytest
import torch
from torch import nn

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import (
    BlackBox,
    Interface,
    Mixed,
    Population,
    RNNSpec,
    Values,
    groups,
    populations,
    run,
    step,
)

LSTM = RNNSpec(cell="lstm", input=3, hidden=5, output=2)
GRU = RNNSpec(cell="gru", input=3, hidden=4, layers=2, output=2)
ELMAN = RNNSpec(cell="elman-tanh", input=3, hidden=6, output=2)
PLACES = ([4, 0], [1], [5, 2, 3])


def population_of(spec, count, seed=0):
    return Population.initialise(spec, [torch.Generator().manual_seed(seed + i) for i in range(count)])


def some():
    return [population_of(LSTM, 2), population_of(GRU, 1, seed=5), population_of(ELMAN, 3, seed=9)]


def mixed(members=None):
    return Mixed(list(zip(PLACES, members or some(), strict=True)))


def inputs_for(count=6, time=5):
    return torch.randn(count, 2, time, 3, generator=torch.Generator().manual_seed(1))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_each_rnn_runs_as_it_does_alone():
    outputs, state = run(mixed(), inputs_for())
    for places, member, own in zip(PLACES, some(), state, strict=True):
        expected, end = run(member, inputs_for()[places])
        close(outputs[places], expected)
        for found, one in zip(own, end, strict=True):
            close(found, one)
    assert mixed().specs == (LSTM, GRU, ELMAN)
    assert len(mixed()) == 6


def test_gradients_reach_the_weights_of_every_group():
    members = [member.requires_grad_() for member in some()]
    outputs, state = run(mixed(members), inputs_for())
    step(mixed(members), outputs[:, :, -1, :1] * inputs_for()[:, :, 0], state)[0].square().sum().backward()
    for member in members:
        for name, weight in member.weights.items():
            assert (weight.grad.flatten(1).abs().amax(1) > 0).all(), name


def test_a_selection_of_one_architecture_is_a_population():
    chosen = mixed().select([0, 4, 0])
    assert isinstance(chosen, Population)
    assert torch.equal(chosen.flatten(), some()[0].select([1, 0, 1]).flatten())
    assert isinstance(mixed()[1], Population)
    assert isinstance(mixed().select([0, 1]), Mixed)
    assert len(mixed().select([])) == 0


@pytest.mark.parametrize(
    "places", [[[0], [0, 1]], [[0], [1, 3]], [[0], [1]], [[-1], [2, 1]], [[0, 1], [2, 3]], [[0, 1], [2]]]
)
def test_positions_that_are_no_permutation_are_refused(places):
    with pytest.raises(RNNSpecMismatch, match=r"positions of (3|2|1) RNNs should be .*, found"):
        Mixed(list(zip(places, [population_of(LSTM, 1), population_of(GRU, 2)], strict=True)))


def test_members_share_input_and_output_sizes():
    other = population_of(RNNSpec(cell="gru", input=4, hidden=3, output=2), 1)
    with pytest.raises(RNNSpecMismatch, match=r"one input and one output size, found .*→2"):
        Mixed([([0, 1], population_of(LSTM, 2)), ([2], other)])
    with pytest.raises(RNNSpecMismatch, match="found none"):
        Mixed([])


def test_mixed_systems_and_black_boxes_can_be_members():
    module = nn.GRUCell(3, 2)
    box = BlackBox(
        lambda inputs, h: 2 * (module(inputs, h),),
        lambda batch: torch.zeros(batch, 2),
        Interface(Values(3), Values(2)),
    )
    whole = Mixed([([2, 0, 3, 7, 4, 1], mixed()), ([6], box), ([5], population_of(GRU, 1, seed=77))])
    inputs = inputs_for(8)
    outputs, state = run(whole, inputs)
    close(outputs[[2, 0, 3, 7, 4, 1]], run(mixed(), inputs[[2, 0, 3, 7, 4, 1]])[0])
    close(outputs[[6]], run(box, inputs[[6]])[0])
    close(outputs[[5]], run(population_of(GRU, 1, seed=77), inputs[[5]])[0])
    assert whole.specs == (LSTM, GRU, ELMAN)
    assert [len(index) for index, _ in groups(whole)] == [2, 2, 3, 1]
    assert sorted(torch.cat([index for index, _ in populations(whole)]).tolist()) == [0, 1, 2, 3, 4, 5, 7]
    again, _ = run(whole, inputs, state)
    assert not torch.equal(again, outputs)
    close(run(whole.select([6, 2]), inputs[[6, 2]])[0], outputs[[6, 2]])
    assert "BlackBox" in repr(whole)


def test_nothing_is_read_from_the_device_of_a_mixed_system():
    """Reading stops a GPU until all before it is done; of a tensor on "meta" nothing can be read."""
    far = mixed().to("meta")
    whole = Mixed([([6, 2, 0, 3, 4, 1], far), ([5], population_of(LSTM, 1).to("meta"))])
    chosen = whole.select([5, 0, 6]).to("meta")
    for system, sizes in ((far, [2, 1, 3]), (whole, [3, 1, 3]), (chosen, [2, 1])):
        assert [len(index) for index, _ in system.groups] == sizes
        assert {index.device.type for index, _ in system.groups} == {"meta"}


def test_positions_may_be_counted_from_the_end():
    backwards = [[place - 6 for place in places] for places in PLACES]
    system = Mixed(list(zip(backwards, some(), strict=True)))
    close(run(system, inputs_for())[0], run(mixed(), inputs_for())[0])
    close(run(system.select([-1, -6]), inputs_for(2))[0], run(mixed().select([5, 0]), inputs_for(2))[0])


def test_populations_of_one_architecture_become_one_group():
    parts = [population_of(LSTM, 2), population_of(GRU, 1), population_of(LSTM, 3, seed=20)]
    places = ([4, 0], [2], [5, 1, 3])
    system = Mixed(list(zip(places, parts, strict=True)))
    assert [(len(group), group.specs) for _, group in system.groups] == [(5, (LSTM,)), (1, (GRU,))]
    outputs, state = run(system, inputs_for())
    for own, part in zip(places, parts, strict=True):
        close(outputs[own], run(part, inputs_for()[own])[0])
    assert len(state) == 2
    again = Mixed([([1, 0], system.select([0, 5])), ([2], population_of(LSTM, 1))])
    assert [len(group) for _, group in again.groups] == [3]


def test_modules_of_any_architectures_keep_their_order():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = [nn.GRU(3, 4), nn.LSTM(3, 4), nn.GRU(3, 4), nn.RNN(3, 4)]
    system = Mixed.from_modules(modules)
    assert [len(group) for _, group in system.groups] == [2, 1, 1]
    inputs = inputs_for(4)
    outputs, _ = run(system, inputs)
    for module, own, read in zip(modules, outputs, inputs, strict=True):
        close(own, module(read.transpose(0, 1))[0].transpose(0, 1))
    outputs.sum().backward()
    assert all(parameter.grad is not None for module in modules for parameter in module.parameters())
    with pytest.raises(RNNSpecMismatch, match="at least one RNN, found none"):
        Mixed.from_modules([])
    with pytest.raises(RNNSpecMismatch, match="one input and one output size"):
        Mixed.from_modules([nn.GRU(3, 4), nn.GRU(3, 5)])


def test_a_state_of_another_number_of_groups_is_refused():
    _, state = run(mixed(), inputs_for())
    with pytest.raises(RNNSpecMismatch, match="state of 3 groups, one entry each, found one of 2"):
        run(mixed(), inputs_for(), state[:2])
