"""An estimate in the frame of the truth: images alone do not tell how a volume lies, nor its hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvar.evaluation.poses import pose_errors
from solvar.imaging.fourier import crop_volume
from solvar.imaging.frames import Frame, frame_between
from solvar.particles import Poses

if TYPE_CHECKING:
    from solvar.estimation.low_rank import LowRankModel
    from solvar.estimation.posterior import PoseRefinement

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# poses that differ by more are lost, and tell nothing of how the volume is placed
_LOST = np.pi / 9
_FINER = 2


class Placement:
    """The rotation, hand and translation that bring an estimate into the frame of the truth.

    Parameters
    ----------
    poses, true : Poses
        Of the same N particles.
    """

    def __init__(self, poses: Poses, true: Poses) -> None:
        self.frame: Frame = frame_between(poses.rotation, true.rotation)
        near = self.frame.angle < _LOST
        near = near if near.sum() > len(near) // 10 else np.ones_like(near)
        turned = self.frame.of(poses.rotation)[near], poses.shift_angstrom[near]
        errors = pose_errors(*turned, true.rotation[near], true.shift_angstrom[near])
        self.translation_angstrom = errors.drift_translation_angstrom

    def poses(self, poses: Poses) -> Poses:
        """The same in the frame of the truth."""
        rotation = self.frame.of(poses.rotation)
        moved = np.einsum("nij,i->nj", rotation[:, :, :2], self.translation_angstrom)
        return Poses(rotation, poses.shift_angstrom - moved)

    def refinement(self, refinement: PoseRefinement) -> PoseRefinement:
        """The same with covariances of rotation vectors turned, too."""
        turn = np.eye(5)
        # a mirror turns rotations about an axis the other way round
        turn[:3, :3] = self.frame.matrix * (-1 if self.frame.mirror else 1)
        covariance = turn @ refinement.covariance @ turn.T
        return replace(refinement, start=self.poses(refinement.start), covariance=covariance)

    def model(self, model: LowRankModel) -> LowRankModel:
        """The same with its volumes turned, mirrored and moved."""
        pixel = model.pixel_size_angstrom
        return replace(
            model,
            mean=self._volume(model.mean, pixel),
            eigenvolumes=np.stack([self._volume(each, pixel) for each in model.eigenvolumes]),
            mask=np.clip(self._volume(model.mask, pixel), 0, 1),
        )

    def _volume(self, volume: Float32, pixel_angstrom: float) -> Float32:
        # what is at x in the truth's frame is at Aᵀ(x + T) here
        back = self.frame.matrix.T
        return Sampler(volume).at(back, back @ self.translation_angstrom / pixel_angstrom)


class Sampler:
    """A volume between its voxels.

    Parameters
    ----------
    volume : (L, L, L)
    """

    def __init__(self, volume: Float32) -> None:
        from scipy.ndimage import spline_filter

        # splines are exact to a few per mille where nothing is finer than four of their points
        fine = crop_volume(volume, _FINER * len(volume)) * np.float32(_FINER**3)
        self._spline = spline_filter(fine, mode="grid-wrap")
        self._box = len(volume)

    def at(self, matrix: Float64, move: Float64) -> Float32:
        """The volume (L, L, L) whose value at x is that of this one at A·x + m.

        Parameters
        ----------
        matrix : (3, 3)
            A, of points (x, y, z) from the centre of the box.
        move : (3,)
            m, voxels.
        """
        from scipy.ndimage import affine_transform

        centre = np.full(3, float(self._box // 2))
        # arrays have their axes the other way round
        back = matrix[::-1, ::-1]
        offset = centre + move[::-1] - back @ centre
        return affine_transform(
            self._spline,
            _FINER * back,
            _FINER * offset,
            output_shape=(self._box,) * 3,
            order=3,
            mode="grid-wrap",
            prefilter=False,
        ).astype(np.float32)
