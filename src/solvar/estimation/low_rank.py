"""The low-rank model: volumes are the mean and a few eigenvolumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_TINY = float(np.finfo(np.float32).tiny)
# of columns that are computed with: their inverse is a precision, which must be finite
SMALLEST_EIGENVALUE = 1e-30


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


def prior_spread(eigenvalues: Float64, least: float = _TINY) -> Float64:
    """Standard deviations (r,) of the latents by their prior, never 0; eigenvalues are at `least` that."""
    return np.sqrt(np.maximum(eigenvalues, least))


def to_columns(eigenvolumes: Float32, eigenvalues: Float64) -> Float32:
    """Columns eigenvolume · √eigenvalue, (r, L, L, L)."""
    deviation = prior_spread(eigenvalues, SMALLEST_EIGENVALUE).astype(np.float32)
    return eigenvolumes * deviation[:, None, None, None]
