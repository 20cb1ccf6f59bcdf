"""A plain reconstruction from the particles that are nearest to a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.volumes.neighbours import distances, nested_balls
from solvar.volumes.set_mean import SetMean
from solvar.volumes.source import Source
from solvar.volumes.volume import Reconstruction

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FEWEST = 10


class Subset:
    """Wiener mean of the nearest particles; implements `Method`.

    Parameters
    ----------
    source : Source
    z, precision : (N, r), (N, r, r)
        Posterior of the latents.
    contrast : (N,)
    fraction : float
        Share of each half that takes part, unless `probability` is given.
    probability : float, optional
        Then those take part whose posterior ellipsoid of this probability holds the point, and at least
        ten of each half.
    """

    def __init__(
        self,
        source: Source,
        z: Float64,
        precision: Float64,
        contrast: Float64,
        fraction: float,
        probability: float | None = None,
    ) -> None:
        self.source, self._z, self._precision = source, z, precision
        self._fraction, self._probability = fraction, probability
        self._mean = SetMean(source, contrast)

    def volume(self, target: Float64) -> Reconstruction:
        """The volume at a point z* (r,)."""
        distance = distances(self._z, self._precision, target)
        return self._mean.of([self._near(distance, half) for half in self.source.halves])

    def _near(self, distance: Float64, half: Int64) -> Int64:
        """The particles of a half that take part."""
        if self._probability is None:
            return nested_balls(distance, half, (self._fraction,))[0]
        from scipy.stats import chi2

        nearest = half[np.argsort(distance[half], kind="stable")]
        inside = int((distance[half] <= chi2.ppf(self._probability, self._z.shape[1])).sum())
        return np.sort(nearest[: max(inside, _FEWEST)])
