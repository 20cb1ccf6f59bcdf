"""Pose errors, after removing what no image can tell: how the volume as a whole is placed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.frames import common_move, shifts_by
from solvar.imaging.rotations import nearest_rotation, to_rotation_vector

Float64 = NDArray[np.float64]

_SMALLEST_GROUP = 20
_FAR_DEGREE = 10.0
_PER_PARTICLE = ("out_of_plane_degree", "in_plane_degree", "shift_angstrom")


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """Errors of N poses, and the drift of the volume that was removed first.

    Attributes
    ----------
    out_of_plane_degree : (N,) float64
        Angle between the viewing directions (third columns of R), ≥ 0.
    in_plane_degree : (N,) float64
        Signed rotation about the viewing direction that is left when the directions coincide.
    shift_angstrom : (N,) float64
        Length of the shift error.
    drift_rotation : (3, 3) float64
        Rotation that takes the true volume to the estimated one.
    drift_translation_angstrom : (3,) float64
        Translation (x, y, z) of the estimated volume in the frame of the true one.
    """

    out_of_plane_degree: Float64
    in_plane_degree: Float64
    shift_angstrom: Float64
    drift_rotation: Float64
    drift_translation_angstrom: Float64

    def summary(self, pixel_size_angstrom: float) -> dict[str, Any]:
        """Mean, median and rms of each error, the share of lost particles, and the drift, ready for JSON."""
        cosine = (np.trace(self.drift_rotation) - 1) / 2
        return {
            "out_of_plane_degree": _statistics(self.out_of_plane_degree),
            "in_plane_degree": _statistics(np.abs(self.in_plane_degree)),
            "shift_angstrom": _statistics(self.shift_angstrom),
            "shift_px": _statistics(self.shift_angstrom / pixel_size_angstrom),
            "beyond_10_degree": float(np.mean(self.out_of_plane_degree > _FAR_DEGREE)),
            "drift": {
                "rotation_degree": float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))),
                "translation_angstrom": float(np.linalg.norm(self.drift_translation_angstrom)),
            },
        }


def pose_errors(
    rotation: Float64,
    shift_angstrom: Float64,
    true_rotation: Float64,
    true_shift_angstrom: Float64,
) -> PoseErrors:
    """Compare poses with the truth.

    Turning the volume by Q turns every R to Q·R; moving it by T adds (Rᵀ T)_x,y to every centring
    shift, or all of Rᵀ T to that of a particle that was tilted. Both are fitted to all particles by least
    squares and removed.

    Parameters
    ----------
    rotation, true_rotation : (N, 3, 3)
    shift_angstrom, true_shift_angstrom : (N, d)
    """
    drift = nearest_rotation(np.einsum("nij,nkj->ik", rotation, true_rotation))
    aligned = drift.T @ rotation
    cross = np.linalg.norm(np.cross(aligned[:, :, 2], true_rotation[:, :, 2]), axis=1)
    dot = (aligned[:, :, 2] * true_rotation[:, :, 2]).sum(axis=1)
    # swing-twist of the relative rotation: the swing brings the directions together, the twist is
    # the rotation about the beam
    relative = np.swapaxes(true_rotation, -1, -2) @ aligned
    twist = np.arctan2(relative[:, 1, 0] - relative[:, 0, 1], relative[:, 0, 0] + relative[:, 1, 1])
    moved = shift_angstrom - true_shift_angstrom
    translation, axes = common_move(aligned, moved), moved.shape[1]
    return PoseErrors(
        # atan2 is exact where arccos loses half the digits, at small angles
        out_of_plane_degree=np.rad2deg(np.arctan2(cross, dot)),
        in_plane_degree=np.rad2deg(twist),
        shift_angstrom=np.linalg.norm(moved - shifts_by(aligned, translation, axes), axis=1),
        drift_rotation=drift,
        drift_translation_angstrom=translation,
    )


def within_groups(
    rotation: Float64,
    shift_angstrom: Float64,
    true_rotation: Float64,
    true_shift_angstrom: Float64,
    group: NDArray[np.int64],
) -> PoseErrors:
    """`pose_errors` with an own rotation and translation removed from each group of particles.

    Groups are states of the molecule: what is removed beyond the common drift is how the estimate
    places each shape, a smooth function of the state. Groups of fewer than 20 particles, which the
    six fitted numbers would flatter, keep the common alignment; the drift told is the common one.

    Parameters
    ----------
    rotation, true_rotation : (N, 3, 3)
    shift_angstrom, true_shift_angstrom : (N, d)
    group : (N,) int64
    """
    arrays = rotation, shift_angstrom, true_rotation, true_shift_angstrom
    common = pose_errors(*arrays)
    errors = {name: getattr(common, name).copy() for name in _PER_PARTICLE}
    for value in np.unique(group):
        members = np.flatnonzero(group == value)
        if len(members) < _SMALLEST_GROUP:
            continue
        own = pose_errors(*(array[members] for array in arrays))
        for name in _PER_PARTICLE:
            errors[name][members] = getattr(own, name)
    return replace(common, **errors)


def calibration(
    rotation: Float64,
    shift_angstrom: Float64,
    true_rotation: Float64,
    true_shift_angstrom: Float64,
    covariance: Float64,
) -> dict[str, float]:
    """Which share of the errors, axis by axis, lies within one and two standard deviations.

    Right error bars give 0.683 and 0.954.

    Parameters
    ----------
    rotation, true_rotation : (N, 3, 3)
    shift_angstrom, true_shift_angstrom : (N, d)
    covariance : (N, 3 + d, 3 + d)
        Of rotation vectors (radians) and shifts (Å), as in `PoseRefinement`.
    """
    arrays = rotation, shift_angstrom, true_rotation, true_shift_angstrom
    drift = pose_errors(*arrays)
    aligned = drift.drift_rotation.T @ rotation
    turn = to_rotation_vector(aligned @ np.swapaxes(true_rotation, -1, -2)) @ drift.drift_rotation.T
    common = shifts_by(aligned, drift.drift_translation_angstrom, shift_angstrom.shape[1])
    error = np.concatenate([turn, shift_angstrom - true_shift_angstrom - common], axis=1)
    size = np.abs(error) / np.sqrt(np.einsum("nii->ni", covariance))
    parts = {"rotation": size[:, :3], "shift": size[:, 3:]}
    return {
        f"{name}_within_{sd}_sd": float(np.mean(each < sd))
        for name, each in parts.items()
        for sd in (1, 2)
    }


def _statistics(error: Float64) -> dict[str, float]:
    return {
        "mean": float(error.mean()),
        "median": float(np.median(error)),
        "rms": float(np.sqrt((error**2).mean())),
    }
