"""Particles that were tilted: one pose a particle, and how each of its images lies to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.particles.exposures import Exposures
from solvar.particles.particle_set import Poses

Float64 = NDArray[np.float64]


def tilted(poses: Poses, exposures: Exposures) -> tuple[Poses, Exposures]:
    """Poses of particles from those of their images, and the images as they lie to these.

    A particle has the rotation of its least exposed image. Its own shift is 0: images are not centred
    alike, so each keeps the shift that it has.

    Parameters
    ----------
    poses : Poses
        Of M images.
    exposures : Exposures
        The same images, of N particles.

    Returns
    -------
    Poses
        Of the particles.
    Exposures
        With `tilt` and `shift_angstrom`.
    """
    reference = _least_exposed(exposures)
    rotation = poses.rotation[reference]
    tilt = rotation[exposures.particle].transpose(0, 2, 1) @ poses.rotation
    tilt[reference] = np.eye(3)
    still = Poses(rotation, np.zeros((len(rotation), 3)))
    return still, replace(exposures, tilt=tilt, shift_angstrom=poses.shift_angstrom)


def whole_shifts(shift_angstrom: Float64, exposures: Exposures) -> Float64:
    """Shifts (N, 3) of particles, Å, with what images have of their own counted as theirs.

    A file with a row a tilt shifts its images one by one. What they have in common is where the particle is,
    found by least squares; along a direction that no image shows it is 0.

    Parameters
    ----------
    shift_angstrom : (N, 2 or 3)
        Along the axes of the particles' own frames.
    exposures : Exposures
        Tilted, with shifts of their own.
    """
    assert exposures.tilt is not None and exposures.shift_angstrom is not None
    axes, first = exposures.tilt[:, :, :2], np.flatnonzero(np.diff(exposures.particle, prepend=-1))
    normal = np.add.reduceat(axes @ axes.transpose(0, 2, 1), first)
    right = np.add.reduceat(np.einsum("mij,mj->mi", axes, exposures.shift_angstrom), first)
    common = np.einsum("nij,nj->ni", np.linalg.pinv(normal, rcond=1e-9, hermitian=True), right)
    common[:, : shift_angstrom.shape[1]] += shift_angstrom
    return common


def _least_exposed(exposures: Exposures) -> NDArray[np.int64]:
    """Position of the least exposed image of each particle, (N,); the first one where doses are not known."""
    dose = exposures.ctf.dose_per_angstrom2
    if dose is None:
        return exposures.first_of(np.arange(len(exposures)))
    order = np.lexsort((dose, exposures.particle))
    return order[exposures.first_of(np.arange(len(exposures)))]
