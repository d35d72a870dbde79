"""Masks may leave out any steps: what is not worked out to save time never counts."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.made import SMALL

from rnnatlas import encoders
from rnnatlas.emulation import fit
from rnnatlas.emulation.data import WEIGHTS, Snapshots
from rnnatlas.emulation.emulator import Emulator, EmulatorSettings
from rnnatlas.rnn import Interface, Population, RNNSpec, Tokens, Values
from rnnatlas.tasks.formal_languages import FormalLanguages

RNNS, ROLLOUTS, TIME = 3, 2, 20
SPEC = RNNSpec(cell="gru", input=4, hidden=3, output=4)


def training(divergence, folder):
    """A loop over RNNs whose task has outputs that suit the divergence, and one batch as it sees it."""
    task = FormalLanguages.from_settings({"tokens": 2})
    output = Values(4) if divergence == "mse" else Tokens(4)
    task.interface = Interface(Tokens(4), output)
    torch.manual_seed(0)
    kind = encoders.registry["statistics"]
    encoder = kind(task.interface, SPEC, kind.Settings(width=8, layers=1))
    emulator = Emulator(task.interface, TIME, EmulatorSettings(width=6, layers=1))
    population = Population.initialise(SPEC, [torch.Generator().manual_seed(i) for i in range(RNNS)])
    targets = output.interpret(torch.randn(RNNS, ROLLOUTS, TIME, 4))
    snapshots = Snapshots(
        task=task,
        table=pa.table({}),
        weights={SPEC: population.flatten()},
        where=torch.stack([torch.zeros(RNNS), torch.arange(RNNS)], 1).long(),
        stored=torch.zeros(RNNS, ROLLOUTS, TIME + 1, dtype=torch.uint8),
        targets=targets,
    )
    how = dataclasses.replace(SMALL, divergence=divergence)
    loop = fit.Training(encoder, emulator, snapshots, snapshots, how, 0, folder)
    inputs = torch.randn(RNNS, ROLLOUTS, TIME, 4)
    return loop, {WEIGHTS + SPEC.slug: population.flatten(), "inputs": inputs, "targets": targets}


@pytest.fixture(params=["kl", "mse"], scope="module")
def made(request, tmp_path_factory):
    with torch.random.fork_rng():
        return training(request.param, tmp_path_factory.mktemp("run"))


def losses(made, mask):
    """The loss of each RNN and its gradients, with what does not count left out and with all worked out."""
    loop, batch = made
    found, emulate = [], loop.emulator.forward
    for all_steps in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if all_steps:
                patch.setattr(loop.emulator, "forward", lambda z, inputs, lengths: emulate(z, inputs))
            loop.zero_grad()
            values = loop._loss(**batch, mask=mask)
            values.sum().backward()
        found.append([values, *(parameter.grad.clone() for parameter in loop.parameters())])
    return found


def test_a_response_period_at_the_end_of_a_trial_counts(made):
    mask = torch.zeros(RNNS, ROLLOUTS, TIME)
    mask[..., 10:] = 1
    less, whole = losses(made, mask)
    torch.testing.assert_close(less, whole)
    loop, batch = made
    with torch.no_grad():
        z = loop.encoder(Population.unflatten(SPEC, batch[WEIGHTS + SPEC.slug]))
        outputs = loop.emulator.standardise(loop.emulator(z, batch["inputs"]))
        targets = loop.emulator.standardise(batch["targets"])
        own = loop._divergence(targets, outputs)[..., 10:].mean((1, 2))
    torch.testing.assert_close(less[0].detach(), own)


@settings(max_examples=25, deadline=None)
@given(drawn=arrays(np.int8, (RNNS, ROLLOUTS, TIME), elements=st.integers(0, 1)))
def test_the_loss_is_that_of_all_steps_worked_out(made, drawn):
    less, whole = losses(made, torch.from_numpy(drawn).float())
    torch.testing.assert_close(less, whole, rtol=1e-4, atol=1e-6)
