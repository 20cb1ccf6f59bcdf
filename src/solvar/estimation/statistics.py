"""Sums over particles: what their posteriors say of a model, and what a sweep over them tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.likelihood import ImagePosterior

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


# summed weight below which there is nobody to take a mean over
_NOTHING = 1e-6


@dataclass(frozen=True, eq=False)
class SweepStatistics:
    """What one sweep over the particles saw.

    Attributes
    ----------
    log_likelihood : float
        Mean over particles, each at the columns of its own visit.
    latent_moment : (r, r)
        Mean E[z zᵀ].
    latent_explained : (r, r)
        Mean E[z] E[z]ᵀ: the part of it that the images, not the prior, speak for.
    contrast_variance : float
        Mean E[(a - 1)²].
    """

    log_likelihood: float
    latent_moment: Float64
    latent_explained: Float64
    contrast_variance: float


class SufficientStatistics:
    """Sums over particles of what their posteriors say, for columns W = [μ | V].

    Attributes
    ----------
    second : (1 + r, 1 + r)
        Σ E[ζ ζᵀ].
    """

    def __init__(self, rank: int) -> None:
        self._count_likelihood_contrast = np.zeros(3)
        self.second = np.zeros((1 + rank, 1 + rank))
        self._moment, self._explained = np.zeros((rank, rank)), np.zeros((rank, rank))

    def add(self, found: ImagePosterior, weight: Float64 | None = None) -> None:
        """Count the particles of a batch, each as much as its weight (B,); 1 by default.

        What is not known of a particle of weight 0 is the prior's: it must not pass for a moment of the
        others, nor slow down what is solved with it.
        """
        spread = found.contrast_square - 2 * found.contrast + 1
        second, covariance, z, count = found.second, found.covariance, found.z, float(len(found.z))
        if weight is not None:
            spread, second = weight * spread, weight[:, None, None] * second
            covariance, count = weight[:, None, None] * covariance, float(weight.sum())
            z = np.sqrt(weight)[:, None] * z
        self._count_likelihood_contrast += [count, found.log_likelihood.sum(), spread.sum()]
        explained = z.T @ z
        self.second += second.sum(axis=0)
        self._explained += explained
        self._moment += explained + covariance.sum(axis=0)

    def include(self, other: SufficientStatistics) -> None:
        """Count the particles of other statistics."""
        for ours, theirs in zip(self._sums(), other._sums(), strict=True):
            ours += theirs

    def share(self, band: Band) -> None:
        """Count the particles that other processes saw."""
        sums = self._sums()
        flat = band.sum(np.concatenate([each.ravel() for each in sums]))
        cuts = np.cumsum([each.size for each in sums])[:-1]
        for ours, whole in zip(sums, np.split(flat, cuts), strict=True):
            ours[...] = whole.reshape(ours.shape)

    def _sums(self) -> tuple[Float64, ...]:
        return self._count_likelihood_contrast, self.second, self._moment, self._explained

    def means(self) -> SweepStatistics:
        """Means over the particles that were counted."""
        n, log_likelihood, contrast = map(float, self._count_likelihood_contrast)
        n = max(n, _NOTHING)
        return SweepStatistics(
            log_likelihood / n, self._moment / n, self._explained / n, contrast / n
        )


@dataclass(frozen=True, eq=False)
class Gradient:
    """What a batch says, added up over its particles.

    Attributes
    ----------
    columns : (1 + r, l, l, l) float32
        Gradient of the objective in the columns.
    cross : (6, r) float64
        Σ E[(δ - centre) ζᵀ] of the pose errors with the coefficients of V; 0 where there are none.
    prior_factor : float
        What the prior's precision must be multiplied by to weigh as much as in the likelihood.
    statistics : SufficientStatistics
    """

    columns: Float32
    cross: Float64
    prior_factor: float
    statistics: SufficientStatistics
