"""What of pose corrections follows from the shape: where input poses know nothing of it, nothing should."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_MOST = 20_000


def without_shape(turn: Float64, z: Float64) -> Float64:
    """Corrections without what the shapes of the particles predict of them.

    Where input poses know nothing of the shape, no part of their errors does: what a regression finds is a
    rotation that moved from V into the poses, or noise that moved pose and latents together.

    Parameters
    ----------
    turn : (N, 3)
        Rotations so far relative to the input, as rotation vectors.
    z : (N, r)
        Latents. Their squares and products take part, shrunk as leave-one-out errors ask for.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    few = turn[:: -(-len(turn) // _MOST)], z[:: -(-len(turn) // _MOST)]
    penalties = len(few[0]) * np.logspace(-3, 3, 13)
    shape = make_pipeline(PolynomialFeatures(2), StandardScaler(), RidgeCV(penalties))
    shape.fit(few[1], few[0])
    return np.asarray(turn - shape.predict(z), dtype=np.float64)
