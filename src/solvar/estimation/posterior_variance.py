"""How well the columns of a model are known: their posterior variance per shell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PosteriorVariance:
    """Posterior variance of the Fourier coefficients of the columns W = [μ | V], per shell.

    An image that took part in fitting W agrees with it better than a new one would: W holds a share of
    that image's own noise. To first order the share equals what the variance of W adds to the image's
    Gram matrix, so adding it (the E-step of variational Bayes) keeps latents and contrasts from
    believing their own noise (docs/decisions/0006).

    Attributes
    ----------
    mean : (S,) float64
    columns : (r, S) float64
        In the basis `basis`.
    basis : (r, r) float64
        Columns are directions among the columns of V.
    """

    mean: Float64
    columns: Float64
    basis: Float64

    def of_columns(self, ctf_power: Float32) -> Float64:
        """What it adds to EᵀE of images with shell powers (B, S), (B, r, r)."""
        added = ctf_power.astype(np.float64) @ self.columns.T
        return np.einsum("ij,bj,kj->bik", self.basis, added, self.basis)

    def add_to(self, gram_matrix: Float64, ctf_power: Float32) -> None:
        """Add its expected share to Gram matrices (B, r + 2, r + 2) of images, in place."""
        gram_matrix[:, 0, 0] += ctf_power.astype(np.float64) @ self.mean
        gram_matrix[:, 1:-1, 1:-1] += self.of_columns(ctf_power)

    def rotated(self, factor: Float64) -> PosteriorVariance:
        """Of the columns V·factor, factor (r, m); these are of V."""
        # V factor has covariance factorᵀ basis diag basisᵀ factor
        return PosteriorVariance(self.mean, self.columns, factor.T @ self.basis)
