"""The reader of responses: at once and step by step, with the same gradients."""

import gc

import pytest
import torch

from rnnatlas.encoders.reader import Reader


def step_by_step(reader, inputs, fused=False):
    state, steps = reader.start(inputs[0], len(inputs)), []
    for cell, _ in state if fused else []:
        cell.products = None  # as on a GPU
    for signal in inputs.unbind():
        output, state = reader.step(signal, state)
        steps.append(output)
    return torch.stack(steps)


def gradients(outcome, inputs, **how):
    return torch.autograd.grad(outcome.square().sum(), inputs, **how)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("fused", [False, True])
def test_the_reader_reads_alike_at_once_and_step_by_step(cell, layers, fused):
    reader, inputs = Reader(cell, 8, layers, 5), torch.randn(5, 4, 8, requires_grad=True)
    whole, steps = reader(inputs), step_by_step(reader, inputs, fused)
    torch.testing.assert_close(steps, whole)
    every = [inputs, *reader.parameters()]
    torch.testing.assert_close(gradients(steps, every), gradients(whole, every))


@pytest.mark.parametrize("first", ["inputs", "one weight", "all weights"])
def test_gradients_of_steps_do_not_depend_on_those_taken_before(first):
    reader, inputs = Reader("lstm", 8, 2, 5), torch.randn(5, 4, 8, requires_grad=True)
    weights = list(reader.parameters())
    before = {"inputs": [inputs], "one weight": weights[:1], "all weights": weights}[first]
    steps = step_by_step(reader, inputs)
    gradients(steps, before, retain_graph=True)
    torch.testing.assert_close(gradients(steps, weights), gradients(reader(inputs), weights))


def test_gradients_of_gradients_are_refused():
    reader, inputs = Reader("lstm", 8, 2, 5), torch.randn(5, 4, 8, requires_grad=True)
    first = gradients(step_by_step(reader, inputs), list(reader.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first[0].sum().backward()


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_in_the_inputs_alone_leave_nothing_behind(frozen):
    reader = Reader("lstm", 8, 2, 5).requires_grad_(not frozen)
    inputs = torch.randn(5, 77, 8, requires_grad=True)
    for _ in range(3):
        gradients(step_by_step(reader, inputs), [inputs])
    gc.collect()
    left = [kept for kept in gc.get_objects() if type(kept) is torch.Tensor and 77 in kept.shape]
    assert len(left) == 1
