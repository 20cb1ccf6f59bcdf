"""The Fourier-diagonal metric of the columns: what it costs to move a coefficient."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.posterior_variance import PosteriorVariance
from solvar.estimation.prior import Prior

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# coefficients that a thread takes at a time: those of ten columns stay in its cache
_PIECE = 1 << 14


class Metric:
    """The Fourier-diagonal stand-in D S + Λ for the Hessian of the columns.

    The mean and the columns V are treated as uncoupled (the latents have mean zero), V in the eigenbasis
    of its block of S. Spectra (1 + r, n) are the coefficients of the band's `Ball`.
    """

    def __init__(self, band: Band, prior: Prior) -> None:
        self._band, self._prior = band, prior
        self._lam_mean = band.ball.expand(prior.mean)
        self._lam_columns = band.ball.expand(prior.columns)

    @cached_property
    def _information(self) -> Float32:
        # not on a thread of the team: it is summed up by all of them
        return self._band.ball.of_grid(self._band.information)

    def apply(self, spectrum: Complex64, second: Float64) -> Complex64:
        """(D S + Λ) W."""
        out = self.apply_data(spectrum, second)
        for k, values in enumerate(spectrum):
            out[k] += self._finite(k) * values
        return out

    def apply_data(self, spectrum: Complex64, second: Float64) -> Complex64:
        """D S W."""
        out = np.empty_like(spectrum)
        given, found = spectrum.view(np.float32), out.view(np.float32)
        of_mean, of_columns = np.float32(second[0, 0]), second[1:, 1:].astype(np.float32)
        of_data = self._information

        def some(first: int, last: int) -> None:
            # complex numbers as pairs of real ones
            here, information = slice(2 * first, 2 * last), np.repeat(of_data[first:last], 2)
            np.multiply(given[0, here], of_mean * information, out=found[0, here])
            np.multiply(of_columns @ given[1:, here], information, out=found[1:, here])

        self._band.team.over_ranges(spectrum.shape[1], _PIECE, some)
        return out

    def solve(self, spectrum: Complex64, second: Float64) -> Complex64:
        """(D S + Λ)⁻¹ t; 0 where the prior allows nothing."""
        out = np.empty_like(spectrum)
        given, found = spectrum.view(np.float32), out.view(np.float32)
        value, axes = np.linalg.eigh(second[1:, 1:])
        of_mean, of_columns = np.float32(second[0, 0]), value.astype(np.float32)[:, None]
        basis = axes.astype(np.float32)
        diagonals = self._information, self._lam_mean, self._lam_columns

        def some(first: int, last: int) -> None:
            here = slice(2 * first, 2 * last)
            information, lam_mean, lam_columns = (np.repeat(d[first:last], 2) for d in diagonals)
            np.divide(given[0, here], of_mean * information + lam_mean, out=found[0, here])
            rotated = basis.T @ given[1:, here]
            rotated /= of_columns * information + lam_columns
            np.matmul(basis, rotated, out=found[1:, here])

        self._band.team.over_ranges(spectrum.shape[1], _PIECE, some)
        return out

    def _finite(self, k: int) -> Float32:
        """Λ of a column, 0 where it is infinite."""
        precision = self._lam_columns if k else self._lam_mean
        return np.where(np.isfinite(precision), precision, np.float32(0))

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
        spectrum = band.ball.spectrum(columns, band.team)
        for k, values in enumerate(spectrum):
            values *= np.float32(factor) * self._finite(k)
        return band.ball.volumes(spectrum, band.team) * np.float32(band.box**3)
