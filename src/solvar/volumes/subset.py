"""A plain reconstruction from the particles that are nearest to a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.posterior import Posterior, squared_differences
from solvar.volumes.neighbours import ellipsoid_distances, nested_balls
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
    known : Posterior
        Of its particles.
    fraction : float
        Share of each half that takes part, unless `probability` is given.
    probability : float, optional
        Then those take part whose posterior ellipsoid of this probability holds the point, and at least
        ten of each half.
    """

    def __init__(
        self,
        source: Source,
        known: Posterior,
        fraction: float,
        probability: float | None = None,
    ) -> None:
        self.source, self._known = source, known
        self._fraction, self._probability = fraction, probability
        self._mean = SetMean(source, known.contrast)

    def volume(self, target: Float64) -> Reconstruction:
        """The volume at a point z* (r,)."""
        return self._mean.of([self._near(target, half) for half in self.source.halves])

    def _near(self, target: Float64, half: Int64) -> Int64:
        """The particles of a half that take part."""
        if self._probability is None:
            distance = squared_differences(self._known.z, target)
            return nested_balls(distance, half, (self._fraction,))[0]
        from scipy.stats import chi2

        away = ellipsoid_distances(self._known.z, self._known.precision, target)
        nearest = half[np.argsort(away[half], kind="stable")]
        inside = int((away[half] <= chi2.ppf(self._probability, len(target))).sum())
        return np.sort(nearest[: max(inside, _FEWEST)])
