"""Poses as cryoDRGN's pickle: the one file of this program that is not data alone in its format."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from solvar.files import replacing
from solvar.particles.particle_set import ParticleSet

# Protocol 3 spells names as text, with no frame lengths around them.
_PROTOCOL = 3


def write_poses_pickle(path: str | Path, particles: ParticleSet) -> None:
    """Write poses for `cryodrgn … --poses`; the file appears complete or not at all.

    The inverse of `solvar.particles.cryodrgn.read_poses` with `scale_poses`: a tuple of Rᵀ
    (N, 3, 3) float32 and the centring shift as a fraction of the box (N, 2) float32, plain numpy
    arrays in the order of the particles.

    Parameters
    ----------
    path : path
    particles : ParticleSet
    """
    optics = particles.optics
    width = (optics.box_size * optics.pixel_size_angstrom)[particles.optics_group]
    rotation = np.swapaxes(particles.poses.rotation, -1, -2).astype(np.float32)
    shift = (particles.poses.shift_angstrom / width[:, None]).astype(np.float32)
    content = pickle.dumps((np.ascontiguousarray(rotation), shift), _PROTOCOL)
    # numpy 2 spells it numpy._core, which numpy below 1.26 does not know; all know the old name
    content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)
