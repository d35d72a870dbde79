"""Probing inputs and responses are named and coloured as what they are: tokens or numbers."""

import torch

from rnnatlas.encoders.probing import Probing
from rnnatlas.report.interview import Shown, _charts, channels, signal_chart, what
from rnnatlas.rnn import Tokens, Values
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.tasks.integrator import Integrator


def test_numbers_have_their_own_names_and_a_range_about_zero():
    inputs, outputs = torch.zeros(2, 1, 5, 2), torch.zeros(2, 1, 5, 1)
    inputs[0, 0, 3, 0], outputs[1, 0, 2, 0] = -3.0, 12.0
    chart = _charts(Integrator(), Probing(inputs=inputs, outputs=outputs), [0], ["a", "b"])["probing"]
    assert [trace["y"] for trace in chart["data"][::2]] == [["stimulus", "cue"], ["answer"]]
    assert [(trace["zmin"], trace["zmax"]) for trace in chart["data"][::2]] == [(-3, 3), (-12, 12)]
    assert [trace["showscale"] for trace in chart["data"]] == [False, True, False, True]
    assert "probability" not in what(Integrator().interface.output)


def test_tokens_are_probabilities_of_letters():
    task = FormalLanguages.from_settings({"tokens": 2})
    same = torch.full((1, 1, 5, 4), 0.25)
    chart = _charts(task, Probing(inputs=same, outputs=same), [0], ["a"])["probing"]
    assert all(trace["y"] == ["a", "b", "BOS", "EOS"] for trace in chart["data"])
    assert all((trace["zmin"], trace["zmax"]) == (0, 1) for trace in chart["data"])
    assert [trace["showscale"] for trace in chart["data"]] == [True, False]
    assert channels(task, Values(4), ()) == ["0", "1", "2", "3"]  # as many numbers as tokens


def test_bounded_numbers_keep_their_range():
    signal = Values(1, low=-1.0, high=3.0)
    chart = signal_chart({"response": Shown(torch.ones(1, 2, 1), ["<x>"], signal)}, ["a"])
    assert (chart["data"][0]["zmin"], chart["data"][0]["zmax"]) == (-1, 3)
    assert chart["data"][0]["y"] == ["&lt;x&gt;"]
    assert len({what(signal), what(Values(1)), what(Tokens(2))}) == 3
