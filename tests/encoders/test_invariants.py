"""The encoder of invariants: any architecture, and where it starts."""

import pytest
import torch

from rnnatlas.encoders import invariants as module
from rnnatlas.encoders.base import EMBED
from rnnatlas.encoders.invariants import Invariants, InvariantsSettings, Scales, principal_components
from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import BlackBox, Interface, Mixed, Population, RNNSpec, Values
from rnnatlas.rnn.invariants import invariant_names

LSTM, RELU = (RNNSpec(cell=cell, input=3, hidden=5, output=4) for cell in ("lstm", "elman-relu"))
GRU = RNNSpec(cell="gru", input=3, hidden=9, layers=2, output=4)


def some(spec, count=12, seed=0):
    return Population.initialise(spec, [torch.Generator().manual_seed(100 * seed + i) for i in range(count)])


def make(system):
    torch.manual_seed(0)
    encoder = Invariants(Interface(Values(3), Values(4)), LSTM, InvariantsSettings(width=8)).eval()
    encoder.calibrate(system)
    return encoder.requires_grad_(False)


def mixed(*specs):
    rnns = len(specs) * 12
    return Mixed([(list(range(i, rnns, len(specs))), some(spec)) for i, spec in enumerate(specs)])


def test_embeds_rnns_of_any_architecture():
    system = mixed(LSTM, GRU)
    encoder = make(system)
    z = encoder(system)
    assert z.shape == (24, EMBED)
    torch.testing.assert_close(z[1::2], encoder(some(GRU)))
    assert encoder(some(RELU)).isfinite().all()
    assert encoder(some(RNNSpec(cell="leaky-tanh", input=1, hidden=1))).isfinite().all()
    box = BlackBox(lambda inputs, state: (inputs, state), None, Interface(Values(3), Values(4)))
    with pytest.raises(RNNSpecMismatch, match="reads weights, which a black box does not show"):
        encoder(box)


def test_what_an_rnn_lacks_counts_as_the_mean_of_those_that_have_it():
    scales = Scales()
    scales.fit(mixed(LSTM, RELU))
    own, alone = Scales(), [name.startswith("retention") for name in invariant_names()]
    own.fit(some(LSTM))
    torch.testing.assert_close(scales.mean[alone], own.mean[alone])
    torch.testing.assert_close(scales.sd[alone], own.sd[alone])
    assert not scales(some(RELU))[:, alone].any()


def test_far_off_rnns_stay_within_bounds():
    scales = Scales()
    scales.fit(some(LSTM))
    huge = some(LSTM)
    huge.weights["weight_hh_l0"][:] *= 1e20
    assert scales(huge).abs().max() == pytest.approx(module.CLIP)


def test_starts_at_the_principal_components():
    """Without the MLP, embeddings are the whitened components of the scaled invariants."""
    system = some(LSTM, 40)
    encoder = make(system)
    features = encoder.scales(system)
    encoder.head.weight[:, features.shape[1] :] = 0
    directions = encoder.head.weight[:, : features.shape[1]].double()
    components = principal_components(features, EMBED)
    assert torch.linalg.matrix_rank(torch.cat([directions, components]), rtol=1e-4) == EMBED
    torch.testing.assert_close(components @ components.T, torch.eye(EMBED).double())


def test_what_was_worked_out_is_remembered_in_training_and_the_same(monkeypatch):
    monkeypatch.setattr(module, "_remembered", {})
    encoder, population = make(some(LSTM)), some(LSTM, 6, seed=1)
    with torch.no_grad():
        encoder(population)
    assert not module._remembered, "what times an encoder times all of its work"
    first = encoder(population)
    with monkeypatch.context() as patch:
        patch.setattr(module, "invariants", None)  # nothing is worked out again
        torch.testing.assert_close(encoder(population.select([4, 0, 4])), first[[4, 0, 4]])
    monkeypatch.setattr(module, "REMEMBERED", 4)
    other = some(LSTM, 6, seed=2)
    assert torch.equal(encoder(other), encoder(other))
    assert len(module._remembered) <= 6


def test_the_same_weights_in_another_cell_are_another_rnn():
    """What is remembered is of the architecture, too."""
    tanh = RNNSpec(cell="elman-tanh", input=3, hidden=5, output=4)
    relu = some(RELU)
    encoder = make(mixed(RELU, tanh))
    assert not torch.allclose(encoder(relu), encoder(Population(tanh, relu.weights)))
