"""What was written is read again, as its user will read it, before it is called written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.export.target import Job
from solvar.imaging.optics import ABERRATION_FIELDS
from solvar.particles import ImageStack, ParticleSet, Reading, read_as
from solvar.particles.copies import image_places

_REPORT = "report this, and what you exported"
# Files hold six decimals or single precision.
_RELATIVE, _ABSOLUTE = 1e-5, 1e-4


def read_alone(job: Job, files: Mapping[str, Path]) -> int:
    """Read one file of particles by itself, without options and from no particular working folder.

    Or with the stacks that were written for it, which have no names of their own yet.

    Parameters
    ----------
    job : Job
    files : mapping of file name to Path
        The file of particles, which comes last, and perhaps stacks.

    Returns
    -------
    int
        Number of particles.

    Raises
    ------
    InputError
        As `compare`.
    """
    *_, path = files.values()
    if job.stacks is None:
        found = read_as(path, Reading(working_folder=path.absolute().parent))
        return compare(found, job.written, path)
    with job.stacks.reading(files) as reading:
        return compare(read_as(path, reading), job.stacks.found_at(files), path)


def compare(found: ParticleSet, wanted: ParticleSet, path: Path) -> int:
    """Make sure that particles that were read back are those that were to be written.

    Their number, images, poses and CTFs are compared, and the headers of the image files are read.

    Returns
    -------
    int
        Number of particles.

    Raises
    ------
    InputError
        If they differ, or an image file cannot be used.
    """
    if len(found) != len(wanted):
        problem = f"holds {len(found):,} particles instead of {len(wanted):,}"
        raise InputError(problem, file=path, remedy=_REPORT)
    ImageStack(found)
    grouped = np.array_equal(found.exposures.particle, wanted.exposures.particle)
    _refuse([not grouped], "groups its images in another way", path)
    _refuse(image_places(found) != image_places(wanted), "names another image", path)
    if found.source_format == "cryosparc":
        _refuse(found.uid != wanted.uid, "has another uid", path)
    _refuse(_sign(found) != _sign(wanted), "has another sign", path)
    theirs = _quantities(wanted)
    for what, ours in _quantities(found).items():
        same = np.isclose(ours, theirs[what], rtol=_RELATIVE, atol=_ABSOLUTE)
        _refuse(~same.reshape(len(found.exposures), -1).all(axis=1), f"has another {what}", path)
    for field in (*ABERRATION_FIELDS, "phase_flipped", "premultiplied"):
        given = [_of_images(particles, field) for particles in (found, wanted)]
        _refuse(_differ(*given), f"has another {field.removesuffix('_mrad')}", path)
    return len(found)


def _refuse(differs: ArrayLike, problem: str, path: Path) -> None:
    rows = np.flatnonzero(differs)
    if len(rows):
        raise InputError(problem, file=path, row=int(rows[0]), remedy=_REPORT)


def _of_images(particles: ParticleSet, field: str) -> NDArray[np.float64]:
    """An aberration of each image, (M, n), 0 for none."""
    values = getattr(particles.optics, field)
    if values is None:
        return np.zeros((len(particles.exposures), 1))
    perfect = np.eye(2) if field == "magnification" else np.zeros(1)
    excess: NDArray[np.float64] = (values - perfect).reshape(len(values), -1)
    return excess[particles.exposures.optics_group]


def _differ(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows (N,) differ; what the shorter ones lack is 0."""
    width = max(ours.shape[1], theirs.shape[1])
    ours, theirs = (np.pad(v, ((0, 0), (0, width - v.shape[1]))) for v in (ours, theirs))
    far: NDArray[np.bool_] = ~np.isclose(ours, theirs, rtol=_RELATIVE, atol=_ABSOLUTE)
    return np.asarray(far.any(axis=1))


def _sign(particles: ParticleSet) -> NDArray[np.int8]:
    """(M,) signs of the images, 1 where they are alike."""
    images = particles.exposures
    if images.sign is None or not images.signs_differ:
        return np.ones(len(images), np.int8)
    return images.sign


def _quantities(particles: ParticleSet) -> dict[str, NDArray[np.float64]]:
    """What every format can hold of the M images, each (M, …)."""
    # of other poses heights follow, and defocus follows these
    optics, ctf, poses = particles.optics, particles.exposures.ctf_at_centre, particles.image_poses
    twice = 2 * ctf.defocus_angle_radian  # half a turn is no difference
    return {
        "pixel size": optics.pixel_size_angstrom[particles.exposures.optics_group],
        "defocus": np.stack([ctf.defocus_u_angstrom, ctf.defocus_v_angstrom], axis=1),
        "angle of astigmatism": np.stack([np.cos(twice), np.sin(twice)], axis=1),
        "phase shift": ctf.phase_shift_radian,
        "rotation": poses.rotation,
        "shift": poses.shift_angstrom,
    }
