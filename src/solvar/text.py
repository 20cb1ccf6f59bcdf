"""Text as it can be shown: what nobody would see is spelled out, and sentences begin with a capital."""

from __future__ import annotations

import re

# Printable to Python, yet without ink or width: a joiner, fillers, variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def is_visible(text: str) -> bool:
    """Whether every character of `text` shows where it stands and moves no other."""
    return text.isprintable() and not _INVISIBLE.search(text)


def visible(text: str) -> str:
    """`text` with control, bidirectional and zero-width characters as escapes, such as ``\\u202e``."""
    if is_visible(text):
        return text
    return "".join(c if is_visible(c) else c.encode("unicode_escape").decode() for c in text)


def with_capital(text: str) -> str:
    """`text` with its first letter as a capital and everything else as it is."""
    return text[:1].upper() + text[1:]
