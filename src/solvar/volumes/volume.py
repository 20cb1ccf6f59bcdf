"""What a reconstruction gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fsc import FscCurves

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


# what is appended to the name of a volume for the files that belong to it
PARTS = ("_half1", "_half2", "_postprocessed", "_local_resolution", "_local_filtered")


@dataclass(frozen=True, eq=False)
class Halves:
    """Half-maps of the particles of one volume, unfiltered and not masked.

    Attributes
    ----------
    plain : (2, L, L, L) float32
        Averages of either half-set's images.
    blind : (2, L, L, L) float32
        The same without what the choice of particles has looked at (`half_maps.py`).
    plain_fsc : (S,) float64
        Of `plain` in the mask: too high, and said only to show by how much.
    fsc : FscCurves
        Of `blind`.
    """

    plain: Float32
    blind: Float32
    plain_fsc: Float64
    fsc: FscCurves


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A volume at one point of latent space.

    Attributes
    ----------
    volume : (L, L, L) float32
    halves : Halves or None
        None where the method has no half-maps.
    particles : int
        Particles that took part.
    effective : float or None
        As how many they count, by the probability that their images show one; None where nobody took part.
    """

    volume: Float32
    halves: Halves | None
    particles: int
    effective: float | None = None
