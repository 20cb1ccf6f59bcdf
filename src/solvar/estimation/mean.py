"""The mean volume of a set of particles: back-projection and a few preconditioned CG steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class MeanProblem:
    """The normal equations of the mean of a level's particles.

    (m Pᵀ C² P m + m Λ m) u = m Pᵀ C y for the mean m·u, m the mask. The back-projected data are kept,
    so that solving again under another prior costs its CG steps alone.
    """

    def __init__(self, level: Level) -> None:
        self.level = level
        self._data = level.mask * _back_project_data(level)

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
        (L, L, L) float32 on the level's grid.
        """
        level, workers = self.level, self.level.team.size
        lam = level.expand(prior_precision)
        voxels = np.float32(level.box**3)
        wiener = (1 / (voxels * (level.information + lam))).astype(np.float32)
        ridge = np.where(np.isfinite(lam), voxels * lam, 0).astype(np.float32)
        residual = self._data.copy()
        solution = np.zeros_like(residual)
        direction = np.zeros_like(residual)
        before = np.inf
        for step in range(steps):
            conditioned = fourier_filter(residual, wiener, workers)
            now = float(np.vdot(residual, conditioned))
            direction = conditioned + np.float32(now / before) * direction
            volume = (level.mask * direction).astype(np.float32, copy=False)
            applied = _normal_operator(level, volume) + fourier_filter(volume, ridge, workers)
            applied *= level.mask
            size = np.float32(now / float(np.vdot(direction, applied)))
            solution += size * direction
            if step < steps - 1:
                residual -= size * applied
            before = now
        return level.mask * solution


def fourier_filter(volume: Float32, response: Float32, workers: int = 1) -> Float32:
    """The volume with its rfftn coefficients multiplied by a real response."""
    import scipy.fft

    spectrum = scipy.fft.rfftn(volume, workers=workers) * response
    return scipy.fft.irfftn(spectrum, s=volume.shape, workers=workers)


def _back_project_data(level: Level) -> Float32:
    """Σ Pᵀ C y."""
    accumulator = level.projector.zeros(1)
    for batch in level.batches():
        level.projector.scatter(batch.data[:, None], batch.rotation, batch.ctf, accumulator)
    return level.collect(accumulator)[0]


def _normal_operator(level: Level, volume: Float32) -> Float32:
    """Σ Pᵀ C² P v."""
    prepared = level.projector.prepare(volume[None])
    accumulator = level.projector.zeros(1)
    for batch in level.batches():
        slices = level.slices(prepared, batch.rotation, batch.ctf)
        level.projector.scatter(slices, batch.rotation, batch.ctf, accumulator)
    return level.collect(accumulator)[0]
