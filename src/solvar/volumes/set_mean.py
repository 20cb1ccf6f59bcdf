"""The Wiener mean of a set of particles: exactly these, all of them, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.mean import MeanProblem
from solvar.fitting.start import half_means
from solvar.imaging.fourier import crop_volume
from solvar.volumes.half_maps import HalfMaps
from solvar.volumes.source import Source
from solvar.volumes.volume import Reconstruction

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CG_STEPS = 3
_FEWEST = 10  # of a half, to tell anything


class SetMean:
    """Makes such means; their prior comes from the halves of the set.

    Parameters
    ----------
    source : Source
    contrast : (N,)
    """

    def __init__(self, source: Source, contrast: Float64) -> None:
        self.source = source
        self._half_maps = HalfMaps(source, contrast)

    def of_members(self, members: Int64) -> Reconstruction:
        """The volume of particles (M,).

        Raises
        ------
        InputError
            If a half-set has too few of them.
        """
        halves = [np.intersect1d(half, members) for half in self.source.halves]
        fewest = min(map(len, halves))
        if fewest < _FEWEST:
            raise InputError(
                f"a set of {len(members)} particles has {fewest} in one half-set; a volume and its "
                f"half-maps need {_FEWEST}",
                remedy="choose a larger set",
            )
        return self.of(halves)

    def of(self, halves: Sequence[Int64]) -> Reconstruction:
        """The volume of particles of either half-set."""
        _, precision = half_means([self.source.band(half) for half in halves])
        everybody = self.source.band(np.sort(np.concatenate(list(halves))))
        found = MeanProblem(everybody).solve(precision, _CG_STEPS)
        images = everybody.images
        return Reconstruction(
            crop_volume(found, images.box),
            self._half_maps.make(halves),
            len(everybody.index),
            images.total_weight(everybody.index),
        )
