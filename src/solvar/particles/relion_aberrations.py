"""Magnification matrix, beam tilt and Zernike coefficients of optics groups, as star files spell them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.optics import Optics

if TYPE_CHECKING:
    import pandas as pd

Float64 = NDArray[np.float64]

MAGNIFICATION = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")
BEAM_TILT = ("rlnBeamTiltX", "rlnBeamTiltY")
ODD, EVEN = "rlnOddZernike", "rlnEvenZernike"
ABERRATIONS = (*MAGNIFICATION, *BEAM_TILT, ODD, EVEN)

# six decimals: what is nearer to the identity cannot be told from it
_NOTHING = 1e-6
# of Zernike polynomials up to n = 15; RELION fits up to n = 4
_MOST_COEFFICIENTS = 72
# (m, n) = (-1, 3) and (1, 3)
_COMA = slice(3, 5)
_LIST = re.compile(r"\[?([^\[\]]*)\]?")
_REMEDY = "write the file again with RELION"

Values = Callable[[str], "pd.Series | None"]


def read_aberrations(values: Values, path: Path) -> dict[str, Float64]:
    """Fields of `Optics` that are not those of a perfect microscope.

    Parameters
    ----------
    values : callable
        Name of a column -> its values in G optics groups; None if the file does not have it.
    path : Path
        For messages.

    Raises
    ------
    InputError
        If a value cannot be read, or of a matrix or vector only a part is there.
    """
    found: dict[str, Float64] = {}
    matrix = _together(values, MAGNIFICATION, path)
    if matrix is not None:
        found["magnification"] = matrix.reshape(-1, 2, 2)
    tilt = _together(values, BEAM_TILT, path)
    if tilt is not None:
        found["beam_tilt_mrad"] = tilt
    for field, name in (("odd_zernike", ODD), ("even_zernike", EVEN)):
        column = values(name)
        if column is not None:
            found[field] = _coefficients(column, name, path)
    if tilt is not None and "odd_zernike" in found:
        # so does RELION: a tilt, even one of 0, stands for the coma of the list
        found["odd_zernike"][:, _COMA] = 0.0
    perfect = {"magnification": np.eye(2)}
    return {
        field: value
        for field, value in found.items()
        if not np.all(np.abs(value - perfect.get(field, 0.0)) <= _NOTHING)
    }


def aberration_columns(optics: Optics) -> dict[str, NDArray[Any]]:
    """The columns of G optics groups that `read_aberrations` reads as these, (G,) each."""
    columns: dict[str, NDArray[Any]] = {}
    if optics.magnification is not None:
        columns |= dict(zip(MAGNIFICATION, optics.magnification.reshape(-1, 4).T, strict=True))
    if optics.beam_tilt_mrad is not None:
        columns |= dict(zip(BEAM_TILT, optics.beam_tilt_mrad.T, strict=True))
    for name, values in ((ODD, optics.odd_zernike), (EVEN, optics.even_zernike)):
        if values is not None:
            lists = ["[" + ",".join(f"{v:.12g}" for v in row) + "]" for row in values]
            columns[name] = np.array(lists, dtype=object)
    return columns


def _together(values: Values, names: tuple[str, ...], path: Path) -> Float64 | None:
    """Columns that make sense only together, (G, len(names)); None if none of them is there."""
    columns = {name: values(name) for name in names}
    missing = [name for name, column in columns.items() if column is None]
    if len(missing) == len(names):
        return None
    if missing:
        there = next(name for name in names if name not in missing)
        problem = f"is missing, but {there} is there"
        raise InputError(problem, file=path, column=missing[0], remedy=_REMEDY)
    return np.stack(
        [
            _numbers([[v] for v in c], name, path)[:, 0]
            for name, c in columns.items()
            if c is not None
        ],
        axis=1,
    )


def _coefficients(column: pd.Series, name: str, path: Path) -> Float64:
    """Lists like [0.1,-0.2,0.3], short ones filled with zeros, (G, n)."""
    rows = []
    for text in column.astype(str):
        inside = _LIST.fullmatch(text.strip())
        words = inside[1].replace(",", " ").split() if inside else [text]
        rows.append([] if words == ["nan"] else words)
    width = max(1, *(len(row) for row in rows))
    if width > _MOST_COEFFICIENTS:
        problem = f"lists {width} coefficients; not more than {_MOST_COEFFICIENTS} are known"
        raise InputError(problem, file=path, column=name, remedy=_REMEDY)
    return _numbers([row + ["0"] * (width - len(row)) for row in rows], name, path)


def _numbers(rows: list[list[Any]], name: str, path: Path) -> Float64:
    try:
        return np.array([[float(value) for value in row] for row in rows], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"cannot be read as numbers ({error})", file=path, column=name, remedy=_REMEDY
        ) from None
