"""The reader of answers: at once and step by step, with the same gradients."""

import pytest
import torch

from rnnatlas.encoders.reader import Reader


def step_by_step(reader, inputs):
    state, steps = reader.start(inputs[0]), []
    for signal in inputs.unbind():
        output, state = reader.step(signal, state)
        steps.append(output)
    return torch.stack(steps)


def gradients(reader, inputs, outcome):
    return torch.autograd.grad(outcome.square().sum(), [inputs, *reader.parameters()])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_reader_reads_alike_at_once_and_step_by_step(cell, layers):
    reader, inputs = Reader(cell, 8, layers, 5), torch.randn(5, 4, 8, requires_grad=True)
    whole, steps = reader(inputs), step_by_step(reader, inputs)
    torch.testing.assert_close(steps, whole)
    torch.testing.assert_close(gradients(reader, inputs, steps), gradients(reader, inputs, whole))


def test_gradients_of_steps_can_be_taken_twice():
    reader, inputs = Reader("lstm", 8, 2, 5), torch.randn(5, 4, 8, requires_grad=True)
    outcome = step_by_step(reader, inputs).square().sum()
    once = torch.autograd.grad(outcome, reader.parameters(), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(outcome, reader.parameters()), once)
