"""The posterior of a batch's poses and its derivatives (docs/method.md, "Poses").

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

from solvar.estimation.e_step import BandModel
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.kernels import gram, pose_products, residual
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
    """Gradient (B, 3 + d) of the log-likelihood in (ω, t), its Gauss-Newton curvature (B, 3 + d, 3 + d)."""

    gradient: Float64
    curvature: Float64

    def where(self, chosen: NDArray[np.bool_], others: Derivatives) -> Derivatives:
        """`others` for the chosen particles."""
        return Derivatives(
            np.where(chosen[:, None], others.gradient, self.gradient),
            np.where(chosen[:, None, None], others.curvature, self.curvature),
        )


def derivatives(
    model: BandModel, batch: ImageBatch, data: Complex64, frame: Float32, plane: PosedImages
) -> Derivatives:
    """Pose derivatives of the log-likelihood of the particles of a batch.

    Parameters
    ----------
    model : BandModel
    batch : ImageBatch
    data : (R, n)
        Its images, their content moved.
    frame : (R, 3, 2)
    plane : PosedImages
        Of these images at these frames.
    """
    band, found, slices = model.band, plane.found, plane.slices
    rank = slices.shape[1] - 1
    first, second = batch.per_image(found.first), batch.per_image(found.second)
    residuals = band.buffer("residual", slices.shape)
    residual(slices, data, second, first, band.team, out=residuals)
    tangent, torque = band.projector.differentiate(
        model.prepared, frame, batch.ctf, first, residuals
    )
    wave = (2 * np.pi * np.stack([band.disc.kx, band.disc.ky])).astype(np.float32)
    inner = pose_products(slices, tangent, data, first, wave, band.team)
    inner, torque = _of_particles(batch, inner, torque)
    # N = E·mix: a E_V along the latents, ŷ/a along the contrast
    mix = np.zeros((len(batch), 1 + rank, 1 + rank))
    mix[:, 1:, :rank] = found.contrast[:, None, None] * np.eye(rank)
    mix[:, :, rank] = found.first / found.contrast[:, None]
    narrow = max(model.model.contrast_sd, _FIXED_CONTRAST) ** -2.0
    prior = np.diag(np.append(np.ones(rank), narrow))
    free = inner.shape[1]
    coupling = inner[:, :, free:-1] @ mix
    nuisance = mix.transpose(0, 2, 1) @ plane.products[:, :-1, :-1] @ mix + prior
    explained = coupling @ np.linalg.solve(nuisance, coupling.transpose(0, 2, 1))
    gradient = np.concatenate([-torque, inner[:, 3:, -1]], axis=1)
    return Derivatives(gradient, inner[:, :, :free] - explained)


def _of_particles(batch: ImageBatch, inner: Float64, torque: Float64) -> tuple[Float64, Float64]:
    """Products (R, 5, 5 + C + 1) and torques (R, 3) of images, summed up for their particles (B).

    Rotations are those of the particle already; its shift moves a tilted image by what is seen of it: of the
    particle there are products (B, 6, 6 + C + 1).
    """
    if batch.tilt is not None:
        others = inner.shape[2] - 5
        seen = np.zeros((len(inner), 6 + others, 5 + others))
        seen[:, :3, :3], seen[:, 6:, 5:] = np.eye(3), np.eye(others)
        seen[:, 3:6, 3:5] = batch.tilt[:, :, :2]
        inner = seen[:, :6, :5] @ inner @ seen.transpose(0, 2, 1)
    batch.refuse_uncertain("refinement")
    return batch.per_pose(inner), batch.per_pose(torque)


def derivatives_of(model: BandModel, batch: ImageBatch) -> Derivatives:
    """Derivatives for images at their present poses."""
    plane = PosedImages.of(model, batch, batch.data, batch.frame)
    return derivatives(model, batch, batch.data, batch.frame, plane)


@dataclass(frozen=True, eq=False)
class PosedImages:
    """Images compared with a model at some poses.

    Attributes
    ----------
    slices : (R, 1 + r, n)
        They last until the next slices in the same band.
    products : (B, r + 2, r + 2)
        Gram matrices of slices and data, summed over the images of a particle.
    found : ImagePosterior
    """

    slices: Any
    products: Float64
    found: ImagePosterior

    @classmethod
    def of(
        cls, model: BandModel, batch: ImageBatch, data: Complex64, frame: Float32
    ) -> PosedImages:
        """A batch at frames (R, 3, 2) with its content moved: `data` (R, n)."""
        slices = model.slices(frame, batch.ctf)
        products = batch.per_pose(gram(slices, data, model.band.team))
        return cls(slices, products, model.posterior(products, batch.ctf_power))


@dataclass(frozen=True, eq=False)
class Improved:
    """Where steps of a solver have led the particles of a batch.

    Attributes
    ----------
    rotation : (B, 3, 3) float64
    shift : (B, d) float64
        Further shifts, box lengths.
    covariance : (B, 3 + d, 3 + d) float64
        Posterior covariance of (ω, t).
    value : (B,) float64
        Log posterior there.
    """

    rotation: Float64
    shift: Float64
    covariance: Float64
    value: Float64

    @property
    def evidence(self) -> Float64:
        """The log posterior integrated over the neighbourhood of the pose, (B,): Laplace's approximation."""
        size = np.linalg.slogdet(self.covariance)[1]
        width = self.covariance.shape[1] * np.log(2 * np.pi)
        return np.asarray(self.value + 0.5 * (size + width), dtype=np.float64)


class PoseObjective:
    """Log posterior of the poses of a batch, as a function of rotations and further shifts.

    Parameters
    ----------
    model : BandModel
        Without pose errors: these are what is looked for.
    images : ImageBatch
    state : PoseState
        Start and prior; it is not changed.
    """

    def __init__(self, model: BandModel, images: ImageBatch, state: PoseState) -> None:
        self.model, self.images, self.state = model, images, state

    @property
    def index(self) -> Int64:
        """Which particles these are, (B,)."""
        return self.images.index

    def start(self) -> tuple[Float64, Float64]:
        """Rotations (B, 3, 3) where the particles are, and no further shift (B, d)."""
        return self.state.rotation[self.index], self._still

    def shifted(self, shift: Float64) -> Complex64:
        """The images with the content of particles moved by (B, d) box lengths, (R, n)."""
        moved = centring_phase(self.model.band.disc, self.images.moves(shift))
        moved *= self.images.data
        return moved

    def shifted_by_each(self, moves: Float64) -> Complex64:
        """The images with their content moved by each of (T, d) box lengths, (R, T, n)."""
        return np.stack([self.shifted(self._still + move) for move in moves], axis=1)

    @property
    def _still(self) -> Float64:
        return np.zeros((len(self.index), self.state.shift.shape[1]))

    def value(self, rotation: Float64, shift: Float64) -> Float64:
        """Log posterior of poses (B, 3, 3) and (B, d), (B,)."""
        frame = self.images.frames(rotation)
        plane = PosedImages.of(self.model, self.images, self.shifted(shift), frame)
        return self._log_posterior(plane, rotation, shift)

    def slopes(self, rotation: Float64, shift: Float64) -> tuple[Float64, Derivatives]:
        """The same, with its derivatives."""
        data, frame = self.shifted(shift), self.images.frames(rotation)
        plane = PosedImages.of(self.model, self.images, data, frame)
        likelihood = derivatives(self.model, self.images, data, frame, plane)
        value, trust = self._log_posterior(plane, rotation, shift), self.state.trust
        offset = self._offset(rotation, shift)
        precision = self.state.prior.precision(offset)
        return value, Derivatives(
            trust * likelihood.gradient - offset * precision,
            trust * likelihood.curvature + precision[:, :, None] * np.eye(precision.shape[1]),
        )

    def log_prior(self, rotation: Float64, shift: Float64) -> Float64:
        """Log density of the corrections, (B,)."""
        offset = self._offset(rotation, shift)
        return self.state.prior.log_density(offset[:, :3], offset[:, 3:])

    def _log_posterior(self, plane: PosedImages, rotation: Float64, shift: Float64) -> Float64:
        return self.state.trust * plane.found.log_likelihood + self.log_prior(rotation, shift)

    def _offset(self, rotation: Float64, shift: Float64) -> Float64:
        state, index = self.state, self.index
        return offset_of(rotation, state.centre[index], state.shift[index] + shift)
