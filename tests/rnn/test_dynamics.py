"""Lyapunov exponents and Jacobians: closed forms, a slow loop, and what holds for every cell."""

import functools
import math

import pytest
import torch
from tests.rnn.test_invariants import SPECS, some

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import SYMMETRIES, BlackBox, Interface, Mixed, Population, RNNSpec, Values
from rnnatlas.rnn.dynamics import LEAST, jacobians, log_moduli, lyapunov

FORWARD = [spec for spec in SPECS if not spec.bidirectional]
FORWARD.append(RNNSpec.from_slug("gru-3-5x2-4"))


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def resting(cell, seed=0, **weights):
    """RNNs without biases, whose state stays at zero while they read zeros."""
    population = some(RNNSpec(cell=cell, input=2, hidden=5, bias=False), seed=seed)
    return Population(population.spec, {**population.weights, **weights})


def slow(population, inputs, count):
    """The same by torch modules, one RNN and sequence after another, as textbooks have it."""
    spec, found = population.spec, []
    size = spec.layers * len(spec.state) * spec.hidden
    drawn = torch.randn(size, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for one in (population[place] for place in range(len(population))):
        start = torch.zeros(size, dtype=torch.float64)
        if spec.initial_state:
            names = [f"{part}0_{suffix}" for suffix in spec.suffixes for part in spec.state]
            start = torch.cat([one.weights[name][0] for name in names])
        sums = torch.zeros(count, dtype=torch.float64)
        for sequence in inputs:
            q, state = torch.linalg.qr(drawn).Q, start
            for read in sequence:
                step = functools.partial(one_step, one, read)
                q, r = torch.linalg.qr(torch.autograd.functional.jacobian(step, state) @ q)
                sums += r.diagonal().abs().clamp_min(LEAST).log()
                state = step(state)
        found.append((sums / inputs.shape[0] / inputs.shape[1]).sort(descending=True).values)
    return torch.stack(found)


def one_step(one, read, flat):
    """The state of one RNN, as a vector, after that in which it was."""
    whole = flat.view(one.spec.layers, len(one.spec.state), one.spec.hidden)
    _, after = one.step(read[None, None], tuple(part[:, None, None] for part in whole.unbind(1)))
    return torch.stack([part[:, 0, 0] for part in after], 1).flatten()


@pytest.mark.parametrize("spec", FORWARD, ids=str)
def test_agrees_with_a_slow_loop(spec):
    population, inputs = some(spec, count=2), noise(2, 6, spec.input)
    for count in (3, None):
        found = lyapunov(population, inputs, count)
        expected = slow(population, inputs, found.shape[1])
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("spec", FORWARD, ids=str)
def test_exponents_add_up_to_the_growth_of_volumes(spec):
    population, inputs = some(spec), noise(3, 5, spec.input)
    growth, state = [], None
    for read in inputs.unbind(1):
        growth.append(torch.linalg.slogdet(jacobians(population, read, state)).logabsdet)
        _, state = population.step(read, state)
    total = torch.stack(growth).mean((0, 2))
    if (total > -100).all():  # relu units that are off shrink volumes to nothing
        torch.testing.assert_close(lyapunov(population, inputs).sum(1), total)


def test_of_linear_rnns_they_are_log_moduli_of_eigenvalues():
    matrix = noise(4, 5, 5) / 2
    leak = torch.full((4, 5), 0.3, dtype=torch.float64)
    eye = torch.eye(5, dtype=torch.float64)
    zeros = torch.zeros(1, 2000, 2, dtype=torch.float64)
    for population, linear in (
        (resting("elman-tanh", weight_hh_l0=matrix), matrix),
        (resting("leaky-tanh", weight_hh_l0=matrix, alpha_l0=leak), 0.7 * eye + 0.3 * matrix),
        (resting("gru", weight_hh_l0=matrix.repeat(1, 3, 1)), eye / 2 + matrix / 4),
    ):
        torch.testing.assert_close(jacobians(population, zeros[:, 0])[:, 0], linear)
        expected = torch.linalg.eigvals(linear).abs().log().sort().values
        torch.testing.assert_close(log_moduli(population, jacobians(population, zeros[:, 0]))[:, 0], expected)
        found = lyapunov(population, zeros, skip=500)
        torch.testing.assert_close(found, expected.flip(1), atol=2e-3, rtol=0)


def test_of_an_lstm_at_rest():
    matrix = noise(4, 5, 5)
    population = resting("lstm", weight_hh_l0=matrix.repeat(1, 4, 1))
    eye = torch.eye(5, dtype=torch.float64).expand(4, -1, -1) / 2
    expected = torch.cat([torch.cat([matrix / 4, eye / 2], 2), torch.cat([matrix / 2, eye], 2)], 1)
    found = jacobians(population, torch.zeros(1, 2, dtype=torch.float64))[:, 0]
    torch.testing.assert_close(found, expected)


def test_what_only_leaks_contracts_at_its_rate():
    leak = torch.tensor([0.1, 0.2, 0.5, 0.6, 0.9], dtype=torch.float64).expand(4, -1)
    weights = {"weight_hh_l0": torch.zeros(4, 5, 5, dtype=torch.float64), "alpha_l0": leak}
    found = lyapunov(resting("leaky-tanh", **weights), noise(2, 400, 2), skip=100)
    torch.testing.assert_close(found, (1 - leak).log(), atol=1e-3, rtol=0)


def test_small_changes_of_a_chaotic_rnn_grow_at_the_rate_of_the_largest():
    generator = torch.Generator().manual_seed(0)
    matrix = 3 * torch.randn(1, 100, 100, dtype=torch.float64, generator=generator) / 10
    spec = RNNSpec(cell="elman-tanh", input=1, hidden=100, bias=False)
    inputs = torch.zeros(1, 100, 1, 1, dtype=torch.float64)
    chaotic = Population(spec, {"weight_ih_l0": inputs[:, :, 0] + 0.1, "weight_hh_l0": matrix})
    read = noise(1, 220, 1)
    _, state = chaotic.run(read[:, :100])
    moved = tuple(part + 1e-12 * noise(*part.shape) for part in state)
    before = (moved[0] - state[0]).norm()
    apart = chaotic.run(read[:, 100:150], moved)[1][0] - chaotic.run(read[:, 100:150], state)[1][0]
    largest = lyapunov(chaotic, read, 1, skip=100).item()
    assert largest > 0.2
    assert math.log(apart.norm() / before) / 50 == pytest.approx(largest, abs=0.15)


@pytest.mark.parametrize("spec", FORWARD, ids=str)
def test_symmetries_leave_moduli_as_they_are_and_exponents_once_settled(spec):
    population, inputs = some(spec), noise(1, 60, spec.input)
    moduli = log_moduli(population, jacobians(population, inputs[:, 0]))
    exponents = lyapunov(population, inputs, 2, skip=20)
    for name, symmetry in SYMMETRIES.items():
        if symmetry.applies(spec) and name != "unit-scale":
            changed = symmetry.change(population, torch.Generator().manual_seed(1))
            found = log_moduli(changed, jacobians(changed, inputs[:, 0]))
            torch.testing.assert_close(found, moduli, atol=1e-6, rtol=0)
            torch.testing.assert_close(lyapunov(changed, inputs, 2, skip=20), exponents, atol=0.1, rtol=0.1)


def test_mixed_systems_keep_their_order_and_own_inputs():
    first, second = (some(RNNSpec(cell=cell, input=3, hidden=4, output=2), 2) for cell in ("gru", "lstm"))
    mixed = Mixed([([0, 2], first), ([1, 3], second)])
    inputs = noise(4, 2, 7, 3)
    found = lyapunov(mixed, inputs, 3)
    torch.testing.assert_close(found[[0, 2]], lyapunov(first, inputs[[0, 2]], 3))
    torch.testing.assert_close(found[[1, 3]], lyapunov(second, inputs[[1, 3]], 3))
    assert lyapunov(mixed, inputs).shape == (4, 4)


def test_how_many_are_worked_out_together_does_not_matter(monkeypatch):
    population, inputs = some(FORWARD[0]), noise(2, 5, 3)
    whole = lyapunov(population, inputs)
    monkeypatch.setattr("rnnatlas.rnn.dynamics.NUMBERS", 1)
    torch.testing.assert_close(lyapunov(population, inputs), whole)


def test_one_broken_rnn_leaves_the_others_alone():
    population, inputs = some(FORWARD[0]), noise(2, 5, 3)
    broken = population.clone()
    broken.weights["weight_hh_l0"][1] = torch.nan
    found, whole = lyapunov(broken, inputs), lyapunov(population, inputs)
    assert not found[1].isfinite().all()
    torch.testing.assert_close(found[[0, 2, 3]], whole[[0, 2, 3]])
    moduli = log_moduli(broken, jacobians(broken, inputs[:, 0]))
    assert moduli[1].isnan().all()
    assert moduli[[0, 2, 3]].isfinite().all()


def test_refuses_what_has_no_exponents():
    two_ways = some(RNNSpec(cell="gru", input=3, hidden=4, bidirectional=True))
    with pytest.raises(RNNSpecMismatch, match="reads sequences from both ends"):
        lyapunov(two_ways, noise(1, 5, 3))
    box = BlackBox(lambda inputs, state: (inputs, state), None, Interface(Values(3), Values(3)))
    with pytest.raises(RNNSpecMismatch, match="black box"):
        lyapunov(box, torch.zeros(1, 5, 3))
    population = some(FORWARD[1])
    with pytest.raises(RNNSpecMismatch, match="1 to 10 exponents, found count=11"):
        lyapunov(population, noise(1, 5, 3), 11)
    with pytest.raises(RNNSpecMismatch, match="longer than the 5 steps"):
        lyapunov(population, noise(1, 5, 3), skip=5)
    with pytest.raises(RNNSpecMismatch, match="inputs of 4 RNNs"):
        lyapunov(population, noise(3, 1, 5, 3))
