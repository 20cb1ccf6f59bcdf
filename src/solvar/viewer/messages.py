"""Sentences on the page, told from within callbacks."""

from __future__ import annotations

from typing import Any

import dash

from solvar.errors import SolvarError


def tell(text: str, bad: bool = False) -> None:
    """Show a sentence on the page."""
    dash.set_props("message", {"children": text, "className": "bad" if bad else "good"})


def explain(error: Exception) -> Any:
    """Say what the user can do about a failure of a callback; one of ours stays a failure."""
    if not isinstance(error, SolvarError):
        tell("Something went wrong; the terminal of the viewer tells more.", bad=True)
        raise error
    tell(str(error), bad=True)
    return None
