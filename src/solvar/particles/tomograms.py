"""Star files of tomograms, as RELION 4 and 5 and WarpTools write them: geometry and CTF of tilt series.

`data_global` has a row a tomogram. Its tilts stand in a block of its name in the same file (RELION 4,
WarpTools), or in a star file of their own (RELION 5). A row a tilt gives a projection matrix, or the
angles that make one. Shifts of tilts say where particles are cut out, and are not needed once they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.optics import CtfParameters
from solvar.imaging.tilt_geometry import TiltGeometry, rotations_of_angles
from solvar.particles.relion_tilts import SCALE, TILT_ANGLE, ctf_of_tilts
from solvar.particles.stack_paths import StackFinder
from solvar.particles.star_blocks import read_blocks
from solvar.particles.star_columns import as_numbers

if TYPE_CHECKING:
    import pandas as pd

Float64 = NDArray[np.float64]

NAME = "rlnTomoName"
_ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
_MATRIX = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
_SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
_FILE, _PIXEL, _HAND = "rlnTomoTiltSeriesStarFile", "rlnTomoTiltSeriesPixelSize", "rlnTomoHand"
_BFACTOR_OF_DOSE = "rlnCtfBfactorPerElectronDose"
_REMEDY = "pass the tomograms that belong to these particles with --tomograms"
# of the rows of projection matrices, which programs print with six to nine digits
_ORTHONORMAL_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A specimen and the T exposures of its tilt series.

    Attributes
    ----------
    geometry : TiltGeometry
    ctf : CtfParameters
        Of each exposure at the specimen's centre. The scale of one that was left out is NaN.
    pixel_size_angstrom : float
        Of the exposures, in which coordinates are given.
    size_pixel : (3,) float64 or None
        Edges along x, y, z in these pixels; None where the file does not say.
    remarks : tuple of str
        What was supposed, in plain sentences.
    """

    geometry: TiltGeometry
    ctf: CtfParameters
    pixel_size_angstrom: float
    size_pixel: Float64 | None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.geometry)

    def centred(self, coordinate_pixel: Float64) -> Float64:
        """Coordinates (…, 3) in pixels from the specimen's first voxel as Å from its centre."""
        assert self.size_pixel is not None
        # as RELION has it, in whole pixels
        return (coordinate_pixel - self.size_pixel // 2) * self.pixel_size_angstrom


def read_tomograms(path: Path, names: Iterable[str], finder: StackFinder) -> dict[str, Tomogram]:
    """The tomograms of some names.

    Parameters
    ----------
    path : Path
    names : iterable of str
    finder : StackFinder
        Finds star files of tilt series.

    Raises
    ------
    InputError
        If one is not there, or its numbers cannot be true.
    """
    blocks = read_blocks(path)
    table = blocks.get("global")
    if table is None or NAME not in table.columns:
        problem = "is missing from data_global: this is no star file of tomograms"
        raise InputError(problem, file=path, column=NAME, remedy=_REMEDY)
    known = {str(name): row for row, name in enumerate(table[NAME])}
    # a set of hundreds asks for the same few columns
    overall = cache(partial(_column, table, path))
    found = {}
    for name in names:
        if name not in known:
            raise InputError(
                f"has no tomogram '{name}', which the particles name", file=path, remedy=_REMEDY
            )
        series, place = _series(blocks, table, known[name], path, finder)
        found[name] = _tomogram(overall, known[name], path, series, place)
    return found


def _series(
    blocks: Mapping[str, pd.DataFrame],
    table: pd.DataFrame,
    row: int,
    path: Path,
    finder: StackFinder,
) -> tuple[pd.DataFrame, Path]:
    """The rows of a tomogram's tilts, and the file that they stand in."""
    name = str(table[NAME].iloc[row])
    if name in blocks:
        return blocks[name], path
    if _FILE not in table.columns:
        raise InputError(
            f"names tomogram '{name}', but there is neither data_{name} nor a column {_FILE}",
            file=path,
            row=row,
            remedy=_REMEDY,
        )
    place = finder.find(str(table[_FILE].iloc[row]), row)
    inner = read_blocks(place)
    if name in inner or len(inner) == 1:
        return inner.get(name, next(iter(inner.values()))), place
    raise InputError(f"has no block data_{name}", file=place, remedy=_REMEDY)


def _tomogram(
    overall: Callable[[str], Float64 | None],
    row: int,
    path: Path,
    series: pd.DataFrame,
    place: Path,
) -> Tomogram:
    def of_all(name: str) -> float:
        values = overall(name)
        if values is None:
            raise InputError("is missing from data_global", file=path, column=name, remedy=_REMEDY)
        return float(values[row])

    pixel_size, hand = of_all(_PIXEL), of_all(_HAND)
    if not pixel_size > 0:
        raise InputError(
            f"is {pixel_size:g}", file=path, row=row, column=_PIXEL, remedy="give it in Å"
        )
    if hand not in (1, -1):
        raise InputError(
            f"is {hand:g}, neither 1 nor -1",
            file=path,
            row=row,
            column=_HAND,
            remedy="correct the value: it says whether what is higher is more underfocused",
        )
    size = None
    if all(overall(name) is not None for name in _SIZES):
        size = np.array([of_all(name) for name in _SIZES])
    column = partial(_column, series, place)
    rotation = _rotations(column, series, place)

    def told(name: str) -> Float64 | None:
        if name == TILT_ANGLE:
            return np.asarray(np.rad2deg(np.arccos(np.clip(rotation[:, 2, 2], -1, 1))))
        values = column(name)
        # WarpTools has 0 where a tilt was left out
        return values if name != SCALE or values is None else np.where(values == 0, np.nan, values)

    ctf, remarks = ctf_of_tilts(_ctf(column, place), told, place)
    dose = ctf.dose_per_angstrom2
    if dose is not None and overall(_BFACTOR_OF_DOSE) is not None and of_all(_BFACTOR_OF_DOSE) > 0:
        # then RELION damps by it, and not by the critical exposure
        ctf = replace(
            ctf, bfactor_angstrom2=of_all(_BFACTOR_OF_DOSE) * dose, dose_per_angstrom2=None
        )
    return Tomogram(TiltGeometry(rotation, hand), ctf, pixel_size, size, remarks)


def _column(series: pd.DataFrame, place: Path, name: str) -> Float64 | None:
    return as_numbers(series[name], name, place) if name in series.columns else None


def _rotations(column: partial[Float64 | None], series: pd.DataFrame, place: Path) -> Float64:
    """Of the specimen into its exposures, (T, 3, 3), from projection matrices or from angles."""
    if all(name in series.columns for name in _MATRIX):
        matrix = np.stack([_rows_of_matrix(series, name, place) for name in _MATRIX], axis=1)
        return _nearest_rotations(matrix[:, :, :3], place)
    x_tilt, *others = (column(name) for name in _ANGLES)
    for name, values in zip(_ANGLES[1:], others, strict=True):
        if values is None:
            raise InputError(
                "is missing, and so is rlnTomoProjX: nothing says how the tilts lie",
                file=place,
                column=name,
                remedy="align the tilt series, and pass the tomograms of that job",
            )
    still = np.zeros(len(series)) if x_tilt is None else x_tilt
    return rotations_of_angles(still, *(np.asarray(values) for values in others))


def _rows_of_matrix(series: pd.DataFrame, name: str, place: Path) -> Float64:
    """Rows of projection matrices (T, 4), spelled as [a,b,c,d]."""
    rows = []
    for number, text in enumerate(series[name].astype(str)):
        try:
            values = np.array(json.loads(text), dtype=np.float64)
        except (ValueError, TypeError):
            values = np.empty(0)
        if values.shape != (4,) or not np.isfinite(values).all():
            raise InputError(
                f"'{text}' is no row of four numbers, [a,b,c,d]",
                file=place,
                row=number,
                column=name,
                remedy="write the file again",
            )
        rows.append(values)
    return np.array(rows)


def _nearest_rotations(matrix: Float64, place: Path) -> Float64:
    """The rotations (T, 3, 3) that projection matrices are, but for the digits they were printed with."""
    left, size, right = np.linalg.svd(matrix)
    odd = (np.abs(size - 1) > _ORTHONORMAL_TOLERANCE).any(axis=1) | (np.linalg.det(matrix) < 0)
    if odd.any():
        raise InputError(
            "the projection matrix is no rotation",
            file=place,
            row=int(np.argmax(odd)),
            column=_MATRIX[0],
            remedy="write the tomograms again from an alignment without magnification",
        )
    return np.asarray(left @ right, dtype=np.float64)


def _ctf(column: partial[Float64 | None], place: Path) -> CtfParameters:
    """Of each tilt, its B-factors as the file has them."""
    needed = {name: column(name) for name in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")}
    for name, values in needed.items():
        if values is None:
            raise InputError(
                "is missing", file=place, column=name, remedy="estimate the CTF of the tilt series"
            )
    u, v, angle = (np.asarray(values, dtype=np.float64) for values in needed.values())
    phase, bfactor = column("rlnPhaseShift"), column("rlnCtfBfactor")
    return CtfParameters(
        u,
        v,
        np.deg2rad(angle),
        phase_shift_radian=np.zeros_like(u) if phase is None else np.deg2rad(phase),
        bfactor_angstrom2=np.zeros_like(u) if bfactor is None else bfactor,
    )
