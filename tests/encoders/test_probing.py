import math

import pytest
import torch

from rnnatlas import encoders
from rnnatlas.emulation.emulation import Emulation
from rnnatlas.emulation.emulator import Emulator, EmulatorSettings
from rnnatlas.encoders.base import EMBED, chrono_initialise
from rnnatlas.encoders.interactive import InteractiveProbing, InteractiveSettings
from rnnatlas.encoders.noninteractive import NonInteractiveProbing
from rnnatlas.encoders.probing import ProbingSettings
from rnnatlas.errors import RNNSpecMismatch, SettingsError
from rnnatlas.rnn import BlackBox, Interface, Mixed, Population, RNNSpec, Tokens, Values, run

SPEC = RNNSpec(cell="lstm", input=5, hidden=6, output=4)
SIZE = {"sequences": 3, "steps": 6, "width": 16, "hidden": 12}


def some(count=4, spec=SPEC):
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])


TOKENS = Interface(Tokens(5), Tokens(4))


def interactive(interface=TOKENS, spec=SPEC, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InteractiveProbing(
            interface, spec, InteractiveSettings(**SIZE | {"logit_scale": 20.0} | changes)
        )


def noninteractive(interface=TOKENS, spec=SPEC, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NonInteractiveProbing(interface, spec, ProbingSettings(**SIZE | changes))


MAKERS = pytest.mark.parametrize("make", [interactive, noninteractive])


@MAKERS
@pytest.mark.parametrize("reader", ["lstm", "gru"])
def test_responses_are_the_rnns_own(make, reader):
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
def test_values_are_probed_within_their_range_and_encoded_as_they_are(make):
    probing = make(Interface(Values(5, 0.0, 1.0), Values(4))).probe(some())
    assert ((probing.inputs > 0) & (probing.inputs < 1)).all()
    torch.testing.assert_close(probing.outputs, run(some(), probing.inputs)[0])


@MAKERS
def test_responses_are_encoded_as_log_probabilities_of_mean_0_and_standard_deviation_1(make, monkeypatch):
    encoder, population = make(), some(40)
    encoder.calibrate(population)
    encoded = []
    monkeypatch.setattr(
        encoder.response,
        "forward",
        lambda responses: encoded.append(responses) or responses @ encoder.response.weight.T,
    )
    responses = encoder.probe(population).outputs.log().transpose(1, 2).flatten(2)
    steps = encoded if len(encoded) > 1 else encoded[0].unbind(0)
    torch.testing.assert_close(torch.stack(list(steps), 1), (responses - encoder.mean) / encoder.sd)
    if make is noninteractive:  # interactive ones had other probing inputs before they were calibrated
        torch.testing.assert_close(torch.stack(list(steps)).mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.stack(list(steps)).std(), torch.tensor(1.0), atol=1e-2, rtol=0)


def test_noninteractive_probing_inputs_are_the_same_for_all():
    inputs = noninteractive().probe(some()).inputs
    assert torch.equal(inputs, inputs[:1].expand_as(inputs))


def test_interactive_probing_inputs_depend_on_responses_from_the_second_on():
    inputs = interactive().probe(some()).inputs
    assert torch.equal(inputs[:, :, 0], inputs[:1, :, 0].expand(4, -1, -1))
    assert (inputs[:, :, 1:] - inputs[:1, :, 1:]).abs().amax((1, 3))[1:].min() > 1e-6


@pytest.mark.parametrize("step_embedding", [False, True])
def test_without_interaction_responses_do_not_reach_probing_inputs(step_embedding):
    ablated = interactive(interaction=False, step_embedding=step_embedding)
    whole = interactive(step_embedding=step_embedding)
    inputs = ablated.probe(some()).inputs
    assert torch.equal(inputs, inputs[:1].expand_as(inputs))
    assert {name: p.shape for name, p in ablated.named_parameters()} == {
        name: p.shape for name, p in whole.named_parameters()
    }
    torch.testing.assert_close(inputs[:, :, 0], whole.probe(some()).inputs[:, :, 0])
    ablated(some())[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in ablated.parameters())


def test_yoked_probing_inputs_come_from_interviews_with_other_rnns():
    yoked, whole = interactive(yoked=True), interactive()
    yoked.calibrate(some(40))
    donors = yoked._kept()
    torch.testing.assert_close(donors.weights["weight_hh_l0"][0], some(1).weights["weight_hh_l0"][0])
    rnns = some(60)[20:]
    probing, interviews = yoked.probe(rnns), InteractiveProbing._interview(yoked, donors)[0].inputs
    same = (probing.inputs[:, None] - interviews[None]).abs().amax((2, 3, 4)) < 1e-6
    assert (same.sum(1) >= 1).all()  # each one's is one of these
    assert same.any(0).sum() > 10  # and not all have the same
    alone = yoked(rnns[3])  # whose embedding depends on the RNN alone
    torch.testing.assert_close(yoked(rnns)[3:4], alone)
    assert {n: p.shape for n, p in yoked.named_parameters()} == {
        n: p.shape for n, p in whole.named_parameters()
    }
    kept = interactive(yoked=True)
    kept.load_state_dict(yoked.state_dict())
    torch.testing.assert_close(kept(rnns), yoked(rnns))


def test_yoked_probing_refuses_what_it_cannot_keep():
    other = RNNSpec(cell="gru", input=5, hidden=3, output=4)
    with pytest.raises(SettingsError, match="one architecture, found"):
        interactive(yoked=True).calibrate(Mixed([(slice(0, 20), some(20)), (slice(20, 40), some(20, other))]))
    with pytest.raises(SettingsError, match="interaction should be true"):
        InteractiveSettings(yoked=True, interaction=False)


def test_the_logit_scale_sharpens_probing_inputs():
    flat, sharp = (noninteractive(logit_scale=scale).probe(some(1)).inputs for scale in (1.0, 50.0))
    assert sharp.amax(-1).mean() > flat.amax(-1).mean() + 0.2


@pytest.mark.parametrize("name", ["sequences", "steps", "width", "layers", "hidden"])
def test_refuses_sizes_of_nothing(name):
    with pytest.raises(SettingsError, match=rf"^{name} should be 1 or more, found 0"):
        ProbingSettings(**{name: 0})


@pytest.mark.parametrize("scale", [0.0, math.nan, math.inf])
def test_refuses_probing_inputs_of_no_scale(scale):
    with pytest.raises(SettingsError, match="logit_scale should be finite and above 0"):
        ProbingSettings(logit_scale=scale)


def test_bidirectional_rnns_can_be_probed_in_whole_sequences_only():
    spec = RNNSpec(cell="gru", input=5, hidden=3, output=4, bidirectional=True)
    assert noninteractive(spec=spec)(some(spec=spec)).shape == (4, 16)
    assert interactive(spec=spec, interaction=False)(some(spec=spec)).shape == (4, 16)
    with pytest.raises(RNNSpecMismatch, match=r"one step at a time.*both ends"):
        interactive(spec=spec)(some(spec=spec))


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


# --- numbers -----------------------------------------------------------------------------------------

NUMBERS = Interface(Values(5), Values(4))


@MAKERS
def test_mean_and_scale_of_unbounded_probing_inputs_are_learned(make):
    encoder = make(NUMBERS)
    encoder(some())[:, 0].sum().backward()
    for parameter in (encoder.location, encoder.scale):
        assert isinstance(parameter, torch.nn.Parameter)
        assert parameter.grad is not None
        assert (parameter.grad != 0).any()
    bounded = make(Interface(Values(5, -1.0, 1.0), Values(4)))
    assert bounded.location is bounded.scale is None


@MAKERS
def test_mean_and_scale_of_unbounded_probing_inputs_start_as_those_of_inputs(make):
    encoder, population = make(NUMBERS), some()
    inputs = torch.randn(200, 6, 5, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 6) + 3
    given = {"rollouts": inputs}
    encoder.calibrate(population, lambda kind, steps: given[kind][:, :steps])
    torch.testing.assert_close(encoder.location.detach(), inputs.mean((0, 1)))
    torch.testing.assert_close(encoder.scale.detach(), inputs.std((0, 1), correction=0))
    before = encoder.probe(population).inputs
    raw = (before - encoder.location) / encoder.scale
    encoder.calibrate(population, lambda kind, steps: 10 * given[kind][:, :steps])
    first = 0  # later inputs of interactive probing depend on responses, which changed
    torch.testing.assert_close(
        encoder.probe(population).inputs[:, :, first],
        (encoder.location + encoder.scale * raw)[:, :, first],
        rtol=1e-4,
        atol=1e-4,
    )
    again = make(NUMBERS)
    again.calibrate(population)  # without inputs they stay as they are
    assert torch.equal(again.location, torch.zeros(5))


@MAKERS
def test_each_output_of_numbers_is_standardised_by_itself(make):
    population = some(40)
    population.weights["head.weight"][:, 1] *= 100
    population.weights["head.bias"][:, 1] += 7
    encoder = make(NUMBERS)
    responses = encoder.probe(population).outputs.flatten(0, 2)
    encoder.calibrate(population)
    torch.testing.assert_close(encoder.mean, responses.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.sd, responses.std(0, correction=0), rtol=1e-4, atol=1e-5)
    assert make().mean.shape == ()  # log-probabilities have one scale


# --- systems of all kinds -------------------------------------------------------------------------------


@MAKERS
def test_the_embedding_of_a_mixed_system_is_that_of_its_members(make):
    encoder = make()
    populations = [some(), some(3, RNNSpec(cell="gru", input=5, hidden=9, output=4))]
    mixed = Mixed([([5, 0, 3, 2], populations[0]), ([1, 4, 6], populations[1])])
    z = encoder(mixed)
    for positions, population in zip(([5, 0, 3, 2], [1, 4, 6]), populations, strict=True):
        torch.testing.assert_close(z[positions], encoder(population), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoder(mixed.select([6, 0])), z[[6, 0]], rtol=1e-5, atol=1e-6)


@MAKERS
def test_a_black_box_embeds_as_the_rnn_in_it(make):
    encoder = make(Interface(Values(5, -1.0, 1.0), Values(4)))
    cell, head = torch.nn.GRUCell(5, 6), torch.nn.Linear(6, 4)

    def step(inputs, h):
        h = cell(inputs, h)
        return head(h), h

    box = BlackBox(step, lambda batch: torch.zeros(batch, 6), encoder.interface)
    weights = {f"{name}_l0": weight.unsqueeze(0) for name, weight in cell.named_parameters()}
    weights |= {f"head.{name}": weight.unsqueeze(0) for name, weight in head.named_parameters()}
    population = Population(RNNSpec(cell="gru", input=5, hidden=6, output=4), weights)
    torch.testing.assert_close(encoder(box), encoder(population), rtol=1e-4, atol=1e-5)


@MAKERS
def test_emulations_can_be_embedded(make):
    encoder = make()
    emulator = Emulator(TOKENS, 7, EmulatorSettings(width=8, layers=1))
    z = torch.randn(3, EMBED, generator=torch.Generator().manual_seed(0))
    whole = encoder(Emulation(emulator, z))
    assert whole.shape == (3, EMBED)
    torch.testing.assert_close(encoder(Emulation(emulator, z[1:2])), whole[1:2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(encoders.registry))
def test_who_reads_weights_refuses_what_has_none_and_other_architectures(name):
    kind = encoders.registry[name]
    if not kind.reads_weights:
        return
    encoder = kind(TOKENS, SPEC, kind.Settings())
    emulation = Emulation(Emulator(TOKENS, 7, EmulatorSettings(width=8, layers=1)), torch.zeros(1, EMBED))
    with pytest.raises(RNNSpecMismatch, match="reads weights, which a black box does not show"):
        encoder(emulation)
    gru = RNNSpec(cell="gru", input=5, hidden=9, output=4)
    mixed = Mixed([([0, 2], some(2)), ([1], some(1, gru))])
    if not kind.any_architecture:
        with pytest.raises(RNNSpecMismatch, match=r"built for LSTM 5→6→4, found GRU 5→9→4; train one"):
            encoder(mixed)
    assert encoder.accepts(TOKENS, SPEC) is None
    with pytest.raises(RNNSpecMismatch, match="black box"):
        encoder(Mixed([([0, 2], some(2)), ([1], emulation)]))
