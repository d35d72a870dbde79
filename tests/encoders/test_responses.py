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
