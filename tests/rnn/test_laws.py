"""Laws of systems, for random architectures: what is chosen, joined, moved or cut changes no output."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.made import different_leaks

from rnnatlas.rnn import GATES, Mixed, Population, RNNSpec, Tokens, groups, run, sample, step
from rnnatlas.rnn.signals import draw
from rnnatlas.rnn.system import positions

INPUT, OUTPUT, BATCH, TIME = 2, 3, 2, 5


@st.composite
def specs(draw_, input_=INPUT, output=OUTPUT):
    return RNNSpec(
        cell=draw_(st.sampled_from(sorted(GATES))),
        input=input_,
        hidden=draw_(st.integers(1, 4)),
        layers=draw_(st.integers(1, 2)),
        output=output,
        bias=draw_(st.booleans()),
        initial_state=draw_(st.booleans()),
    )


def population(spec, count, seed=0):
    drawn = Population.initialise(spec, [torch.Generator().manual_seed(seed + i) for i in range(count)])
    return different_leaks(drawn.to(dtype=torch.float64))


@st.composite
def systems(draw_):
    """RNNs of one to three architectures in any order, for `made`: positions, architecture and seed."""
    kinds = draw_(st.lists(specs(), min_size=1, max_size=3, unique=True))
    counts = [draw_(st.integers(1, 3)) for _ in kinds]
    order = draw_(st.permutations(range(sum(counts))))
    parts, first = [], 0
    for number, (spec, count) in enumerate(zip(kinds, counts, strict=True)):
        parts.append((list(order[first : first + count]), spec, 10 * number))
        first += count
    return parts


def made(parts):
    members = [(places, population(spec, len(places), seed)) for places, spec, seed in parts]
    return Mixed(members) if len(members) > 1 else members[0][1]


def some_of(system, minimum=1):
    """Positions of a system's RNNs, in any order and any of them several times."""
    return st.lists(st.integers(0, len(system) - 1), min_size=minimum, max_size=6)


def inputs_for(count, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, INPUT, generator=generator, dtype=torch.float64)


def outputs_of(system, inputs):
    return run(system, inputs)[0]


FEW = settings(max_examples=15, deadline=None)


@FEW
@given(systems(), st.data())
def test_choosing_twice_is_choosing_once(system, data):
    system = made(system)
    first = data.draw(some_of(system))
    again = data.draw(st.lists(st.integers(-len(first), len(first) - 1), min_size=1, max_size=4))
    once = [first[place] for place in again]
    inputs = inputs_for(len(again), BATCH, TIME)
    torch.testing.assert_close(
        outputs_of(system.select(first).select(again), inputs), outputs_of(system.select(once), inputs)
    )


@FEW
@given(systems(), st.data())
def test_each_output_is_of_its_own_rnn_and_sequence(system, data):
    """In another order, among others or alone, with other sequences in the batch or none."""
    system = made(system)
    chosen = data.draw(some_of(system))
    inputs = inputs_for(len(system), BATCH, TIME)
    whole = outputs_of(system, inputs)
    torch.testing.assert_close(outputs_of(system.select(chosen), inputs[chosen]), whole[chosen])
    rnn, sequence = chosen[0], data.draw(st.integers(0, BATCH - 1))
    alone = outputs_of(system.select([rnn]), inputs[rnn : rnn + 1, sequence : sequence + 1])
    torch.testing.assert_close(alone[0, 0], whole[rnn, sequence])


@FEW
@given(systems(), st.integers(1, TIME - 1))
def test_no_output_depends_on_later_inputs(system, now):
    system = made(system)
    inputs = inputs_for(len(system), BATCH, TIME)
    other = torch.cat([inputs[:, :, :now], inputs_for(len(system), BATCH, TIME - now, seed=1)], 2)
    torch.testing.assert_close(outputs_of(system, other)[:, :, :now], outputs_of(system, inputs)[:, :, :now])


@FEW
@given(systems(), st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_a_sequence_may_be_cut_anywhere(system, pieces):
    """Into runs and steps in any order: the state holds all that matters of what was read."""
    system = made(system)
    time = sum(max(length, 1) for length in pieces)
    inputs = inputs_for(len(system), BATCH, time)
    found, state, at = [], None, 0
    for length in pieces:
        if length:
            outputs, state = run(system, inputs[:, :, at : at + length], state)
        else:
            one, state = step(system, inputs[:, :, at], state)
            outputs = one.unsqueeze(2)
        found.append(outputs)
        at += outputs.shape[2]
    torch.testing.assert_close(torch.cat(found, 2), outputs_of(system, inputs))


@FEW
@given(systems(), systems(), st.data())
def test_systems_beside_one_another_are_what_they_are_alone(one, other, data):
    one, other = made(one), made(other)
    order = data.draw(st.permutations(range(len(one) + len(other))))
    places = order[: len(one)], order[len(one) :]
    whole = Mixed([(places[0], one), (places[1], other)])
    inputs = inputs_for(len(whole), BATCH, TIME)
    outputs = outputs_of(whole, inputs)
    for own, system in zip(places, (one, other), strict=True):
        torch.testing.assert_close(outputs[own], outputs_of(system, inputs[own]))
    assert sorted(torch.cat([index for index, _ in groups(whole)]).tolist()) == sorted(order)
    assert len(groups(whole)) == len(set(whole.specs)) == len({*one.specs, *other.specs})


@FEW
@given(specs(), st.integers(1, 4))
def test_weights_survive_every_way_of_writing_them(spec, count):
    given_ = population(spec, count)
    rewritten = [
        Population.unflatten(spec, given_.flatten()),
        Population.from_state_dicts(given_.state_dicts(), spec),
        Population.concat([given_.select([i]) for i in range(count)]),
        given_.clone(),
        given_.select(slice(None)),
    ]
    assert given_.flatten().shape == (count, spec.parameters)
    for other in rewritten:
        assert other.spec == spec
        assert all(torch.equal(other.weights[name], weight) for name, weight in given_.weights.items())


@FEW
@given(specs(input_=OUTPUT), st.integers(1, 3), st.integers(0, OUTPUT - 1))
def test_what_an_rnn_writes_is_its_own_affair_and_of_known_probability(spec, count, start):
    """Whatever others write beside it; and reading what was written gives the probabilities again."""
    drawn = population(spec, count)
    uniforms = torch.rand(count, BATCH, TIME, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tokens, log_probs = sample(drawn, uniforms, start)
    alone, _ = sample(drawn.select([count - 1]), uniforms[-1:], start)
    assert torch.equal(alone[0], tokens[-1])
    read = Tokens(OUTPUT).encode(tokens).double().roll(1, 2)
    read[:, :, 0] = torch.eye(OUTPUT)[start].double()
    torch.testing.assert_close(log_probs, outputs_of(drawn, read).log_softmax(-1))
    assert torch.equal(tokens.long(), draw(log_probs, uniforms))


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6), st.floats(0, 1, exclude_max=True))
def test_a_token_is_drawn_as_often_as_its_probability_says(logits, uniform):
    """The numbers from 0 to 1 that draw a token are one interval as long as its probability."""
    log_probs = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    above = log_probs.exp().cumsum(-1)
    drawn = int(draw(log_probs, torch.tensor(uniform, dtype=torch.float64)))
    assert above[drawn] - log_probs.exp()[drawn] <= uniform + 1e-12
    assert uniform <= above[drawn] + 1e-12
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)[:-1]
    found = draw(log_probs.expand(100, -1), grid)
    assert torch.equal(found, found.sort().values)


@given(st.integers(1, 9), st.data())
def test_positions_are_those_of_a_list(count, data):
    """A list of places, a mask and a slice name what they name of a Python list."""
    values = list(range(count))
    places = data.draw(st.lists(st.integers(-count, count - 1), max_size=5))
    assert positions(places, count).tolist() == [values[place] for place in places]
    mask = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    assert positions(mask, count).tolist() == [value for value, taken in zip(values, mask) if taken]
    cut = data.draw(st.slices(count))
    assert positions(cut, count).tolist() == values[cut]


@pytest.mark.parametrize("cell", sorted(GATES))
def test_an_rnn_of_zero_weights_gives_out_the_bias_of_its_head(cell):
    spec = RNNSpec(cell=cell, input=INPUT, hidden=3, layers=2, output=OUTPUT)
    still = population(spec, 2)
    still = Population(spec, {name: torch.zeros_like(weight) for name, weight in still.weights.items()})
    still.weights["head.bias"] += torch.arange(OUTPUT, dtype=torch.float64)
    outputs = outputs_of(still, inputs_for(2, BATCH, TIME))
    assert torch.equal(outputs, torch.arange(OUTPUT, dtype=torch.float64).expand_as(outputs))
