"""Hills of a density, and the ridges on which one gets from one to another without losing height."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Mixture

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CLIMBS, _RELAXATIONS = 200, 60
_NODES = 25
_SAME = 0.02  # prior standard deviations: nearer tops are one
_PULL = 0.5


def step_uphill(mixture: Mixture, points: Float64) -> Float64:
    """A mean-shift step (n, m) from points (n, m): uphill, and as far as the Gaussians there are wide."""
    share, inverse = _there(mixture, points)
    pull = np.einsum("kij,kj->ki", inverse, mixture.mean)
    width = np.einsum("nk,kij->nij", share, inverse, optimize=True)
    to = np.linalg.solve(width, (share @ pull)[..., None])[..., 0]
    return np.asarray(to - points, dtype=np.float64)


def widths(mixture: Mixture, points: Float64) -> Float64:
    """Covariance (n, m, m) of the Gaussians at points (n, m): the inverse of their mean inverse there."""
    share, inverse = _there(mixture, points)
    mean = np.einsum("nk,kij->nij", share, inverse, optimize=True)
    return np.asarray(np.linalg.inv(mean), dtype=np.float64)


def _there(mixture: Mixture, points: Float64) -> tuple[Float64, Float64]:
    """Share (n, K) that each Gaussian has of the density at points, and inverse covariances (K, m, m)."""
    from scipy.special import softmax

    inverse = np.linalg.inv(mixture.covariance)
    return softmax(mixture.log_parts(points), axis=1), np.asarray(inverse, dtype=np.float64)


def tops(mixture: Mixture, start: Float64) -> tuple[Float64, Int64]:
    """The hilltops (H, m) that one climbs to from points (n, m), the highest first, and which one (n,)."""
    points = start.copy()
    for _ in range(_CLIMBS):
        move = step_uphill(mixture, points)
        points += move
        if np.abs(move).max() < _SAME / 100:
            break
    order = np.argsort(-mixture.log_density(points), kind="stable")
    found, which = list[Float64](), np.empty(len(points), np.int64)
    for i in order:
        near = [h for h, top in enumerate(found) if np.linalg.norm(points[i] - top) < _SAME]
        which[i] = near[0] if near else len(found)
        if not near:
            found.append(points[i])
    return np.stack(found), which


def ridges(mixture: Mixture, starts: Float64, ends: Float64, nodes: int = _NODES) -> Float64:
    """Paths (P, n, m) between points (P, m), relaxed sideways uphill until they run along ridges.

    Nodes stay equidistant; ends stay where they are (the string method of E, Ren and Vanden-Eijnden 2002,
    Phys. Rev. B 66, 052301).
    """
    along = np.linspace(0, 1, nodes)[None, :, None]
    paths = starts[:, None] + (ends - starts)[:, None] * along
    for _ in range(_RELAXATIONS):
        move = step_uphill(mixture, paths.reshape(-1, paths.shape[2])).reshape(paths.shape)
        tangent = np.gradient(paths, axis=1)
        tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + np.finfo(np.float64).tiny
        move -= (move * tangent).sum(axis=2, keepdims=True) * tangent
        move[:, [0, -1]] = 0
        paths = np.stack([equidistant(path, nodes) for path in paths + _PULL * move])
    return paths


def equidistant(corners: Float64, count: int) -> Float64:
    """`count` points (n, m) equidistant along the polygon through `corners` (p, m)."""
    step = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(step)])
    wanted = np.linspace(0, arc[-1], count)
    return np.stack([np.interp(wanted, arc, column) for column in corners.T], axis=1)


def log_passes(mixture: Mixture, hills: Float64) -> Float64:
    """Log density (H, H) at the lowest place of the best way between two hills; their own on the diagonal.

    The best way may lead over other hills.
    """
    return over_other_hills(log_direct_passes(mixture, hills))


def over_other_hills(direct: Float64) -> Float64:
    """Passes (H, H) of the best ways, of those of direct ones."""
    found = direct
    for k in range(len(direct)):
        found = np.maximum(found, np.minimum(found[:, k, None], found[None, k]))
    return found


def log_direct_passes(mixture: Mixture, hills: Float64) -> Float64:
    """Log density (H, H) at the lowest place of the ridge from one hill straight to another."""
    found = np.diag(mixture.log_density(hills))
    first, second = np.tril_indices(len(hills), -1)
    if len(first):
        paths = ridges(mixture, hills[first], hills[second])
        lowest = mixture.log_density(paths.reshape(-1, hills.shape[1])).reshape(len(first), -1)
        found[first, second] = found[second, first] = lowest.min(axis=1)
    return found
