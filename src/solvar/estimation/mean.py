"""The mean volume of a set of particles: back-projection and a few preconditioned CG steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.kernels import gram
from solvar.estimation.normal_operator import back_projected
from solvar.imaging.fourier import fourier_filter

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class MeanProblem:
    """The normal equations of the mean of a band's particles.

    (m Pᵀ C² P m + m Λ m) u = m Pᵀ C y for the mean m·u, m the mask. The back-projected data are kept,
    so that solving again under another prior costs its CG steps alone.
    """

    def __init__(self, band: Band) -> None:
        self.band = band
        data, self._normal = back_projected(band)
        self._data = band.support.mean * data

    def solve(self, prior_precision: Float64, steps: int) -> Float32:
        """Masked Wiener mean by preconditioned conjugate gradients.

        The preconditioner F⁻¹ 1/(D + Λ) F is the Wiener filter of the unmasked problem, so that the
        first step is the usual Wiener reconstruction and the next ones account for mask and
        interpolation; the fourth changes the mean by 2·10⁻⁴.

        Parameters
        ----------
        prior_precision : (S,) float64
            Λ per shell; inf where the mean is to stay 0.
        steps : int
            CG steps.

        Returns
        -------
        (L, L, L) float32 on the band's grid.
        """
        band, workers = self.band, self.band.team.size
        lam = band.expand(prior_precision)
        voxels = np.float32(band.box**3)
        wiener = (1 / (voxels * (band.information + lam))).astype(np.float32)
        ridge = np.where(np.isfinite(lam), voxels * lam, 0).astype(np.float32)
        residual = self._data.copy()
        solution = np.zeros_like(residual)
        direction = np.zeros_like(residual)
        before = np.inf
        for step in range(steps):
            conditioned = fourier_filter(residual, wiener, workers)
            now = _inner(residual, conditioned)
            direction = conditioned + np.float32(now / before) * direction
            volume = (band.support.mean * direction).astype(np.float32, copy=False)
            applied = self._normal(volume) + fourier_filter(volume, ridge, workers)
            applied *= band.support.mean
            size = np.float32(now / _inner(direction, applied))
            solution += size * direction
            if step < steps - 1:
                residual -= size * applied
            before = now
        return band.support.mean * solution


def crossed_gains(means: list[Float32], bands: list[Band]) -> Float64:
    """Log-likelihood that the mean of each band gains for every particle of the other one, (N,).

    Those of the first band come first; nothing gains 0.
    """
    pairs = zip(means[::-1], bands, strict=True)
    return np.concatenate([_gain(mean, band) for mean, band in pairs])


def _gain(mean: Float32, band: Band) -> Float64:
    """Log-likelihood of each particle with the mean minus that without it."""
    prepared = band.projector.prepare(mean[None])
    gains = []
    for batch in band.batches():
        slices = band.slices(prepared, batch.frame, batch.ctf)
        products = gram(slices, batch.data, band.team)
        gains.append(batch.per_pose(products[:, 0, -1] - 0.5 * products[:, 0, 0]))
    return np.concatenate(gains)


def _inner(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Inner product, summed in float64."""
    return float(np.einsum("zyx,zyx->", first, second, dtype=np.float64))
