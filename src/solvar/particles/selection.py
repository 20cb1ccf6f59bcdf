"""Which rows to keep: `--ind`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.particles.npy import NPY_MAGIC, read_npy
from solvar.particles.unpickle import read_pickled_arrays

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
    if not file.is_file():
        raise InputError("no such file", file=file, remedy="check the spelling")
    with file.open("rb") as handle:
        start = handle.read(6)
    if start[:1] == b"\x80" or file.suffix == ".pkl":
        return read_pickled_arrays(file)[0]
    if start == NPY_MAGIC:
        return read_npy(file, "a list of row numbers", _REMEDY)
    try:
        with warnings.catch_warnings():
            # an empty list selects nothing, which is told where particles are missing
            warnings.filterwarnings("ignore", message="loadtxt: input contained no data")
            return np.loadtxt(file, dtype=np.int64, ndmin=1)
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"is not a list of row numbers ({error})", file=file, remedy=_REMEDY
        ) from error
