"""The game on systems that compute languages exactly, or with known faults."""

import numpy as np
import pytest
import torch

from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, Tokens
from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings
from rnnatlas.tasks.tiled_mnist import TiledDigits
from rnnatlas.theory.practice import Examination, follow, respond, score

TASK = FormalLanguages(FormalLanguagesSettings(tokens=3, length=21, largest_n=5))


class Exact:
    """A system that gives each token the share of its language's training strings that go on with it."""

    device, dtype, specs = torch.device("cpu"), torch.float32, ()
    interface = Interface(Tokens(5), Tokens(5))

    def __init__(self, instances):
        self.instances = instances

    def __len__(self):
        return len(self.instances)

    def select(self, index):
        return Exact(self.instances[index])

    def step(self, inputs, state=None):
        raise NotImplementedError

    def to(self, device=None, dtype=None):
        return self

    def run(self, inputs, state=None):
        tokens = inputs.argmax(-1)
        outputs = torch.full((len(self), *inputs.shape), -30.0)
        for own, instance in zip(outputs, self.instances):
            strings = torch.from_numpy(TASK.strings(instance)).long()
            for place in range(tokens.shape[1]):
                alike = (strings[None, :, : place + 1] == tokens[:, None, : place + 1]).all(-1).float()
                share = alike @ torch.nn.functional.one_hot(strings[:, place + 1], 5).float()
                own[:, place] = (share / share.sum(-1, keepdim=True).clamp(min=1)).clamp(min=1e-9).log()
        return outputs, None


@pytest.fixture(scope="module")
def instances():
    return [TASK.instance(run, 0) for run in range(36)]


@pytest.fixture(scope="module")
def examined(instances):
    return Examination(Exact(instances), instances, TASK)


def test_systems_that_compute_their_language_answer_as_it_does(examined):
    assert (examined.given == examined.truth[examined.language]).all()
    assert examined.wrong()["wrong answers"] == 0


def test_exact_systems_are_named_after_as_many_queries_as_the_theory_says(examined):
    curves = examined.curves()
    interactive, fixed = curves["interactive"], curves["fixed, optimal list"]
    assert interactive.accuracy[:, 3].all()
    assert interactive.accuracy[:, 2].mean() < 1
    assert (fixed.accuracy[:, 17] == 1).all()
    assert fixed.accuracy[:, 16].mean() < 1
    assert all(curve.accuracy.mean() < 1 for curve in curves.values())
    ends = fixed.at(18, examined.language)
    assert (ends.mean, ends.low, ends.high) == (1, 1, 1)


def test_a_wrong_answer_costs_names_and_another_n_repairs_some(examined):
    given = examined.given.copy()
    size = examined.one.queries
    given[:, 2] = 99  # the first query of the interview, of the first n alone
    asked = follow(examined.languages.interview(), given, size)
    assert (asked[:, 1] >= size).all()  # the interview begins anew at the next n
    right = score(asked, given, examined.truth, examined.language)
    assert (right[:, 4] == 1).all()
    assert (right[:, 0] < 1).all()


def test_ties_are_drawn_among(examined):
    nothing = np.full((36, 2), -1)
    right = score(nothing, examined.given, examined.truth, examined.language)
    assert np.allclose(right, 1 / 36)


def test_improbable_prefixes_are_answered_by_nothing(instances):
    prefixes = np.array([[4, 0, 9], [4, 4 + instances[0]["b"], 0]])
    answers = respond(Exact(instances[:1]), prefixes, TASK, threshold=0.05)
    assert answers[0, 0] == 0
    assert answers[0, 1] == 1 << 2


def test_other_zoos_are_refused(instances):
    with pytest.raises(SettingsError, match=r"needs a zoo of formal-languages.* found one of tiled-digits"):
        Examination(Exact(instances), instances, TiledDigits())
    short = FormalLanguages(FormalLanguagesSettings(tokens=3, length=15, largest_n=5))
    with pytest.raises(SettingsError, match=r"room for n = 4, .* found room for n = 3"):
        Examination(Exact(instances), instances, short)
