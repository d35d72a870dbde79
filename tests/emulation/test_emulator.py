import pytest
import torch
from torch.nn.functional import one_hot

from rnnatlas.emulation.emulation import Emulation
from rnnatlas.emulation.emulator import Emulator, EmulatorSettings
from rnnatlas.encoders.base import EMBED
from rnnatlas.executors.base import limited
from rnnatlas.rnn import Interface, Tokens, Values, backend, sample
from rnnatlas.rnn.backends import kernels

TOKENS = Interface(Tokens(6), Tokens(6))


@pytest.fixture(params=[12, 16])  # the compiled layers take multiples of 16
def emulator(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Emulator(TOKENS, 7, EmulatorSettings(width=request.param, layers=2))


def z(count, seed=0):
    drawn = torch.randn(count, EMBED, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)


def inputs(rnn=3, rollout=2, time=7):
    drawn = torch.randint(6, (rnn, rollout, time), generator=torch.Generator().manual_seed(1))
    return one_hot(drawn, 6).float()


def test_gives_log_probabilities(emulator):
    outputs = emulator(z(3), inputs())
    assert outputs.shape == (3, 2, 7, 6)
    torch.testing.assert_close(outputs.exp().sum(-1), torch.ones(3, 2, 7))


def test_each_rnn_and_rollout_is_emulated_by_itself(emulator):
    together = emulator(z(3), inputs())
    apart = emulator(z(3)[1:2], inputs()[1:2, 1:])
    torch.testing.assert_close(apart[0, 0], together[1, 1])


def test_outputs_depend_on_inputs_so_far_only(emulator):
    other = inputs()
    other[:, :, 4] = other[:, :, 4].roll(1, -1)
    before, after = emulator(z(3), inputs()), emulator(z(3), other)
    torch.testing.assert_close(before[:, :, :4], after[:, :, :4])
    assert (before[:, :, 4:] - after[:, :, 4:]).abs().amax((0, 1, 3)).min() > 0


def test_steps_that_do_not_count_may_be_left_out(emulator):
    lengths = torch.tensor([[7, 2], [1, 5], [3, 3]])
    counts = (torch.arange(7) < lengths.unsqueeze(-1)).unsqueeze(-1)
    found = []
    for outputs in (emulator(z(3), inputs()), emulator(z(3), inputs(), lengths)):
        emulator.zero_grad()
        (outputs * counts).square().sum().backward()
        found.append([outputs * counts, *(parameter.grad.clone() for parameter in emulator.parameters())])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    "interface", [TOKENS, Interface(Values(5), Values(3)), Interface(Values(20), Values(2))]
)
def test_compiled_layers_give_what_torchs_lstm_gives(interface, monkeypatch):
    emulator = Emulator(interface, 7, EmulatorSettings(width=32, layers=3))
    read = torch.randn(3, 2, 7, interface.input.size)
    lengths, embeddings = torch.tensor([[7, 2], [1, 5], [3, 3]]), z(3).requires_grad_()
    counts = (torch.arange(7) < lengths.unsqueeze(-1)).unsqueeze(-1)
    leaves, found = [embeddings, *emulator.parameters()], []
    for way in ("", "eager"):
        monkeypatch.setenv("RNNATLAS_BACKEND", way)
        outputs = emulator(embeddings, read, lengths) * counts
        found.append([outputs, *torch.autograd.grad((outputs - 1).square().sum(), leaves)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_the_embedding_enters_at_the_first_step(emulator):
    plain = emulator.input(inputs(1, 1, 1)[0, 0]) + emulator.embedding(z(1))
    expected = emulator.output(emulator.lstm(plain)[0]).log_softmax(-1)
    torch.testing.assert_close(emulator(z(1), inputs(1, 1, 1))[0, 0], expected)
    assert (emulator(z(3), inputs()) - emulator(z(3, seed=5), inputs())).abs().max() > 1e-3


def test_every_parameter_gets_a_gradient(emulator):
    emulator(z(3), inputs())[..., 0].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in emulator.parameters())


def test_samples_from_the_distributions_it_gives(emulator):
    uniforms = torch.rand(3, 4, 9, generator=torch.Generator().manual_seed(2))
    tokens, log_probs = sample(Emulation(emulator, z(3)), uniforms, start=4)
    read = torch.cat([torch.full((3, 4, 1), 4), tokens[..., :-1].long()], -1)
    torch.testing.assert_close(log_probs, emulator(z(3), one_hot(read, 6).float()))
    cumulative = log_probs.exp().cumsum(-1)
    above = cumulative.gather(-1, tokens.long().unsqueeze(-1)).squeeze(-1)
    below = above - log_probs.exp().gather(-1, tokens.long().unsqueeze(-1)).squeeze(-1)
    assert ((below <= uniforms + 1e-6) & (uniforms <= above + 1e-6)).all()


def test_the_published_size():
    size = sum(p.numel() for p in Emulator(TOKENS, 7, EmulatorSettings()).parameters())
    lstm = 2 * 4 * 256 * (256 + 256 + 2)
    assert size == (6 + 1) * 256 + (EMBED + 1) * 256 + lstm + 257 * 6


@pytest.mark.skipif(isinstance(kernels.library(), str), reason="no compiled backend")
def test_on_one_thread_the_compiled_backend_gives_what_torchs_lstm_gives(emulator):
    projected = torch.randn(6, 4, emulator.lstm.hidden_size, requires_grad=True)
    with limited(1):  # on several torch's own loop is the faster one
        outputs, state = emulator._hidden(projected, None)
    assert "_RunBackward" in {node.name() for node in _nodes(outputs.grad_fn)}
    expected, end = emulator.lstm(projected)
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
    for found, one in zip(state, end, strict=True):
        torch.testing.assert_close(found.squeeze(1), one, rtol=1e-5, atol=1e-6)
    leaves = [projected, *emulator.lstm.parameters()]
    found = torch.autograd.grad(outputs.square().sum(), leaves)
    for one, other in zip(found, torch.autograd.grad(expected.square().sum(), leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_where_the_compiled_backend_is_not_asked_for_it_is_torchs(emulator, monkeypatch):
    monkeypatch.setenv("RNNATLAS_BACKEND", "eager")
    assert not kernels.available()
    with limited(1):
        outputs, _ = emulator._hidden(torch.randn(6, 4, emulator.lstm.hidden_size, requires_grad=True), None)
    assert "_RunBackward" not in {node.name() for node in _nodes(outputs.grad_fn)}
    monkeypatch.delenv("RNNATLAS_BACKEND")
    assert kernels.available() == backend().startswith("native")


def _nodes(node):
    """All of the graph above a node."""
    if node is not None:
        yield node
        for above, _ in node.next_functions:
            yield from _nodes(above)


def test_numbers_are_given_out_in_the_unit_of_the_zoos_outputs():
    emulator = Emulator(Interface(Values(2), Values(3)), 7, EmulatorSettings(width=8, layers=1))
    outputs = 5 + 3 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    emulator.calibrate(outputs)
    torch.testing.assert_close(emulator.standardise(outputs).mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert emulator.standardise(outputs).square().mean().item() == pytest.approx(1, abs=1e-4)
    with torch.no_grad():
        emulator.output.weight.zero_()
        emulator.output.bias.zero_()
    torch.testing.assert_close(emulator(z(1), torch.zeros(1, 1, 2, 2))[0, 0, 0], outputs.mean(0))
