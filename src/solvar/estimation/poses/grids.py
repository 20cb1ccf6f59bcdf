"""Nodes at which poses are tried: over all rotations, around one, and over shifts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# the root of ψ⁴ = ψ + 4
_PSI = 1.533751168755204288118041
# volume of all rotations in the measure of small rotation vectors, rad³
ALL_ROTATIONS = 8 * np.pi**2


def all_rotations(spacing: float) -> Float64:
    """Rotations about `spacing` radians apart, evenly over all there are, (K, 3, 3).

    Super-Fibonacci spirals of unit quaternions (Alexa, CVPR 2022).
    """
    from scipy.spatial.transform import Rotation

    count = max(1, round(ALL_ROTATIONS / spacing**3))
    place = np.arange(count) + 0.5
    inner, outer = np.sqrt(place / count), np.sqrt(1 - place / count)
    first, second = 2 * np.pi * place / np.sqrt(2), 2 * np.pi * place / _PSI
    quaternion = [inner * np.sin(first), inner * np.cos(first)]
    quaternion += [outer * np.sin(second), outer * np.cos(second)]
    matrix: Float64 = Rotation.from_quat(np.stack(quaternion, axis=1)).as_matrix()
    return matrix


def ball(radius: float, spacing: float, axes: int) -> Float64:
    """Nodes of a square lattice within a ball, the origin first and then outwards, (K, axes)."""
    reach = int(radius / spacing)
    line = spacing * np.arange(-reach, reach + 1)
    nodes = np.stack(np.meshgrid(*[line] * axes, indexing="ij"), axis=-1).reshape(-1, axes)
    distance = np.linalg.norm(nodes, axis=1)
    order = np.argsort(distance, kind="stable")
    return nodes[order[: np.count_nonzero(distance <= radius * (1 + 1e-9))]]
