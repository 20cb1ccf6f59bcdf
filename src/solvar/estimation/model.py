"""The nouns of the result: model, posterior, half-set validation, and the fit that holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.estimation.settings import FitSettings
from solvar.particles import ParticleSet, Poses

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LowRankModel:
    """Volumes x = mean + Σ_j z_j eigenvolume_j with Var z_j = eigenvalue_j.

    Attributes
    ----------
    mean : (L, L, L) float32
        Mean volume, axes z, y, x, origin at index L // 2.
    eigenvolumes : (r, L, L, L) float32
        Orthonormal in the Euclidean inner product of the voxels.
    eigenvalues : (r,) float64
        Variances along the eigenvolumes, descending.
    mask : (L, L, L) float32
        Soft support of the mean and every eigenvolume, 0 to 1.
    pixel_size_angstrom : float
    """

    mean: Float32
    eigenvolumes: Float32
    eigenvalues: Float64
    mask: Float32
    pixel_size_angstrom: float

    @property
    def rank(self) -> int:
        """Number of eigenvolumes r."""
        return len(self.eigenvalues)

    @property
    def box_size(self) -> int:
        """Edge L of the volumes in voxels."""
        return self.mean.shape[-1]

    def volume_at(self, z: ArrayLike) -> Float32:
        """The model's volume mean + Σ_j z_j eigenvolume_j.

        Parameters
        ----------
        z : (r,) array-like
            Latents in eigenvolume units: √eigenvalue_j is one standard deviation.

        Returns
        -------
        volume : (L, L, L) float32
            Axes z, y, x.

        Raises
        ------
        ValueError
            If there is not one finite latent for each eigenvolume.
        """
        latents = np.asarray(z, np.float32)
        if latents.shape != (self.rank,) or not np.isfinite(latents).all():
            raise ValueError(f"z must hold {self.rank} finite latents, one for each eigenvolume")
        return self.mean + np.tensordot(latents, self.eigenvolumes, axes=1)


def prior_spread(eigenvalues: Float64) -> Float64:
    """Standard deviations (r,) of the latents by their prior, never 0."""
    return np.sqrt(np.maximum(eigenvalues, np.finfo(np.float32).tiny))


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known of each particle given the model (N particles in input row order).

    Attributes
    ----------
    z : (N, r) float64
        Posterior mean latents in eigenvolume units (prior variance = eigenvalue).
    precision : (N, r, r) float64
        Posterior precision of `z` given the contrast: diag(1/eigenvalues) + EᵀE.
    contrast : (N,) float64
        Contrast factor a, mean 1 over the set.
    log_likelihood : (N,) float64
        Log evidence of the whitened image up to a constant that depends on the pixels alone.
    """

    z: Float64
    precision: Float64
    contrast: Float64
    log_likelihood: Float64


@dataclass(frozen=True, eq=False)
class HalfsetValidation:
    """How well two models fitted to disjoint halves agree. Shell s is |k| rounded to s.

    Attributes
    ----------
    means : (2, L, L, L) float32
        Mean volume of each half.
    mean_fsc : (S,) float64
        Fourier shell correlation of the two means.
    covariance_fsc : (S, S) float64
        Correlation of the two covariances between shells s and t (basis-free).
    component_fsc : (r, S) float64
        FSC of each eigenvolume of the final model as the two halves see it.
    component_resolution : (r,) float64
        Resolution in Å at which component_fsc falls below 0.143 (inf: never above).
    component_resolution_half : (r,) float64
        The same for the stricter 0.5.
    reliability : (r,) float64
        Agreement in [-1, 1] of the variance that each half sees along a component of the other.
    reliable : (r,) bool
        Components that pass the half-set test; the rest are consistent with noise.
    """

    means: Float32
    mean_fsc: Float64
    covariance_fsc: Float64
    component_fsc: Float64
    component_resolution: Float64
    component_resolution_half: Float64
    reliability: Float64
    reliable: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PoseRefinement:
    """What refinement did to the poses; the refined ones are those of the fit's particles.

    Attributes
    ----------
    start : Poses
        Poses of the input, (N, 3, 3) and (N, 2) Å.
    covariance : (N, 5, 5) float64
        Posterior covariance of each particle's rotation vector (3, radians, about the x, y, z axes of
        the volume) and shift (x, y; Å), latents and contrast integrated out.
    prior_rotation_degree, prior_shift_angstrom : float
        Estimated spread of the input's errors per axis: the width of the prior around the input poses.
    """

    start: Poses
    covariance: Float64
    prior_rotation_degree: float
    prior_shift_angstrom: float


@dataclass(frozen=True)
class StageCost:
    """Wall seconds, CPU seconds and peak resident memory (MiB) of one stage of the job."""

    name: str
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float


@dataclass(frozen=True, eq=False)
class Fit:
    """Everything the main job found out; `solvar.results` writes it to a run folder.

    Attributes
    ----------
    particles : ParticleSet
        The particles with the half-sets that were used and, if refined, the refined poses.
    validation : HalfsetValidation or None
        None when the fit ran without half-sets.
    noise_power : (G, S) float64
        Noise power per optics group and shell.
    prior_precision : (S,) float64
        Precision Λ(shell) of the prior on the columns √eigenvalue·eigenvolume.
    inverted : bool
        Whether the images were dark on bright and were inverted.
    intensity_factor : float
        What pixel values were multiplied by; the model, the latents and the noise are in these units.
    pose_refinement : PoseRefinement or None
        None when the poses were kept.
    history : list of dict
        One record a sweep: level, sweep, objective, relative change.
    warnings : list of str
        Plain sentences that the user should read.
    """

    particles: ParticleSet
    settings: FitSettings
    model: LowRankModel
    posterior: Posterior
    validation: HalfsetValidation | None
    noise_power: Float64
    prior_precision: Float64
    inverted: bool
    intensity_factor: float = 1.0
    pose_refinement: PoseRefinement | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    costs: list[StageCost] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
