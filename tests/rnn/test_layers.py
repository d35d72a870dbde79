"""Compiled layers that all sequences share, against torch's LSTM: values and gradients, of any lengths."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from rnnatlas.executors.base import limited
from rnnatlas.rnn.backends import kernels, layers

pytestmark = pytest.mark.skipif(isinstance(kernels.library(), str), reason="no compiled backend")
HALF = pytest.param(True, marks=pytest.mark.skipif(not layers.has_half(), reason="no bfloat16 products"))
CLOSE = {False: {"rtol": 1e-4, "atol": 2e-5}, True: {"rtol": 0.05, "atol": 0.05}}
SIZES = [(16, 16, [3, 1]), (64, 32, [5, 5, 4, 2, 1, 1, 1]), (48, 80, [1]), (32, 16, [9] * 13)]


def lstm_and_inputs(hidden, inputs, lengths):
    torch.manual_seed(hidden + len(lengths))
    lstm = nn.LSTM(inputs, hidden)
    x = torch.randn(sum(lengths), inputs, requires_grad=True)
    active = torch.tensor([sum(length > t for length in lengths) for t in range(lengths[0])])
    return lstm, x, layers.Steps(active)


def layer(lstm, counts, half=False):
    w_x, w_h, b_x, b_h = lstm.all_weights[0]
    return layers.Layer(w_x, w_h, b_x + b_h, counts, half)


def gradients(outputs, leaves):
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((outputs * weights).sum(), leaves, retain_graph=True)


def assert_alike(found, expected, half):
    scale = expected.abs().mean().clamp(min=1e-6)
    torch.testing.assert_close(found / scale, expected / scale, **CLOSE[half])


@pytest.mark.parametrize("half", [False, HALF])
@pytest.mark.parametrize(("hidden", "inputs", "lengths"), SIZES)
def test_sequences_of_any_lengths_as_torch_runs_them(hidden, inputs, lengths, half):
    lstm, x, steps = lstm_and_inputs(hidden, inputs, lengths)
    packed = pack_padded_sequence(torch.zeros(lengths[0], len(lengths), inputs), lengths)
    expected = lstm(packed._replace(data=x))[0].data
    found, _ = layer(lstm, [len(x)], half)(x, steps)
    torch.testing.assert_close(found, expected, **CLOSE[half])
    leaves = [x, *lstm.parameters()]
    for one, other in zip(gradients(found, leaves), gradients(expected, leaves), strict=True):
        assert_alike(one, other, half)


@pytest.mark.parametrize("half", [False, HALF])
def test_steps_one_by_one_with_states_as_torch_runs_them(half):
    lstm, x, _ = lstm_and_inputs(32, 16, [6] * 5)
    start = [torch.randn(5, 32, requires_grad=True) for _ in range(2)]
    outputs, (h_last, c_last) = lstm(x.view(6, 5, 16), tuple(part.unsqueeze(0) for part in start))
    one, own, (h, c), steps = layer(lstm, [5] * 6, half), layers.Steps(torch.tensor([5])), start, []
    for signal in x.view(6, 5, 16).unbind():
        h, c = one(signal, own, h, c)
        steps.append(h)
    expected = torch.cat([outputs.flatten(), h_last.flatten(), c_last.flatten()])
    found = torch.cat([torch.stack(steps).flatten(), h.flatten(), c.flatten()])
    torch.testing.assert_close(found, expected, **CLOSE[half])
    leaves = [x, *start, *lstm.parameters()]
    for mine, other in zip(gradients(found, leaves), gradients(expected, leaves), strict=True):
        assert_alike(mine, other, half)


def test_sums_may_hold_all_that_comes_from_the_input():
    lstm, x, steps = lstm_and_inputs(64, 32, [5, 5, 4, 2, 1, 1, 1])
    w_x, w_h, b_x, b_h = lstm.all_weights[0]
    sums = torch.addmm(b_x + b_h, x, w_x.T)
    found, _ = layers.Layer(None, w_h, sums, [len(x)])(None, steps)
    expected, _ = layer(lstm, [len(x)])(x, steps)
    torch.testing.assert_close(found, expected)
    leaves = [x, *lstm.parameters()]
    torch.testing.assert_close(gradients(found, leaves), gradients(expected, leaves), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half", [False, HALF])
def test_results_depend_neither_on_threads_nor_on_the_sequences_beside(half):
    lstm, x, steps = lstm_and_inputs(64, 64, [20] * 20 + [7] * 17)
    found = []
    for threads in (1, 3):
        with limited(threads):
            outputs, _ = layer(lstm, [len(x)], half)(x, steps)
            found.append([outputs, *gradients(outputs, [x, *lstm.parameters()][:3])])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    first = steps.active.cumsum(0) - steps.active  # the first sequence's tokens
    alone, _ = layer(lstm, [20], half)(x.detach()[first], layers.Steps(torch.ones(20, dtype=torch.long)))
    assert torch.equal(alone, found[0][0][first])


@pytest.mark.parametrize("half", [False, HALF])
@pytest.mark.parametrize(("length", "rows", "columns"), [(1, 16, 16), (7, 64, 48), (1300, 80, 16)])
def test_products_over_all_tokens(length, rows, columns, half):
    a, b = torch.randn(length, rows), torch.randn(length, columns)
    exact = a.double().T @ b.double()
    found = layers.product(a, b, half)
    assert (found - exact).abs().max() <= (0.05 if half else 1e-5) * length**0.5


def test_gradients_of_gradients_are_refused():
    lstm, x, steps = lstm_and_inputs(16, 16, [3, 1])
    outputs, _ = layer(lstm, [len(x)])(x, steps)
    [first] = torch.autograd.grad(outputs.square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_older_instruction_sets_pass_this_file_too(isa):
    if os.environ.get("RNNATLAS_ISA"):
        pytest.skip("this is the run for an older instruction set")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, env=os.environ | {"RNNATLAS_ISA": isa}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_negated_views_are_the_numbers_that_they_stand_for():
    a, b = torch.randn(5, 16), torch.randn(5, 32)
    negated = torch.complex(torch.zeros_like(a), -a).conj().imag
    assert negated.is_neg()
    torch.testing.assert_close(layers.product(negated, b, half=False), a.T @ b)
