"""Pose refinement inside the heterogeneous model (ALGORITHM §5).

Rotation and shift of each particle are moved uphill in the marginal likelihood of its image, latents and
contrast integrated out. With θ = (ω, t), R ← expm([ω]×) R, J = ∂ŷ/∂θ of the expected image ŷ = Σ_c E[ζ_c] E_c:

    gradient   rotation  -Σ_c Re⟨∂E_c/∂ω, (E S - y ζᵀ)_c⟩        (Fisher's identity: no approximation)
               shift      Re⟨2πi k ŷ, y⟩
    curvature  JᵀJ - JᵀN (NᵀN + P)⁻¹ NᵀJ,  N = [a E_V, ŷ/a] the directions of latents and contrast, P their prior

plus a Gaussian prior around the input pose, whose width is estimated from the refined ones. A step is damped, and taken
only if it raises the posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.kernels import gram, residual_in_place
from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.likelihood import ImagePosterior, image_posterior
from solvar.imaging.rotations import from_rotation_vector, to_rotation_vector

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 512
_FIRST_DAMPING, _MORE, _LESS = 0.1, 8.0, 0.25
_SMALLEST_SPREAD = np.array([1e-3, 1e-3])


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
    """

    start: Float64
    rotation: Float64
    shift: Float64
    covariance: Float64
    damping: Float64
    spread: Float64

    @classmethod
    def of(cls, rotation: Float64, spread: tuple[float, float]) -> PoseState:
        """No correction yet."""
        count = len(rotation)
        return cls(
            rotation.copy(),
            rotation.copy(),
            np.zeros((count, 2)),
            np.zeros((count, 5, 5)),
            np.full(count, _FIRST_DAMPING),
            np.array(spread),
        )

    def offset(self, index: Int64) -> Float64:
        """(ω, t) of the corrections so far, (B, 5)."""
        turn = self.rotation[index] @ self.start[index].transpose(0, 2, 1)
        return np.concatenate([to_rotation_vector(turn), self.shift[index]], axis=1)

    def log_prior(self, offset: Float64) -> Float64:
        """Log density of corrections (B, 5), up to a constant."""
        return -0.5 * np.sum((offset / self.spread[[0, 0, 0, 1, 1]]) ** 2, axis=1)

    def renew_spread(self, index: Int64) -> None:
        """Prior widths from the second moments of the corrections: one EM step."""
        moment = self.offset(index) ** 2 + np.einsum("bii->bi", self.covariance[index])
        mean = moment.mean(axis=0)
        self.spread = np.maximum(np.sqrt([mean[:3].mean(), mean[3:].mean()]), _SMALLEST_SPREAD)


@dataclass(frozen=True)
class RefinementStatistics:
    """Share of accepted steps and their root mean square size (degrees, box lengths)."""

    accepted: float
    rotation_degree: float
    shift: float


def refine_poses(
    level: Level,
    columns: Float32,
    contrast_sd: float,
    excess: Uncertainty | None,
    state: PoseState,
) -> RefinementStatistics:
    """One damped Gauss-Newton step for every particle of a level; images and state are updated."""
    prepared = level.projector.prepare(columns)
    accepted, turned, moved = [], [], []
    for first in range(0, len(level.index), _CHUNK):
        batch = level.index[first : first + _CHUNK]
        ok, step = _step(level, prepared, batch, contrast_sd, excess, state)
        accepted.append(ok)
        turned.append(np.sum(step[:, :3] ** 2, axis=1))
        moved.append(np.sum(step[:, 3:] ** 2, axis=1))
    state.renew_spread(level.index)
    return RefinementStatistics(
        float(np.mean(np.concatenate(accepted))),
        float(np.rad2deg(np.sqrt(np.mean(np.concatenate(turned))))),
        float(np.sqrt(np.mean(np.concatenate(moved)))),
    )


def _step(
    level: Level,
    prepared: object,
    batch: Int64,
    contrast_sd: float,
    excess: Uncertainty | None,
    state: PoseState,
) -> tuple[NDArray[np.bool_], Float64]:
    data, ctf, _ = level.images.batch(batch, len(level.disc))
    rotation = state.rotation[batch]
    found, slices = _e_step(level, prepared, batch, data, ctf, rotation, contrast_sd, excess)
    gradient, curvature = _derivatives(
        level, prepared, data, ctf, rotation, found, slices, contrast_sd
    )
    offset = state.offset(batch)
    precision = state.spread[[0, 0, 0, 1, 1]] ** -2.0
    gradient -= offset * precision
    curvature += np.diag(precision)
    damped = curvature + state.damping[batch, None, None] * _diagonal_of(curvature)
    step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
    trial = from_rotation_vector(step[:, :3]) @ rotation
    phase = _phase(level, step[:, 3:])
    after, _ = _e_step(level, prepared, batch, data * phase, ctf, trial, contrast_sd, excess)
    moved = _offset_of(trial, state.start[batch], state.shift[batch] + step[:, 3:])
    gain = after.log_likelihood - found.log_likelihood
    gain += state.log_prior(moved) - state.log_prior(offset)
    accepted = gain > 0
    chosen = batch[accepted]
    state.rotation[chosen] = trial[accepted]
    state.shift[chosen] += step[accepted, 3:]
    state.covariance[batch] = np.linalg.inv(curvature)
    state.damping[batch] = np.clip(
        state.damping[batch] * np.where(accepted, _LESS, _MORE), 1e-3, 1e3
    )
    level.images.rotation[chosen] = trial[accepted]
    level.images.data[chosen] *= _full_phase(level, step[accepted, 3:])
    return accepted, step * accepted[:, None]


def _e_step(level, prepared, batch, data, ctf, rotation, contrast_sd, excess):  # type: ignore[no-untyped-def]
    slices = level.projector.project(prepared, rotation.astype(np.float32), ctf)
    products = gram(slices, data, level.team)
    if excess is not None:
        excess.add_to(products, level.images.ctf_power[batch, : level.k_c + 1])
    return image_posterior(products, contrast_sd), slices


def _derivatives(
    level: Level,
    prepared: object,
    data: Complex64,
    ctf: Float32,
    rotation: Float64,
    found: ImagePosterior,
    slices: Complex64,
    contrast_sd: float,
) -> tuple[Float64, Float64]:
    """Gradient (B, 5) of the log-likelihood in (ω, t) and its Gauss-Newton curvature (B, 5, 5)."""
    expected = np.einsum("bc,bcn->bn", found.first.astype(np.float32), slices)
    nuisance = slices[:, 1:] * found.contrast[:, None, None].astype(np.float32)
    along_contrast = expected / found.contrast[:, None].astype(np.float32)
    residual_in_place(slices, data, found.second, found.first, level.team)
    tangent, torque = level.projector.differentiate(
        prepared, rotation.astype(np.float32), ctf, found.first, slices
    )
    wave = (2j * np.pi * np.stack([level.disc.kx, level.disc.ky])).astype(np.complex64)
    shift = wave * expected[:, None]
    rows = [tangent, shift, nuisance, along_contrast[:, None]]
    products = gram(np.concatenate(rows, axis=1), data, level.team)
    rank = nuisance.shape[1]
    gradient = np.concatenate([-torque, products[:, 3:5, -1]], axis=1)
    if contrast_sd == 0:
        keep = slice(5, 5 + rank)
        prior = np.eye(rank)
    else:
        keep = slice(5, 6 + rank)
        prior = np.diag(np.append(np.ones(rank), contrast_sd**-2))
    coupling = products[:, :5, keep]
    inner = products[:, keep, keep] + prior
    curvature = products[:, :5, :5] - coupling @ np.linalg.solve(inner, coupling.transpose(0, 2, 1))
    return gradient, curvature


def _diagonal_of(matrix: Float64) -> Float64:
    return np.einsum("bii->bi", matrix)[:, :, None] * np.eye(matrix.shape[1])


def _offset_of(rotation: Float64, start: Float64, shift: Float64) -> Float64:
    turn = to_rotation_vector(rotation @ start.transpose(0, 2, 1))
    return np.concatenate([turn, shift], axis=1)


def _phase(level: Level, shift: Float64) -> Complex64:
    from solvar.estimation.cache import centring_phase

    return centring_phase(level.disc, shift)


def _full_phase(level: Level, shift: Float64) -> Complex64:
    from solvar.estimation.cache import centring_phase

    return centring_phase(level.images.disc, shift)
