"""What a run found of the images of tilt series, and these images with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.particles import Exposures
from solvar.particles.exposures import ranges

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OwnTilts:
    """Of N particles with M images.

    Attributes
    ----------
    count : (N,) int64
        How many images each particle has.
    shift_angstrom : (M, 2) float64 or None
    contrast : (M,) float64 or None
        As in `Exposures`; None where the run kept what its input had.
    """

    count: Int64
    shift_angstrom: Float64 | None = None
    contrast: Float64 | None = None

    def of(self, index: Int64) -> OwnTilts:
        """Of the particles at positions `index`, in any order."""
        place = ranges((np.cumsum(self.count) - self.count)[index], self.count[index])
        shift, contrast = (
            None if values is None else values[place]
            for values in (self.shift_angstrom, self.contrast)
        )
        return OwnTilts(self.count[index], shift, contrast)

    def given_to(self, images: Exposures, used: NDArray[np.bool_]) -> Exposures | None:
        """Images with these shifts and contrasts, those that are not `used` with their own.

        None where a particle has another number of images.
        """
        if not np.array_equal(np.bincount(images.particle[used]), self.count):
            return None
        if self.shift_angstrom is not None:
            still = np.zeros((len(images), 2))
            shift = still if images.shift_angstrom is None else images.shift_angstrom.copy()
            shift[used] = self.shift_angstrom
            images = replace(images, shift_angstrom=shift)
        if self.contrast is not None:
            contrast = np.ones(len(images))
            contrast[used] = self.contrast
            images = replace(images, contrast=contrast)
        return images
