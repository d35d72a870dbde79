"""Divergences against their textbook formulas in double precision."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rnnatlas.emulation import choose, divergences, of_numbers, suitable
from rnnatlas.emulation.divergence import last_counted, masked_mean
from rnnatlas.emulation.emulator import Emulator, EmulatorSettings
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, Tokens, Values


def relative_entropy(p, q):
    return sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q))


TEXTBOOK = {
    "total-variation": lambda p, q: max(abs((p - q)[list(event)].sum()) for event in events(len(p))),
    "kl": relative_entropy,
    "reverse-kl": lambda p, q: relative_entropy(q, p),
    "jensen-shannon": lambda p, q: (
        relative_entropy(p, (p + q) / 2) / 2 + relative_entropy(q, (p + q) / 2) / 2
    ),
    "cross-entropy": lambda p, q: relative_entropy(p, q) - sum(p * np.log(p)),
    "cosine": lambda p, q: 1 - (p @ q) / np.sqrt((p @ p) * (q @ q)),
    "l2": lambda p, q: np.linalg.norm(p - q) ** 2,
}


def events(size):
    """All subsets of outcomes."""
    return ([i for i in range(size) if number >> i & 1] for number in range(2**size))


logits = arrays(np.float64, (2, 5), elements=st.floats(-8, 8))
NAMES = pytest.mark.parametrize("name", sorted(divergences))


def log_probs(values):
    return torch.from_numpy(values).log_softmax(-1)


def test_all_have_a_textbook():
    assert set(TEXTBOOK) == set(divergences)


@NAMES
@given(logits)
def test_equals_the_textbook(name, values):
    target, prediction = log_probs(values)
    p, q = (np.exp(x.numpy()) for x in (target, prediction))
    found = divergences[name](target, prediction)
    assert float(found) == pytest.approx(TEXTBOOK[name](p, q), abs=1e-12, rel=1e-9)
    single = divergences[name](target.float(), prediction.float())
    assert float(single) == pytest.approx(float(found), abs=2e-6, rel=2e-5)


@NAMES
@given(logits)
def test_is_least_where_both_agree(name, values):
    target, prediction = log_probs(values)
    divergence = divergences[name]
    least = float(divergence(target, target))
    assert least <= float(divergence(target, prediction)) + 1e-12
    if name != "cross-entropy":  # which is least at the entropy
        assert least == pytest.approx(0, abs=1e-12)


@given(logits)
def test_kl_and_reverse_kl_swap_their_arguments(values):
    target, prediction = log_probs(values)
    assert divergences["kl"](target, prediction) == divergences["reverse-kl"](prediction, target)


@pytest.mark.parametrize("name", ["total-variation", "jensen-shannon", "cosine", "l2"])
@given(logits)
def test_symmetric_ones_are(name, values):
    target, prediction = log_probs(values)
    there, back = divergences[name](target, prediction), divergences[name](prediction, target)
    assert float(there) == pytest.approx(float(back), abs=1e-12)


@NAMES
def test_has_finite_slopes_even_where_probabilities_vanish_or_agree(name):
    target = torch.tensor([[0.0, -80.0, -300.0], [0.0, -1.0, -2.0]]).log_softmax(-1)
    prediction = torch.tensor([[-300.0, 0.0, -80.0], [0.0, -1.0, -2.0]], requires_grad=True)
    values = divergences[name](target, prediction.log_softmax(-1))
    values.sum().backward()
    assert values.shape == (2,)
    assert values.isfinite().all()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@NAMES
def test_is_described(name):
    assert divergences.description(name)
    assert inspect.getdoc(divergences[name])


def test_the_masked_mean_leaves_padding_out_for_each_rnn():
    values = torch.tensor([[[1.0, 2.0, 300.0], [4.0, 500.0, 600.0]], [[7.0, 8.0, 9.0], [1.0, 1.0, 1.0]]])
    mask = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(masked_mean(values, mask), torch.tensor([7 / 3, 8.0]))
    torch.testing.assert_close(masked_mean(values, None), values.flatten(1).mean(1))


def test_rollouts_of_padding_alone_count_for_nothing():
    assert masked_mean(torch.ones(1, 1, 3), torch.zeros(1, 1, 3)) == 0


# --- numbers -------------------------------------------------------------------------------------------

TEXTBOOK_OF_NUMBERS = {
    "mse": lambda x, y: np.mean((x - y) ** 2),
    "l1": lambda x, y: np.mean(np.abs(x - y)),
    "cosine": lambda x, y: 1 - (x @ y) / np.sqrt((x @ x) * (y @ y)),
}
OF_NUMBERS = pytest.mark.parametrize("name", sorted(of_numbers))


@OF_NUMBERS
def test_divergences_of_numbers_equal_the_textbook_and_are_least_where_both_agree(name):
    x, y = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert set(TEXTBOOK_OF_NUMBERS) == set(of_numbers)
    expected = [TEXTBOOK_OF_NUMBERS[name](*pair) for pair in zip(x.numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(of_numbers[name](x, y).numpy(), expected)
    np.testing.assert_allclose(of_numbers[name](x, x).numpy(), 0, atol=1e-12)
    assert (of_numbers[name](x, y) > 0).all()
    assert of_numbers.description(name)


@given(st.floats(-100, 100), st.floats(0.01, 100), st.floats(0.1, 10))
def test_who_always_gives_out_the_zoos_mean_has_a_squared_error_of_1(mean, sd, ratio):
    emulator = Emulator(Interface(Values(2), Values(3)), 5, EmulatorSettings(width=2, layers=1))
    drawn = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    outputs = mean + sd * drawn * torch.tensor([1.0, ratio, 2.0])
    emulator.calibrate(outputs)
    pair = [emulator.standardise(values) for values in (outputs, outputs.mean(0).expand(400, -1))]
    assert of_numbers["mse"](*pair).mean().item() == pytest.approx(1, rel=1e-2)


def test_divergences_are_chosen_by_what_outputs_are():
    assert choose(None, Tokens(3)) == "total-variation"
    assert choose(None, Values(2)) == "mse"
    for signal in (Tokens(3), Values(2)):
        assert all(choose(name, signal) == name for name in suitable(signal))
    with pytest.raises(SettingsError, match=r"that are numbers should be one of mse, l1, cosine, found 'kl'"):
        choose("kl", Values(2))
    with pytest.raises(SettingsError, match=r"distributions over tokens should be one of .*, found 'mse'"):
        choose("mse", Tokens(3))


# --- masks ---------------------------------------------------------------------------------------------


@given(arrays(np.int8, (3, 2, 9), elements=st.integers(0, 1)))
def test_nothing_counts_after_the_last_step_that_counts(drawn):
    mask = torch.from_numpy(drawn).float()
    lengths = last_counted(mask)
    for own, length in zip(mask.flatten(0, 1), lengths.flatten(), strict=True):
        assert not own[length:].any()
        assert length == 0 or own[length - 1] == 1


# --- laws ----------------------------------------------------------------------------------------------

LARGEST = {"total-variation": 1.0, "jensen-shannon": np.log(2), "cosine": 1.0, "l2": 2.0}
"""Of distributions that have no outcome in common."""
triples = arrays(np.float64, (3, 5), elements=st.floats(-8, 8))


@given(logits)
def test_bounded_ones_stay_below_their_bound_which_distributions_far_apart_reach(values):
    target, prediction = log_probs(values)
    far = torch.tensor([[0.0, -200.0], [-200.0, 0.0]], dtype=torch.float64).log_softmax(-1)
    for name, largest in LARGEST.items():
        assert -1e-12 <= float(divergences[name](target, prediction)) <= largest + 1e-12
        assert float(divergences[name](*far)) == pytest.approx(largest)


@given(triples)
def test_distances_obey_the_triangle_inequality(values):
    """Total variation, and the roots of Jensen-Shannon and of l2 (Endres & Schindelin 2003)."""
    a, b, c = log_probs(values)
    for name, power in (("total-variation", 1.0), ("jensen-shannon", 0.5), ("l2", 0.5)):
        ab, bc, ac = (float(divergences[name](*pair)) for pair in ((a, b), (b, c), (a, c)))
        assert max(ac, 0) ** power <= max(ab, 0) ** power + max(bc, 0) ** power + 1e-7


@given(logits)
def test_total_variation_is_bounded_by_the_relative_entropy(values):
    """Pinsker: TV² ≤ ½ KL."""
    pair = log_probs(values)
    assert float(divergences["total-variation"](*pair)) ** 2 <= float(divergences["kl"](*pair)) / 2 + 1e-12


@pytest.mark.parametrize("name", ["total-variation", "kl", "reverse-kl", "jensen-shannon"])
@given(logits)
def test_who_takes_two_tokens_for_one_sees_no_larger_divergence(name, values):
    """Data processing: outcomes taken together."""
    pair = log_probs(values)
    merged = [torch.cat([p[:3], p[3:].logsumexp(0, keepdim=True)]) for p in pair]
    assert float(divergences[name](*merged)) <= float(divergences[name](*pair)) + 1e-12


@NAMES
@given(logits, st.permutations(range(5)))
def test_names_of_tokens_and_company_do_not_matter(name, values, order):
    target, prediction = log_probs(values)
    found = divergences[name](target, prediction)
    torch.testing.assert_close(divergences[name](target[list(order)], prediction[list(order)]), found)
    batched = divergences[name](torch.stack([prediction, target]), torch.stack([prediction, prediction]))
    torch.testing.assert_close(batched[1], found)


@given(arrays(np.float64, (2, 4), elements=st.floats(-5, 5)), st.floats(-3, 3), st.floats(0.1, 10))
def test_errors_of_numbers_do_not_depend_on_the_origin_and_follow_the_unit(values, shift, unit):
    x, y = torch.from_numpy(values)
    for name, power in (("mse", 2), ("l1", 1)):
        found = of_numbers[name](x, y)
        torch.testing.assert_close(of_numbers[name](x + shift, y + shift), found)
        torch.testing.assert_close(of_numbers[name](unit * x, unit * y), found * unit**power)
        torch.testing.assert_close(of_numbers[name](y, x), found)


@given(arrays(np.int8, (3, 2, 7), elements=st.integers(0, 1)), st.integers(0, 2**32 - 1))
def test_a_masked_mean_is_the_mean_of_what_the_mask_leaves(drawn, seed):
    """Of each RNN by itself: of any mask, whatever stands where nothing counts."""
    values = torch.randn(3, 2, 7, generator=torch.Generator().manual_seed(seed))
    mask = torch.from_numpy(drawn).float()
    found = masked_mean(values.where(mask > 0, 1e6), mask)
    for own, counts, mean in zip(values, mask > 0, found, strict=True):
        expected = own[counts].mean() if counts.any() else torch.tensor(0.0)
        torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-5)
