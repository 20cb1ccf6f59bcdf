"""Which rows to keep: `--ind`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.files import explained, open_regular, read_bytes, read_text
from solvar.particles.npy import NPY_MAGIC, read_npy
from solvar.particles.unpickle import read_pickled_arrays

# numpy.savetxt writes 17 as 1.700000000000000000e+01
_NUMBER = re.compile(r"[-+]?[0-9]{1,16}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,2})?")
_LARGEST = 2**53
_REMEDY = "give distinct zero-based row numbers"


def read_selection(
    ind: str | Path | ArrayLike | None, count: int, source: Path, file: Path | None = None
) -> NDArray[np.int64]:
    """Rows to keep, in their order.

    Parameters
    ----------
    ind : path, (M,) int array-like, (count,) bool array-like, or None
        None keeps all rows. A file is a .pkl, .npy or one number per line.
    count : int
        Rows of the particle file.
    source : Path
        The particle file, for messages.
    file : Path, optional
        Where an array `ind` was read from, for messages.

    Returns
    -------
    (M,) int64

    Raises
    ------
    InputError
        If the file is not a list of integers, or rows are out of range or repeated.
    """
    if ind is None:
        return np.arange(count, dtype=np.int64)
    if isinstance(ind, str | Path):
        file = Path(ind)
        rows: NDArray[Any] = _read_file(file)
    else:
        rows = np.asarray(ind)
    if rows.dtype == np.bool_ and rows.shape == (count,):
        return np.flatnonzero(rows).astype(np.int64)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
        raise InputError(
            f"a selection of shape {rows.shape} and type {rows.dtype} is not a list of rows",
            file=file,
            remedy=_REMEDY,
        )
    outside = np.flatnonzero((rows < 0) | (rows >= count))
    if len(outside):
        raise InputError(
            f"row {rows[outside[0]]} is selected, but {source} has rows 0 to {count - 1}",
            file=file,
            row=int(outside[0]) if file is not None else None,
            remedy=_REMEDY,
        )
    if len(np.unique(rows)) != len(rows):
        raise InputError("rows are selected more than once", file=file, remedy=_REMEDY)
    return rows.astype(np.int64)


def _read_file(file: Path) -> NDArray[Any]:
    with explained(file), open_regular(file) as handle:
        start = read_bytes(handle, 6)
    if start[:1] == b"\x80" or file.suffix == ".pkl":
        return read_pickled_arrays(file)[0]
    if start == NPY_MAGIC:
        return read_npy(file, "a list of row numbers", _REMEDY)
    return _read_list(file)


def _read_list(file: Path) -> NDArray[np.int64]:
    """Whole numbers separated by white space; what follows # in a line is a comment.

    Not by numpy's reader of text: some bytes end the whole program in it.
    """
    rows: list[int] = []
    try:
        for number, line in enumerate(read_text(file).split("\n")):
            for word in line.split("#")[0].split():
                value = float(word) if _NUMBER.fullmatch(word) else 0.5
                if not value.is_integer() or abs(value) > _LARGEST:
                    raise InputError(
                        f"is not a list of row numbers ({word[:40]!r})",
                        file=file,
                        row=number,
                        remedy=_REMEDY,
                    )
                rows.append(int(value))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"is not a list of row numbers ({error})", file=file, remedy=_REMEDY
        ) from error
    return np.array(rows, dtype=np.int64)
