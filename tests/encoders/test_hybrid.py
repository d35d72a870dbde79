"""Behaviour and weights in one embedding."""

import pytest
import torch
from tests.made import different_leaks, tokens

from rnnatlas.encoders.hybrid import Hybrid, HybridSettings
from rnnatlas.errors import RNNSpecMismatch, SettingsError
from rnnatlas.rnn import BlackBox, Mixed, Population, RNNSpec

SPECS = [
    RNNSpec(cell="lstm", input=5, hidden=6, layers=2, output=4),
    RNNSpec(cell="gru", input=5, hidden=4, output=4),
    RNNSpec(cell="leaky-tanh", input=5, hidden=7, output=4),
]


def some(spec, count=6):
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])
    return different_leaks(population.to(dtype=torch.float64))


def mixed():
    parts = [some(spec) for spec in SPECS]
    places = torch.randperm(18, generator=torch.Generator().manual_seed(0)).split(6)
    return Mixed(list(zip(places, parts, strict=True)))


def make(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = HybridSettings(**{"sequences": 2, "steps": 5, "hidden": 12} | changes)
        return Hybrid(tokens(SPECS[0]), SPECS[0], settings).double()


def test_several_architectures_are_embedded_together_as_alone():
    encoder, system = make(), mixed()
    encoder.calibrate(system)
    together = encoder(system)
    for place in range(len(system)):
        torch.testing.assert_close(encoder(system.select([place])), together[[place]])


def test_the_second_objective_is_how_far_the_invariants_decoded_are_from_the_rnns():
    encoder, system = make(decode=0.5), mixed()
    encoder.calibrate(system)
    z = encoder(system)
    loss = encoder.extra_loss(system, z)
    assert loss.shape == (18,)
    alone = torch.cat([encoder.extra_loss(system.select([i]), z[[i]]) for i in range(18)])
    torch.testing.assert_close(loss, alone)
    optimiser = torch.optim.Adam(encoder.parameters(), 0.01)
    for _ in range(150):
        optimiser.zero_grad()
        encoder.extra_loss(system, encoder(system)).mean().backward()
        optimiser.step()
    assert encoder.extra_loss(system, encoder(system)).mean() < 0.5 * loss.mean()
    doubled = make(decode=1.0)
    doubled.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(doubled.extra_loss(system, z), 2 * encoder.extra_loss(system, z))


def test_without_the_second_objective_there_is_no_decoder():
    encoder = make(decode=0.0)
    assert encoder.extra_loss(mixed(), torch.zeros(18, 16)) is None
    assert not [name for name, _ in encoder.named_parameters() if name.startswith("decoder")]


def test_a_black_box_has_no_weights_to_read():
    encoder = make()
    box = BlackBox(lambda inputs, state: (inputs[:, :4], state), lambda batch: None, encoder.interface)
    with pytest.raises(RNNSpecMismatch, match="reads weights, which a black box does not show"):
        encoder(box)


def test_impossible_settings_are_refused():
    with pytest.raises(SettingsError, match="decode should be 0 or more"):
        make(decode=-1.0)
