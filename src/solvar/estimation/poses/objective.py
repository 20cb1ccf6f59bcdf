"""The posterior of a batch's poses and its derivatives (ALGORITHM §5).

With θ = (ω, t), R ← expm([ω]×) R, the expected image ŷ = Σ_c E[ζ_c] E_c and J = ∂ŷ/∂θ, latents and contrast
integrated out:

    gradient    rotation: -Σ_c Re⟨∂E_c/∂ω, (E S - y ζᵀ)_c⟩ (Fisher's identity); shift: Re⟨2πi k ŷ, y⟩
    curvature   JᵀJ - JᵀN (NᵀN + P)⁻¹ NᵀJ

N = [a E_V, ŷ/a] are the directions in which latents and contrast move ŷ, P their prior precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.cache import ImageBatch
from solvar.estimation.kernels import gram, pose_products, residual
from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.likelihood import ImagePosterior
from solvar.estimation.poses.state import PoseState, offset_of
from solvar.imaging.fourier import centring_phase

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# a contrast that is not refined has a prior this narrow
_FIXED_CONTRAST = 1e-4


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


def derivatives_of(
    level: Level, prepared: Any, batch: ImageBatch, contrast_sd: float
) -> Derivatives:
    """Derivatives for images at their present poses that took no part in fitting the columns."""
    slices = level.slices(prepared, batch.rotation, batch.ctf)
    products = gram(slices, batch.data, level.team)
    found = level.judge(products, batch, contrast_sd, None)
    return derivatives(
        level,
        prepared,
        batch.data,
        batch.ctf,
        batch.rotation,
        found,
        slices,
        products,
        contrast_sd,
    )


class PoseObjective:
    """Log posterior of the poses of a batch, as a function of rotations and further shifts.

    Parameters
    ----------
    level : Level
    prepared
        `projector.prepare` of the columns W.
    images : ImageBatch
    contrast_sd : float
    excess : Uncertainty or None
        Of W, whose particles these are.
    state : PoseState
        Start and prior; it is not changed.
    """

    def __init__(
        self,
        level: Level,
        prepared: Any,
        images: ImageBatch,
        contrast_sd: float,
        excess: Uncertainty | None,
        state: PoseState,
    ) -> None:
        self.level, self.prepared, self.state = level, prepared, state
        self.contrast_sd, self._excess = contrast_sd, excess
        self.batch, self.data, self.ctf = images.index, images.data, images.ctf
        self._images = images

    def start(self) -> tuple[Float64, Float64]:
        """Rotations (B, 3, 3) where the particles are, and no further shift (B, 2)."""
        return self.state.rotation[self.batch], np.zeros((len(self.batch), 2))

    def shifted(self, shift: Float64) -> Complex64:
        """The images with their content moved by (B, 2) box lengths, (B, n)."""
        moved = centring_phase(self.level.disc, shift)
        moved *= self.data
        return moved

    def value(self, rotation: Float64, shift: Float64) -> Float64:
        """Log posterior of poses (B, 3, 3) and (B, 2), (B,)."""
        return self._evaluate(rotation, self.shifted(shift), shift)[0]

    def slopes(self, rotation: Float64, shift: Float64) -> tuple[Float64, Derivatives]:
        """The same, with its derivatives."""
        data = self.shifted(shift)
        value, found, slices, products = self._evaluate(rotation, data, shift)
        likelihood = derivatives(
            self.level,
            self.prepared,
            data,
            self.ctf,
            rotation,
            found,
            slices,
            products,
            self.contrast_sd,
        )
        precision = self.state.spread[[0, 0, 0, 1, 1]] ** -2.0
        return value, Derivatives(
            likelihood.gradient - self._offset(rotation, shift) * precision,
            likelihood.curvature + np.diag(precision),
        )

    def log_prior(self, rotation: Float64, shift: Float64) -> Float64:
        """Log density of the corrections, up to a constant, (B,)."""
        return self.state.log_prior(self._offset(rotation, shift))

    def _offset(self, rotation: Float64, shift: Float64) -> Float64:
        state, batch = self.state, self.batch
        return offset_of(rotation, state.start[batch], state.shift[batch] + shift)

    def _evaluate(
        self, rotation: Float64, data: Complex64, shift: Float64
    ) -> tuple[Float64, ImagePosterior, Complex64, Float64]:
        level = self.level
        slices = level.slices(self.prepared, rotation.astype(np.float32), self.ctf)
        products = gram(slices, data, level.team)
        found = level.judge(products, self._images, self.contrast_sd, self._excess)
        value = found.log_likelihood + self.log_prior(rotation, shift)
        return value, found, slices, products
