"""The lines of a star file: which begin a block or a table, and which do not fit theirs."""

from __future__ import annotations

import re
from pathlib import Path

from solvar.errors import InputError

# Alone in a line, for a file name in the first column may begin alike; other programs take any case.
# A search for a newline takes a tenth of the time of one for "^".
_HEADING = re.compile(
    r"(\n[ \t]*)(data_|loop_)([^\s#]*)(?=[ \t\r]*(?:#.*)?$)", re.IGNORECASE | re.MULTILINE
)
_STACK = (".mrc", ".mrcs")
_KNOWN_BLOCKS = ("optics", "particles", "images")
_VALUE = re.compile(r"""#.*|"[^"]*"|'[^']*'|\S+""")


def with_plain_headings(text: str) -> str:
    """The same lines without a byte order mark, and with headings as RELION spells them."""
    return _HEADING.sub(_plain, "\n" + text.removeprefix("\ufeff"))[1:]


def _plain(heading: re.Match[str]) -> str:
    start, word, name = heading[1], heading[2].lower(), heading[3]
    if word == "loop_" and name:
        return heading[0]
    return start + word + (name.lower() if name.lower() in _KNOWN_BLOCKS else name)


def begins_block(text: str) -> bool:
    """Whether a line of `text` begins a data block, and is no name of an image stack."""
    headings = _HEADING.finditer("\n" + text.removeprefix("\ufeff"))
    return any(h[2].lower() == "data_" and not h[3].lower().endswith(_STACK) for h in headings)


def refuse_uneven_lines(text: str, path: Path) -> None:
    """Refuse the first line that has more or fewer values than its table has columns.

    Parameters
    ----------
    text : str
        As `with_plain_headings` gives it.
    path : Path
        For the message, which has the number of the line in the file.

    Raises
    ------
    InputError
    """
    block, row, columns, in_loop = "", 0, 0, False
    for number, line in enumerate(text.split("\n"), 1):
        values = [value for value in _VALUE.findall(line) if not value.startswith("#")]
        if not values:
            continue
        if values[0].startswith("data_"):
            block, row, columns, in_loop = values[0], 0, 0, False
        elif values[0] == "loop_" and not in_loop:
            in_loop = True
        elif values[0].startswith("_") and not row:
            if block and not in_loop and len(values) != 2:
                raise _uneven(path, number, len(values) - 1, 1, block)
            columns += 1
        elif in_loop:
            if len(values) != columns:
                raise _uneven(path, number, len(values), columns, block, row)
            row += 1


def _uneven(
    path: Path, line: int, values: int, columns: int, block: str, row: int | None = None
) -> InputError:
    counted = [
        f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((values, "value"), (columns, "column"))
    ]
    return InputError(
        f"line {line} has {counted[0]} for {counted[1]} of {block}",
        file=path,
        row=row,
        remedy="complete the line or take it out; a value with blanks stands in quotation marks",
    )
