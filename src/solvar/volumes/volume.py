"""What a reconstruction gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A volume at one point of latent space.

    Attributes
    ----------
    volume : (L, L, L) float32
    half_maps : (2, L, L, L) float32 or None
        Independent maps of the two half-sets, unfiltered; None where the method has none.
    fsc : (S,) float64 or None
        Fourier shell correlation of the half-maps.
    particles : int
        Particles that took part.
    """

    volume: Float32
    half_maps: Float32 | None
    fsc: Float64 | None
    particles: int
