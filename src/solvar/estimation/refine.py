"""Pose refinement inside the heterogeneous model (ALGORITHM §5).

Rotation and shift of each particle move uphill in the marginal likelihood of its image, latents and contrast
integrated out. With θ = (ω, t), R ← expm([ω]×) R, the expected image ŷ = Σ_c E[ζ_c] E_c and J = ∂ŷ/∂θ:

    gradient    rotation: -Σ_c Re⟨∂E_c/∂ω, (E S - y ζᵀ)_c⟩ (Fisher's identity); shift: Re⟨2πi k ŷ, y⟩
    curvature   JᵀJ - JᵀN (NᵀN + P)⁻¹ NᵀJ

N = [a E_V, ŷ/a] are the directions in which latents and contrast move ŷ, P their prior precision. A Gaussian
prior around the input pose is added; its width is estimated from the refined poses, so that where images say
little poses stay. Steps are damped and taken only if they raise the posterior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.cache import WhitenedImages, centring_phase
from solvar.estimation.kernels import gram, pose_products, residual
from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.likelihood import ImagePosterior
from solvar.estimation.model import PoseRefinement
from solvar.estimation.rigid import PoseSlack
from solvar.imaging.rotations import from_rotation_vector, to_rotation_vector
from solvar.particles import ParticleSet, Poses
from solvar.progress import Step

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 512
_FIRST_DAMPING, _MORE, _LESS = 0.1, 8.0, 0.25
# radians and box lengths an axis: wide for a finished refinement, narrow enough to be a neighbourhood
_FIRST_SPREAD = (np.deg2rad(3.0), 0.025)
_SMALLEST_SPREAD = 1e-3
_DAMPING_BOUNDS = (1e-3, 1e3)
# a contrast that is not refined has a prior this narrow
_FIXED_CONTRAST = 1e-4


@dataclass(eq=False)
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
    damping : (N,) float64
    spread : (2,) float64
        Prior standard deviations of ω (radians) and t (box lengths) per axis.
    follows_shape : bool
        Whether the input's errors may depend on the latents, see `gauge.py`.
    """

    start: Float64
    rotation: Float64
    shift: Float64
    covariance: Float64
    damping: Float64
    spread: Float64
    follows_shape: bool = False

    @classmethod
    def of(cls, rotation: Float64) -> PoseState:
        """No correction yet."""
        count = len(rotation)
        return cls(
            rotation.copy(),
            rotation.copy(),
            np.zeros((count, 2)),
            np.zeros((count, 5, 5)),
            np.full(count, _FIRST_DAMPING),
            np.array(_FIRST_SPREAD),
        )

    def move(self, images: WhitenedImages, index: Int64, rotation: Float64, shift: Float64) -> None:
        """Give particles a new rotation and a further shift (box lengths), and their images with them."""
        self.rotation[index] = rotation
        self.shift[index] += shift
        images.rotation[index] = rotation
        images.data[index] *= centring_phase(images.disc, shift)

    def remove_drift(self, images: WhitenedImages) -> None:
        """Take out the rotation and translation that all particles moved by together.

        A volume may turn and wander with its poses without any image noticing.
        """
        left, _, right = np.linalg.svd(np.einsum("nij,nkj->ik", self.rotation, self.start))
        turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        rotation = turn.T @ self.rotation
        # a volume moved by T moves images by (Rᵀ T)_xy, which shifts t compensate
        axes = rotation[:, :, :2]
        normal = np.einsum("nij,nkj->ik", axes, axes)
        move = np.linalg.solve(normal, np.einsum("nij,nj->i", axes, self.shift))
        everybody = np.arange(len(self.shift))
        self.move(images, everybody, rotation, -np.einsum("nij,i->nj", axes, move))

    def offset(self, index: Int64) -> Float64:
        """(ω, t) of the corrections so far, (B, 5)."""
        return _offset_of(self.rotation[index], self.start[index], self.shift[index])

    def report(
        self, particles: ParticleSet, images: WhitenedImages
    ) -> tuple[ParticleSet, PoseRefinement]:
        """The particles with their refined poses, and what was done to them."""
        extent = images.box * images.pixel_size_angstrom
        shift = particles.poses.shift_angstrom + self.shift * extent
        unit = np.array([1, 1, 1, extent, extent])
        refinement = PoseRefinement(
            start=particles.poses,
            covariance=self.covariance * np.outer(unit, unit),
            prior_rotation_degree=float(np.rad2deg(self.spread[0])),
            prior_shift_angstrom=float(self.spread[1] * extent),
        )
        return replace(particles, poses=Poses(self.rotation, shift)), refinement

    def slack(self) -> PoseSlack:
        """What the poses may be off by from where they are now."""
        turn = _offset_of(self.rotation, self.start, self.shift)
        spread = self.spread[[0, 0, 0, 1, 1, 1]]
        # a volume moved by T moves images by (Rᵀ T)_xy, which shifts t compensate
        back: Float64 = np.einsum("nij,nj->ni", self.rotation[:, :, :2], turn[:, 3:])
        return PoseSlack(
            spread, np.concatenate([turn[:, :3], back], axis=1) / spread, self.follows_shape
        )

    def log_prior(self, offset: Float64) -> Float64:
        """Log density of corrections (B, 5), up to a constant."""
        return -0.5 * np.sum((offset / self.spread[[0, 0, 0, 1, 1]]) ** 2, axis=1)

    def renew_spread(self, index: Int64) -> None:
        """Prior widths from the second moments of the corrections: one EM step."""
        moment = self.offset(index) ** 2 + np.einsum("bii->bi", self.covariance[index])
        mean = moment.mean(axis=0)
        self.spread = np.maximum(np.sqrt([mean[:3].mean(), mean[3:].mean()]), _SMALLEST_SPREAD)


def refine_poses(
    level: Level,
    columns: Float32,
    contrast_sd: float,
    excess: Uncertainty | None,
    state: PoseState,
    steps: int,
    progress: Step,
) -> float:
    """Damped Gauss-Newton steps for every particle of a level; images and state are updated.

    Returns
    -------
    float
        Mean square rotation step in units of the posterior variance, summed over steps: 1 is a move of one
        error bar.
    """
    prepared = level.projector.prepare(columns)
    moved = 0.0
    for first in range(0, len(level.index), _CHUNK):
        batch = level.index[first : first + _CHUNK]
        moved += _refine_batch(level, prepared, batch, contrast_sd, excess, state, steps)
        progress.advance(len(batch) * steps)
    state.renew_spread(level.index)
    variance = np.einsum("bii->bi", state.covariance[level.index])[:, :3].sum(axis=1)
    return moved / float(variance.sum())


def _refine_batch(
    level: Level,
    prepared: object,
    batch: Int64,
    contrast_sd: float,
    excess: Uncertainty | None,
    state: PoseState,
    steps: int,
) -> float:
    """Try steps for a batch, keep what helps; the sum of squares of the rotations that were made.

    The E-step that judges a trial is the one that the next step starts from.
    """
    data, ctf, _ = level.images.batch(batch, len(level.disc))
    precision = state.spread[[0, 0, 0, 1, 1]] ** -2.0
    rotation, shift = state.rotation[batch], np.zeros((len(batch), 2))

    def evaluate(turned: Float64, y: Complex64, last: bool) -> tuple[Float64, Derivatives | None]:
        slices = level.slices(prepared, turned.astype(np.float32), ctf)
        products = gram(slices, y, level.team)
        found = level.judge(products, batch, contrast_sd, excess)
        if last:
            return found.log_likelihood, None
        slopes = derivatives(level, prepared, y, ctf, turned, found, slices, products, contrast_sd)
        return found.log_likelihood, slopes

    value, slopes = evaluate(rotation, data, last=False)
    assert slopes is not None
    moved = 0.0
    for number in range(steps):
        offset = _offset_of(rotation, state.start[batch], state.shift[batch] + shift)
        gradient = slopes.gradient - offset * precision
        curvature = slopes.curvature + np.diag(precision)
        damped = curvature + state.damping[batch, None, None] * _diagonal_of(curvature)
        step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0].astype(np.float64)
        trial = from_rotation_vector(step[:, :3]) @ rotation
        trial_data = centring_phase(level.disc, step[:, 3:])
        trial_data *= data
        last = number == steps - 1
        trial_value, trial_slopes = evaluate(trial, trial_data, last)
        after = _offset_of(trial, state.start[batch], state.shift[batch] + shift + step[:, 3:])
        gain = trial_value - value + state.log_prior(after) - state.log_prior(offset)
        accepted = gain > 0
        moved += float(np.sum(step[accepted, :3] ** 2))
        state.damping[batch] = np.clip(
            state.damping[batch] * np.where(accepted, _LESS, _MORE), *_DAMPING_BOUNDS
        )
        rotation[accepted], value[accepted] = trial[accepted], trial_value[accepted]
        shift[accepted] += step[accepted, 3:]
        data[accepted] = trial_data[accepted]
        if trial_slopes is not None:
            slopes = slopes.where(accepted, trial_slopes)
    state.covariance[batch] = np.linalg.inv(curvature)
    state.move(level.images, batch, rotation, shift)
    return moved


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Gradient (B, 5) of the log-likelihood in (ω, t) and its Gauss-Newton curvature (B, 5, 5)."""

    gradient: Float64
    curvature: Float64

    def where(self, chosen: NDArray[np.bool_], others: Derivatives) -> Derivatives:
        """`others` for the chosen particles."""
        return Derivatives(
            np.where(chosen[:, None], others.gradient, self.gradient),
            np.where(chosen[:, None, None], others.curvature, self.curvature),
        )


def derivatives(
    level: Level,
    prepared: object,
    data: Complex64,
    ctf: Float32,
    rotation: Float64 | Float32,
    found: ImagePosterior,
    slices: Complex64,
    products: Float64,
    contrast_sd: float,
) -> Derivatives:
    """Pose derivatives of the log-likelihood of a batch.

    Parameters
    ----------
    data, ctf : (B, n)
    rotation : (B, 3, 3)
    found : ImagePosterior
    slices : (B, 1 + r, n)
    products : (B, r + 2, r + 2)
        Gram matrices of slices and data.
    contrast_sd : float
    """
    rank = slices.shape[1] - 1
    residuals = level.room("residual", slices.shape)
    residual(slices, data, found.second, found.first, level.team, out=residuals)
    tangent, torque = level.projector.differentiate(
        prepared, rotation.astype(np.float32, copy=False), ctf, found.first, residuals
    )
    wave = (2 * np.pi * np.stack([level.disc.kx, level.disc.ky])).astype(np.float32)
    inner = pose_products(slices, tangent, data, found.first, wave, level.team)
    # N = E·mix: a E_V along the latents, ŷ/a along the contrast
    mix = np.zeros((len(data), 1 + rank, 1 + rank))
    mix[:, 1:, :rank] = found.contrast[:, None, None] * np.eye(rank)
    mix[:, :, rank] = found.first / found.contrast[:, None]
    prior = np.diag(np.append(np.ones(rank), max(contrast_sd, _FIXED_CONTRAST) ** -2.0))
    coupling = inner[:, :, 5:-1] @ mix
    nuisance = mix.transpose(0, 2, 1) @ products[:, :-1, :-1] @ mix + prior
    explained = coupling @ np.linalg.solve(nuisance, coupling.transpose(0, 2, 1))
    gradient = np.concatenate([-torque, inner[:, 3:, -1]], axis=1)
    return Derivatives(gradient, inner[:, :, :5] - explained)


def _diagonal_of(matrix: Float64) -> Float64:
    return np.einsum("bii->bi", matrix)[:, :, None] * np.eye(matrix.shape[1])


def _offset_of(rotation: Float64, start: Float64, shift: Float64) -> Float64:
    turn = to_rotation_vector(rotation @ start.transpose(0, 2, 1))
    return np.concatenate([turn, shift], axis=1)
