"""What is motion of the molecule and what is motion of its pose.

A column of V may hold a rigid motion of the whole molecule: turning every particle by an angle that depends on
its latents, and turning its pose back, changes no image. A homogeneous refinement makes this choice badly: it
puts each shape where it best covers the mean, and V then has to carry the difference. Here the choice is the
one with the least variance: V orthogonal to the six rigid motions of the mean, the motions going to the poses.
The centre of the poses' prior stays at the input: moving it along made good poses worse (docs/decisions/0008).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.refine import PoseState
from solvar.imaging.rotations import from_rotation_vector

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_CHUNK = 512


def rigid_motions(volume: Float32) -> Float64:
    """First-order changes of a volume (L, L, L) by rotations about x, y, z and shifts along them.

    Returns
    -------
    (6, L, L, L) float64
        Per radian and per box length; the change of v under a displacement u(r) is -u·∇v.
    """
    import scipy.fft

    box = len(volume)
    spectrum = scipy.fft.rfftn(volume.astype(np.float64))
    full, half = scipy.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1.0)
    full[np.abs(full) == box / 2], half[half == box / 2] = 0, 0  # Nyquist has no derivative
    waves = (half, full[:, None], full[:, None, None])
    # derivatives along x, y, z per box length
    gx, gy, gz = (scipy.fft.irfftn(2j * np.pi * wave * spectrum, s=volume.shape) for wave in waves)
    axis = (np.arange(box) - box // 2) / box
    x, y, z = axis, axis[:, None], axis[:, None, None]
    turns = [z * gy - y * gz, x * gz - z * gx, y * gx - x * gy]
    return np.stack([*turns, -gx, -gy, -gz])


def split_rigid(mean: Float32, columns: Float32) -> tuple[Float32, Float64]:
    """Columns without their rigid part, and the rigid part.

    Parameters
    ----------
    mean : (L, L, L)
    columns : (r, L, L, L)

    Returns
    -------
    (r, L, L, L) float32
        Orthogonal to the rigid motions of the mean.
    (6, r) float64
        Rotation (radians) and shift (box lengths) per unit latent that was taken out.
    """
    motions = rigid_motions(mean).reshape(6, -1)
    flat = columns.reshape(len(columns), -1).astype(np.float64)
    rate = np.linalg.solve(motions @ motions.T, motions @ flat.T)
    return (flat - rate.T @ motions).reshape(columns.shape).astype(np.float32), rate


def give_motion_to_poses(
    level: Level,
    columns: Float32,
    contrast_sd: float,
    excess: Uncertainty | None,
    state: PoseState,
) -> Float32:
    """Columns W = [μ | V] without rigid motion; the poses of the level's particles take it over."""
    flexible, rate = split_rigid(columns[0], columns[1:])
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
