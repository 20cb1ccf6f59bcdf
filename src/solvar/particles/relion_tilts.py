"""Flat star files of tilt series: a row a tilt, and the rows of a particle share a group name.

Warp 1, M and cryoDRGN-ET have this shape. Each row has its own angles, origins and CTF; its CTF scale is the
amplitude that the tilted specimen lets through, and a B-factor below 0 is -4 times the electrons per Å² that
the specimen had received.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.optics import CtfParameters, Optics
from solvar.particles.reading import Reading

if TYPE_CHECKING:
    import pandas as pd

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

GROUP, MICROGRAPH = "rlnGroupName", "rlnMicrographName"
SCALE, BFACTOR = "rlnCtfScalefactor", "rlnCtfBfactor"
PRE_EXPOSURE, TILT_ANGLE = "rlnMicrographPreExposure", "rlnMicrographTiltAngle"
# Å² of B-factor for an electron per Å², as Warp has it
_BFACTOR_OF_DOSE = -4.0
# of the exposures (or scales) of a group, how many other groups have too
_SHARED = 0.5
_NO_DOSE = (
    f"The rows are tilts, but the file has no exposures ({PRE_EXPOSURE}, or {BFACTOR} below 0), so radiation "
    "damage is not modelled."
)
_NO_SCALE = (
    f"The rows are tilts, but the file has neither {SCALE} nor {TILT_ANGLE}, so all were taken to be of the "
    "same strength."
)


def particles_of_tilts(particles: pd.DataFrame) -> Int64 | None:
    """Number of the particle that each row is a tilt of, in order of appearance.

    In single-particle files a group is a micrograph, or some of them, and its rows share the CTF of it. The
    rows of a particle in a tilt series are of as many micrographs, each with an exposure of its own, and
    other particles were exposed in the same steps. A B-factor or scale fitted to each particle has no value
    in common with those of other groups.

    Parameters
    ----------
    particles : DataFrame
        N rows of the particle block.

    Returns
    -------
    (N,) int64 or None
        None if the rows are no tilts.
    """
    import pandas as pd

    if GROUP not in particles.columns:
        return None
    group, names = pd.factorize(particles[GROUP].astype(str))
    if len(names) == len(group):
        return None
    if MICROGRAPH in particles.columns:
        if _repeats(group, particles[MICROGRAPH]):
            return None
        are_tilts = _are_exposures(particles, group) or _are_scales_of_tilts(particles, group)
    else:
        are_tilts = _are_exposures(particles, group)
    return group.astype(np.int64) if are_tilts else None


def exposures_of_tilts(particles: pd.DataFrame) -> Int64 | None:
    """Number of the exposure that each row was cut from, (N,): of its micrograph, in order of appearance.

    None if the file names no micrographs.
    """
    import pandas as pd

    if MICROGRAPH not in particles.columns:
        return None
    return pd.factorize(particles[MICROGRAPH].astype(str))[0].astype(np.int64)


def first_rows(group: NDArray[np.generic] | pd.Series, count: int) -> Int64 | None:
    """First row of each group of names (M,), in order of appearance; None if they are not `count` groups."""
    import pandas as pd

    first = np.flatnonzero(~pd.Series(group).duplicated().to_numpy())
    return first if len(first) == count else None


def _are_exposures(particles: pd.DataFrame, group: Int64) -> bool:
    """Whether rows of a group differ in exposure, by steps that groups have in common."""
    for name, sign in ((PRE_EXPOSURE, 1.0), (BFACTOR, 1 / _BFACTOR_OF_DOSE)):
        dose = sign * _numbers(particles, name)
        if (dose >= 0).all() and not _repeats(group, dose) and _have_in_common(group, dose):
            return True
    return False


def _are_scales_of_tilts(particles: pd.DataFrame, group: Int64) -> bool:
    """Whether rows of every group differ in scale, by cosines that groups have in common."""
    scale = _numbers(particles, SCALE)
    if not ((scale > 0) & (scale <= 1)).all():
        return False
    several = np.bincount(group) > 1
    kinds = np.bincount(np.unique(np.stack([group, _codes(scale)]), axis=1)[0])
    return bool((kinds[several] > 1).all()) and _have_in_common(group, scale)


def _numbers(particles: pd.DataFrame, name: str) -> Float64:
    """A column as numbers (N,); NaN where it is none, or there is no such column."""
    import pandas as pd

    if name not in particles.columns:
        return np.full(len(particles), np.nan)
    return pd.to_numeric(particles[name], errors="coerce").to_numpy(np.float64)


def _repeats(group: Int64, values: pd.Series | Float64) -> bool:
    """Whether a group has a value (N,) twice."""
    pairs = np.stack([group, _codes(values)])
    return np.unique(pairs, axis=1).shape[1] < len(group)


def _have_in_common(group: Int64, values: Float64) -> bool:
    """Whether groups share most of their values (N,); a group alone shares them with nobody."""
    if group.max() == 0:
        return True
    pairs = np.unique(np.stack([group, _codes(values)]), axis=1)
    return bool(np.mean(np.bincount(pairs[1])[pairs[1]] > 1) >= _SHARED)


def _codes(values: pd.Series | Float64) -> Int64:
    import pandas as pd

    return pd.factorize(values)[0].astype(np.int64)


def with_magnification(particles: pd.DataFrame) -> pd.DataFrame:
    """Rows of tilts with the magnification that Warp and M write, 10,000, where a file has left it out.

    Then the detector's pixel size, in µm, is the images' in Å.
    """
    if "rlnMagnification" in particles.columns:
        return particles
    return particles.assign(rlnMagnification=1e4)


class TiltCtf(NamedTuple):
    """CTFs of tilts, and what was supposed of them, in plain sentences."""

    ctf: CtfParameters
    remarks: tuple[str, ...]


def ctf_of_tilts(
    ctf: CtfParameters, column: Callable[[str], Float64 | None], path: Path
) -> TiltCtf:
    """CTFs with the scale of each tilt, and damped by its dose.

    The dose is that of the column of exposures, else that which the B-factor tells. It is never guessed from
    the scale.

    Parameters
    ----------
    ctf : CtfParameters
        Of N rows, the B-factors as the file has them.
    column : callable (name) -> (N,) float64 or None
        A column of the file, if there is one.
    path : Path
        For messages.

    Raises
    ------
    InputError
        If scales or exposures are below 0, or B-factors of both signs.
    """
    scale, told = _scale(column, path)
    bfactor, dose = ctf.bfactor_angstrom2, column(PRE_EXPOSURE)
    if (bfactor < 0).any():
        _refuse_row(bfactor > 0, path, BFACTOR, "is above 0 here and below 0 in other rows")
        dose = bfactor / _BFACTOR_OF_DOSE if dose is None else dose
        bfactor = np.zeros_like(bfactor)
    if dose is None:
        told = (*told, _NO_DOSE)
    else:
        _refuse_row(dose < 0, path, PRE_EXPOSURE, "is below 0")
    ctf = replace(ctf, bfactor_angstrom2=bfactor, scale=scale, dose_per_angstrom2=dose)
    return TiltCtf(ctf, told)


def _scale(
    column: Callable[[str], Float64 | None], path: Path
) -> tuple[Float64 | None, tuple[str, ...]]:
    """What tilted specimens let through, (N,): as given, else the cosine of the tilt, else None."""
    scale = column(SCALE)
    if scale is not None:
        _refuse_row(scale <= 0, path, SCALE, "is not above 0")
        return scale, ()
    angle = column(TILT_ANGLE)
    if angle is None:
        return None, (_NO_SCALE,)
    _refuse_row(np.abs(angle) >= 90, path, TILT_ANGLE, "is no tilt that a specimen can have")
    return np.cos(np.deg2rad(angle)), ()


def refuse_readings(reading: Reading, path: Path) -> None:
    """Raise InputError for options that leave out what tilts need."""
    if reading.ctf is not None:
        _refuse(path, "with --ctf the scale and dose of the tilts would be lost", "leave --ctf out")
    if reading.ignore_poses:
        _refuse(
            path,
            "how the tilts of a particle lie to each other is known from their poses, which would be ignored",
            "pass poses of a refinement: they cannot be found from the images of tilt series yet",
        )


def refuse_premultiplied(optics: Optics, path: Path) -> None:
    """Raise InputError for images that were multiplied by their CTF: nobody says whether by the dose too."""
    if optics.premultiplied is not None:
        _refuse(
            path,
            "images that were multiplied by their CTF are not supported",
            "extract images without that",
        )


def _refuse(path: Path, why: str, remedy: str) -> NoReturn:
    problem = f"the rows are tilts of the same particles (a tilt series): {why}"
    raise InputError(problem, file=path, column=GROUP, remedy=remedy)


def _refuse_row(bad: NDArray[np.bool_], path: Path, column: str, problem: str) -> None:
    if bad.any():
        raise InputError(
            f"{problem}, in a tilt series",
            file=path,
            row=int(np.argmax(bad)),
            column=column,
            remedy="correct the value",
        )
