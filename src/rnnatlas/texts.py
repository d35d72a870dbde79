"""Texts that come from files: which are safe to print, and how the others are shown."""

import reprlib
import unicodedata
from typing import Any

LONGEST_MESSAGE = 2000
"""Characters of one sentence; names that a file gives may be of any length."""
_TURNING = frozenset(["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"])
"""What makes a terminal or a page show the characters after it in another order."""


def is_printable(text: str) -> bool:
    """Whether a text is safe to print and to store: nothing that steers a terminal, nothing but Unicode."""
    return (text.isascii() and text.isprintable()) or not any(map(_steers, text))


def visible(text: str) -> str:
    """The same text with what would steer a terminal, or is not Unicode, as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if _steers(character) and character not in "\n\t"
        else character
        for character in text
    )


def shortened(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """A text without its middle where it is longer than that."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def short_repr(value: Any) -> str:
    """What a value is, on one line that is not too long, however much it holds."""
    return shortened(_SHORT.repr(value), 80)


def _steers(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in _TURNING


class _Short(reprlib.Repr):
    """Shows a few entries of a few levels."""

    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 70, 70
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 10

    def repr_int(self, x: int, level: int) -> str:
        """Of very long ones, which Python does not write out, how long they are."""
        return repr(x) if x.bit_length() < 200 else f"a number of {x.bit_length()} bits"


_SHORT = _Short()
