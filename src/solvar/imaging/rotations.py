"""Rotations: RELION's ZYZ Euler angles, rotation vectors, random orientations.

One convention everywhere: R = Rz(rot)·Ry(tilt)·Rz(psi), right-handed, in xyz order. The image of a
particle samples the volume's transform at R·(kx, ky, 0); the viewing direction is the third column.
RELION's own matrix and cryoDRGN's pickles hold the transpose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]


def from_euler(rot: ArrayLike, tilt: ArrayLike, psi: ArrayLike) -> Float64:
    """Rotation matrices of Euler angles.

    Parameters
    ----------
    rot, tilt, psi : (N,) array-like
        Degrees.

    Returns
    -------
    (N, 3, 3) float64
        R = Rz(rot)·Ry(tilt)·Rz(psi).
    """
    angles = (np.deg2rad(np.asarray(a, dtype=np.float64)) for a in (rot, tilt, psi))
    (ca, sa), (cb, sb), (cg, sg) = ((np.cos(a), np.sin(a)) for a in angles)
    rows = [
        [ca * cb * cg - sa * sg, -ca * cb * sg - sa * cg, ca * sb],
        [sa * cb * cg + ca * sg, -sa * cb * sg + ca * cg, sa * sb],
        [-sb * cg, sb * sg, cb],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def to_euler(rotation: Float64) -> Float64:
    """Euler angles (rot, tilt, psi) in degrees of rotation matrices.

    Parameters
    ----------
    rotation : (N, 3, 3)

    Returns
    -------
    (N, 3) float64
        tilt in [0, 180]; where it is 0 or 180, psi carries the whole in-plane angle and rot is 0.
    """
    tilt = np.arctan2(np.hypot(rotation[..., 0, 2], rotation[..., 1, 2]), rotation[..., 2, 2])
    pole = np.hypot(rotation[..., 0, 2], rotation[..., 1, 2]) < 1e-9
    rot = np.where(pole, 0.0, np.arctan2(rotation[..., 1, 2], rotation[..., 0, 2]))
    psi = np.where(
        pole,
        np.arctan2(rotation[..., 1, 0], rotation[..., 1, 1]),
        np.arctan2(rotation[..., 2, 1], -rotation[..., 2, 0]),
    )
    return np.rad2deg(np.stack([rot, tilt, psi], axis=-1))


def from_rotation_vector(omega: ArrayLike) -> Float64:
    """Rotation matrices expm([ω]×) of rotation vectors, (N, 3) radians -> (N, 3, 3) (Rodrigues)."""
    omega = np.asarray(omega, dtype=np.float64)
    angle = np.linalg.norm(omega, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(omega, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    # sinc keeps both factors exact at angle 0
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + first * cross + second * (cross @ cross)


def random(count: int, rng: np.random.Generator) -> Float64:
    """`count` uniformly distributed rotation matrices, (count, 3, 3)."""
    quaternion = rng.standard_normal((count, 4))
    w, x, y, z = (quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def to_rotation_vector(rotation: Float64) -> Float64:
    """Rotation vectors of matrices (N, 3, 3) -> (N, 3) radians, angle below π."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_rotvec()


def angles_between(first: Float64, second: Float64) -> Float64:
    """Angles (…) of the rotations (…, 3, 3) that lead from one to the other, radians."""
    turn = second @ np.swapaxes(first, -1, -2)
    angle = np.linalg.norm(to_rotation_vector(turn.reshape(-1, 3, 3)), axis=-1)
    return angle.reshape(turn.shape[:-2])


def nearest_rotation(matrix: Float64) -> Float64:
    """The proper rotation with the largest inner product with `matrix` (Kabsch)."""
    u, _, vt = np.linalg.svd(matrix)
    sign = np.sign(np.linalg.det(u @ vt))
    return (u * [1.0, 1.0, sign]) @ vt
