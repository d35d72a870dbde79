"""What every kind of system promises, whatever runs inside."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from rnnatlas.emulation.emulation import Emulation
from rnnatlas.emulation.emulator import Emulator, EmulatorSettings
from rnnatlas.encoders.base import EMBED
from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import BlackBox, Interface, Mixed, Population, RNNSpec, System, Tokens, Values, run, step
from rnnatlas.rnn.system import positions

NUMBERS = Interface(Values(3), Values(2))


def population_of(spec, count, seed=0):
    return Population.initialise(spec, [torch.Generator().manual_seed(seed + i) for i in range(count)])


def population():
    return population_of(RNNSpec(cell="lstm", input=3, hidden=5, layers=2, output=2), 4)


def mixed():
    gru = population_of(RNNSpec(cell="gru", input=3, hidden=4, output=2), 2, seed=9)
    return Mixed([([3, 0], gru), ([1, 2], population().select([0, 1]))])


def black_box():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cell, head = nn.GRUCell(3, 8), nn.Linear(8, 2)

    def step(inputs, h):
        h = cell(inputs, h)
        return head(h), h

    return BlackBox(step, lambda batch: torch.zeros(batch, 8), NUMBERS)


def emulation(interface=NUMBERS):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        emulator = Emulator(interface, 7, EmulatorSettings(width=6, layers=2))
        return Emulation(emulator, torch.randn(4, EMBED))


SYSTEMS = {"population": population, "mixed": mixed, "black box": black_box, "emulation": emulation}
ALL = pytest.mark.parametrize("kind", SYSTEMS)
MANY = pytest.mark.parametrize("kind", [kind for kind in SYSTEMS if kind != "black box"])


def inputs_for(system, batch=2, time=7):
    shape = (len(system), batch, time, system.interface.input.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def stepped(system, inputs, state=None):
    outputs = []
    for one in inputs.unbind(-2):
        given, state = step(system, one, state)
        outputs.append(given)
    return torch.stack(outputs, 2), state


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@ALL
def test_is_a_system(kind):
    system = SYSTEMS[kind]()
    assert isinstance(system, System)
    assert system.interface.sizes == (3, 2)
    assert system.device == torch.device("cpu")
    assert system.dtype is torch.float32
    assert system.to("cpu").interface == system.interface


@ALL
def test_running_is_stepping(kind):
    system = SYSTEMS[kind]()
    inputs = inputs_for(system)
    outputs, _ = run(system, inputs)
    assert outputs.shape == (len(system), 2, 7, 2)
    close(stepped(system, inputs)[0], outputs)


@ALL
@pytest.mark.parametrize("first", [run, stepped])
@pytest.mark.parametrize("second", [run, stepped])
def test_the_state_carries_on(kind, first, second):
    system = SYSTEMS[kind]()
    inputs = inputs_for(system)
    before, state = first(system, inputs[:, :, :3])
    after, _ = second(system, inputs[:, :, 3:], state)
    close(torch.cat([before, after], 2), run(system, inputs)[0])


@ALL
def test_shared_inputs_are_own_inputs_that_are_alike(kind):
    system = SYSTEMS[kind]()
    shared = inputs_for(system)[0]
    own = shared.expand(len(system), *shared.shape)
    close(run(system, shared)[0], run(system, own)[0])
    close(step(system, shared[:, 0])[0], step(system, own[:, :, 0])[0])


@MANY
@pytest.mark.parametrize(
    "index",
    [
        [2, 0],
        [1, 1, 3, 1],
        [-1],
        slice(1, 3),
        slice(None, None, 2),
        slice(None, None, -1),
        torch.tensor([3, 2, 1, 0]),
        [3],
    ],
    ids=str,
)
def test_selecting_then_running_is_running_then_selecting(kind, index):
    system = SYSTEMS[kind]()
    inputs = inputs_for(system)
    chosen = system.select(index)
    index = (
        list(range(len(system))[index]) if isinstance(index, slice) else index
    )  # torch takes no steps back
    expected = run(system, inputs)[0][index]
    assert len(chosen) == len(expected)
    close(run(chosen, inputs[index])[0], expected)
    close(run(chosen.select([-1]), inputs[index][-1:])[0], expected[-1:])


@MANY
def test_a_mask_selects_what_it_marks(kind):
    system = SYSTEMS[kind]()
    mask = torch.tensor([False, True, True, False])
    inputs = inputs_for(system)
    close(run(system.select(mask), inputs[mask])[0], run(system, inputs)[0][mask])


@MANY
@pytest.mark.parametrize(
    "index",
    [[4], [-5], [True, False], torch.ones(5, dtype=torch.bool), [0, 99], torch.tensor([-1, 4])],
    ids=str,
)
def test_positions_of_no_rnn_are_refused(kind, index):
    message = r"positions of 4 RNNs should be whole numbers below 4, or a mask of 4, found \["
    with pytest.raises(RNNSpecMismatch, match=message):
        SYSTEMS[kind]().select(index)


@pytest.mark.parametrize("index", [[0.5], torch.tensor([1.0]), np.array([0.0, 1.0])], ids=str)
def test_positions_that_are_not_whole_are_refused(index):
    """Past the checks of annotations, which users do not have."""
    with pytest.raises(RNNSpecMismatch, match="positions of 4 RNNs should be whole numbers below 4"):
        inspect.unwrap(positions)(index, 4)


@MANY
@pytest.mark.parametrize("index", [[], torch.zeros(4, dtype=torch.bool), slice(2, 2)], ids=str)
def test_none_may_be_selected(kind, index):
    assert len(SYSTEMS[kind]().select(index)) == 0


@pytest.mark.parametrize("kind", ["population", "mixed", "emulation"])
def test_what_is_changed_in_a_copy_stays_as_it_was(kind):
    """Moving a system leaves the system as it is; where nothing moves, it may be the same."""
    system = SYSTEMS[kind]()
    inputs = inputs_for(system)
    outputs, _ = run(system, inputs)
    exact = system.to(dtype=torch.float64)
    assert (system.dtype, exact.dtype) == (torch.float32, torch.float64)
    assert torch.equal(run(system, inputs)[0], outputs)
    assert run(exact.to(dtype=torch.float32), inputs)[0].dtype is torch.float32
    assert len(system.to("meta")) == len(system)
    assert torch.equal(run(system, inputs)[0], outputs)


def test_a_black_box_is_one_rnn():
    system = black_box()
    for index in ([0], [-1], slice(None), slice(0, 256)):
        assert system.select(index) is system
    for index in ([0, 0], [], slice(0, 0)):
        with pytest.raises(RNNSpecMismatch, match="a black box is one RNN, found the positions"):
            system.select(index)
    with pytest.raises(RNNSpecMismatch, match="positions of 1 RNNs should be whole numbers below 1"):
        system.select([1])
    with pytest.raises(RNNSpecMismatch, match="computes on cpu, found cuda; make one whose step"):
        system.to("cuda")


def test_what_a_black_box_gives_is_checked():
    system = BlackBox(lambda inputs, state: (inputs, state), None, NUMBERS)
    with pytest.raises(RNNSpecMismatch, match=r"should give outputs of shape \[2, 2\], found \[2, 3\]"):
        run(system, torch.zeros(1, 2, 4, 3))
    system = BlackBox(lambda inputs, state: (inputs.numpy(), state), None, NUMBERS)
    with pytest.raises(RNNSpecMismatch, match=r"of shape \[2, 2\], found ndarray"):
        run(system, torch.zeros(1, 2, 4, 3))


def first(batch):
    return torch.zeros(batch, 8)


def second(inputs, state):
    return inputs[:, :2], state


@pytest.mark.parametrize(
    ("step", "initial_state", "found"),
    [
        (first, second, "this initial_state raises TypeError"),
        (lambda inputs: inputs, first, "this step raises TypeError"),
        (lambda inputs, state: inputs[:, :2], first, "this step gives Tensor"),
        (lambda inputs, state: (inputs[:, :2], state, state), first, "this step gives 3 values"),
        (lambda inputs, state: (state @ inputs, state), first, "this step raises RuntimeError"),
        (lambda inputs, state: (inputs + state[0], state), None, "this step raises TypeError"),
    ],
)
def test_functions_of_a_black_box_that_do_not_fit_are_one_sentence(step, initial_state, found):
    with pytest.raises(RNNSpecMismatch, match=r"a black box takes step\(inputs") as caught:
        run(BlackBox(step, initial_state, NUMBERS), torch.zeros(1, 2, 4, 3))
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_of_a_service_behind_a_black_box_stay_as_they_are():
    def lost(inputs, state):
        raise ConnectionError("no service")

    with pytest.raises(ConnectionError, match="no service"):
        run(BlackBox(lost, None, NUMBERS), torch.zeros(1, 2, 4, 3))


@ALL
def test_shows_itself_in_one_short_line(kind):
    text = repr(SYSTEMS[kind]())
    assert "\n" not in text
    assert len(text) < 120
    assert type(SYSTEMS[kind]()).__name__ in text


@ALL
@pytest.mark.parametrize("shape", ["features", "rnns"])
def test_inputs_that_do_not_fit_are_refused_in_one_sentence(kind, shape):
    system = SYSTEMS[kind]()
    count = len(system)
    for function, time in ((run, (7,)), (step, ())):
        inputs = {
            "features": torch.zeros(count, 2, *time, 4),
            "rnns": torch.zeros(count + 1, 2, *time, 3),
        }[shape]
        with pytest.raises(RNNSpecMismatch) as error:
            function(system, inputs)
        sentence = str(error.value)
        assert "found" in sentence
        assert "\n" not in sentence
        assert len(sentence) < 300


@pytest.mark.parametrize("function", [run, step])
def test_modules_and_arrays_are_refused_with_advice(function):
    """Past the checks of annotations, which users do not have."""
    plain = inspect.unwrap(function)
    with pytest.raises(RNNSpecMismatch, match=r"expected RNNs to run, found list; .*from_modules\(\[…\]\)"):
        plain([nn.LSTM(3, 4)], torch.zeros(1, 1, 1, 3))
    with pytest.raises(RNNSpecMismatch, match=r"expected RNNs to run, found LSTM; .*from_modules"):
        plain(nn.LSTM(3, 4), torch.zeros(1, 1, 1, 3))
    for make in SYSTEMS.values():
        with pytest.raises(RNNSpecMismatch, match=r"torch tensor, found ndarray; convert .*as_tensor"):
            plain(make(), np.zeros((1, 1, 1, 3)))


@pytest.mark.parametrize("kind", ["population", "mixed", "emulation"])
def test_precision_can_be_changed(kind):
    system = SYSTEMS[kind]()
    inputs = inputs_for(system)
    outputs, _ = run(system, inputs)
    exact, _ = run(system.to(dtype=torch.float64), inputs.double())
    assert exact.dtype is torch.float64
    torch.testing.assert_close(outputs.double(), exact.double(), rtol=1e-4, atol=1e-5)


@ALL
def test_gradients_reach_the_inputs(kind):
    system = SYSTEMS[kind]()
    inputs = inputs_for(system).requires_grad_()
    outputs, state = run(system, inputs[:, :, :4])
    step(system, outputs[:, :, -1].mean(-1, keepdim=True) * inputs[:, :, 4], state)[0].sum().backward()
    assert (inputs.grad[:, :, :5].abs().amax(-1) > 0).all()
    assert not inputs.grad[:, :, 5:].any()


def test_an_emulation_of_tokens_gives_log_probabilities():
    system = emulation(Interface(Tokens(3), Tokens(2)))
    outputs, _ = run(system, inputs_for(system))
    torch.testing.assert_close(outputs.exp().sum(-1), torch.ones(4, 2, 7))


def test_an_unconditional_emulation_is_conditioned_on_zeros():
    emulator = emulation().emulator
    unconditional = Emulation.unconditional(emulator, 3)
    inputs = inputs_for(unconditional)
    close(run(unconditional, inputs)[0], emulator(torch.zeros(3, EMBED), inputs))
