"""The Fourier-diagonal metric of the columns: what it costs to move a coefficient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.posterior_variance import PosteriorVariance
from solvar.estimation.prior import Prior

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class Metric:
    """The Fourier-diagonal stand-in D S + Λ for the Hessian of the columns.

    The mean and the columns V are treated as uncoupled (the latents have mean zero), V in the eigenbasis
    of its block of S.
    """

    def __init__(self, band: Band, prior: Prior) -> None:
        self._band, self._prior = band, prior
        self._lam_mean = band.expand(prior.mean)
        self._lam_columns = band.expand(prior.columns)

    def apply(self, spectrum: Complex64, second: Float64) -> Complex64:
        """(D S + Λ) W."""
        out = self.apply_data(spectrum, second)
        out[0] += np.where(np.isfinite(self._lam_mean), self._lam_mean, 0) * spectrum[0]
        out[1:] += np.where(np.isfinite(self._lam_columns), self._lam_columns, 0) * spectrum[1:]
        return out

    def apply_data(self, spectrum: Complex64, second: Float64) -> Complex64:
        """D S W."""
        out = np.empty_like(spectrum)
        out[0] = np.float32(second[0, 0]) * spectrum[0]
        out[1:] = np.tensordot(second[1:, 1:].astype(np.float32), spectrum[1:], axes=1)
        out *= self._band.information
        return out

    def solve(self, spectrum: Complex64, second: Float64) -> Complex64:
        """(D S + Λ)⁻¹ t; 0 where the prior allows nothing."""
        information = self._band.information
        out = np.empty_like(spectrum)
        out[0] = spectrum[0] / (np.float32(second[0, 0]) * information + self._lam_mean)
        value, basis = np.linalg.eigh(second[1:, 1:])
        rotated = np.tensordot(basis.T.astype(np.float32), spectrum[1:], axes=1)
        for k, s in enumerate(value):
            rotated[k] /= np.float32(s) * information + self._lam_columns
        out[1:] = np.tensordot(basis.astype(np.float32), rotated, axes=1)
        return out

    def variance(self, second: Float64) -> PosteriorVariance:
        """Posterior variance 1/(D S + Λ) of the columns per shell, for the support that is in use."""
        shells = slice(0, self._band.k_c + 1)
        information, support = self._band.shell_information, self._band.support
        value, basis = np.linalg.eigh(second[1:, 1:])
        share = support.share_of_columns(len(value)) @ basis**2
        return PosteriorVariance(
            mean=support.share_of_mean / (second[0, 0] * information + self._prior.mean[shells]),
            columns=share[:, None] / (np.outer(value, information) + self._prior.columns[shells]),
            basis=basis,
        )

    def prior_gradient(self, columns: Float32, factor: float) -> Float32:
        """Gradient of ½ Σ Λ|ŵ|² in the voxels of the columns, times a factor."""
        band = self._band
        spectrum = band.spectrum(columns)
        for k, precision in enumerate([self._lam_mean, *[self._lam_columns] * (len(columns) - 1)]):
            spectrum[k] *= np.where(np.isfinite(precision), np.float32(factor) * precision, 0)
        return band.volumes(spectrum) * np.float32(band.box**3)
