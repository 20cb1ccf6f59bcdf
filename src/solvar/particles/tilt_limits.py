"""Which images of tilt series are used: of the first exposures, or up to a dose."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.particles.exposure_order import exposure_numbers
from solvar.particles.reading import Reading
from solvar.particles.table import ParticleTable, Series

Int64 = NDArray[np.int64]


class TiltRows(NamedTuple):
    """The rows of N particles of a tilt series that are used, side by side.

    Attributes
    ----------
    chosen : (N,) int64
        Number of each particle in the file.
    row, particle : (M,) int64
        Rows, and which of the N each shows.
    first : (N,) int64
        First row of each particle in the file, whether it is used or not: by this it is known.
    remarks : tuple of str
        What was left out, in plain sentences.
    """

    chosen: Int64
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
    dose = None if table.ctf is None else table.ctf.dose_per_angstrom2
    assert table.particle is not None
    number = exposure_numbers(table.particle, dose, table.tilt_image)
    used = _within(number, dose, reading, path)[row]
    count = np.bincount(particle[used], minlength=len(index))
    left, remarks = _left(count, reading, path)
    counted = np.repeat(np.arange(len(left)), count[left])
    return TiltRows(index[left], row[used], counted, first[left], remarks)


class UsedSeries(NamedTuple):
    """The images of N particles of tomograms that are used.

    Attributes
    ----------
    row : (N,) int64
        Of each particle.
    series : Series
        Of these.
    remarks : tuple of str
        What was left out, in plain sentences.
    """

    row: Int64
    series: Series
    remarks: tuple[str, ...] = ()


def used_series(series: Series, row: Int64, reading: Reading, path: Path) -> UsedSeries:
    """The images of rows of tomograms within the limits that were given; see `used_rows`."""
    chosen = series.of(row)
    if not reading.limits:
        return UsedSeries(row, chosen)
    images = series.images
    within = _within(images.number, images.ctf.dose_per_angstrom2, reading, path)
    used = np.flatnonzero(within[images.places(row)])
    count = np.bincount(chosen.images.particle[used], minlength=len(row))
    left, remarks = _left(count, reading, path)
    return UsedSeries(row[left], chosen.with_images(used).of(left), remarks)


def _left(count: Int64, reading: Reading, path: Path) -> tuple[Int64, tuple[str, ...]]:
    """Which particles have images left, by their numbers (N,), and what is to be said of the others."""
    left = np.flatnonzero(count)
    if not len(left):
        problem = f"{reading.limits} leaves no image of any particle"
        raise InputError(problem, file=path, remedy="allow more of them")
    lost = len(count) - len(left)
    told = f"Particles without an image within {reading.limits} were left out: {lost:,}."
    return left, (told,) if lost else ()


def _within(
    number: Int64 | None, dose: NDArray[np.float64] | None, reading: Reading, path: Path
) -> NDArray[np.bool_]:
    """Which images (M,) of a file are within the limits."""
    if dose is None or number is None:
        raise InputError(
            f"has no doses, so nothing tells which tilts {reading.limits} means",
            file=path,
            remedy=f"leave {reading.limits} out, or choose rows in the file",
        )
    used = np.ones(len(dose), bool)
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
