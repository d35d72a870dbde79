"""The reader of responses: at once and step by step, with the same gradients."""

import gc

import pytest
import torch

from rnnatlas.encoders.reader import Reader

WIDTHS = [8, 16]  # the compiled layers take multiples of 16


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
@pytest.mark.parametrize(("width", "fused"), [(8, False), (8, True), (16, False)])
def test_the_reader_reads_alike_at_once_and_step_by_step(cell, layers, width, fused):
    reader, inputs = Reader(cell, width, layers, 5), torch.randn(5, 4, width, requires_grad=True)
    whole, steps = reader(inputs), step_by_step(reader, inputs, fused)
    torch.testing.assert_close(steps, whole)
    every = [inputs, *reader.parameters()]
    torch.testing.assert_close(gradients(steps, every), gradients(whole, every))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("first", ["inputs", "one weight", "all weights"])
def test_gradients_of_steps_do_not_depend_on_those_taken_before(first, width):
    reader, inputs = Reader("lstm", width, 2, 5), torch.randn(5, 4, width, requires_grad=True)
    weights = list(reader.parameters())
    before = {"inputs": [inputs], "one weight": weights[:1], "all weights": weights}[first]
    steps = step_by_step(reader, inputs)
    gradients(steps, before, retain_graph=True)
    torch.testing.assert_close(gradients(steps, weights), gradients(reader(inputs), weights))


@pytest.mark.parametrize("width", WIDTHS)
def test_gradients_of_gradients_are_refused(width):
    reader, inputs = Reader("lstm", width, 2, 5), torch.randn(5, 4, width, requires_grad=True)
    first = gradients(step_by_step(reader, inputs), list(reader.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first[0].sum().backward()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_in_the_inputs_alone_leave_nothing_behind(frozen, width):
    reader = Reader("lstm", width, 2, 5).requires_grad_(not frozen)
    inputs = torch.randn(5, 77, width, requires_grad=True)
    for _ in range(3):
        gradients(step_by_step(reader, inputs), [inputs])
    gc.collect()
    left = [kept for kept in gc.get_objects() if type(kept) is torch.Tensor and 77 in kept.shape]
    assert len(left) == 1


def test_a_compiled_reader_reads_as_torchs_cells_do(monkeypatch):
    reader, inputs = Reader("lstm", 32, 2, 5), torch.randn(5, 4, 32, requires_grad=True)
    every = [inputs, *reader.parameters()]
    compiled = reader(inputs)
    monkeypatch.setenv("RNNATLAS_BACKEND", "eager")
    expected = reader(inputs)
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(gradients(compiled, every), gradients(expected, every), rtol=1e-4, atol=1e-5)
