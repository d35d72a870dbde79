import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnatlas.errors import SettingsError
from rnnatlas.rnn import BlackBox, Population, RNNSpec, run
from rnnatlas.seeds import stream
from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings

PAPER = FormalLanguages()
SMALL = FormalLanguages(FormalLanguagesSettings(tokens=3, length=21, largest_n=5, performance_samples=400))
shifts = st.integers(-3, 2)


def language(task, *values):
    return dict(zip(task.letters[1:], values, strict=True))


def languages(task):
    return [
        language(task, *values) for values in itertools.product(range(-3, 3), repeat=len(task.letters) - 1)
    ]


def oracle(task, tokens, instance):
    """Membership read off a regular expression, one string at a time."""
    text = "".join((task.letters + "^⏎")[token] for token in tokens)
    match = re.fullmatch("".join(f"({letter}*)" for letter in task.letters) + "⏎.*", text)
    if match is None:
        return False
    counts = [len(part) for part in match.groups()]
    return all(
        count == counts[0] + instance[letter]
        for letter, count in zip(task.letters[1:], counts[1:], strict=True)
    )


def population(task, count, hidden=8):
    spec = RNNSpec(
        cell="lstm", input=task.interface.input.size, hidden=hidden, output=task.interface.output.size
    )
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])


# --- languages and their strings -----------------------------------------------------------------


@pytest.mark.parametrize("task", [PAPER, SMALL])
def test_every_language_has_strings_that_fit_and_all_belong(task):
    for instance in languages(task):
        strings = task.strings(instance)
        assert len(strings) >= 1
        assert (strings[:, 0] == task.bos).all()
        assert (strings[:, -1] == task.eos).all()
        assert task.membership(strings[:, 1:], instance).all()
        assert len(np.unique(strings, axis=0)) == len(strings)


@pytest.mark.parametrize("task", [PAPER, SMALL])
def test_strings_are_all_of_the_language_up_to_what_fits(task):
    for instance in languages(task):
        lengths = (task.strings(instance) < task.bos).sum(1)
        lowest = max(0, *(-m for m in instance.values()))
        total = sum(instance.values())
        expected = [
            len(task.letters) * n + total
            for n in range(lowest, task.settings.largest_n + 1)
            if len(task.letters) * n + total + 2 <= task.settings.length
        ]
        assert lengths.tolist() == expected


def test_the_longest_language_is_not_cut_off():
    assert PAPER.largest_n(language(PAPER, 2, 2, 2)) == 8
    assert PAPER.largest_n(language(PAPER, 2, 2, 1)) == 8
    assert PAPER.largest_n(language(PAPER, 2, 2, 0)) == 9
    longest = PAPER.strings(language(PAPER, 2, 2, 2))[-1]
    assert PAPER.show(longest[None]) == ["a" * 8 + "b" * 10 + "c" * 10 + "d" * 10 + "⏎"]


@pytest.mark.parametrize(
    ("tokens", "belongs"),
    [
        ([0, 0, 1, 2, 2, 2, 4], True),
        ([2, 4, 0, 0, 0, 0, 0], False),
        ([1, 0, 0, 2, 2, 2, 4], False),  # right counts, wrong order
        ([0, 0, 1, 2, 2, 2, 2], False),  # never ended
        ([0, 0, 1, 3, 2, 2, 4], False),  # BOS inside
        ([0, 1, 4, 0, 0, 0, 0], False),
        ([0, 2, 2, 4, 3, 1, 0], True),  # what follows EOS is padding
    ],
)
def test_membership_by_hand(tokens, belongs):
    # aⁿbⁿ⁻¹cⁿ⁺¹
    assert SMALL.membership(np.array(tokens, np.uint8), language(SMALL, -1, 1)) == belongs


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_membership_agrees_with_an_independent_oracle(data):
    task = data.draw(st.sampled_from([PAPER, SMALL]))
    instance = language(task, *(data.draw(shifts) for _ in task.letters[1:]))
    strings = task.strings(instance)[:, 1:]
    tokens = data.draw(st.sampled_from(list(strings))).copy()
    for _ in range(data.draw(st.integers(0, 4))):  # near misses, not only nonsense
        place = data.draw(st.integers(0, task.time - 1))
        tokens[place] = data.draw(st.integers(0, task.eos))
    before = tokens.copy()
    assert bool(task.membership(tokens, instance)) == oracle(task, tokens, instance)
    assert np.array_equal(tokens, before)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), shifts, shifts)
@settings(max_examples=200, deadline=None)
def test_membership_of_any_string_agrees_with_the_oracle(tokens, b, c):
    tokens = np.array(tokens, np.uint8)
    instance = language(SMALL, b, c)
    assert bool(SMALL.membership(tokens, instance)) == oracle(SMALL, tokens, instance)


def test_one_changed_letter_leaves_the_language():
    for instance in languages(SMALL):
        for tokens in SMALL.strings(instance)[:, 1:]:
            length = int((tokens < SMALL.bos).sum())
            for place, letter in itertools.product(range(length), range(SMALL.bos)):
                if tokens[place] != letter:
                    mutated = tokens.copy()
                    mutated[place] = letter
                    assert not SMALL.membership(mutated, instance)


def test_a_string_belongs_to_one_language_only():
    everything = languages(SMALL)
    for instance in everything:
        tokens = SMALL.strings(instance)[:, 1:]
        assert sum(SMALL.membership(tokens, other).any() for other in everything) == 1


# --- instances -----------------------------------------------------------------------------------


def test_runs_cover_the_languages_evenly_whatever_their_number():
    dealt = [PAPER.instance(run, seed=3) for run in range(432)]
    keys = [PAPER.key(instance) for instance in dealt]
    assert len(set(keys[:216])) == len(set(keys[216:])) == 216
    assert keys[:216] != keys[216:]
    assert keys[:100] != [PAPER.key(PAPER.instance(run, seed=4)) for run in range(100)]


def test_ood_languages_are_those_of_small_shifts():
    everything = languages(PAPER)
    ood = PAPER.is_ood(everything, 0.15)
    size = np.array([sum(map(abs, PAPER.key(instance))) for instance in everything])
    assert ood.sum() == round(0.15 * 216)
    assert size[ood].max() <= size[~ood].min()
    twice = PAPER.is_ood(everything * 2, 0.15)
    assert np.array_equal(twice, np.tile(ood, 2))


def test_target_is_one_hot_for_every_shift():
    everything = languages(PAPER)
    target = PAPER.target(everything).reshape(216, 3, 6)
    assert (target.sum(-1) == 1).all()
    assert torch.equal(target.argmax(-1) - 3, torch.tensor([PAPER.key(instance) for instance in everything]))


def test_labels_and_struct():
    assert PAPER.label(language(PAPER, 0, -1, 2)) == "aⁿbⁿcⁿ⁻¹dⁿ⁺²"
    assert PAPER.struct.names == ["b", "c", "d"]


# --- training and scoring ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smallest", "largest", "bits"),
    [(-3, 2, 8), (-128, 127, 8), (0, 130, 16), (-129, 0, 16), (0, 40_000, 32)],
)
def test_every_m_can_be_stored(smallest, largest, bits):
    length = 3 * largest - 3 * smallest + 9
    values = {"smallest": smallest, "largest": largest, "tokens": 2, "length": length}
    task = FormalLanguages.from_settings({**values, "largest_n": max(9, -smallest)})
    instances = [{"b": smallest}, {"b": largest}]
    stored = pa.array(instances, task.struct)
    assert stored.type.field("b").type.bit_width == bits
    assert stored.to_pylist() == instances


def test_loss_of_weighted_strings_is_the_loss_of_the_drawn_batch():
    instances = [language(SMALL, 1, -1), language(SMALL, -3, 2)]
    rnns = population(SMALL, 2)
    batch = next(SMALL.batches(instances, 16, [stream(0, "x", i) for i in range(2)]))
    assert torch.allclose(batch.weights.sum(-1), torch.ones(2))
    losses = SMALL.loss(rnns, batch)
    for i, instance in enumerate(instances):
        strings = SMALL.strings(instance)
        counts = (batch.weights[i, : len(strings)] * 16).round().long()
        assert counts.sum() == 16
        drawn = torch.from_numpy(strings).repeat_interleave(counts, 0)
        outputs, _ = run(rnns.select([i]), SMALL.encode_inputs(drawn))
        naive = torch.nn.functional.cross_entropy(outputs.flatten(0, 2), drawn[:, 1:].long().flatten())
        assert torch.allclose(losses[i], naive, rtol=1e-5)


def test_n_is_drawn_uniformly():
    instance = language(SMALL, -1, 2)
    batches = SMALL.batches([instance], 50, [stream(0, "x")])
    mean = torch.stack([next(batches).weights[0] for _ in range(1200)]).mean(0)  # more than one block
    count = len(SMALL.strings(instance))
    assert torch.allclose(mean[:count], torch.full((count,), 1 / count), atol=0.01)
    assert (mean[count:] == 0).all()


def test_sampled_performance_is_what_the_probabilities_say():
    """Strings that belong and fit are few: their exact probabilities sum to the expected performance."""
    trained = population(SMALL, 3).requires_grad_()
    instances = [language(SMALL, 0, -1), language(SMALL, 1, 1), language(SMALL, -3, 2)]
    optimiser = torch.optim.Adam(trained.parameters(), lr=0.03)
    batches = SMALL.batches(instances, 16, [stream(0, "x", i) for i in range(3)])
    for _ in range(60):
        optimiser.zero_grad()
        SMALL.loss(trained, next(batches)).sum().backward()
        optimiser.step()
    trained = trained.detach()
    metrics = SMALL.metrics(trained, instances, [stream(0, "m", i) for i in range(3)])
    roomy = FormalLanguages(FormalLanguagesSettings(tokens=3, length=21, largest_n=20))
    for i, instance in enumerate(instances):
        stored = torch.from_numpy(roomy.strings(instance))[None]
        log_probs = SMALL.outputs(trained.select([i]), stored)
        each = log_probs.gather(-1, stored[..., 1:, None].long()).squeeze(-1)
        expected = (each * SMALL.mask(stored)).sum(-1).exp().sum().item()
        assert expected > 0.05
        sd = (expected * (1 - expected) / 400) ** 0.5
        assert abs(metrics["performance"][i] - expected) < 4 * sd


def test_score_reports_strings_that_belong_and_that_end():
    instance = language(SMALL, 0, 0)
    tokens = np.full((1, 4, 20), SMALL.eos, np.uint8)
    tokens[0, 1, 0] = 2  # "c⏎"
    tokens[0, 2] = 0  # never ends
    assert SMALL.score(tokens, [instance])["performance"] == [0.5]
    assert SMALL.score(tokens, [instance])["finished"] == [0.75]


@pytest.mark.parametrize("task", [PAPER, SMALL])
def test_counting_strings_have_letters_in_order_and_end(task):
    steps = task.time
    strings = task.probes("counting", steps).argmax(-1).numpy()
    assert (strings[:, 0] == task.bos).all()
    assert (np.diff(strings[:, 1:].astype(int).clip(max=task.settings.tokens)) >= 0).all()
    assert (strings[:, -1] == task.eos).mean() > 0.5  # some are longer
    assert len(np.unique(strings, axis=0)) > 10


def test_after_a_beginning_an_interview_is_what_the_rnn_goes_on_with():
    """One that knows its language ends each aⁿ so that the string belongs."""
    shifts = np.array([0, 1, -1])

    def goes_on(inputs, state):
        seen = torch.cat([state, inputs.argmax(-1, keepdim=True)], 1)
        counts = np.stack([(seen == letter).sum(1) for letter in range(3)], 1)
        missing = counts[:, :1] + shifts > counts
        missing[:, 0] = False  # how many there are, the interview itself says
        following = torch.from_numpy(np.where(missing.any(1), missing.argmax(1), SMALL.eos))
        return 20 * SMALL.interface.output.encode(following), seen

    knows = BlackBox(goes_on, lambda batch: torch.zeros(batch, 0, dtype=torch.long), SMALL.interface)
    outputs = SMALL.interview(knows, 3, SMALL.time)
    assert outputs.shape == (1, 3, SMALL.time, SMALL.interface.output.size)
    counts = []
    for own in outputs[0].argmax(-1).numpy():
        n = (own == 2).sum() + 1
        string = np.concatenate([np.zeros(n, np.uint8), own[n:].astype(np.uint8)])
        assert SMALL.membership(string, {"b": 1, "c": -1}), string
        counts.append(n)
    assert counts == sorted(set(counts))


def test_mask_ends_with_the_answer_that_says_eos():
    stored = torch.tensor([[3, 0, 1, 4, 4, 0, 4]], dtype=torch.uint8)
    assert SMALL.mask(stored).tolist() == [[1, 1, 1, 0, 0, 0]]
    assert SMALL.show(stored.numpy()) == ["ab⏎"]
    assert SMALL.show(np.array([[3, 0, 3, 1]], np.uint8)) == ["a^b…"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokens": 1}, "between 2 and 26"),
        ({"tokens": 9}, "at most 100000 languages"),
        ({"smallest": 3}, "task: smallest should be at most largest"),
        ({"length": 14, "largest_n": 3}, "15 or more"),
        ({"largest_n": 2}, "3 or more"),
        ({"performance_samples": 0}, "1 or more"),
        ({"token": 3}, "did you mean 'tokens'"),
        ({"length": "long"}, "task.length"),
    ],
)
def test_settings_refuse_what_makes_no_languages(values, message):
    with pytest.raises(SettingsError, match=message):
        FormalLanguages.from_settings(values)


def test_shortest_length_allowed_fits_every_language():
    task = FormalLanguages(FormalLanguagesSettings(length=15, largest_n=3))
    assert min(len(task.strings(instance)) for instance in languages(task)) >= 1
