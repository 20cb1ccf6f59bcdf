"""Paths through the latents that stay where particles are: along ridges of their density."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.clusters import Clusters
from solvar.analysis.mixture import Likelihoods, Mixture
from solvar.analysis.neighbours import nearest
from solvar.analysis.ridges import equidistant, ridges
from solvar.errors import InputError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

EXTREMES = 5.0, 95.0  # percentiles
_WINDOW = 2.0  # percentiles around them in which the densest particle is taken
_FINE = 6  # nodes of the relaxed path, a point of the result
_FLOOR = -30.0  # log of the lowest density that a way is told from others by
_SMOOTHING = 0.5  # of the corners where ridges meet, points of the result
# a point is in a gap that has so few particles behind it, of the most behind one of its path
_GAP = 0.05


@dataclass(frozen=True, eq=False)
class Field:
    """Where posterior means lie and the latents themselves: what paths are laid through.

    Attributes
    ----------
    points : (N, m) float64
        Posterior means in prior standard deviations.
    density : Mixture
        Of posterior means.
    near : Mixture
        Density of what lies within an error of a place, errors taken out.
    shrink, error : (m, m) float64
        What a typical posterior mean is of a latent, and the covariance of the error beside it.
    particles : float
        Number of images that show one.
    """

    points: Float64
    density: Mixture
    near: Mixture
    shrink: Float64
    error: Float64
    particles: float

    @classmethod
    def of(cls, mixture: Mixture, seen: Likelihoods) -> Field:
        """From the density of the latents: shrunk and blurred as those of a typical particle."""
        error = seen.error
        shrink = np.asarray(np.linalg.inv(np.eye(len(error)) + error), dtype=np.float64)
        spread = shrink @ (mixture.covariance + error) @ shrink.T
        density = Mixture(mixture.share, mixture.mean @ shrink.T, spread)
        count = float(seen.weight.sum())
        return cls(seen.expected, density, mixture.widened(error), shrink, error, count)

    def behind(self, points: Float64) -> Int64:
        """How many particles (n,) are within an error of points (n, m): Σ exp(-d²/2) over their latents."""
        there = np.asarray(np.linalg.solve(self.shrink, points.T).T, dtype=np.float64)
        volume = np.sqrt(np.linalg.det(2 * np.pi * self.error))
        density = np.exp(self.near.log_density(there))
        return np.round(self.particles * volume * density).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A path through the latents.

    Attributes
    ----------
    name : str
        How the ends were chosen.
    points : (n, m) float64
        Whitened latents, equidistant along the path.
    nodes : (n,) int64
        The particle nearest to each point.
    behind : (n,) int64
        How many particles stand behind each point: are within an error of it.
    length : float
        Arc length in prior standard deviations.
    log_density : (n,) float64
        Relative log-density of the particle nearest to each point.
    """

    name: str
    points: Float64
    nodes: Int64
    behind: Int64
    length: float
    log_density: Float64

    @property
    def crosses_gap(self) -> bool:
        """Whether it leads through a place where hardly a particle is; its ends are particles."""
        return bool((self.behind[1:-1] < _GAP * self.behind.max()).any())


def find_path(
    field: Field,
    start: Float64,
    end: Float64,
    count: int,
    *,
    name: str = "path",
    log_density: Float64 | None = None,
) -> Trajectory:
    """The way between two whitened points on which particles are most frequent.

    Ridges connect the ends and the centres of all Gaussians; the way is that of least ∫ ds / density.

    Parameters
    ----------
    field : Field
    start, end : (m,) float64
    count : int
        Points of the result, equidistant along its arc; the first and last are `start` and `end`.
    name : str
    log_density : (N,) float64, optional
        Of all particles, to be reported along the path.

    Raises
    ------
    InputError
        If both ends are nearest to the same particle.
    """
    _, ends = nearest(field.points, np.stack([start, end]), 1)
    if ends[0, 0] == ends[1, 0]:
        raise InputError(f"the two ends of path {name} fall on the same particle")
    places = np.concatenate([start[None], end[None], field.density.mean])
    corners = _Network.between(field.density, places).way(0, 1)
    points = smoothed(equidistant(corners, _FINE * (count - 1) + 1), count)
    _, close = nearest(field.points, points, 1)
    rows = close[:, 0]
    density = np.full(count, np.nan) if log_density is None else log_density[rows]
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return Trajectory(name, points, rows, field.behind(points), length, density)


@dataclass(frozen=True, eq=False)
class _Network:
    """Ridges between all pairs of some places.

    Attributes
    ----------
    ridge : dict of (int, int) to (n, m) float64
        By the numbers of two places, the smaller first.
    cost : (p, p) float64
        ∫ ds / density along each.
    before : (p, p) int
        The place before the second one on the way of least cost from the first.
    """

    ridge: dict[tuple[int, int], Float64]
    cost: Float64
    before: Int64

    @classmethod
    def between(cls, density: Mixture, places: Float64) -> _Network:
        """Of places (p, m)."""
        from scipy.sparse.csgraph import dijkstra

        first, second = np.triu_indices(len(places), 1)
        paths = ridges(density, places[first], places[second])
        height = density.log_density(paths.reshape(-1, places.shape[1])).reshape(len(paths), -1)
        rarity = np.exp(-np.maximum(height - height.max(), _FLOOR))
        step = np.linalg.norm(np.diff(paths, axis=1), axis=2)
        cost = np.zeros((len(places), len(places)))
        # 0 would be no ridge at all
        cost[first, second] = ((rarity[:, 1:] + rarity[:, :-1]) / 2 * step).sum(axis=1) + 1e-12
        _, before = dijkstra(cost, directed=False, return_predecessors=True)
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return cls(dict(zip(pairs, paths, strict=True)), cost, before)

    def way(self, start: int, end: int) -> Float64:
        """Corners (p, m) of the way of least cost from one place to another."""
        route = [end]
        while route[-1] != start:
            route.append(int(self.before[start, route[-1]]))
        route.reverse()
        legs = [self._leg(*pair) for pair in pairwise(route)]
        return np.concatenate([*(leg[:-1] for leg in legs), legs[-1][-1:]])

    def _leg(self, start: int, end: int) -> Float64:
        return self.ridge[start, end] if start < end else self.ridge[end, start][::-1]


def most_distant(field: Field) -> tuple[int, int]:
    """The two particles between whose places the way is longest; one twice where there is one place."""
    centres = field.density.mean
    if len(centres) == 1:
        return 0, 0
    network = _Network.between(field.density, centres)
    pairs = list(network.ridge)
    length = [np.linalg.norm(np.diff(network.way(*pair), axis=0), axis=1).sum() for pair in pairs]
    _, ends = nearest(field.points, centres[list(pairs[int(np.argmax(length))])], 1)
    return int(ends[0, 0]), int(ends[1, 0])


def smoothed(fine: Float64, count: int) -> Float64:
    """Path (n, m) of `count` equidistant points along a finer one, corners rounded, the ends kept."""
    from scipy.ndimage import gaussian_filter1d

    # odd reflection keeps the ends in place and the path from shrinking towards its middle
    width = min(2 * _FINE, len(fine) - 1)
    before = 2 * fine[0] - fine[width:0:-1]
    after = 2 * fine[-1] - fine[-2 : -width - 2 : -1]
    smooth = gaussian_filter1d(np.concatenate([before, fine, after]), _SMOOTHING * _FINE, axis=0)
    smooth = smooth[len(before) : len(before) + len(fine)]
    smooth[0], smooth[-1] = fine[0], fine[-1]
    return equidistant(smooth, count)


def propose_ends(
    kind: str, field: Field, log_density: Float64, clusters: Clusters, *, axis: int = 0
) -> tuple[int, int]:
    """Two particles between which a path is worth a look.

    Parameters
    ----------
    kind : {"extremes", "distant", "densest"}
        The densest particles near the 5th and 95th percentile along `axis`; the two ends of the longest
        way; the centres of the two densest clusters.
    field : Field
    log_density : (N,) float64
    clusters : Clusters
    axis : int

    Returns
    -------
    start, end : int
        Rows of the particles.
    """
    if kind == "extremes":
        return extreme_ends(field, log_density, axis)
    if kind == "densest":
        order = np.argsort(-log_density[clusters.nearest], kind="stable")
        first, second = clusters.nearest[order[:2]]
        return int(first), int(second)
    return most_distant(field)


def extreme_ends(field: Field, log_density: Float64, axis: int) -> tuple[int, int]:
    """The densest particles near the 5th and 95th percentile along an axis."""
    values = field.points[:, axis]
    low, high = (_dense_near(values, log_density, percentile) for percentile in EXTREMES)
    return low, high


def _dense_near(values: Float64, log_density: Float64, percentile: float) -> int:
    """The densest particle within two percentiles of one percentile of `values` (N,)."""
    low, high = np.percentile(values, [percentile - _WINDOW, percentile + _WINDOW])
    near = np.flatnonzero((values >= low) & (values <= high))
    return int(near[log_density[near].argmax()])
