"""Commands that are shown to be copied: what is seen is what a shell runs."""

from __future__ import annotations

import shlex
from pathlib import Path

from solvar.text import is_visible, visible

_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}


def command_line(*words: str | Path) -> str:
    """One line of a shell that is exactly `words`.

    Characters that do not show become escapes in ``$'…'`` (POSIX 2024; bash, zsh and ksh have long
    known it).

    Parameters
    ----------
    *words : str or Path
        The program and its arguments. A `Path` is never taken for an option: ``-x`` becomes ``./-x``.
    """
    return " ".join(_quoted(word) for word in words)


def explained(line: str, purpose: str) -> str:
    """A command with what it is for behind it, as a comment of the shell."""
    return f"{line}  # {visible(purpose)}"


def _quoted(word: str | Path) -> str:
    text = f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
    if is_visible(text):
        return shlex.quote(text)
    return "$'" + "".join(_escaped(c) for c in text) + "'"


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    # an apostrophe would end the word; an interactive bash looks for ! where it sees no quotes
    if is_visible(character) and character not in "'!":
        return character
    # always three octal digits of each byte: no locale and no digit that follows changes them
    return "".join(f"\\{byte:03o}" for byte in _bytes(character))


def _bytes(character: str) -> bytes:
    """As the system spells it: a name that is not UTF-8 has surrogates for its bytes."""
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) & 0xFF])
    return character.encode("utf-8", "surrogatepass")
