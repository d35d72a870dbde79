"""msgpack is read as the library reads it, and never without end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnatlas.importers import packed
from rnnatlas.importers.packed import unpack

msgpack = pytest.importorskip("msgpack")

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
)
KEYS = st.one_of(st.text(), st.integers(-(2**63), 2**63))
DOCUMENTS = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=30)


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS)
def test_documents_come_back(document):
    data = msgpack.packb(document)
    assert unpack(memoryview(data), lambda code, data: None) == document


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 8, 16, 300, 70_000])
def test_extensions_and_long_texts(size):
    text, extension = "ü" * size, msgpack.ExtType(5, b"x" * size)
    data = msgpack.packb([text, extension, b"y" * size])
    assert unpack(memoryview(data), lambda code, data: (code, bytes(data))) == [
        text,
        (5, b"x" * size),
        b"y" * size,
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        b"\x01\x01",
        b"\xa2\xff\xfe",
        b"\x91" * 1000 + b"\x01",
        b"\xdd\xff\xff\xff\xff" + b"\xc0" * 1001,
        b"\x81\x90\x01",
        b"\xc9\xff\xff\xff\xff\x01",
    ],
    ids=range(9),
)
def test_what_is_damaged_or_too_much_is_a_value_error(data, monkeypatch):
    monkeypatch.setattr(packed, "MOST", 1000)
    with pytest.raises(ValueError):  # noqa: PT011
        unpack(memoryview(data), lambda code, data: None)
