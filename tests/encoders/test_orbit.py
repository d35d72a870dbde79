"""Probing in all turns: the embedding turns with the RNN."""

import pytest
import torch

from rnnatlas.encoders.cost import cost
from rnnatlas.encoders.orbit import Orbit, OrbitSettings, aligning
from rnnatlas.encoders.responses import standard
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.tasks.tiled_mnist import TiledDigits

TASK = TiledDigits()
SPEC = RNNSpec(cell="lstm", input=4, hidden=6, output=10)


def some(count=12):
    rnns = Population.initialise(SPEC, [torch.Generator().manual_seed(i) for i in range(count)])
    return Population(SPEC, {name: 3 * weight for name, weight in rnns.weights.items()}, TASK.interface)


def examples(kind, steps, turns=1):
    assert (kind, steps) == ("images", TASK.time)
    return TASK.turned(TASK.probes(kind, steps), turns).flatten(0, 1)


def make(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = OrbitSettings(**{"sequences": 3, "hidden": 12} | changes)
        encoder = Orbit(TASK.interface, SPEC, settings)
    encoder.calibrate(some(), examples)
    return encoder.eval()


class Turned(Population):
    """RNNs as if the images that they were trained on had been rotated by so many quarters more."""

    quarters = 0

    def run(self, inputs, state=None):
        return super().run(TASK.turned(inputs, 4)[-self.quarters % 4], state)


@pytest.mark.parametrize("turns", [4, 24])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_the_direction_turns_with_the_rnn_and_nothing_else_changes(turns, quarters):
    encoder, rnns = make(turns=turns), some()
    turned = Turned(SPEC, rnns.weights, TASK.interface)
    turned.quarters = quarters
    z, other = encoder(rnns), encoder(turned)
    direction = torch.view_as_complex(z[:, :2].contiguous()) * 1j**quarters
    assert direction.abs().min() > 1e-3
    torch.testing.assert_close(torch.view_as_complex(other[:, :2].contiguous()), direction, atol=1e-3, rtol=0)
    torch.testing.assert_close(other[:, 2:], z[:, 2:], atol=1e-3, rtol=0)


def test_probing_inputs_are_some_of_the_images_each_in_all_turns():
    encoder = make(turns=6)
    offered = TASK.probes("images", TASK.time)
    found = [
        next(i for i, own in enumerate(offered) if torch.equal(own, shown)) for shown in encoder.questions[0]
    ]
    assert len(set(found)) == 3
    torch.testing.assert_close(encoder.questions, TASK.turned(encoder.questions[0], 6))
    assert torch.equal(encoder.probe(some()).inputs[0], encoder.questions.flatten(0, 1))


def test_of_few_images_some_come_twice():
    encoder = make()
    images = TASK.probes("images", TASK.time)[:2]
    encoder.calibrate(some(), lambda kind, steps, turns: TASK.turned(images, turns).flatten(0, 1))
    assert len(encoder.questions[0].unique(dim=0)) == 2


@pytest.mark.parametrize("last", [1, 2, 30])
def test_only_the_last_responses_are_read(last):
    encoder = make(last=last)
    probing, responses = encoder._probe(some())
    steps = min(last, TASK.time)
    assert responses.shape == (12, 24, 3 * steps * 10)
    read = probing.outputs[:, :, -steps:].unflatten(1, (24, 3)).flatten(2)
    torch.testing.assert_close(responses, standard(read.clamp(min=-12), encoder.mean, encoder.sd))


def test_directions_start_with_unit_variance_about_where_they_are_and_the_rest_is_white():
    encoder = make()
    raw = encoder.read(some())
    torch.testing.assert_close(raw[:, :2].square().mean(), torch.tensor(1.0))
    assert raw[:, 2:].mean(0).abs().max() < 1e-4
    assert torch.linalg.svdvals(raw[:, 2:] / 12**0.5).max() < 1 + 1e-4


def test_all_turns_are_queries():
    rnns = some()
    settings = OrbitSettings(sequences=3, steps=7, turns=5)
    assert cost("orbit", rnns.spec, settings).queries == 3 * 7 * 5


def test_alignment_finds_how_rnns_are_turned():
    """Of RNNs that respond alike but for a turn, some of them hardly and with noise of their own."""
    random = torch.Generator().manual_seed(0)
    pattern = torch.randn(12, 20, generator=random, dtype=torch.float64)
    turned = torch.randint(12, (100,), generator=random)
    clear = torch.rand(100, 1, 1, generator=random, dtype=torch.float64)
    noise = torch.randn(100, 12, 20, generator=random, dtype=torch.float64)
    responses = clear * torch.stack([pattern.roll(int(turn), 0) for turn in turned]) + 0.3 * noise
    found = (responses @ aligning(responses)).argmax(1)
    off = (found - turned)[clear[:, 0, 0] > 0.3] % 12
    assert (off == off[0]).all()


def test_impossible_settings_are_refused():
    with pytest.raises(SettingsError, match="turns should be 3 or more"):
        make(turns=2)
    with pytest.raises(SettingsError, match="last should be 1 or more"):
        make(last=0)
