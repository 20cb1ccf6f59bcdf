"""Where the surface of a molecule is in its density."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def contour_level(volume: NDArray[np.float32]) -> float:
    """Contour between the molecule and what surrounds it: Otsu's threshold above 2 σ of the box.

    Solvent is left out first, as it is most of the box and would decide alone.
    """
    bright = volume[volume > volume.mean() + 2 * volume.std()]
    if len(bright) < 2:
        return float(volume.max() / 2)
    counts, edges = np.histogram(bright, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1] / len(bright)
    first_moment = np.cumsum(counts * centres)[:-1] / len(bright)
    mean = np.sum(counts * centres) / len(bright)
    # the first and the last bin hold an extreme each, so no class is empty
    between = (mean * below - first_moment) ** 2 / (below * (1 - below))
    return float(centres[np.argmax(between)])
