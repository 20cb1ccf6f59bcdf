"""Whether latents keep the neighbourhoods of the true states.

Distances are Euclidean in the latents as they are: for orthonormal eigenvolumes that is the distance of the
volumes. Particles that share a true state are equally near; how ties count is said with each number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST_PARTICLES = 5_000  # all pairs of them are compared
_ROWS = 500
_FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Shared neighbours at several sizes k of the neighbourhood.

    Attributes
    ----------
    neighbours : (m,) int64
        k, without the particle itself.
    fraction : (m,) float64
        k over the number of other particles.
    similarity : (m,) float64
        Share of the k nearest in latents that are among the k nearest true ones.
    chance : (m,) float64
        The same for random latents: k / (N - 1), more with ties.
    """

    neighbours: Int64
    fraction: Float64
    similarity: Float64
    chance: Float64


def neighbourhood_similarity(
    z: Float64,
    coordinate: Float64,
    fractions: tuple[float, ...] = _FRACTIONS,
    most: int = _MOST_PARTICLES,
    seed: int = 0,
) -> Neighbourhoods:
    """Overlap of nearest neighbours in latents and in the true state space (CryoBench).

    A particle as near in truth as the k-th nearest counts as one of the k: where many share a state, latents
    that keep them together get 1 and not what an arbitrary order of equals would give.

    Parameters
    ----------
    z : (N, r)
    coordinate : (N,) or (N, d)
        True state.
    fractions : tuple of float
        Sizes of the neighbourhood over the number of particles.
    most : int
        More particles are sampled.
    seed : int
    """
    latent, true = _sampled(z, coordinate, most, seed)
    others = len(latent) - 1
    if others < 1:
        raise ValueError("neighbours need two particles")
    sizes = np.unique(np.clip(np.rint(np.array(fractions) * others), 1, others)).astype(np.int64)
    shared, chance = np.zeros(len(sizes)), np.zeros(len(sizes))
    for near, far in _distances(latent, true):
        nearest = np.argsort(near, axis=1)
        in_order, ascending = np.take_along_axis(far, nearest, axis=1), np.sort(far, axis=1)
        for m, k in enumerate(sizes):
            limit = ascending[:, k - 1, None] * (1 + _ROUNDING)
            shared[m] += (in_order[:, :k] <= limit).sum() / k
            chance[m] += (ascending[:, :others] <= limit).sum() / others
    return Neighbourhoods(sizes, sizes / others, shared / len(latent), chance / len(latent))


def information_imbalance(
    first: Float64, second: Float64, most: int = _MOST_PARTICLES, seed: int = 0
) -> float:
    """How badly neighbours in one space predict those in another: Δ(first → second).

    2/N² Σ_i r_i, where r_i is the rank in `second` (1 the nearest) of particle i's nearest neighbour in
    `first` (Glielmo et al., PNAS Nexus 2022). Equals in `second` share their mean rank and equals in
    `first` are averaged, so that chance stays at 1; K equal states then cannot give less than about 1/K.

    Parameters
    ----------
    first, second : (N,) or (N, d)
    most : int
        More particles are sampled.
    seed : int

    Returns
    -------
    float
        About 0 when `first` tells all about `second`, about 1 when it tells nothing.
    """
    one, other = _sampled(first, second, most, seed)
    total = 0.0
    for near, far in _distances(one, other):
        for row, targets in zip(near, far, strict=True):
            least = row.min() * (1 + _ROUNDING)
            ascending = np.sort(targets)
            asked = targets[row <= least]
            before = np.searchsorted(ascending, asked * (1 - _ROUNDING), side="left")
            until = np.searchsorted(ascending, asked * (1 + _ROUNDING), side="right")
            total += float((before + until + 1).mean() / 2)
    return 2 * total / len(one) ** 2


def _sampled(first: Float64, second: Float64, most: int, seed: int) -> tuple[Float64, Float64]:
    if len(first) != len(second):
        raise ValueError("both spaces need the same particles")
    one, other = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (first, second))
    if len(one) > most:
        chosen = np.random.default_rng(seed).choice(len(one), most, replace=False)
        one, other = one[chosen], other[chosen]
    return one, other


def _distances(first: Float64, second: Float64) -> Iterator[tuple[Float64, Float64]]:
    """Distances in both spaces, a block of rows at a time; infinite to itself."""
    from scipy.spatial.distance import cdist

    for start in range(0, len(first), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(first)))
        # not by the expansion of the square, whose rounding would part what is equal
        block = [cdist(space[rows], space) for space in (first, second)]
        for distance in block:
            distance[rows - start, rows] = np.inf
        yield block[0], block[1]
