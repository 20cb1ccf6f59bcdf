"""Sentences on the page, told from within callbacks."""

from __future__ import annotations

from typing import Any

import dash

from solvar.errors import InputError, SolvarError
from solvar.text import with_capital


def tell(text: str, bad: bool = False) -> None:
    """Show a sentence on the page."""
    dash.set_props("message", {"children": text, "className": "bad" if bad else "good"})


def explain(error: Exception) -> Any:
    """Say what the user can do about a failure of a callback; one of ours stays a failure."""
    sentence = in_words(error)
    tell(sentence or "Something went wrong; the terminal of the viewer tells more.", bad=True)
    if sentence is None:
        raise error
    return None


def in_words(error: Exception) -> str | None:
    """A sentence about bad input, or a folder or disk that takes nothing; None for other failures."""
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}. Is the run folder writable, and is the disk full?"
    if isinstance(error, InputError) and (error.file, error.row, error.column) == (None,) * 3:
        return with_capital(str(error))
    return str(error) if isinstance(error, SolvarError) else None
