"""`run` equals torch modules, its own where it has some: values, and gradients in all there is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.made import different_leaks

from rnnatlas.rnn import GATES, Population, RNNSpec, run, step

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@st.composite
def specs(draw, one_way=False):
    return RNNSpec(
        cell=draw(st.sampled_from(sorted(GATES))),
        input=draw(st.integers(1, 5)),
        hidden=draw(st.integers(1, 9)),
        layers=draw(st.integers(1, 3)),
        output=draw(st.none() | st.integers(1, 4)),
        bidirectional=not one_way and draw(st.booleans()),
        bias=draw(st.booleans()),
        head_bias=draw(st.booleans()),
        initial_state=draw(st.booleans()),
    )


def population_of(spec, count, dtype, seed=0):
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return different_leaks(Population.initialise(spec, generators).to(dtype=dtype))


def state_for(spec, count, batch, dtype):
    shape = (spec.layers * spec.directions, count, batch, spec.hidden)
    parts = 2 if spec.cell == "lstm" else 1
    return tuple(torch.randn(shape, dtype=dtype) * 0.5 for _ in range(parts))


def close(found, expected, dtype):
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


def by_torch(population, inputs, state):
    """Outputs and last states from one torch module an RNN."""
    outputs, ends = [], []
    for index, module in enumerate(population.to_modules()):
        start = None
        if state is not None:
            start = tuple(part[:, index].contiguous() for part in state)
            start = start if population.spec.cell == "lstm" else start[0]
        output, end = module(inputs[index], start)
        outputs.append(output)
        ends.append(end if isinstance(end, tuple) else (end,))
    return outputs, ends


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=60, deadline=None)
@given(
    spec=specs(),
    count=st.integers(1, 3),
    batch=st.integers(1, 3),
    time=st.integers(1, 5),
    carried=st.booleans(),
)
def test_values_and_all_gradients(dtype, spec, count, batch, time, carried):
    torch.manual_seed(count + 10 * batch + 100 * time)
    equals_torch(population_of(spec, count, dtype), batch, time, carried)


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("output", [None, 3])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", GATES)
def test_bidirectional(cell, layers, output, carried):
    torch.manual_seed(0)
    spec = RNNSpec(cell=cell, input=3, hidden=9, layers=layers, output=output, bidirectional=True)
    equals_torch(population_of(spec, 2, torch.float32), 4, 6, carried)


def equals_torch(population, batch, time, carried):
    """Values and all gradients on random sequences are those of one torch module an RNN."""
    spec, count, dtype = population.spec, len(population), population.dtype
    population = population.requires_grad_()
    inputs = torch.randn(count, batch, time, spec.input, dtype=dtype, requires_grad=True)
    state = state_for(spec, count, batch, dtype) if carried else None
    for part in state or ():
        part.requires_grad_()

    outputs, end = run(population, inputs, state)
    weight, end_weight = torch.randn_like(outputs), [torch.randn_like(part) for part in end]
    total = (outputs * weight).sum() + sum((part * w).sum() for part, w in zip(end, end_weight))
    leaves = [inputs, *(state or ()), *population.weights.values()]
    gradients = torch.autograd.grad(total, leaves, materialize_grads=True)

    modules = population.detach().to_modules()
    for index, module in enumerate(modules):
        module.requires_grad_()
        own_inputs = inputs.detach()[index].requires_grad_()
        own_state = [part.detach()[:, index].contiguous().requires_grad_() for part in state or ()]
        start = None if state is None else tuple(own_state) if spec.cell == "lstm" else own_state[0]
        output, last = module(own_inputs, start)
        last = last if isinstance(last, tuple) else (last,)
        close(outputs[index], output, dtype)
        for part, expected in zip(end, last, strict=True):
            close(part[:, index], expected, dtype)
        objective = (output * weight[index]).sum()
        objective = objective + sum((part * w[:, index]).sum() for part, w in zip(last, end_weight))
        names = [name if name.startswith("head.") else f"rnn.{name}" for name in spec.shapes]
        own = dict(module.named_parameters())
        expected = torch.autograd.grad(
            objective, [own_inputs, *own_state, *(own[name] for name in names)], materialize_grads=True
        )
        close(gradients[0][index], expected[0], dtype)
        for found, one in zip(gradients[1 : 1 + len(own_state)], expected[1:]):
            close(found[:, index], one, dtype)
        for found, one in zip(gradients[1 + len(own_state) :], expected[1 + len(own_state) :], strict=True):
            close(found[index], one, dtype)


@settings(max_examples=30, deadline=None)
@given(spec=specs(), count=st.integers(1, 3), batch=st.integers(1, 3), time=st.integers(1, 4))
def test_shared_inputs_equal_repeated_ones(spec, count, batch, time):
    population = population_of(spec, count, torch.float64)
    shared = torch.randn(batch, time, spec.input, dtype=torch.float64, requires_grad=True)
    outputs, end = run(population, shared)
    repeated = shared.detach().expand(count, -1, -1, -1).clone().requires_grad_()
    expected, expected_end = run(population, repeated)
    close(outputs, expected, torch.float64)
    for found, one in zip(end, expected_end, strict=True):
        close(found, one, torch.float64)
    (gradient,) = torch.autograd.grad(outputs.sum(), shared)
    (each,) = torch.autograd.grad(expected.sum(), repeated)
    close(gradient, each.sum(0), torch.float64)


@settings(max_examples=30, deadline=None)
@given(spec=specs(one_way=True), batch=st.integers(1, 3), time=st.integers(1, 5))
def test_steps_equal_a_whole_sequence(spec, batch, time):
    population = population_of(spec, 2, torch.float64)
    inputs = torch.randn(2, batch, time, spec.input, dtype=torch.float64)
    expected, expected_end = run(population, inputs)
    state, outputs = None, []
    for one in inputs.unbind(2):
        output, state = step(population, one, state)
        outputs.append(output)
    close(torch.stack(outputs, 2), expected, torch.float64)
    for found, one in zip(state, expected_end, strict=True):
        close(found, one, torch.float64)


@settings(max_examples=20, deadline=None)
@given(spec=specs(one_way=True), cut=st.integers(1, 4))
def test_carried_state_continues_a_sequence(spec, cut):
    population = population_of(spec, 2, torch.float64)
    inputs = torch.randn(2, 2, 5, spec.input, dtype=torch.float64)
    whole, end = run(population, inputs)
    first, state = run(population, inputs[:, :, :cut])
    second, last = run(population, inputs[:, :, cut:], state)
    close(torch.cat([first, second], 2), whole, torch.float64)
    for found, one in zip(last, end, strict=True):
        close(found, one, torch.float64)


def test_an_rnn_does_not_depend_on_its_neighbours():
    spec = RNNSpec(cell="lstm", input=3, hidden=8, layers=2, output=3)
    population, inputs = population_of(spec, 5, torch.float64), torch.randn(5, 2, 6, 3, dtype=torch.float64)
    outputs, _ = run(population, inputs)
    alone, _ = run(population.select([3]), inputs[3:4])
    close(alone[0], outputs[3], torch.float64)


def test_recurrent_network_is_what_from_modules_reads():
    for cell in GATES:
        spec = RNNSpec(cell=cell, input=2, hidden=3, output=2, bidirectional=True, initial_state=True)
        (module,) = population_of(spec, 1, torch.float32).to_modules()
        inputs = torch.randn(4, 5, 2)
        expected, _ = module(inputs)
        outputs, _ = run(Population.from_modules([module]), inputs)
        close(outputs[0], expected, torch.float32)
