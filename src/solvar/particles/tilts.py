"""Particles that were tilted: one pose a particle, and how each of its images lies to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.particles.exposures import Exposures
from solvar.particles.particle_set import Poses


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


def _least_exposed(exposures: Exposures) -> NDArray[np.int64]:
    """Position of the least exposed image of each particle, (N,); the first one where doses are not known."""
    dose = exposures.ctf.dose_per_angstrom2
    if dose is None:
        return exposures.first
    order = np.lexsort((dose, exposures.particle))
    return order[exposures.first]
