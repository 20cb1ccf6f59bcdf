"""Images that hold something else than the others do: ice, a carbon edge, a hot pixel, another intensity.

Their power stands out in some range of shells, and by so much that one of them can outweigh all others in a
sum. They are found before anything is estimated, from powers that are summed up as pixels are read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import HalfDisc

Bool = NDArray[np.bool_]
Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

# In robust standard deviations. Among 10⁷ images and ten ranges chance alone reaches 5.6; the rest is for
# populations whose tails are heavier than a normal distribution's
_LIMIT = 8.0
# of a normal distribution, in median absolute deviations
_DEVIATIONS = 1.4826
# a group of fewer images has no quartiles to speak of and is held against all images
_SMALLEST_GROUP = 100
# relative to the median: a population without spread has no outliers but those that stand out by this
_LEAST_SPREAD = 0.02


class PowerRanges:
    """Octaves of shells, 1, 2–3, 4–7 …, in each of which the power of an image is looked at.

    Shell 0 is left out: a grey level is no particle's fault.

    Parameters
    ----------
    disc : HalfDisc
    """

    def __init__(self, disc: HalfDisc) -> None:
        firsts = 2 ** np.arange(int(np.log2(disc.k_c)) + 1)
        # pixels of a disc stand in the order of their shells
        self._start = np.searchsorted(disc.shell, firsts)
        self._numbers = np.add.reduceat(disc.weight, self._start).astype(np.float32)

    def __len__(self) -> int:
        return len(self._start)

    def power(self, data: Complex64) -> Float32:
        """Power of whitened images (R, n) per number of each range, (R, ranges): about 1 for noise."""
        with np.errstate(over="ignore"):
            square = data.real**2 + data.imag**2
            found = np.add.reduceat(square, self._start, axis=1) / self._numbers
        return np.minimum(found, np.finfo(np.float32).max)


def monstrous(power: Float32, group: Int64) -> Bool:
    """Whether the power of images is far beyond what their population shows.

    The cube root of a power is close to normally distributed (Wilson & Hilferty 1931), from a few pixels on;
    median and median absolute deviation do not see the outliers themselves, up to half of the images.

    Parameters
    ----------
    power : (N, ranges)
    group : (N,)
        Optics group of each.
    """
    numbers = [number for number in np.unique(group) if np.sum(group == number) >= _SMALLEST_GROUP]
    found = np.zeros(len(power), bool)
    # one range after the other: no copies of all powers
    for column in power.T:
        root = np.cbrt(column.astype(np.float64))
        far = _stands_out(root)
        for members in (group == number for number in numbers):
            far[members] = _stands_out(root[members])
        found |= far
    return found


def _stands_out(root: NDArray[np.float64]) -> Bool:
    middle = np.median(root)
    spread = _DEVIATIONS * np.median(np.abs(root - middle))
    spread = max(spread, _LEAST_SPREAD * middle)
    return np.asarray(root - middle > _LIMIT * spread, bool)
