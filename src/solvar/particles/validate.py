"""Checks that hold for particles of every format, in one place.

Each failure names the file and row where the value stands, also when it came from a pickle beside
the metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.grid import have_several_sizes
from solvar.imaging.optics import Optics
from solvar.particles.constants import CONSTANTS
from solvar.particles.identity import Repeated, number_files, repeated
from solvar.particles.particle_set import ParticleSet

_ORTHONORMAL_TOLERANCE = 1e-3
_LARGEST_DEFOCUS_ANGSTROM = 1e6
_SMALLEST_DEFOCUS_ANGSTROM = 10.0
# of more turns than anybody counts nothing is left of an angle in double precision
LARGEST_ANGLE_DEGREE = 1e6
# Å²; the envelope of one beyond these is 0 or overflows
_LARGEST_BFACTOR = 1e4
_SMALLEST_COMMON_BOX = 4
# Copies share their noise: in both half-sets it passes for signal, in one it counts twice.
_WHY_ONCE = "copies share their noise, which would pass for signal"
REPEATED_REMEDY = (
    f"keep one row of each image ({_WHY_ONCE}); symmetry copies are known by poses that a point group "
    "makes alike: of a file where these were changed pass the one from before the expansion"
)
# Relative; people round, and files hold single precision.
_SAME_CONSTANT = 1e-4
# of the columns of a star file: microscopes are aligned to some tenths
_LARGEST_BEAM_TILT_MRAD = 100.0


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
        the box; defocus or optical constants are absurd, or
        constants are not those that the caller gave; optics groups have no grid in common;
        an image occurs twice.
    """
    if len(particles) == 0:
        raise InputError(
            "no particles are left",
            file=particles.source,
            remedy="check the file and the selection (--ind)",
        )
    check = _Checker(particles, origins or {})
    _check_given(particles, check)
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
    """Raises for the first row, that is image, at which a condition fails."""

    def __init__(self, particles: ParticleSet, origins: Mapping[str, Origin]) -> None:
        self._particles, self._origins = particles, origins

    def origin(self, field: str) -> Origin:
        return self._origins.get(field, Origin(self._particles.source, field))

    def group(self, group: np.integer) -> str:
        """Name of an optics group, with its rows where it is not the only one."""
        particles = self._particles
        rows = particles.image_row[particles.exposures.optics_group == group]
        name = particles.optics.name[group]
        if not 0 < len(rows) < len(particles.exposures):
            return name
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        return f"{name} (row {rows[0] + 1}{more})"

    def refuse_group(
        self,
        bad: NDArray[np.bool_],
        field: str,
        problem: str,
        remedy: str = "correct the value in the particle file",
        *,
        values: NDArray[Any] | None = None,
    ) -> None:
        """Raise for the first optics group (G,) that is bad; `problem` may be a format of its value."""
        if bad.any():
            file, column = self.origin(field)
            first = np.argmax(bad)
            told = problem if values is None else problem.format(values[first])
            raise InputError(
                f"optics group {self.group(first)} {told}",
                file=file,
                column=column,
                remedy=remedy,
            )

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
        row = int(self._particles.image_row[position])
        raise InputError(problem + others, file=file, row=row, column=column, remedy=remedy)


def _check_given(particles: ParticleSet, check: _Checker) -> None:
    """A constant that the caller gives is the one that the file has, where it has one."""
    for field, given in particles.reading.constants.items():
        values, option = getattr(particles.optics, field), CONSTANTS[field].option
        other = ~np.isclose(values, given, rtol=_SAME_CONSTANT, atol=1e-9)
        check.refuse_group(
            other,
            field,
            f"has {{:.7g}}, but {option} says {given:.7g}",
            f"leave out {option}, which is for files without a value, or correct the particle file",
            values=values,
        )


def _check_optics(particles: ParticleSet, check: _Checker) -> None:
    optics = particles.optics
    limits = {
        **{field: (one.low, one.high, one.unit) for field, one in CONSTANTS.items()},
        "box_size": (2, 2**16, "pixels"),
    }
    for field, (low, high, unit) in limits.items():
        values = np.asarray(getattr(optics, field), dtype=np.float64)
        bad = ~((values >= low) & (values <= high))
        problem = f"has {{:g}}, outside {low:g} to {high:g} {unit}"
        check.refuse_group(bad, field, problem, values=values)
    _check_grid(particles, check)
    _check_aberrations(optics, check)


def _check_grid(particles: ParticleSet, check: _Checker) -> None:
    """Images of different sizes must have a grid in common."""
    optics = particles.optics
    if not have_several_sizes(optics) or particles.box_size >= _SMALLEST_COMMON_BOX:
        return
    file, column = check.origin("pixel_size_angstrom")
    extent = optics.box_size * optics.pixel_size_angstrom
    least, coarsest = int(np.argmin(extent)), int(np.argmax(optics.pixel_size_angstrom))
    raise InputError(
        f"optics groups have no grid in common: images of {optics.name[least]} are "
        f"{extent[least]:.0f} Å wide, pixels of {optics.name[coarsest]} are "
        f"{optics.pixel_size_angstrom[coarsest]:g} Å",
        file=file,
        column=column,
        remedy="correct the sizes, or leave one of the groups out with --ind",
    )


def _check_aberrations(optics: Optics, check: _Checker) -> None:
    given = optics.aberrations
    for field, values in given.items():
        check.refuse_group(
            ~np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1)),
            field,
            "has a value that is not a finite number",
        )
    if "magnification" in given:
        size = np.linalg.svd(given["magnification"])[1]
        check.refuse_group(
            ~((np.linalg.det(given["magnification"]) > 0) & (np.abs(size - 1) < 0.2).all(axis=1)),
            "magnification",
            "has a magnification matrix that is nowhere near the identity",
        )
    if "beam_tilt_mrad" in given:
        check.refuse_group(
            np.abs(given["beam_tilt_mrad"]).max(axis=1) > _LARGEST_BEAM_TILT_MRAD,
            "beam_tilt_mrad",
            f"has a beam tilt beyond {_LARGEST_BEAM_TILT_MRAD:g} mrad",
        )


def _check_ctf(particles: ParticleSet, check: _Checker) -> None:
    ctf = particles.exposures.ctf
    for field, values in ctf.columns.items():
        check.finite(field, values)
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
    all_wrong = 2 * np.count_nonzero(mean < 0) > len(mean)
    check.refuse(
        mean < 0,
        "defocus_u_angstrom",
        "defocus is negative, but underfocus is positive here",
        "change the sign of both defocus columns"
        if all_wrong
        else "correct the value, or leave the particle out with --ind",
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
    poses = particles.image_poses
    rotation, shift = poses.rotation, poses.shift_angstrom
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
    """No image may occur twice, but for symmetry copies, and no uid."""
    once = particles.select(particles.originals)
    images = once.exposures
    found = repeated(images.frame, number_files(once.stacks)[images.stack_index])
    if found is not None:
        _refuse_repeated_image(once, found)
    found = repeated(particles.uid)
    if found is None:
        return
    first = particles.exposures.first
    earlier, later = (
        int(particles.image_row[first[place]]) for place in (found.earlier, found.later)
    )
    raise InputError(
        f"is the same particle as row {earlier + 1}{_in_all(found)}",
        file=particles.source,
        row=later,
        remedy=REPEATED_REMEDY,
    )


def _refuse_repeated_image(particles: ParticleSet, found: Repeated) -> NoReturn:
    images = particles.exposures
    earlier, later = (int(particles.image_row[place]) for place in (found.earlier, found.later))
    file, other = (
        particles.stacks[images.stack_index[place]] for place in (found.later, found.earlier)
    )
    also = "" if file == other else f", which {other} is another name of"
    raise InputError(
        f"is the same image as row {earlier + 1}, image {images.frame[found.later] + 1} of {file}"
        f"{also}{_in_all(found)}",
        file=particles.source,
        row=later,
        remedy=REPEATED_REMEDY,
    )


def _in_all(found: Repeated) -> str:
    return f"; {found.total:,} repetitions in all" if found.total > 1 else ""
