"""Where the molecule changes: the variance of density from particle to particle, voxel by voxel.

Noise in a component adds its square to the component's own. Two models from disjoint halves have noise of
their own, whose product is nothing on average: so each voxel of one is multiplied by that of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

# what halves differ by at a voxel is a single draw: its spread is that of the neighbours, some waves around
_NEIGHBOURS = 1.5
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True, eq=False)
class LocalVariance:
    """Variance of the density at each voxel over the particles, density units squared.

    Attributes
    ----------
    variance : (L, L, L) float32
        [z, y, x]. An estimate free of the noise of components: below 0 where there is nothing but noise.
    error : (L, L, L) float32
        Standard error of it.
    """

    variance: Float32
    error: Float32

    @property
    def spread(self) -> Float32:
        """Standard deviation of the density where it is beyond three errors of the variance, 0 elsewhere."""
        certain = self.variance > _STANDARD_ERRORS * self.error
        return np.sqrt(np.where(certain, np.maximum(self.variance, 0), 0), dtype=np.float32)


def local_variance(pairs: Iterable[tuple[Float32, Float32]], wave: float) -> LocalVariance:
    """The variance that components stand for, from two halves that see them.

    Parameters
    ----------
    pairs : iterable of two (L, L, L) float32
        √eigenvalue·eigenvolume of each component, as either half has it; both have the same axes. One pair
        at least.
    wave : float
        Voxels of the shortest wave in them.
    """
    from scipy.ndimage import gaussian_filter

    variance = square = np.zeros(1, np.float32)
    for first, second in pairs:
        product = first * second
        noise = gaussian_filter((first - second) ** 2 / 2, _NEIGHBOURS * wave)
        signal = np.maximum(((first + second) / 2) ** 2 - noise / 2, 0)
        variance = variance + product
        # of (v + e)(v + f), e and f of variance s: 2 v² s + s²
        square = square + 2 * signal * noise + noise**2
    return LocalVariance(variance, np.sqrt(square))
