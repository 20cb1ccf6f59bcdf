"""Columns of any format that say what is to be done to the pixels of an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError

# 0 or 1 of optics groups, or of each particle: the fields of `Optics`
RECORDED = {
    "rlnCtfDataArePhaseFlipped": "phase_flipped",
    "rlnCtfDataAreCtfPremultiplied": "premultiplied",
}


def read_recorded(given: Mapping[str, NDArray[Any]], path: Path) -> dict[str, NDArray[np.bool_]]:
    """Of each particle (N,): the fields of `Optics` that say what its pixels are, where any is true.

    Parameters
    ----------
    given : mapping
        Columns of `RECORDED` that the file has, (N,) each.
    path : Path
        For messages.

    Raises
    ------
    InputError
        If a value is neither 0 nor 1.
    """
    found = {}
    for name, values in given.items():
        _refuse(
            (values != 0) & (values != 1),
            values,
            (path, name),
            "is {:g}, neither 0 nor 1",
            "correct the value: 1 for images to which it was done",
        )
        if values.any():
            found[RECORDED[name]] = values == 1
    return found


def refuse_hidden(recorded: Mapping[str, NDArray[np.bool_]], path: Path) -> None:
    """Raise InputError if CTFs of a pickle would stand for images that are not as they were recorded."""
    if recorded:
        raise InputError(
            "is 1, but with --ctf the optics of the file count for nothing",
            file=path,
            column=next(name for name, field in RECORDED.items() if field in recorded),
            remedy="leave --ctf out",
        )


def signs_that_differ(
    values: NDArray[Any] | None, path: Path, column: str
) -> NDArray[np.int8] | None:
    """Signs (N,) of images as `Exposures` keeps them; None where there are none or all are alike.

    Parameters
    ----------
    values : (N,) array or None
    path : Path
    column : str
        For messages.

    Raises
    ------
    InputError
        If a value is neither 1 nor -1.
    """
    if values is None:
        return None
    _refuse(
        np.abs(values.astype(np.float64)) != 1,
        values,
        (path, column),
        "is {:g}, neither 1 nor -1",
        "correct the value: -1 for images of the opposite contrast",
    )
    signs = values.astype(np.int8)
    return None if np.all(signs == signs[0]) else signs


def refuse_scales_that_differ(values: NDArray[Any] | None, path: Path, column: str) -> None:
    """Raise InputError where a factor (N,) of the CTF is not the same for all images.

    One factor of all is a unit of density. Where images are of different strength, the estimated contrast
    of each says so, and a factor that this program did not check would come on top.
    """
    if values is None:
        return
    _refuse(
        ~((values > 0) & (values == values[0])),
        values,
        (path, column),
        f"is {{:g}} here and {values[0]:g} in row 1: factors of the CTF that differ are not supported",
        "set the column to 1, because the contrast of each image is estimated",
    )


def refuse_mirrored(values: NDArray[Any], path: Path, column: str) -> None:
    """Raise InputError where an image is to be mirrored (N,)."""
    _refuse(
        values != 0,
        values,
        (path, column),
        "says that the image is to be mirrored, which is not supported",
        "pass the star file of a 3D refinement, whose images are as they were recorded",
    )


def _refuse(
    bad: NDArray[np.bool_],
    values: NDArray[Any],
    place: tuple[Path, str],
    problem: str,
    remedy: str,
) -> None:
    """Raise InputError for the first row (N,) that is bad; `problem` is a format of its value."""
    if bad.any():
        row, (path, column) = int(np.argmax(bad)), place
        raise InputError(
            problem.format(values[row]), file=path, row=row, column=column, remedy=remedy
        )
