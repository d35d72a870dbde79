import itertools

import pytest
import torch
from tests.made import tokens
from torch.utils.flop_counter import FlopCounterMode

from rnnatlas import encoders
from rnnatlas.encoders.cost import PAPER, TOGETHER, cost
from rnnatlas.encoders.flat import FlatSettings
from rnnatlas.encoders.interactive import InteractiveSettings
from rnnatlas.encoders.probing import ProbingSettings
from rnnatlas.encoders.statistics import Statistics, StatisticsSettings
from rnnatlas.encoders.transformer import TransformerSettings
from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import Population, RNNSpec

GRU = RNNSpec(cell="gru", input=3, hidden=4, output=5)
PROBING = {"sequences": 2, "steps": 7, "width": 8, "layers": 2, "hidden": 6}


def products(*sizes):
    """Multiplications in an MLP of these sizes."""
    return sum(size * following for size, following in itertools.pairwise(sizes))


def probing(gates, probed_together=1):
    """Multiplications of a probing encoder with these settings, whose reader has so many gates.

    Probing inputs that do not depend on the RNN are made once for all that are probed together.
    """
    rnn = 7 * 2 * (3 * 4 * (3 + 4) + 4 * 5)
    generator = 7 * products(8, 6, 6, 2 * 3)
    reader = 7 * 2 * 5 * 8 + (7 + 2) * 2 * gates * 8 * (8 + 8)
    return rnn + generator / probed_together + reader + products(8, 6, 6, 16)


def attention(tokens, width, feedforward):
    whole = tokens * (4 * width**2 + 2 * width * feedforward) + 2 * tokens**2 * width
    summary = tokens * 2 * width**2 + 2 * width**2 + 2 * width * feedforward + 2 * tokens * width
    return whole + summary


@pytest.mark.parametrize(
    ("name", "settings", "multiplications"),
    [
        ("statistics", StatisticsSettings(width=9), products(7 * (3 + 3 + 4 + 2), 9, 9, 9, 16)),
        ("flat", FlatSettings(width=9), products(12 * (3 + 4 + 2) + 5 * 5, 9, 9, 9, 16)),
        (
            "transformer",
            TransformerSettings(width=8, layers=2, feedforward=10),
            12 * 9 * 8 + 5 * 5 * 8 + attention(12 + 5 + 1, 8, 10) + 8 * 16,
        ),
        ("noninteractive", ProbingSettings(**PROBING), probing(4, TOGETHER)),
        ("interactive", InteractiveSettings(**PROBING), probing(4)),
        ("interactive", InteractiveSettings(**PROBING, reader="gru"), probing(3)),
    ],
)
def test_flops_are_those_counted_by_hand(name, settings, multiplications):
    assert cost(name, GRU, settings).flops == round(2 * multiplications)


@pytest.mark.parametrize("name", ["statistics", "dws", "flat"])  # all products are seen on the CPU, too
def test_flops_are_those_of_an_rnn_that_is_embedded(name):
    encoder = encoders.registry[name](tokens(GRU), GRU, encoders.registry[name].Settings()).eval()
    with FlopCounterMode(display=False) as counter:
        encoder(Population.initialise(GRU, [torch.Generator()]))
    assert cost(name, GRU).flops == counter.get_total_flops()


@pytest.mark.parametrize("name", sorted(encoders.registry))
def test_parameters_are_those_of_the_encoder(name):
    kind = encoders.registry[name]
    state = torch.random.get_rng_state()
    found = cost(name)
    assert torch.equal(torch.random.get_rng_state(), state)
    encoder = kind(tokens(PAPER), PAPER, kind.Settings())
    assert found.parameters == sum(parameter.numel() for parameter in encoder.parameters())
    assert found.flops > 0


def test_what_an_encoder_does_not_take_has_no_cost():
    with pytest.raises(RNNSpecMismatch, match="reads sequences from both ends"):
        cost("interactive", RNNSpec(cell="gru", input=3, hidden=4, bidirectional=True))


def test_cost_of_probing_without_interaction_is_known():
    settings = InteractiveSettings(interaction=False)
    assert cost("interactive", settings=settings).parameters == cost("interactive").parameters


class OfNumbers(Statistics):
    """Statistics of an encoder that reads a number off a tensor, which one without numbers has not."""

    def read(self, system):
        return super().read(system) * float(self.mlp[-1].bias[0] + 1)


def test_an_encoder_that_needs_numbers_costs_what_it_costs_with_shapes_alone(monkeypatch):
    monkeypatch.setitem(encoders.registry._entries, "of-numbers", (f"{__name__}:OfNumbers", ""))
    state = torch.random.get_rng_state()
    assert cost("of-numbers", GRU) == cost("statistics", GRU)
    assert torch.equal(torch.random.get_rng_state(), state)
