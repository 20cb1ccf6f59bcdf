"""An estimate in the frame of the truth: images alone do not tell how a volume lies, nor its hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvar.evaluation.poses import pose_errors
from solvar.imaging.frames import Frame, frame_between, shifts_by
from solvar.imaging.sampler import Sampler
from solvar.particles import Poses

if TYPE_CHECKING:
    from solvar.estimation.low_rank import LowRankModel
    from solvar.estimation.posterior import PoseRefinement

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# poses that differ by more are lost, and tell nothing of how the volume is placed
_LOST = np.pi / 9


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
        moved = shifts_by(rotation, self.translation_angstrom, poses.shift_angstrom.shape[1])
        return Poses(rotation, poses.shift_angstrom - moved)

    def refinement(self, refinement: PoseRefinement) -> PoseRefinement:
        """The same with covariances of rotation vectors turned, too."""
        turn = np.eye(refinement.covariance.shape[1])
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
