"""Names of files that can be written down: run.json, star files and reports are UTF-8."""

from __future__ import annotations

from pathlib import Path

from solvar.errors import InputError


def require_utf8(*paths: str | Path) -> None:
    """Refuse names that are not UTF-8: known now, and not when results are written, hours later.

    Raises
    ------
    InputError
        For the first one, its folders included, with escapes in place of the bytes that are not.
    """
    for path in paths:
        whole = Path(path).absolute()
        if not is_utf8(str(whole)):
            raise InputError(
                "the name is not UTF-8, and the results would have to hold it",
                file=whole,
                remedy="rename it; if it looks right to you, set a UTF-8 locale (LC_ALL=C.UTF-8)",
            )


def is_utf8(text: str) -> bool:
    """Whether text from the command line, the file system or the environment came as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
