"""The data blocks of a star file as tables."""

from __future__ import annotations

import linecache
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.errors import InputError
from solvar.files import explained, read_text, replacing
from solvar.particles.star_lines import refuse_uneven_lines, with_plain_headings

if TYPE_CHECKING:
    import pandas as pd

REFINEMENT = "pass the particle star file of a 3D refinement (run_data.star)"
_EXTRACTED = "pass particles that were extracted as 2D stacks, or their optimisation set"
_SHOWN = 5
_AGAIN = "write the file again"
_MOST_COLUMNS = 1000
# A carriage return without a newline, and what only some programs take for the end of a line or text.
_ODD = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\ufeff]")
# In a line that is neither a comment nor a label: '#' in the middle of a word.
_CUT = re.compile(r"^[ \t]*[^#_\s\"'][^#\"'\n]*(?<=[^\s#])#", re.MULTILINE)
# A quotation mark that neither begins nor ends a value.
_INNER = re.compile(r"""(?<=[^\s"'])"(?=[^\s"'])""")
_NO_LABEL = re.compile(r"[\s\"'#]")
# Not even in quotation marks; an apostrophe that would be taken for one.
_UNWRITABLE = re.compile("[\"\t\n\r\x00-\x1f\x7f\x85\u2028\u2029]|^'|'.* | .*'")
# They would begin a comment, a label or a block.
_SPECIAL = re.compile(r"^[^ ]*#[^ ]*$|^(?:_|data_|loop_)[^ ]*$", re.IGNORECASE)


def read_blocks(
    path: Path, as_text: bool = False, inside: Path | None = None
) -> dict[str, pd.DataFrame]:
    """Every block of a star file as a table; a block without a loop becomes one row.

    Parameters
    ----------
    path : Path
    as_text : bool
        Keep every value as it is spelled in the file.
    inside : Path, optional
        A folder that `path` begins with, and below which no link is followed.
    """
    import pandas as pd
    import starfile

    text = _text(path, inside)
    # Starfile takes lines from Python's cache of them: it reads what was judged, and as UTF-8, whatever
    # encoding a comment declares.
    linecache.cache[str(path)] = (len(text), None, text.split("\n"), str(path))
    text_columns = _column_names(text) if as_text else []
    try:
        raw = starfile.read(path, always_dict=True, parse_as_string=text_columns)
    # starfile and pandas raise whatever a damaged table makes them stumble over
    except Exception as error:
        refuse_uneven_lines(text, path)
        raise InputError(
            f"cannot be read as a star file ({str(error).strip() or type(error).__name__})",
            file=path,
            remedy="check that every row has one value per column",
        ) from error
    tables = {
        name: block if isinstance(block, pd.DataFrame) else pd.DataFrame([block or {}])
        for name, block in raw.items()
    }
    # pandas fills up a line that is too short
    if any(len(table) and table.iloc[:, -1].isna().any() for table in tables.values()):
        refuse_uneven_lines(text, path)
    for name, table in tables.items():
        _refuse_columns(path, name, list(table.columns))
        if "'" in text or '"' in text:
            tables[name] = _with_apostrophes(path, table, bool(_INNER.search(text)))
    # starfile reads the text "nan" as a missing value even in text columns
    return {n: t.fillna("nan") for n, t in tables.items()} if as_text else tables


def write_blocks(path: Path, blocks: Mapping[str, pd.DataFrame]) -> None:
    """Write a star file that `read_blocks` gives back as it was; it appears complete or not at all.

    Raises
    ------
    InputError
        If a value cannot stand in a star file.
    """
    import starfile

    quoted = {}
    for name, table in blocks.items():
        _refuse_columns(path, name, list(table.columns))
        quoted[name] = table.apply(lambda column: _quoted(path, column))
    with replacing(path) as temporary:
        starfile.write(quoted, temporary)


def _text(path: Path, inside: Path | None) -> str:
    """The whole file, which is to be text without the characters at which programs disagree."""
    try:
        # newlines as they are: a lone carriage return must be seen
        with explained(path):
            text = read_text(path, inside=inside)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {line} is not UTF-8 text", file=path, remedy=_AGAIN) from None
    text = with_plain_headings(text)
    odd = _ODD.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise InputError(
            f"line {line} holds the control character {odd.group()!r}", file=path, remedy=_AGAIN
        )
    cut = _CUT.search(text) if "#" in text else None
    if cut:
        line = text.count("\n", 0, cut.start()) + 1
        raise InputError(
            f"line {line} holds '#' inside a value, where a comment would begin",
            file=path,
            remedy="put the value in quotation marks, or rename the file that it names",
        )
    return text


def _column_names(text: str) -> list[str]:
    return [line.split()[0][1:] for line in text.splitlines() if line.lstrip().startswith("_")]


def _refuse_columns(path: Path, block: str, names: list[str]) -> None:
    """Refuse column names that occur twice or would not be read back."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(
            f"occurs {names.count(repeated[0])} times in data_{block}",
            file=path,
            column=repeated[0],
            remedy="leave one of them",
        )
    if len(names) > _MOST_COLUMNS:
        raise InputError(f"data_{block} has {len(names)} columns", file=path, remedy=_AGAIN)
    for name in names:
        # starfile writes the name of the block over a column that is called "name"
        if name in ("", "name") or _NO_LABEL.search(name):
            raise InputError(
                f"data_{block} has a column with the name {name!r}", file=path, remedy=_AGAIN
            )


def _with_apostrophes(path: Path, table: pd.DataFrame, is_ambiguous: bool) -> pd.DataFrame:
    """Values as they were: starfile turns every apostrophe into a quotation mark.

    A quotation mark inside a value was an apostrophe if the file has none but around values.
    Otherwise, or where one is never closed, nobody can tell what the values were.
    """
    for name in table.columns:
        if table[name].dtype.kind not in "OTU":
            continue
        column = table[name].astype(str)
        odd = np.flatnonzero(column.str.contains(r'["\n\t]').to_numpy())
        if not len(odd):
            continue
        if is_ambiguous or column.str.contains(r"[\n\t]").any():
            raise InputError(
                f"{column.iloc[odd[0]]!r} has a quotation mark too many or too few",
                file=path,
                row=int(odd[0]),
                column=name,
                remedy="correct the value",
            )
        table[name] = table[name].where(table[name].isna(), column.str.replace('"', "'"))
    return table


def can_stand(text: str) -> bool:
    """Whether a star file can hold `text` as a value."""
    return not _UNWRITABLE.search(text)


def _quoted(path: Path, column: pd.Series) -> pd.Series:
    """Text values in quotation marks where they need them; starfile does it for spaces alone."""
    if column.dtype.kind not in "OTU":
        return column
    text = column.astype(str)
    bad = np.flatnonzero(text.str.contains(_UNWRITABLE).to_numpy())
    if len(bad):
        raise InputError(
            f"{text.iloc[bad[0]]!r} cannot stand in a star file",
            file=path,
            row=int(bad[0]),
            column=str(column.name),
            remedy="rename what it names, without quotation marks and control characters",
        )
    special = text.str.contains(_SPECIAL).to_numpy()
    return column.where(~special, '"' + text + '"') if special.any() else column


def particle_block(blocks: Mapping[str, pd.DataFrame], path: Path) -> str:
    """Name of the block that holds the particles: the one with image names."""
    named = [n for n, block in blocks.items() if "rlnImageName" in block.columns]
    for name in ("particles", "images", "", *named):
        if name in named:
            return name
    # of hundreds of tomograms each may have a block
    shown = [f"data_{name}" for name in blocks][:_SHOWN]
    found = ", ".join(shown + ["…"] * (len(blocks) > _SHOWN)) or "no data block"
    of_tomograms = any("rlnTomoName" in block.columns for block in blocks.values())
    raise InputError(
        f"is missing ({found} in the file)",
        file=path,
        column="rlnImageName",
        remedy=_EXTRACTED if of_tomograms else REFINEMENT,
    )
