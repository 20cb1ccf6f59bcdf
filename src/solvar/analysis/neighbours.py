"""Nearest neighbours: a tree in few dimensions, blocked brute force where trees stop helping."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Measured on Gaussian points: above this dimension a k-d tree visits most of its leaves.
_TREE_DIMENSION = 4


def nearest(points: Float64, queries: Float64, count: int) -> tuple[Float64, Int64]:
    """Distances and indices (Q, count) of the nearest `points` (M, m) of each query (Q, m)."""
    from sklearn.neighbors import NearestNeighbors

    tree = points.shape[1] <= _TREE_DIMENSION
    # float32 halves the memory traffic of brute force; whitened latents need no more digits
    dtype = np.float64 if tree else np.float32
    search = NearestNeighbors(algorithm="kd_tree" if tree else "brute", n_jobs=-1)
    search.fit(np.ascontiguousarray(points, dtype))
    distance, index = search.kneighbors(np.ascontiguousarray(queries, dtype), count)
    return distance.astype(np.float64), index.astype(np.int64)


def sample(count: int, limit: int, seed: int) -> Int64:
    """At most `limit` of `count` rows, drawn without replacement, ascending."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
