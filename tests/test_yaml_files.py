"""Settings files are plain values; whatever else they hold ends in one sentence, and soon."""

import os

import pytest

from rnnatlas.errors import SettingsError, is_out_of_memory
from rnnatlas.settings import build, read_yaml, settings
from rnnatlas.texts import short_repr, shortened, visible
from rnnatlas.yaml_files import DEEPEST, LONGEST, parse

LAUGHS = "\n".join(
    ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
)
MERGED = "\n".join(
    ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
)
REFUSED = {
    LAUGHS: "at most 20000 values with its aliases, found",
    MERGED: "at most 20000 values with its aliases, found",
    "a: &a [*a]": "no list or mapping inside itself, see line 1",
    "a: &a {b: *a}": "no list or mapping inside itself, see line 1",
    "a: " + "[" * 40 + "]" * 40: f"at most {DEEPEST} levels, found 41",
    "a: " + "{b: " * 5000 + "}" * 5000: f"at most {DEEPEST} levels, found many more",
    "a: " + "9" * 5000: "holds a number of 5000 characters, see line 1",
    "a: 0x" + "f" * 5000: "holds a number of 5002 characters, see line 1",
    "b:\na: " + ":".join(["1"] * 400) + ".5": "characters, see line 2",
    "1: 2": "should name settings by text, found '1', see line 1",
    "a: {null: 2}": "should name settings by text, found 'null', see line 1",
    "? [a]\n: 2": "should name settings by text, found a list or mapping, see line 1",
    '"\\0": 1': "should hold printable text, found",
    '"\\ud800": 1': "should hold printable text, found",
    "a: !!python/object:os.system x": "should be YAML, but is not, see line 1",
    "a: !!set {b}": "should be YAML, but is not, see line 1",
    'a: !!int ""': "should be YAML, but is not",
    "a: !!bool maybe": "should be YAML, but is not",
    "a: " + "x" * LONGEST: f"should have at most {LONGEST} characters, found",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_other_than_plain_values_is_one_sentence(text):
    with pytest.raises(SettingsError) as error:
        parse(text, "the file")
    assert REFUSED[text] in str(error.value)
    assert len(str(error.value)) < 300


def test_dates_are_texts_and_aliases_are_followed():
    assert parse("a: 2020-02-31\nb: &b {c: 1}\nd: {<<: *b, e: [*b]}", "") == {
        "a": "2020-02-31",
        "b": {"c": 1},
        "d": {"c": 1, "e": [{"c": 1}]},
    }
    assert parse("", "") is None


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(SettingsError, match="is a pipe or a device, not a file"):
            read_yaml(path)


@settings
class Some:
    name: str = "a"


def test_what_was_found_is_shown_in_a_few_words():
    value: list = []
    for _ in range(40):
        value = [value] * 40  # to be written out in full, 40⁴⁰ lists
    for given in (value, 10**5000, ["x" * 10**6], {"a": value}):
        with pytest.raises(SettingsError, match=r"some.name should be text, found") as error:
            build(Some, {"name": given}, "some")
        assert len(str(error.value)) < 200
    assert short_repr(True) == "True"
    assert len(shortened("x" * 10**6)) < 3000


def test_what_steers_a_terminal_is_shown_as_escapes():
    assert visible("a\x1b[31m\u202eb\u2028\ud800ü ‏مرحبا‏\n") == r"a\x1b[31m\u202eb\u2028\ud800ü ‏مرحبا‏" + "\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("unable to mmap 80 bytes from file <a>: Cannot allocate memory (12)"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory is what this text is about"), False),
        (OSError(2, "No such file"), False),
    ],
)
def test_too_little_memory_is_recognised(error, expected):
    assert is_out_of_memory(error) is expected
