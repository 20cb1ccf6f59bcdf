"""Which images of tilt series are used: of the first exposures, or up to a dose."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.particles.exposure_order import exposure_numbers
from solvar.particles.reading import Reading
from solvar.particles.table import ParticleTable

Int64 = NDArray[np.int64]


class TiltRows(NamedTuple):
    """The rows of N particles of a tilt series that are used, side by side.

    Attributes
    ----------
    number : (N,) int64
        Of each particle in the file.
    row, particle : (M,) int64
        Rows, and which of the N each shows.
    first : (N,) int64
        First row of each particle in the file, whether it is used or not: by this it is known.
    remarks : tuple of str
        What was left out, in plain sentences.
    """

    number: Int64
    row: Int64
    particle: Int64
    first: Int64
    remarks: tuple[str, ...] = ()


def used_rows(table: ParticleTable, index: Int64, reading: Reading, path: Path) -> TiltRows:
    """The rows of some particles within the limits that were given; particles without any are left out.

    Parameters
    ----------
    table : ParticleTable
        Of tilts.
    index : (N,) int64
        Numbers of particles.
    reading : Reading
    path : Path
        For messages.

    Raises
    ------
    InputError
        If doses are not known, or no image is left.
    """
    row, particle = table.rows_of(index)
    first = row[np.flatnonzero(np.diff(particle, prepend=-1))]
    if not reading.limits:
        return TiltRows(index, row, particle, first)
    used = _within(table, reading, path)[row]
    count = np.bincount(particle[used], minlength=len(index))
    left = count > 0
    if not left.any():
        problem = f"{reading.limits} leaves no image of any particle"
        raise InputError(problem, file=path, remedy="allow more of them")
    lost = int(np.count_nonzero(~left))
    remarks = (f"Particles without an image within {reading.limits} were left out: {lost:,}.",)
    counted = np.repeat(np.arange(np.count_nonzero(left)), count[left])
    return TiltRows(index[left], row[used], counted, first[left], remarks if lost else ())


def _within(table: ParticleTable, reading: Reading, path: Path) -> NDArray[np.bool_]:
    """Which rows (N,) of the file are within the limits."""
    assert table.particle is not None
    dose = None if table.ctf is None else table.ctf.dose_per_angstrom2
    number = exposure_numbers(table.particle, dose, table.tilt_image)
    if dose is None or number is None:
        raise InputError(
            f"has no doses, so nothing tells which tilts {reading.limits} means",
            file=path,
            remedy=f"leave {reading.limits} out, or choose rows in the file",
        )
    used = np.ones(len(table), bool)
    if reading.tilts is not None:
        used &= number < reading.tilts
    if reading.dose is not None:
        used &= dose <= reading.dose
    return used


def refuse_limits(reading: Reading, path: Path) -> None:
    """Raise InputError for limits of tilt series in the reading of single particles."""
    if reading.limits:
        raise InputError(
            f"has one image a particle, and {reading.limits} is for tilt series",
            file=path,
            remedy=f"leave {reading.limits} out",
        )
