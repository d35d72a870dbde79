import math

import pytest
import torch

from rnnatlas.encoders.base import chrono_initialise
from rnnatlas.encoders.interactive import InteractiveProbing, InteractiveSettings
from rnnatlas.encoders.noninteractive import NonInteractiveProbing
from rnnatlas.encoders.probing import ProbingSettings
from rnnatlas.errors import RNNSpecMismatch, SettingsError
from rnnatlas.rnn import Population, RNNSpec, run

SPEC = RNNSpec(cell="lstm", input=5, hidden=6, output=4)
SIZE = {"sequences": 3, "steps": 6, "width": 16, "hidden": 12}


def some(count=4, spec=SPEC):
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])


def interactive(signal="tokens", outcome="tokens", spec=SPEC, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InteractiveProbing(
            spec, signal, outcome, InteractiveSettings(**SIZE | {"logit_scale": 20.0} | changes)
        )


def noninteractive(signal="tokens", outcome="tokens", spec=SPEC, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NonInteractiveProbing(spec, signal, outcome, ProbingSettings(**SIZE | changes))


MAKERS = pytest.mark.parametrize("make", [interactive, noninteractive])


@MAKERS
@pytest.mark.parametrize("reader", ["lstm", "gru"])
def test_answers_are_the_rnns_own(make, reader):
    probing = make(reader=reader).probe(some())
    assert probing.inputs.shape == (4, 3, 6, 5)
    assert probing.outputs.shape == (4, 3, 6, 4)
    outputs, _ = run(some(), probing.inputs)
    torch.testing.assert_close(probing.outputs, outputs.softmax(-1))


@MAKERS
def test_probing_inputs_are_distributions_over_tokens(make):
    inputs = make().probe(some()).inputs
    torch.testing.assert_close(inputs.sum(-1), torch.ones(4, 3, 6))
    assert (inputs >= 0).all()


@MAKERS
def test_values_are_asked_between_0_and_1_and_heard_as_they_are(make):
    probing = make("values", "values").probe(some())
    assert ((probing.inputs > 0) & (probing.inputs < 1)).all()
    torch.testing.assert_close(probing.outputs, run(some(), probing.inputs)[0])


@MAKERS
def test_answers_are_heard_as_log_probabilities_of_mean_0_and_spread_1(make, monkeypatch):
    encoder, population = make(), some(40)
    encoder.calibrate(population)
    heard = []
    monkeypatch.setattr(
        encoder.hear, "forward", lambda answers: heard.append(answers) or answers @ encoder.hear.weight.T
    )
    answers = encoder.probe(population).outputs.log().transpose(1, 2).flatten(2)
    steps = heard if len(heard) > 1 else heard[0].unbind(0)
    torch.testing.assert_close(torch.stack(list(steps), 1), (answers - encoder.mean) / encoder.sd)
    if make is noninteractive:  # interactive ones asked other questions before they were calibrated
        torch.testing.assert_close(torch.stack(list(steps)).mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.stack(list(steps)).std(), torch.tensor(1.0), atol=1e-2, rtol=0)


def test_noninteractive_questions_are_the_same_for_all():
    inputs = noninteractive().probe(some()).inputs
    assert torch.equal(inputs, inputs[:1].expand_as(inputs))


def test_interactive_questions_depend_on_answers_from_the_second_on():
    inputs = interactive().probe(some()).inputs
    assert torch.equal(inputs[:, :, 0], inputs[:1, :, 0].expand(4, -1, -1))
    assert (inputs[:, :, 1:] - inputs[:1, :, 1:]).abs().amax((1, 3))[1:].min() > 1e-6


@pytest.mark.parametrize("step_embedding", [False, True])
def test_without_interaction_answers_do_not_reach_questions(step_embedding):
    cut = interactive(interaction=False, step_embedding=step_embedding)
    whole = interactive(step_embedding=step_embedding)
    inputs = cut.probe(some()).inputs
    assert torch.equal(inputs, inputs[:1].expand_as(inputs))
    assert {name: p.shape for name, p in cut.named_parameters()} == {
        name: p.shape for name, p in whole.named_parameters()
    }
    torch.testing.assert_close(inputs[:, :, 0], whole.probe(some()).inputs[:, :, 0])
    cut(some())[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in cut.parameters())


def test_the_logit_scale_sharpens_questions():
    flat, sharp = (noninteractive(logit_scale=scale).probe(some(1)).inputs for scale in (1.0, 50.0))
    assert sharp.amax(-1).mean() > flat.amax(-1).mean() + 0.2


@pytest.mark.parametrize("name", ["sequences", "steps", "width", "layers", "hidden"])
def test_refuses_sizes_of_nothing(name):
    with pytest.raises(SettingsError, match=rf"^{name} should be 1 or more, found 0"):
        ProbingSettings(**{name: 0})


@pytest.mark.parametrize("scale", [0.0, math.nan, math.inf])
def test_refuses_questions_of_no_scale(scale):
    with pytest.raises(SettingsError, match="logit_scale should be finite and above 0"):
        ProbingSettings(logit_scale=scale)


def test_bidirectional_rnns_can_be_probed_in_whole_sequences_only():
    spec = RNNSpec(cell="gru", input=5, hidden=3, output=4, bidirectional=True)
    assert noninteractive(spec=spec)(some(spec=spec)).shape == (4, 16)
    assert interactive(spec=spec, interaction=False)(some(spec=spec)).shape == (4, 16)
    with pytest.raises(RNNSpecMismatch, match="one step at a time"):
        interactive(spec=spec)
    with pytest.raises(RNNSpecMismatch, match="both ends"):
        interactive().check(spec)


def test_lstms_start_with_forget_gates_that_chrono_initialise():
    drawn = {}
    for cell in ("LSTM", "GRU"):
        network = getattr(torch.nn, cell)(3, 500, num_layers=2)
        before = {name: weight.clone() for name, weight in network.named_parameters()}
        chrono_initialise(network, 40)
        drawn[cell] = {name: (before[name], weight.detach()) for name, weight in network.named_parameters()}
    assert all(torch.equal(*pair) for pair in drawn["GRU"].values())
    gates = {name: torch.stack(pair).detach().unflatten(1, (4, 500)) for name, pair in drawn["LSTM"].items()}
    for name, (before, after) in gates.items():
        others = [0, 2, 3]
        assert torch.equal(before[others], after[others])
        if name.startswith("weight"):
            assert torch.equal(before, after)
    for layer in range(2):
        bias = gates[f"bias_ih_l{layer}"][1, 1] + gates[f"bias_hh_l{layer}"][1, 1]
        lifetimes = 1 / (1 - bias.sigmoid())
        assert 2 <= lifetimes.min() < 3
        assert 40 < lifetimes.max() <= 41.01
        assert lifetimes.mean() == pytest.approx(21.5, abs=2)
