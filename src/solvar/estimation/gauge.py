"""What is motion of the molecule and what is motion of its pose.

Where poses are off, the first columns of V are rigid motions of the mean: turning a particle explains
its image better, and V is free to do it. The likelihood alone cannot tell such a column from a molecule
that turns. Here a direction of the latents whose variance is nearly all rigid is taken for pose error:
its rigid motion goes to the poses of the particles, each by its own latents, and the column is free
again. A true motion of one domain against another stays: at most a third of its variance is rigid (0.31
for the built-in hinge about a body that is held, 0.01 for adenylate kinase). Taking rigid motion out of
every column turned the hinge's poses away from the truth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.refine import PoseState
from solvar.estimation.rigid import rigid_motions
from solvar.imaging.rotations import from_rotation_vector

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_CHUNK = 512
_MOSTLY_RIGID = 0.8


def split_rigid(mean: Float32, columns: Float32) -> tuple[Float32, Float64]:
    """Columns without the rigid motion of mostly rigid directions, and that motion.

    Parameters
    ----------
    mean : (L, L, L)
    columns : (r, L, L, L)

    Returns
    -------
    (r, L, L, L) float32
    (6, r) float64
        Rotation (radians) and shift (box lengths) per unit latent that was taken out.
    """
    import scipy.linalg

    motions = rigid_motions(mean).reshape(6, -1)
    flat = columns.reshape(len(columns), -1).astype(np.float64)
    rate = np.linalg.solve(motions @ motions.T, motions @ flat.T)
    variance = flat @ flat.T
    variance += 1e-9 * np.trace(variance) * np.eye(len(flat))
    # directions of the latents by the share of their variance that is rigid
    share, direction = scipy.linalg.eigh(rate.T @ (motions @ motions.T) @ rate, variance)
    rigid = direction[:, share > _MOSTLY_RIGID]
    rate = rate @ rigid @ rigid.T @ variance
    return (flat - rate.T @ motions).reshape(columns.shape).astype(np.float32), rate


def give_motion_to_poses(
    level: Level,
    columns: Float32,
    contrast_sd: float,
    excess: Uncertainty | None,
    state: PoseState,
) -> Float32:
    """Columns W = [μ | V] without mostly rigid directions; the poses of the particles take these over."""
    flexible, rate = split_rigid(columns[0], columns[1:])
    if not rate.any():
        return columns
    prepared = level.projector.prepare(columns)
    for first in range(0, len(level.index), _CHUNK):
        batch = level.index[first : first + _CHUNK]
        found, _ = level.posterior(prepared, batch, contrast_sd, excess)
        motion = found.z @ rate.T
        # a molecule turned by ω is seen as the unturned one from expm(-ω) R
        rotation = from_rotation_vector(-motion[:, :3]) @ state.rotation[batch]
        shift = -np.einsum("nij,ni->nj", state.rotation[batch][:, :, :2], motion[:, 3:])
        state.move(level.images, batch, rotation, shift)
    return np.concatenate([columns[:1], flexible])
