"""The poses under way, and what they may still be off by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.images import WhitenedImages
from solvar.estimation.pose_errors import PoseErrors
from solvar.estimation.poses.prior import PosePrior
from solvar.estimation.poses.shape import ShapeTurns, of_shape
from solvar.estimation.posterior import PoseRefinement
from solvar.imaging.frames import without_common_move
from solvar.imaging.point_groups import nearest_equivalent
from solvar.imaging.rotations import from_rotation_vector, to_rotation_vector
from solvar.particles import ParticleSet, Poses

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# radians and box lengths an axis: wide for a finished refinement, narrow enough to be a neighbourhood
FIRST_SPREAD = (np.deg2rad(3.0), 0.025)
# … and so wide that nothing is held back
WIDE_SPREAD = (np.deg2rad(10.0), 0.05)
_FIRST_FAR = 0.02
# turns that are so many times the median have another reason than the shape
_FAR_TURN = 3.0
# radians that no step of a solver makes
_ELSEWHERE = np.deg2rad(10.0)


def offset_of(rotation: Float64, start: Float64, shift: Float64) -> Float64:
    """Corrections (ω, t), (B, 3 + d), of rotations (B, 3, 3) relative to `start` and shifts (B, d)."""
    turn = to_rotation_vector(rotation @ start.transpose(0, 2, 1))
    return np.concatenate([turn, shift], axis=1)


@dataclass(frozen=True, eq=False)
class PoseState:
    """Poses under way: corrections relative to the input, in radians and box lengths.

    Attributes
    ----------
    start : (N, 3, 3) float64
        Input rotations, or those that were found without any.
    start_shift : (N, d) float64
        By how much images were moved at first, beyond the input, box lengths; 0 unless found.
    centre : (N, 3, 3) float64
        Where the prior has its particles: `start`, or where else they have been found.
    rotation : (N, 3, 3) float64
    shift : (N, d) float64
        Shift beyond that, box lengths.
    covariance : (N, 3 + d, 3 + d) float64
        Posterior covariance of (ω, t).
    evidence : (N,) float64
        Log evidence of each particle where the last refinement left it: log posterior of its pose, integrated
        over the neighbourhood.
    anywhere : (N,) float64
        How much likelier the images of each particle are with the molecule, at any pose, than without: log of
        the ratio, by the last search of every rotation; 0 before.
    prior : PosePrior
        Of the corrections.
    by_shape : ShapeTurns
        Of the last round of refinement.
    sought : (N,) bool
        Whether a particle was searched far and wide in the last round, in vain.
    depends_on_conformation : bool
        Whether the input's errors may depend on the latents, see `degeneracy.py`.
    trust : float
        What log-likelihoods count for: 1 if the model were exact, less as models of other particles differ.
    memory : dict of (N, …) float64
        What the pose solver remembers of each particle.
    """

    start: Float64
    start_shift: Float64
    centre: Float64
    rotation: Float64
    shift: Float64
    covariance: Float64
    evidence: Float64
    anywhere: Float64
    prior: PosePrior
    by_shape: ShapeTurns
    sought: NDArray[np.bool_]
    depends_on_conformation: bool = False
    trust: float = 1.0
    memory: dict[str, Float64] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rotation: Float64,
        spread: tuple[float, float] = FIRST_SPREAD,
        memory: dict[str, Float64] | None = None,
        shift: Float64 | None = None,
        axes: int = 2,
    ) -> PoseState:
        """No correction yet, a first guess at the prior, and what a solver remembers.

        Parameters
        ----------
        rotation : (N, 3, 3)
        spread : pair of float
            As `PosePrior.spread`.
        memory : dict, optional
        shift : (N, axes), optional
            As `start_shift`.
        axes : int
            As `Exposures.shift_axes`.
        """
        count = len(rotation)
        return cls(
            rotation.copy(),
            np.zeros((count, axes)) if shift is None else shift,
            rotation.copy(),
            rotation.copy(),
            np.zeros((count, axes)),
            np.zeros((count, 3 + axes, 3 + axes)),
            np.zeros(count),
            np.zeros(count),
            PosePrior(np.array(spread), _FIRST_FAR),
            ShapeTurns(np.zeros((count, 3))),
            np.zeros(count, dtype=bool),
            memory=memory or {},
        )

    @property
    def moved(self) -> Float64:
        """By how much images are moved beyond the input, (N, d) box lengths."""
        return self.start_shift + self.shift

    def copied(self) -> PoseState:
        """The same, whose arrays may be changed."""
        return replace(
            self,
            centre=self.centre.copy(),
            rotation=self.rotation.copy(),
            shift=self.shift.copy(),
            covariance=self.covariance.copy(),
            evidence=self.evidence.copy(),
            anywhere=self.anywhere.copy(),
            sought=self.sought.copy(),
            memory={name: each.copy() for name, each in self.memory.items()},
        )

    def move(self, index: Int64, rotation: Float64, shift: Float64) -> None:
        """Give particles a new rotation and a further shift (box lengths), in place."""
        self.rotation[index] = rotation
        self.shift[index] += shift

    def begin_at(self, index: Int64, rotation: Float64, shift: Float64) -> None:
        """Give particles a new rotation, as likely beforehand as any other, and a further shift, in place."""
        self.move(index, rotation, shift)
        self.centre[index] = rotation

    def take(self, other: PoseState, index: Int64) -> None:
        """Give particles the poses that another state has for them, in place."""
        for name in ("centre", "rotation", "shift", "covariance", "evidence"):
            getattr(self, name)[index] = getattr(other, name)[index]

    def turn_since(self, earlier: PoseState, index: Int64) -> Float64:
        """By how much some particles have turned since an earlier state, rotation vectors (B, 3)."""
        return to_rotation_vector(self.rotation[index] @ earlier.rotation[index].transpose(0, 2, 1))

    def near(self, other: PoseState, operations: Float64) -> PoseState:
        """With the rotations that a group (n, 3, 3) makes alike, those nearest to another state's."""
        return replace(self, rotation=nearest_equivalent(self.rotation, other.rotation, operations))

    def found_elsewhere(self, earlier: PoseState, index: Int64) -> NDArray[np.bool_]:
        """Which of some particles (B,) have turned since an earlier state by more than errors of poses."""
        return np.linalg.norm(self.turn_since(earlier, index), axis=1) > _ELSEWHERE

    def shared(self, images: WhitenedImages) -> PoseState:
        """With the poses that other processes have found for their particles."""
        return replace(
            self,
            rotation=images.shared(self.rotation),
            shift=images.shared(self.shift),
            covariance=images.shared(self.covariance),
            evidence=images.shared(self.evidence),
            memory={name: images.shared(each) for name, each in self.memory.items()},
        )

    def without_drift(self) -> PoseState:
        """Without the rotation and translation that all particles moved by together.

        A volume may rotate and move together with its poses without any image noticing.
        """
        left, _, right = np.linalg.svd(np.einsum("nij,nkj->ik", self.rotation, self.start))
        turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        rotation = turn.T @ self.rotation
        return replace(self, rotation=rotation, shift=without_common_move(rotation, self.shift))

    def centred(self) -> PoseState:
        """With the volume about the point that particles were picked by: where they are moved least."""
        moved = without_common_move(self.rotation, self.moved)
        return replace(self, shift=moved - self.start_shift)

    def without_shape(self, index: Int64, z: Float64) -> PoseState:
        """Without what the latents (B, r) of some particles predict of their corrections.

        Where input poses know nothing of the shape, no part of their errors does: what a regression finds
        is a rotation that moved from V into the poses, or noise that moved pose and latents together.
        """
        offset = self.offset(index)
        near = self.prior.nearness(offset) > 0.5
        kept, found = index[near], self.copied()
        turn = offset[near, :3] - of_shape(offset[near, :3], z[near])
        found.rotation[kept] = from_rotation_vector(turn) @ self.centre[kept]
        return found

    def following_shape(self, index: Int64, z: Float64, earlier: PoseState) -> PoseState:
        """Knowing what the latents (B, r) of some particles predict of their turns since an earlier state."""
        turn = self.turn_since(earlier, index)
        size = np.linalg.norm(turn, axis=1)
        near = size < _FAR_TURN * np.median(size)
        step = self.by_shape.step.copy()
        step[index] = 0
        step[index[near]] = of_shape(turn[near], z[near])
        return replace(self, by_shape=ShapeTurns(step))

    def hastened(self, earlier: PoseState) -> PoseState:
        """With turns that follow the shape gone on to where they would end."""
        by_shape = self.by_shape.after(earlier.by_shape)
        rotation = from_rotation_vector(by_shape.haste * by_shape.step) @ self.rotation
        return replace(self, rotation=rotation, by_shape=by_shape)

    def trusted_after(self, earlier: PoseState) -> float:
        """What log-likelihoods should count for, by where two models have put the same particles.

        Likelihood alone knows a pose as well as H⁻¹ if the model is right. Two models that share half of
        their particles put it apart by as much as either is wrong, κH⁻¹: together (1 + κ)H⁻¹.

        Parameters
        ----------
        earlier : PoseState
            From other models of half of the particles, found from the same input with the same prior.
        """
        index = np.arange(len(self.rotation))
        here, there = self.offset(index), earlier.offset(index)
        # whoever has moved elsewhere tells of chance, not of widths
        near = (self.prior.nearness(here) > 0.5) & (earlier.prior.nearness(there) > 0.5)
        away = (here - there)[near]
        posterior = np.linalg.inv(self.covariance[near])
        apart = np.einsum("ni,nij,nj->n", away, posterior, away)
        held = np.einsum("ni,nii->n", self.prior.precision(here[near]), self.covariance[near])
        free = np.maximum(away.shape[1] - held, 0)
        total = self.trust * free.sum()
        return float(total / (total + apart.sum())) if total > 0 else self.trust

    def trusting(self, trust: float) -> PoseState:
        """With log-likelihoods counting for so much, in the covariances too."""
        offset = self.offset(np.arange(len(self.rotation)))
        held = self.prior.precision(offset)[:, :, None] * np.eye(offset.shape[1])
        alone = (np.linalg.inv(self.covariance) - held) / self.trust
        covariance = np.asarray(np.linalg.inv(trust * alone + held), dtype=np.float64)
        return replace(self, trust=trust, covariance=covariance)

    def offset(self, index: Int64) -> Float64:
        """(ω, t) of the corrections so far, (B, 3 + d)."""
        return offset_of(self.rotation[index], self.centre[index], self.shift[index])

    def log_prior(self, index: Int64, rotation: Float64, moves: Float64) -> Float64:
        """Log prior density (B, K, T) of K rotations of B particles and T further shifts (box lengths).

        Parameters
        ----------
        index : (B,)
        rotation : (B, K, 3, 3)
        moves : (T, d)
        """
        turn = to_rotation_vector(
            (rotation @ self.centre[index, None].swapaxes(-1, -2)).reshape(-1, 3, 3)
        ).reshape(*rotation.shape[:2], 1, 3)
        return self.prior.log_density(turn, (self.shift[index, None] + moves)[:, None])

    def report(
        self, particles: ParticleSet, images: WhitenedImages
    ) -> tuple[ParticleSet, PoseRefinement]:
        """The particles with their refined poses, and what was done to them."""
        extent = images.store.extent_angstrom
        group = particles.exposures.first_of(particles.exposures.optics_group)
        unit_angstrom = images.store.shift_unit(group)
        begun = particles.poses.shift_angstrom + self.start_shift * unit_angstrom
        shift = particles.poses.shift_angstrom + self.moved * unit_angstrom
        unit = np.repeat([1, extent], (3, self.shift.shape[1]))
        refinement = PoseRefinement(
            start=Poses(self.start, begun),
            covariance=self.covariance * np.outer(unit, unit),
            prior_rotation_degree=float(np.rad2deg(self.prior.spread[0])),
            prior_shift_angstrom=float(self.prior.spread[1] * extent),
        )
        return replace(particles, poses=Poses(self.rotation, shift)), refinement

    def errors(self) -> PoseErrors:
        """What the poses may be off by from where they are now: they tend back to a start that was near."""
        turn = offset_of(self.rotation, self.centre, self.shift)
        spread = self.prior.spread[[0, 0, 0, 1, 1, 1]]
        # a volume moved by T moves images by (Rᵀ T)_xy, which shifts t compensate; tilted particles by RᵀT
        axes = self.rotation[:, :, : self.shift.shape[1]]
        back: Float64 = np.einsum("nij,nj->ni", axes, turn[:, 3:])
        centre = np.concatenate([turn[:, :3], back], axis=1) / spread
        centre *= self.prior.nearness(turn)[:, None]
        return PoseErrors(spread, centre, self.depends_on_conformation)

    def with_fitted_prior(self, index: Int64) -> PoseState:
        """With the prior that the corrections of some particles imply.

        Poses that were fitted to these images are no evidence beside them: their prior keeps its widths. So
        does any once log-likelihoods count for less: models made at poses that a prior has drawn to the input
        ask for a narrower one, and that draws again.
        """
        keep = self.depends_on_conformation or self.trust < 1
        prior = self.prior.fitted(self.offset(index), self.covariance[index], keep)
        return replace(self, prior=prior)
