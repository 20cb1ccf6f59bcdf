"""What of pose corrections follows from the shape: where input poses know nothing of it, nothing should."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_MOST = 20_000
# twice as far in all converges whatever ρ is
_SMALLEST_HASTE, _LARGEST_HASTE = 1.0, 4.0


def of_shape(turn: Float64, z: Float64) -> Float64:
    """What the shapes of particles predict of rotations, (N, 3).

    Parameters
    ----------
    turn : (N, 3)
        Rotation vectors.
    z : (N, r)
        Latents, r may be 0. Their squares and products take part, shrunk as leave-one-out errors ask for.
    """
    if z.shape[1] == 0:
        return np.zeros_like(turn)

    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    few = turn[:: -(-len(turn) // _MOST)], z[:: -(-len(turn) // _MOST)]
    penalties = len(few[0]) * np.logspace(-3, 3, 13)
    shape = make_pipeline(PolynomialFeatures(2), StandardScaler(), RidgeCV(penalties))
    shape.fit(few[1], few[0])
    return np.asarray(shape.predict(z), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ShapeTurns:
    """How the poses of a round turned as the shapes of the particles predict, and how much further they went.

    Where refinement against a mean has turned every shape, turns that lead back shrink by about the same
    factor ρ from round to round, and slowly: the mean that they are found in has the same fault. Going
    1/(1 - ρ) times as far leads to where they end.

    Attributes
    ----------
    step : (N, 3) float64
        Rotation vectors.
    haste : float
        They were followed by `haste` times themselves.
    """

    step: Float64
    haste: float = 0.0

    def after(self, earlier: ShapeTurns) -> ShapeTurns:
        """The same, knowing how far to go on by how these turns follow on earlier ones."""
        before = float(np.sum(earlier.step**2))
        if before == 0:
            return replace(self, haste=_SMALLEST_HASTE)
        ratio = float(np.sum(self.step * earlier.step)) / before
        # e ← e - (1 + h)(1 - ρ)e between the two
        slowness = 1 - (1 - ratio) / (1 + earlier.haste)
        slowness = min(slowness, 1 - 1 / (1 + _LARGEST_HASTE))
        return replace(self, haste=max(slowness / (1 - slowness), _SMALLEST_HASTE))
