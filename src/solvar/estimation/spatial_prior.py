"""Where columns may vary how much: a prior in space, from what two models of disjoint halves agree on.

A molecule changes in some places more than in others, and most of what columns hold elsewhere is noise. The
product of two halves' columns is free of the noise of either on average; its local mean, an estimate of the
variance, says at each place how much there is to find. A column whose coefficients have the precision Λ in
Fourier space has in this prior a variance that is proportional to the weight as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

# of a shortest wave: what the estimate is averaged over (Gaussian, standard deviation)
_SMOOTH = 0.75
# nothing is ruled out: what looked like noise in one band may show in the next
LEAST = 0.05


def spatial_weight(first: Float32, second: Float32, k_c: int) -> Float32:
    """Standard deviation of the density over the particles, as a share of the largest, 0.05 at least.

    Parameters
    ----------
    first, second : (r, L, L, L)
        Columns of two models along the same axes; see `latents.along`.
    k_c : int
        Finest frequency in them.

    Returns
    -------
    (L, L, L) float32
        1 everywhere where the models have nothing in common.
    """
    from scipy.ndimage import gaussian_filter

    variance = np.einsum("rzyx,rzyx->zyx", first, second, dtype=np.float64)
    local = np.maximum(gaussian_filter(variance, _SMOOTH * len(variance) / k_c), 0)
    largest = float(local.max())
    if largest <= 0:
        return np.ones_like(first[0])
    return np.maximum(np.sqrt(local / largest), LEAST).astype(np.float32)
