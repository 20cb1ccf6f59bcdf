"""The poses under way, their prior, and what they may still be off by.

Corrections have a Gaussian prior around the input pose. Its width is estimated from the refined poses, so
that where images say little poses stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.images import WhitenedImages
from solvar.estimation.pose_errors import PoseErrors
from solvar.estimation.posterior import PoseRefinement
from solvar.imaging.rotations import to_rotation_vector
from solvar.particles import ParticleSet, Poses

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# radians and box lengths an axis: wide for a finished refinement, narrow enough to be a neighbourhood
FIRST_SPREAD = (np.deg2rad(3.0), 0.025)
_SMALLEST_SPREAD = 1e-3


def offset_of(rotation: Float64, start: Float64, shift: Float64) -> Float64:
    """Corrections (ω, t), (B, 5), of rotations (B, 3, 3) relative to `start` and shifts (B, 2)."""
    turn = to_rotation_vector(rotation @ start.transpose(0, 2, 1))
    return np.concatenate([turn, shift], axis=1)


@dataclass(frozen=True, eq=False)
class PoseState:
    """Poses under way: corrections relative to the input, in radians and box lengths.

    Attributes
    ----------
    start : (N, 3, 3) float64
        Input rotations.
    rotation : (N, 3, 3) float64
    shift : (N, 2) float64
        Shift beyond the input's, box lengths.
    covariance : (N, 5, 5) float64
        Posterior covariance of (ω, t).
    spread : (2,) float64
        Prior standard deviations of ω (radians) and t (box lengths) per axis.
    depends_on_conformation : bool
        Whether the input's errors may depend on the latents, see `degeneracy.py`.
    memory : dict of (N, …) float64
        What the pose solver remembers of each particle.
    moved : float
        How far the last refinement moved poses, relative to their error bars.
    """

    start: Float64
    rotation: Float64
    shift: Float64
    covariance: Float64
    spread: Float64
    depends_on_conformation: bool = False
    memory: dict[str, Float64] = field(default_factory=dict)
    moved: float = np.inf

    @classmethod
    def of(
        cls,
        rotation: Float64,
        spread: tuple[float, float] = FIRST_SPREAD,
        memory: dict[str, Float64] | None = None,
    ) -> PoseState:
        """No correction yet, a first guess at the prior, and what a solver remembers."""
        count = len(rotation)
        return cls(
            rotation.copy(),
            rotation.copy(),
            np.zeros((count, 2)),
            np.zeros((count, 5, 5)),
            np.array(spread),
            memory=memory or {},
        )

    def copied(self) -> PoseState:
        """The same, whose arrays may be changed."""
        return replace(
            self,
            rotation=self.rotation.copy(),
            shift=self.shift.copy(),
            covariance=self.covariance.copy(),
            memory={name: each.copy() for name, each in self.memory.items()},
        )

    def move(self, index: Int64, rotation: Float64, shift: Float64) -> None:
        """Give particles a new rotation and a further shift (box lengths), in place."""
        self.rotation[index] = rotation
        self.shift[index] += shift

    def shared(self, images: WhitenedImages) -> PoseState:
        """With the poses that other processes have found for their particles."""
        return replace(
            self,
            rotation=images.shared(self.rotation),
            shift=images.shared(self.shift),
            covariance=images.shared(self.covariance),
            memory={name: images.shared(each) for name, each in self.memory.items()},
        )

    def without_drift(self) -> PoseState:
        """Without the rotation and translation that all particles moved by together.

        A volume may rotate and move together with its poses without any image noticing.
        """
        left, _, right = np.linalg.svd(np.einsum("nij,nkj->ik", self.rotation, self.start))
        turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        rotation = turn.T @ self.rotation
        # a volume moved by T moves images by (Rᵀ T)_xy, which shifts t compensate
        axes = rotation[:, :, :2]
        normal = np.einsum("nij,nkj->ik", axes, axes)
        move = np.linalg.solve(normal, np.einsum("nij,nj->i", axes, self.shift))
        shift = self.shift - np.einsum("nij,i->nj", axes, move)
        return replace(self, rotation=rotation, shift=shift)

    def offset(self, index: Int64) -> Float64:
        """(ω, t) of the corrections so far, (B, 5)."""
        return offset_of(self.rotation[index], self.start[index], self.shift[index])

    def report(
        self, particles: ParticleSet, images: WhitenedImages
    ) -> tuple[ParticleSet, PoseRefinement]:
        """The particles with their refined poses, and what was done to them."""
        extent = images.store.extent_angstrom
        group = particles.exposures.first_of(particles.exposures.optics_group)
        moved = self.shift * images.store.shift_unit(group)
        shift = particles.poses.shift_angstrom + moved
        unit = np.array([1, 1, 1, extent, extent])
        refinement = PoseRefinement(
            start=particles.poses,
            covariance=self.covariance * np.outer(unit, unit),
            prior_rotation_degree=float(np.rad2deg(self.spread[0])),
            prior_shift_angstrom=float(self.spread[1] * extent),
        )
        return replace(particles, poses=Poses(self.rotation, shift)), refinement

    def errors(self) -> PoseErrors:
        """What the poses may be off by from where they are now."""
        turn = offset_of(self.rotation, self.start, self.shift)
        spread = self.spread[[0, 0, 0, 1, 1, 1]]
        # a volume moved by T moves images by (Rᵀ T)_xy, which shifts t compensate
        back: Float64 = np.einsum("nij,nj->ni", self.rotation[:, :, :2], turn[:, 3:])
        return PoseErrors(
            spread,
            np.concatenate([turn[:, :3], back], axis=1) / spread,
            self.depends_on_conformation,
        )

    def log_prior(self, offset: Float64) -> Float64:
        """Log density of corrections (B, 5), up to a constant."""
        return -0.5 * np.sum((offset / self.spread[[0, 0, 0, 1, 1]]) ** 2, axis=1)

    def with_new_spread(self, index: Int64) -> PoseState:
        """With prior widths from the second moments of the corrections of some particles: one EM step."""
        moment = self.offset(index) ** 2 + np.einsum("bii->bi", self.covariance[index])
        mean = moment.mean(axis=0)
        spread = np.sqrt([mean[:3].mean(), mean[3:].mean()])
        return replace(self, spread=np.maximum(spread, _SMALLEST_SPREAD))
