"""A plain reconstruction from the particles that are nearest to a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.mean import MeanProblem
from solvar.estimation.start import half_means
from solvar.volumes.half_maps import HalfMaps
from solvar.volumes.neighbours import distances, nested_balls
from solvar.volumes.source import Source
from solvar.volumes.volume import Reconstruction

Float64 = NDArray[np.float64]

_CG_STEPS = 3


class Subset:
    """Wiener mean of the nearest particles; implements `Method`.

    Parameters
    ----------
    source : Source
    z, precision : (N, r), (N, r, r)
        Posterior of the latents.
    contrast : (N,)
    fraction : float
        Share of each half that takes part.
    """

    def __init__(
        self,
        source: Source,
        z: Float64,
        precision: Float64,
        contrast: Float64,
        fraction: float,
    ) -> None:
        self.source, self._z, self._precision, self._fraction = source, z, precision, fraction
        self._half_maps = HalfMaps(source, contrast)

    def volume(self, target: Float64) -> Reconstruction:
        """The volume at a point z* (r,)."""
        distance = distances(self._z, self._precision, target)
        chosen = [nested_balls(distance, half, (self._fraction,))[0] for half in self.source.halves]
        levels = [self.source.level(index) for index in chosen]
        _, precision = half_means(levels)
        everybody = self.source.level(np.sort(np.concatenate(chosen)))
        volume = MeanProblem(everybody).solve(precision, _CG_STEPS)
        plain, blind, fsc = self._half_maps.make(chosen)
        return Reconstruction(volume, plain, blind, fsc, len(everybody.index))
