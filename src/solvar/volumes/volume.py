"""What a reconstruction gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.volumes.fsc import FscCurves

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A volume at one point of latent space.

    Attributes
    ----------
    volume : (L, L, L) float32
    half_maps : (2, L, L, L) float32 or None
        Averages of either half-set's images, unfiltered and not masked; None where the method has none.
    blind_half_maps : (2, L, L, L) float32 or None
        The same without what the choice of particles has looked at (`half_maps.py`).
    fsc : FscCurves or None
        Of `blind_half_maps`.
    particles : int
        Particles that took part.
    """

    volume: Float32
    half_maps: Float32 | None
    blind_half_maps: Float32 | None
    fsc: FscCurves | None
    particles: int
