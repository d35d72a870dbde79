"""The languages' answers against their strings; theorem 3.3 by search, by packing and by formulas."""

import numpy as np
import pytest
from scipy.stats import binom

from rnnatlas.errors import SettingsError
from rnnatlas.tasks.formal_languages import FormalLanguages, FormalLanguagesSettings
from rnnatlas.theory import noise
from rnnatlas.theory.interactive import interrogate, names_all
from rnnatlas.theory.languages import Languages
from rnnatlas.theory.noninteractive import packing_bound, separate
from rnnatlas.theory.table import Table, separates

RANGES = [(2, -3, 2), (3, -1, 2), (3, 1, 2), (3, -2, -1), (4, -1, 0)]


def task(tokens, smallest, largest):
    return FormalLanguages(
        FormalLanguagesSettings(
            tokens=tokens, smallest=smallest, largest=largest, largest_n=8, length=10 * tokens + 20
        )
    )


@pytest.mark.parametrize(("tokens", "smallest", "largest"), RANGES)
def test_answers_are_what_follows_in_strings_of_the_language(tokens, smallest, largest):
    family, own = Languages(tokens, smallest, largest), task(tokens, smallest, largest)
    prefixes = family.all_prefixes()
    for shifts, answers in zip(family.shifts, family.allowed(prefixes)):
        following: dict[tuple, int] = {}
        for stored in own.strings(dict(zip(own.letters[1:], shifts.tolist()))):
            letters = stored[1 : 1 + int(np.flatnonzero(stored[1:] == own.eos)[0])].tolist()
            for place, token in enumerate([*letters, tokens]):
                start = tuple(letters[:place])
                following[start] = following.get(start, 0) | 1 << token
        for prefix, answer in zip(prefixes, answers):
            assert answer == following.get(tuple(np.repeat(np.arange(tokens), prefix).tolist()), 0)


@pytest.mark.parametrize(("tokens", "smallest", "largest"), RANGES)
def test_theorem_33_by_search(tokens, smallest, largest):
    family = Languages(tokens, smallest, largest)
    proved = family.proved()
    long = Table(family.allowed(family.long_prefixes()))
    assert names_all(family.interview(), long)
    assert separates(long, family.fixed_list())
    assert interrogate(long).lower == interrogate(long).upper == family.interview().depth == proved["long"]
    found = separate(long)
    packed = packing_bound(long, np.arange(long.functions).reshape(-1, family.values).tolist())
    assert packed <= found.lower == found.upper <= len(family.fixed_list())
    if family.values % 2 == 0:
        assert packed == found.upper == len(family.fixed_list())
    every = Table(family.allowed(family.all_prefixes()))
    assert proved["any"] <= interrogate(every).lower
    assert proved["fixed, any"] <= separate(every).lower <= found.upper


@pytest.mark.parametrize(("tokens", "smallest", "largest"), [(2, -3, 2), (3, -1, 2), (3, 1, 2), (4, -1, 1)])
def test_whole_strings_are_counted_exactly(tokens, smallest, largest):
    family = Languages(tokens, smallest, largest)
    strings = Table(family.string_answers())
    assert interrogate(strings).lower == interrogate(strings).upper == tokens - 1
    found = separate(strings)
    assert found.lower == found.upper == family.values ** (tokens - 2)


def test_another_n_asks_the_same():
    family = Languages(3)
    again = family.allowed(family.long_prefixes(family.long + 3))
    assert (family.allowed(family.long_prefixes()) == again).all()


def test_the_proved_bound_on_lists_of_any_prefixes_is_that_of_packing():
    family = Languages(3)
    every = Table(family.allowed(family.all_prefixes()))
    floors = np.minimum(family.shifts[:, :-1].min(1, initial=0), 0)
    groups = [
        [number for number in group if family.shifts[number, -1] >= floors[number]]
        for group in np.arange(every.functions).reshape(-1, family.values).tolist()
    ]
    assert packing_bound(every, groups) == family.proved()["fixed, any"] == 10


@pytest.mark.parametrize("wrong", [1, 2])
def test_lists_that_bear_wrong_answers_are_that_many_times_as_long(wrong):
    long = Table(Languages(3).allowed(Languages(3).long_prefixes()))
    assert separate(long, 2 * wrong + 1).lower == (2 * wrong + 1) * separate(long).upper


def test_families_beyond_the_table_are_refused():
    with pytest.raises(SettingsError, match="tokens should lie between 2 and 7, found 8"):
        Languages(8)
    with pytest.raises(SettingsError, match="smallest should be at most largest, found 2 and 1"):
        Languages(3, 2, 1)


# --- noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.2])
def test_repetitions_are_the_fewest_that_keep_the_risk(wrong):
    times = noise.repetitions(wrong, 6, 0.05)
    assert 6 * binom.sf(times // 2, times, wrong) <= 0.05
    assert times == 1 or 6 * binom.sf((times - 2) // 2, times - 2, wrong) > 0.05
    apart = noise.redundancy(wrong, 216, 0.05)
    assert 215 * binom.sf(apart // 2, apart, wrong) <= 0.05
    assert noise.fewest(wrong, 216, 3, 0.05) <= 6 * times


def test_majorities_of_noisy_answers_name_the_function_as_often_as_promised():
    wrong, risk, random = 0.2, 0.05, np.random.default_rng(0)
    times = noise.repetitions(wrong, 6, risk)
    right = (random.random((4000, 6, times)) >= wrong).sum(2) > times / 2
    assert right.all(1).mean() >= 1 - risk - 0.015


def test_without_noise_and_risk_a_bound_of_information_counts_answers():
    assert noise.fewest(0.0, 243, 3, 1e-9) == 5


@pytest.mark.parametrize(
    ("wrong", "risk", "message"),
    [
        (0.5, 0.05, "below 0.5, found 0.5"),
        (-0.1, 0.05, "0 or more"),
        (0.1, 0.0, "between 0 and 1, found 0.0"),
    ],
)
def test_noise_that_no_repetition_helps_is_refused(wrong, risk, message):
    with pytest.raises(SettingsError, match=message):
        noise.repetitions(wrong, 6, risk)
