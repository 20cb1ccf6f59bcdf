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
        odd = np.flatnonzero((values != 0) & (values != 1))
        if len(odd):
            raise InputError(
                f"is {values[odd[0]]:g}, neither 0 nor 1",
                file=path,
                row=int(odd[0]),
                column=name,
                remedy="correct the value: 1 for images to which it was done",
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
    odd = np.flatnonzero(np.abs(values.astype(np.float64)) != 1)
    if len(odd):
        raise InputError(
            f"is {values[odd[0]]:g}, neither 1 nor -1",
            file=path,
            row=int(odd[0]),
            column=column,
            remedy="correct the value: -1 for images of the opposite contrast",
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
    odd = np.flatnonzero(~((values > 0) & (values == values[0])))
    if len(odd):
        raise InputError(
            f"is {values[odd[0]]:g} here and {values[0]:g} in row 1: factors of the CTF that differ are not "
            "supported",
            file=path,
            row=int(odd[0]),
            column=column,
            remedy="set the column to 1, because the contrast of each image is estimated",
        )


def refuse_mirrored(values: NDArray[Any], path: Path, column: str) -> None:
    """Raise InputError where an image is to be mirrored (N,)."""
    mirrored = np.flatnonzero(values != 0)
    if len(mirrored):
        raise InputError(
            "says that the image is to be mirrored, which is not supported",
            file=path,
            row=int(mirrored[0]),
            column=column,
            remedy="pass the star file of a 3D refinement, whose images are as they were recorded",
        )
