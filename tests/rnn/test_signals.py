"""What depends on whether a signal is of tokens or of numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import Interface, Population, RNNSpec, Tokens, Values, sample


@pytest.mark.parametrize(
    ("size", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65_536, "uint16"), (70_000, "uint32")]
)
def test_tokens_are_stored_in_the_smallest_unsigned_integers_that_hold_them(size, dtype):
    assert Tokens(size).dtype == np.dtype(dtype)
    stored = np.array([0, size - 1], Tokens(size).dtype)
    assert stored.tolist() == [0, size - 1]
    encoded = Tokens(size).encode(torch.from_numpy(stored))
    assert encoded.argmax(-1).tolist() == [0, size - 1]
    assert encoded.sum(-1).tolist() == [1, 1]


@pytest.mark.parametrize("certain", [255, 256, 299])
def test_sampled_tokens_do_not_wrap(certain):
    spec = RNNSpec(cell="gru", input=300, hidden=2, output=300)
    population = Population.initialise(spec, [torch.Generator().manual_seed(0)])
    population.weights["head.bias"][:, certain] = 100
    tokens, log_probs = sample(population, torch.rand(1, 2, 3), start=0)
    assert tokens.dtype is torch.uint16
    assert (tokens.long() == certain).all()
    assert (log_probs[..., certain] > -1e-6).all()


@pytest.mark.parametrize(
    "bounds",
    [(0.0, None), (None, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (-math.inf, 0.0), (math.nan, 1.0)],
)
def test_a_range_has_two_finite_ends_in_order(bounds):
    with pytest.raises(RNNSpecMismatch, match="bound"):
        Values(2, *bounds)


@pytest.mark.parametrize("signal", [Tokens(4), Values(4, -2.0, 3.0), Values(4)], ids=str)
def test_probing_inputs_lie_in_the_range_of_inputs(signal):
    raw = 5 * torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    inputs = signal.probing_inputs(raw)
    assert inputs.shape == raw.shape
    if isinstance(signal, Tokens):
        torch.testing.assert_close(inputs.sum(-1), torch.ones(100))
        assert (inputs >= 0).all()
    elif signal.bounded:
        assert -2 <= inputs.min() < inputs.max() <= 3
        assert inputs.max() - inputs.min() > 4
    else:
        assert torch.equal(inputs, raw)


@pytest.mark.parametrize("signal", [Tokens(4), Values(4, -2.0, 3.0)], ids=str)
def test_no_two_inputs_are_farther_apart_than_the_width(signal):
    inputs = signal.probing_inputs(1000 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0)))
    distances = torch.cdist(inputs, inputs, p=1)
    assert distances.max() <= signal.width * (1 + 1e-5)
    assert distances.max() > 0.9 * signal.width
    assert Values(4).width == math.inf


def test_outputs_of_tokens_are_log_probabilities_and_numbers_as_they_are():
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Tokens(4).interpret(outputs).exp().sum(-1), torch.ones(5))
    torch.testing.assert_close(
        Tokens(4).interpret(Tokens(4).interpret(outputs)), Tokens(4).interpret(outputs)
    )
    assert torch.equal(Values(4).interpret(outputs), outputs)
    assert Values(4).store(torch.zeros(2, 4)).dtype == np.float32  # half precision is not enough


def test_of_an_architecture_alone_nothing_is_known_but_sizes():
    interface = Interface.of(RNNSpec(cell="gru", input=3, hidden=4, bidirectional=True))
    assert interface == Interface(Values(3), Values(8))
    assert interface.sizes == (3, 8)
    assert not interface.input.bounded


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e3, 1e3)), st.floats(-50, 50))
def test_outputs_of_tokens_mean_the_same_whatever_is_added_to_all(values, shift):
    outputs = torch.from_numpy(values)
    found = Tokens(4).interpret(outputs)
    torch.testing.assert_close(Tokens(4).interpret(outputs + shift), found, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3, dtype=torch.float64))


@given(arrays(np.float32, (3, 4), elements=st.floats(-30, 0, width=32)))
def test_what_rollouts_keep_is_what_was_given_out_up_to_rounding(values):
    """Log-probabilities in half precision, whose rounding `interpret` takes back to distributions."""
    outputs = torch.from_numpy(values)
    exact = Tokens(4).interpret(outputs)
    kept = Tokens(4).interpret(torch.from_numpy(Tokens(4).store(exact)).float())
    torch.testing.assert_close(kept.exp(), exact.exp(), atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(kept.exp().sum(-1), torch.ones(3))
    assert np.array_equal(Values(4).store(outputs), values)
    assert torch.equal(Values(4).encode(torch.from_numpy(Values(4).store(outputs))), outputs)


@pytest.mark.parametrize("signal", [Tokens(4), Values(4, -2.0, 3.0), Values(4)], ids=str)
@given(arrays(np.float64, (2, 4), elements=st.floats(-1e6, 1e6)))
def test_any_numbers_make_probing_inputs_that_an_rnn_could_read(signal, raw):
    inputs = signal.probing_inputs(torch.from_numpy(raw))
    assert inputs.isfinite().all()
    if isinstance(signal, Tokens):
        assert (inputs >= 0).all()
        torch.testing.assert_close(inputs.sum(-1), torch.ones(2, dtype=torch.float64))
    elif signal.bounded:
        assert ((signal.low <= inputs) & (inputs <= signal.high)).all()
    assert (inputs[0] - inputs[1]).abs().sum() <= signal.width + 1e-9


@pytest.mark.parametrize("signal", [Tokens(4), Values(4, -2.0, 3.0), Values(4)], ids=str)
def test_random_inputs_are_such_as_an_rnn_could_read_and_raw_ones_lead_back_to_them(signal):
    like = 7 + 3 * torch.randn(50, 9, 4, generator=torch.Generator().manual_seed(1))
    inputs = signal.random((2000, 5), torch.Generator().manual_seed(0), like)
    assert inputs.shape == (2000, 5, 4)
    if isinstance(signal, Tokens):
        assert inputs.unique().tolist() == [0, 1]
        torch.testing.assert_close(inputs.mean((0, 1)), torch.full((4,), 0.25), atol=0.02, rtol=0)
    elif signal.bounded:
        assert -2 <= inputs.min() < -1.9
        assert 2.9 < inputs.max() <= 3
    else:
        torch.testing.assert_close(inputs.mean((0, 1)), like.mean((0, 1)), atol=0.1, rtol=0.1)
        torch.testing.assert_close(inputs.std((0, 1)), like.std((0, 1)), atol=0.1, rtol=0.1)
    back = signal.probing_inputs(5.0 * signal.raw(inputs, 5.0))
    tolerance = 0.1 if isinstance(signal, Tokens) else 0.01
    torch.testing.assert_close(back, inputs, atol=tolerance, rtol=0)


@given(st.integers(1, 300), st.data())
def test_tokens_are_what_is_read_back(size, data):
    tokens = torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8)))
    stored = tokens.numpy().astype(Tokens(size).dtype)
    assert torch.equal(Tokens(size).encode(torch.from_numpy(stored)).argmax(-1), tokens)
