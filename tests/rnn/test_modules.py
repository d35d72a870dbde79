"""Reading modules: what a module does besides its RNN and linear head is found by running it."""

import logging
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import Population, run

X = torch.randn(3, 7, 4)


class Net(nn.Module):
    """An RNN and a head, with something before, between or behind."""

    def __init__(self, before=None, between=None, behind=None, rnn=None):
        super().__init__()
        self.before, self.between, self.behind = before, between, behind
        self.rnn = rnn or nn.GRU(4, 6, batch_first=True)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        hidden, _ = self.rnn(self.before(x) if self.before else x)
        out = self.fc(self.between(hidden) if self.between else hidden)
        return self.behind(out) if self.behind else out


class Last(Net):
    def forward(self, x):
        return super().forward(x)[:, -1]


class Squeezed(Net):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 1)

    def forward(self, x):
        return {"out": super().forward(x).squeeze(-1), "loss": None}


class Stepwise(Net):
    """Calls its RNN step by step, and remembers the state."""

    def forward(self, x):
        self.state, outputs = None, []
        for t in range(x.shape[1]):
            hidden, self.state = self.rnn(x[:, t : t + 1], self.state)
            outputs.append(self.fc(hidden))
        return torch.cat(outputs, 1), self.state


class Started(Net):
    """Starts from another state than zeros."""

    def forward(self, x):
        return self.fc(self.rnn(x, torch.ones(1, x.shape[0], 6))[0])


class Doubled(nn.GRU):
    def forward(self, x, state=None):
        hidden, state = super().forward(x, state)
        return 2 * hidden, state


def population_of(*modules):
    return Population.from_modules(list(modules))


SAME = {
    "plain": Net(),
    "time first": Net(rnn=nn.LSTM(4, 6)),
    "dropout": Net(between=nn.Dropout(0.5)),
    "embedding in front": Net(before=nn.Embedding(9, 4)),
    "linear in front": Net(before=nn.Linear(5, 4)),
    "last step": Last(),
    "squeezed": Squeezed(),
    "stepwise": Stepwise(),
}


@pytest.mark.parametrize("kind", SAME)
def test_modules_that_do_what_their_rnn_does_are_read(kind, caplog):
    module = SAME[kind].train()
    read = population_of(module)
    assert module.training
    assert "state" not in vars(module)
    assert caplog.text == ""
    outputs, _ = run(read, X)
    hidden, _ = module.rnn(X if module.rnn.batch_first else X.transpose(0, 1))
    expected = module.fc(hidden if module.rnn.batch_first else hidden.transpose(0, 1))
    torch.testing.assert_close(outputs[0], expected)


OTHER = {
    "relu between": Net(between=nn.ReLU()),
    "softmax behind": Net(behind=nn.Softmax(-1)),
    "norm between": Net(between=nn.LayerNorm(6)),
    "another start": Started(),
    "own cell": Net(rnn=Doubled(4, 6, batch_first=True)),
}


@pytest.mark.parametrize("kind", OTHER)
def test_modules_that_do_something_else_are_refused_with_the_difference(kind):
    with pytest.raises(RNNSpecMismatch, match=r"gives out other numbers than its GRU 4→6→2 alone, by \d"):
        population_of(SAME["plain"], OTHER[kind])


def test_modules_that_give_out_other_shapes_are_refused():
    with pytest.raises(RNNSpecMismatch, match=r"gives out tensors of shapes \[2, 5, 3\] for 2 sequences"):
        population_of(Net(behind=nn.Linear(2, 3)))


def test_a_pair_is_what_its_parts_are():
    net = OTHER["relu between"]
    assert str(population_of((net.rnn, net.fc)).spec) == "GRU 4→6→2"
    with pytest.raises(RNNSpecMismatch, match="Doubled gives out other numbers"):
        population_of((Doubled(4, 6), nn.Linear(6, 2)))


def test_hooks_that_change_outputs_are_refused():
    for part in ("rnn", "fc"):
        rnn, head = nn.GRU(4, 6), nn.Linear(6, 2)
        if part == "rnn":
            rnn.register_forward_hook(lambda _, args, out: (-out[0], out[1]))
        else:
            head.register_forward_hook(lambda _, args, out: -out)
        with pytest.raises(RNNSpecMismatch, match="GRU gives out other numbers"):
            population_of((rnn, head))


def weight_norm(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(module, "weight_hh_l0")


WEIGHTS = {
    "weight_norm": weight_norm,
    "parametrized": lambda module: parametrizations.weight_norm(module, "weight_hh_l0"),
    "pruned": lambda module: prune.l1_unstructured(module, "weight_hh_l0", 0.5),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_computed_are_read_as_they_are_used(kind):
    rnn = WEIGHTS[kind](nn.GRU(4, 6, batch_first=True))
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(1.7)  # what was computed before is out of date
    read = population_of(rnn)
    outputs, _ = run(read, X)
    torch.testing.assert_close(outputs[0], rnn(X)[0])
    read.weights["weight_hh_l0"].sum().backward()
    assert any(parameter.grad is not None for parameter in rnn.parameters())


class Alone(Net):
    def forward(self, x, table):
        return super().forward(x)


def test_it_is_said_where_a_module_cannot_be_run(caplog):
    with caplog.at_level(logging.WARNING):
        population_of(Alone())
    assert "Alone could not be run on random numbers or tokens" in caplog.text


def test_random_numbers_of_others_stay_as_they_are():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    population_of(SAME["dropout"])
    assert torch.equal(torch.rand(3), expected)
