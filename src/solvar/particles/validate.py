"""Checks that hold for particles of every format, in one place.

Each failure names the file and row where the value stands, also when it came from a pickle beside
the metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.optics import Optics
from solvar.particles.particle_set import ParticleSet

_ORTHONORMAL_TOLERANCE = 1e-3
_LARGEST_DEFOCUS_ANGSTROM = 1e6
_SMALLEST_DEFOCUS_ANGSTROM = 10.0
# of more turns than anybody counts nothing is left of an angle in double precision
LARGEST_ANGLE_DEGREE = 1e6
# Å²; the envelope of one beyond these is 0 or overflows
_LARGEST_BFACTOR = 1e4


class Origin(NamedTuple):
    """Where a field was read: the file, and the column as that file spells it."""

    file: Path
    column: str | None = None


def validate(particles: ParticleSet, origins: Mapping[str, Origin] | None = None) -> None:
    """Refuse a particle set that cannot be right.

    Parameters
    ----------
    particles : ParticleSet
    origins : mapping of field name to Origin, optional
        Defaults to `particles.source` and the name of the field.

    Raises
    ------
    InputError
        If there are no particles; numbers are not finite; rotations are not rotations; shifts leave
        the box; defocus or optical constants are absurd; optics groups differ in pixel or box size;
        an image occurs twice.
    """
    if len(particles) == 0:
        raise InputError(
            "no particles are left",
            file=particles.source,
            remedy="check the file and the selection (--ind)",
        )
    check = _Checker(particles, origins or {})
    _check_optics(particles, check)
    _check_ctf(particles, check)
    _check_poses(particles, check)
    _check_identity(particles)


def are_rotations(matrices: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of the matrices (N, 3, 3) are orthonormal with determinant +1; (N,) bool."""
    with np.errstate(invalid="ignore", over="ignore"):
        deviation = np.abs(matrices.transpose(0, 2, 1) @ matrices - np.eye(3)).max(axis=(1, 2))
        return (deviation <= _ORTHONORMAL_TOLERANCE) & (np.linalg.det(matrices) > 0)


def check_row_count(count: int, expected: int, *, file: Path, what: str, of: str) -> None:
    """Refuse a companion file (poses, CTFs) that is longer or shorter than the particle table.

    Raises
    ------
    InputError
        With both numbers.
    """
    if count != expected:
        raise InputError(
            f"has {count} rows of {what}, but {of} has {expected} particles",
            file=file,
            remedy="pass the file that was made for exactly these particles, in the same order",
        )


class _Checker:
    """Raises for the first row at which a condition fails."""

    def __init__(self, particles: ParticleSet, origins: Mapping[str, Origin]) -> None:
        self._particles, self._origins = particles, origins

    def origin(self, field: str) -> Origin:
        return self._origins.get(field, Origin(self._particles.source, field))

    def refuse(self, bad: NDArray[np.bool_], field: str, problem: str, remedy: str) -> None:
        where = np.flatnonzero(bad)
        if len(where):
            self._raise(field, int(where[0]), len(where), problem, remedy)

    def finite(self, field: str, values: NDArray[Any]) -> None:
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        where = np.flatnonzero(bad)
        if len(where):
            shown = np.asarray(values[where[0]]).ravel()
            value = shown[~np.isfinite(shown)][0]
            self._raise(
                field,
                int(where[0]),
                len(where),
                f"value is not a finite number ({value})",
                "repair the row or leave it out with --ind",
            )

    def _raise(self, field: str, position: int, count: int, problem: str, remedy: str) -> None:
        file, column = self.origin(field)
        others = f", and {count - 1} more rows" if count > 1 else ""
        row = int(self._particles.row[position])
        raise InputError(problem + others, file=file, row=row, column=column, remedy=remedy)


def _check_optics(particles: ParticleSet, check: _Checker) -> None:
    optics = particles.optics
    limits = {
        "voltage_kv": (1.0, 3000.0, "kV; is it given in volts?"),
        "spherical_aberration_mm": (-20.0, 20.0, "mm"),
        "amplitude_contrast": (0.0, 1.0, "(a fraction of 1, usually 0.07 to 0.1)"),
        "pixel_size_angstrom": (1e-3, 1e3, "Å"),
        "box_size": (2, 2**16, "pixels"),
    }
    for field, (low, high, unit) in limits.items():
        values = np.asarray(getattr(optics, field), dtype=np.float64)
        bad = np.flatnonzero(~((values >= low) & (values <= high)))
        if len(bad):
            file, column = check.origin(field)
            raise InputError(
                f"optics group {optics.name[bad[0]]} has {values[bad[0]]:g}, "
                f"outside {low:g} to {high:g} {unit}",
                file=file,
                column=column,
                remedy="correct the value in the particle file",
            )
    _refuse_mixed(optics, check, "pixel_size_angstrom", "pixel sizes", "Å")
    _refuse_mixed(optics, check, "box_size", "box sizes", "pixels")


def _refuse_mixed(optics: Optics, check: _Checker, field: str, what: str, unit: str) -> None:
    values = np.asarray(getattr(optics, field), dtype=np.float64)
    # single precision and six decimals in files make equal sizes differ by a few 1e-6
    other = np.flatnonzero(np.abs(values - values[0]) > 1e-5 * values[0])
    if not len(other):
        return
    file, column = check.origin(field)
    first, second = optics.name[0], optics.name[other[0]]
    raise InputError(
        f"optics groups have different {what} ({first}: {values[0]:g} {unit}, "
        f"{second}: {values[other[0]]:g} {unit})",
        file=file,
        column=column,
        remedy="rescale to one size in RELION or cryoSPARC, or select one group with --ind",
    )


def _check_ctf(particles: ParticleSet, check: _Checker) -> None:
    ctf = particles.exposures.ctf
    for field in ctf.__dataclass_fields__:
        check.finite(field, getattr(ctf, field))
    for field in ("defocus_angle_radian", "phase_shift_radian"):
        check.refuse(
            np.abs(np.rad2deg(getattr(ctf, field))) > LARGEST_ANGLE_DEGREE,
            field,
            "is no angle",
            "correct the value",
        )
    check.refuse(
        np.abs(ctf.bfactor_angstrom2) > _LARGEST_BFACTOR,
        "bfactor_angstrom2",
        f"B-factor is beyond {_LARGEST_BFACTOR:g} Å²",
        "correct the value",
    )
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    check.refuse(
        mean < 0,
        "defocus_u_angstrom",
        "defocus is negative, but underfocus is positive here",
        "change the sign of both defocus columns",
    )
    check.refuse(
        mean > _LARGEST_DEFOCUS_ANGSTROM,
        "defocus_u_angstrom",
        "defocus is above 100 µm",
        "give the defocus in Å",
    )
    # exactly 0 means "no CTF" in simulated sets
    tiny = (mean > 0) & (mean < _SMALLEST_DEFOCUS_ANGSTROM)
    check.refuse(
        tiny & (2 * np.count_nonzero(tiny) > len(tiny)),
        "defocus_u_angstrom",
        "defocus looks like micrometres",
        "give the defocus in Å",
    )


def _check_poses(particles: ParticleSet, check: _Checker) -> None:
    rotation, shift = particles.poses.rotation, particles.poses.shift_angstrom
    check.finite("rotation", rotation)
    check.finite("shift_angstrom", shift)
    check.refuse(
        ~are_rotations(rotation),
        "rotation",
        "matrix is not a rotation (orthonormal, determinant +1)",
        "pass rotation matrices as cryoDRGN's parse_pose commands write them",
    )
    width = (particles.optics.box_size * particles.optics.pixel_size_angstrom)[
        particles.exposures.optics_group
    ]
    check.refuse(
        np.abs(shift).max(axis=1) > width,
        "shift_angstrom",
        "shift is larger than the whole image",
        "check its unit: Å in rlnOriginXAngst, pixels in rlnOriginX and alignments3D/shift, "
        "a fraction of the box in a cryoDRGN pickle",
    )


def _check_identity(particles: ParticleSet) -> None:
    order = np.argsort(particles.uid, kind="stable")
    repeated = np.flatnonzero(np.diff(particles.uid[order]) == 0)
    if not len(repeated):
        return
    earlier, later = (int(particles.row[order[repeated[0] + step]]) for step in (0, 1))
    more = f"; {len(repeated)} repetitions in all" if len(repeated) > 1 else ""
    raise InputError(
        f"is the same particle as row {earlier + 1}{more}",
        file=particles.source,
        row=later,
        remedy="remove duplicates; symmetry-expanded sets are not supported",
    )
