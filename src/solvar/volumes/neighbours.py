"""Balls of particles around a point in latent space, and whose error bars hold it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 20_000


def ellipsoid_distances(z: Float64, precision: Float64, target: Float64) -> Float64:
    """d² = (z_i - z*)ᵀ P_i (z_i - z*): whether a particle's error ellipsoid of some size holds a point.

    It does not say who is near: the less is known of a particle, the smaller it is.

    Parameters
    ----------
    z : (N, r)
        Posterior means.
    precision : (N, r, r)
        Posterior precisions.
    target : (r,)

    Returns
    -------
    (N,) float64
    """
    out = np.empty(len(z))
    for first in range(0, len(z), _CHUNK):
        here = slice(first, first + _CHUNK)
        away = z[here] - target
        out[here] = np.einsum("bi,bij,bj->b", away, precision[here], away, optimize=True)
    return out


def nested_balls(distance: Float64, half: Int64, fractions: tuple[float, ...]) -> list[Int64]:
    """Shells of particles of a half around a point: together the nearest of each fraction.

    Parameters
    ----------
    distance : (N,)
    half : (n,) int64
        The particles of the half.
    fractions : rising shares of n

    Returns
    -------
    list of index arrays, sorted; their first b + 1 hold the nearest fractions[b] · n particles.
    """
    order = half[np.argsort(distance[half], kind="stable")]
    edges = [0, *(max(1, round(share * len(half))) for share in fractions)]
    return [np.sort(order[a:b]) for a, b in pairwise(edges)]
