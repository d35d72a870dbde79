"""Whole probing sequences, read directly."""

import pytest
import torch
from tests.made import tokens

from rnnatlas.encoders.responses import LARGEST, Responses, ResponsesSettings, scales, standard
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import BlackBox, Interface, Population, RNNSpec, Values, run

SPEC = RNNSpec(cell="lstm", input=5, hidden=6, output=4)
NUMBERS = Interface(Values(5), Values(4))
KINDS = pytest.mark.parametrize(
    "interface", [tokens(SPEC), Interface(Values(5, -1.0, 2.0), Values(4)), NUMBERS], ids=str
)


def some(count=12, spec=SPEC):
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])


def make(interface=None, size=16, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = ResponsesSettings(**{"sequences": 3, "steps": 6, "hidden": 12} | changes)
        return Responses(interface or tokens(SPEC), SPEC, settings, size)


def examples(interface, count=9):
    """Numbered sequences, by kind."""
    random = torch.Generator().manual_seed(5)
    like = torch.randn(50, 5, generator=random)
    return lambda kind, steps: interface.input.random((count, steps), random.manual_seed(len(kind)), like)


@KINDS
def test_frozen_probing_inputs_are_some_of_the_examples_each_once(interface):
    encoder, given = make(interface, start="counting"), examples(interface)
    encoder.calibrate(some(), given)
    offered = given("counting", 6)
    found = [
        next(i for i, example in enumerate(offered) if torch.equal(example, own)) for own in encoder.questions
    ]
    assert len(set(found)) == 3
    assert torch.equal(encoder.probe(some()).inputs[0], encoder.questions)
    assert "questions" not in dict(encoder.named_parameters())


@KINDS
def test_learned_probing_inputs_start_close_to_the_examples_and_move(interface):
    frozen, learned = make(interface), make(interface, learned=True)
    for encoder in (frozen, learned):
        encoder.calibrate(some(), examples(interface))
    start = learned.probe(some()).inputs[0]
    torch.testing.assert_close(start, frozen.questions, atol=0.1, rtol=0)
    optimiser = torch.optim.Adam(learned.parameters(), 0.1)
    learned(some())[:, 0].sum().backward()
    optimiser.step()
    assert (learned.probe(some()).inputs[0] - start).abs().max() > 1e-3
    assert learned.probe(some()).inputs.isfinite().all()


def test_of_few_examples_some_come_twice():
    encoder = make(sequences=5)
    encoder.calibrate(some(), examples(encoder.interface, count=2))
    assert len(encoder.questions.unique(dim=0)) == 2


@KINDS
def test_responses_are_the_rnns_own(interface):
    probing = make(interface).probe(some())
    outputs = interface.output.interpret(run(some(), probing.inputs)[0])
    own = outputs.exp() if interface == tokens(SPEC) else outputs
    torch.testing.assert_close(probing.outputs, own)


def test_the_embedding_starts_as_principal_components_of_the_responses():
    encoder, population = make(size=4), some(40)
    with torch.no_grad():
        encoder.map.weight[:, -12:] = 0
    encoder.standardise(population)
    raw = encoder.read(population) - encoder.map.bias
    responses = encoder._probe(population)[1]
    _, sizes, _ = torch.linalg.svd(responses - responses.mean(0))
    torch.testing.assert_close(raw.std(0, correction=0) * 40**0.5, sizes[:4], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.corrcoef(raw.T), torch.eye(4), atol=1e-3, rtol=0)


def test_each_response_is_standardised_by_itself_but_narrow_ones_stay_narrow():
    random = torch.Generator().manual_seed(0)
    responses = torch.randn(500, 4, generator=random) * torch.tensor([1.0, 3.0, 1e-6, 0.0]) + 5
    mean, sd = scales(responses)
    own = standard(responses, mean, sd)
    torch.testing.assert_close(own[:, 1].std(), torch.tensor(1.0), atol=0.15, rtol=0)
    assert own[:, 2:].abs().max() < 1e-4
    assert standard(1e9 * responses, mean, sd).abs().max() <= LARGEST


def test_probabilities_of_zero_do_no_harm():
    encoder, population = make(), some()
    population.weights["head.bias"][::2, 1] = -1e4
    encoder.calibrate(population)
    assert encoder(population).isfinite().all()


def test_a_black_box_needs_no_gradients():
    population = some(1)

    @torch.no_grad()
    def step(inputs, state):
        outputs, state = population.step(inputs.unsqueeze(0), state)
        return outputs[0], state

    encoder = make()
    encoder.calibrate(some())
    box = BlackBox(step, lambda batch: None, encoder.interface)
    torch.testing.assert_close(encoder(box), encoder(population))
    encoder(box).sum().backward()


@pytest.mark.parametrize("changes", [{"sequences": 0}, {"steps": 0}, {"hidden": 0}, {"layers": 0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(SettingsError, match=next(iter(changes))):
        make(**changes)


# --- two rounds ------------------------------------------------------------------------------------------


def two_rounds(control=None, **changes):
    encoder = make(sequences=4, rounds=2, control=control, **changes)
    with torch.no_grad():
        encoder.shift.weight.mul_(20)
    encoder.calibrate(some(40), examples(encoder.interface))
    return encoder


def test_what_an_rnn_responds_shifts_its_second_probing_inputs():
    inputs = two_rounds().probe(some()).inputs
    first, second = inputs[:, :2], inputs[:, 2:]
    assert torch.equal(first, first[:1].expand_as(first))
    assert (second - second[:1]).abs().amax((1, 2, 3))[1:].min() > 1e-4


def test_nothing_shifts_those_of_the_decoy():
    inputs = two_rounds("decoy").probe(some()).inputs
    assert torch.equal(inputs, inputs[:1].expand_as(inputs))


def test_donors_shift_those_of_the_yoked_control():
    """An RNN's own responses decide which donor that is, and nothing else of it matters."""
    encoder = two_rounds("yoked")
    inputs = encoder.probe(some()).inputs[:, 2:]
    with torch.no_grad():
        responses = standard(encoder.donors, encoder.mean[: 2 * 6 * 4], encoder.sd[: 2 * 6 * 4])
        shifts = encoder.shift(encoder.descriptor(responses).relu()).unflatten(1, (2, 6, 5))
        raw = encoder.interface.input.raw(encoder.questions[2:], 5.0)
        possible = encoder.interface.input.probing_inputs(5.0 * (raw + shifts))
    distances = (inputs[:, None] - possible[None]).abs().amax((2, 3, 4)).amin(1)
    assert distances.max() < 1e-5
    assert len(inputs.round(decimals=4).unique(dim=0)) > 3


@pytest.mark.parametrize("control", [None, "yoked", "decoy"])
def test_two_rounds_embed_each_rnn_alone_and_learn(control):
    encoder, population = two_rounds(control).double(), some().to(dtype=torch.float64)
    together = encoder(population)
    alone = torch.cat([encoder(population.select([i])) for i in range(len(population))])
    torch.testing.assert_close(together, alone)
    together[:, 0].sum().backward()
    moved = {name for name, own in encoder.named_parameters() if own.grad is not None and own.grad.any()}
    everything = {name for name, _ in encoder.named_parameters()}
    assert everything - moved <= ({"shift.weight"} if control == "decoy" else set())


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 3},
        {"rounds": 2, "sequences": 1},
        {"control": "yoked"},
        {"rounds": 2, "control": "decoy", "learned": True},
    ],
)
def test_impossible_rounds_are_refused(changes):
    with pytest.raises(SettingsError, match=r"rounds|control"):
        make(**changes)
