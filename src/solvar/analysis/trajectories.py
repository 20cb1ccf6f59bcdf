"""Paths through the latents that stay where particles are: shortest paths on a neighbour graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from solvar.analysis.clusters import Clusters
from solvar.analysis.neighbours import nearest, sample
from solvar.errors import InputError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LANDMARKS = 100_000
_LOW, _HIGH = 5.0, 95.0  # percentiles of the extremes
_WINDOW = 2.0  # percentiles around them in which the densest particle is taken
_PAIRS = 2_000  # dense particles among which the most distant pair is sought


@dataclass(frozen=True, eq=False)
class Graph:
    """Neighbours among at most 100,000 landmarks.

    Attributes
    ----------
    row : (M,) int64
        The particles that are landmarks.
    points : (M, m) float64
        Their whitened latents.
    weights : (M, M) sparse
        2 |z_i - z_j| / (p_i + p_j) between neighbours, p the density relative to its median.
    """

    row: Int64
    points: Float64
    weights: csr_array


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A path through the latents.

    Attributes
    ----------
    name : str
        How the ends were chosen.
    points : (n, m) float64
        Whitened latents, equidistant along the path.
    nodes : (p,) int64
        The particles that the path runs through.
    length : float
        Arc length in prior standard deviations.
    log_density : (n,) float64
        Relative log-density of the particle nearest to each point.
    """

    name: str
    points: Float64
    nodes: Int64
    length: float
    log_density: Float64


def build_graph(
    points: Float64,
    log_density: Float64,
    neighbours: int = 15,
    seed: int = 0,
    limit: int = LANDMARKS,
) -> Graph:
    """Connect each landmark to its nearest ones; separate parts are joined at their closest pair.

    Parameters
    ----------
    points : (N, m) float64
        Whitened latents.
    log_density : (N,) float64
    neighbours : int
    seed : int
        Draws the landmarks when there are more particles than `limit`.
    """
    row = sample(len(points), limit, seed)
    points = points[row]
    neighbours = min(neighbours, len(points) - 1)
    _, index = nearest(points, points, neighbours + 1)
    source = np.repeat(np.arange(len(points)), neighbours + 1)
    pairs = np.stack([source, index.reshape(-1)], axis=1)
    pairs = np.concatenate([pairs, _bridges(points, pairs)])
    # in ten dimensions neighbour distances scatter: the extremes would make edges of no or endless length
    density = np.exp(np.clip(log_density[row], *np.quantile(log_density, [0.001, 0.999])))
    return Graph(row, points, _weights(points, density, pairs))


def _weights(points: Float64, density: Float64, pairs: Int64) -> csr_array:
    """Symmetric sparse edge lengths (M, M) of `pairs` (E, 2)."""
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    first, second = pairs.T
    distance = np.linalg.norm(points[first] - points[second], axis=1)
    # a length of 0 would be no edge at all in a sparse graph
    weight = np.maximum(2 * distance / (density[first] + density[second]), 1e-12)
    half = csr_array((weight, (first, second)), shape=(len(points), len(points)))
    return csr_array(half + half.T)


def _bridges(points: Float64, pairs: Int64) -> Int64:
    """One pair (B, 2) from each separate part to its nearest point of the largest part."""
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs))
    graph = csr_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    parts, part = connected_components(graph, directed=False)
    if parts == 1:
        return np.empty((0, 2), np.int64)
    main = part == np.bincount(part).argmax()
    inside, outside = np.flatnonzero(main), np.flatnonzero(~main)
    distance, index = nearest(points[inside], points[outside], 1)
    order = np.lexsort((distance[:, 0], part[outside]))
    _, first = np.unique(part[outside][order], return_index=True)
    chosen = order[first]
    return np.stack([outside[chosen], inside[index[chosen, 0]]], axis=1)


def find_path(
    graph: Graph,
    start: Float64,
    end: Float64,
    count: int,
    *,
    name: str = "path",
    log_density: Float64 | None = None,
) -> Trajectory:
    """Shortest path between the landmarks nearest to two whitened points, resampled.

    Parameters
    ----------
    graph : Graph
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
    from scipy.sparse.csgraph import dijkstra

    _, ends = nearest(graph.points, np.stack([start, end]), 1)
    first, last = int(ends[0, 0]), int(ends[1, 0])
    if first == last:
        raise InputError(f"the two ends of path {name} fall on the same particle")
    _, before = dijkstra(graph.weights, directed=False, indices=first, return_predecessors=True)
    nodes = [last]
    while nodes[-1] != first:
        nodes.append(int(before[nodes[-1]]))
    nodes.reverse()
    corners = np.concatenate([start[None], graph.points[nodes[1:-1]], end[None]])
    points = smoothed(corners, count)
    _, close = nearest(graph.points, points, 1)
    rows = graph.row[close[:, 0]]
    density = np.full(count, np.nan) if log_density is None else log_density[rows]
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return Trajectory(name, points, graph.row[nodes], length, density)


def smoothed(corners: Float64, count: int) -> Float64:
    """Path (n, m) of `count` equidistant points through `corners` (p, m), the ends kept.

    A path over particles zigzags with their errors; a Gaussian along the arc, half a step between the
    points wide, removes what the points could not show anyway.
    """
    from scipy.ndimage import gaussian_filter1d

    fine = 10
    dense = resampled(corners, fine * (count - 1) + 1)
    # odd reflection keeps the ends in place and the path from shrinking towards its middle
    width = min(2 * fine, len(dense) - 1)
    before = 2 * dense[0] - dense[width:0:-1]
    after = 2 * dense[-1] - dense[-2 : -width - 2 : -1]
    smooth = gaussian_filter1d(np.concatenate([before, dense, after]), fine / 2, axis=0)
    smooth = smooth[len(before) : len(before) + len(dense)]
    smooth[0], smooth[-1] = dense[0], dense[-1]
    return resampled(smooth, count)


def resampled(corners: Float64, count: int) -> Float64:
    """`count` points (n, m) equidistant along the polygon through `corners` (p, m)."""
    step = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(step)])
    wanted = np.linspace(0, arc[-1], count)
    return np.stack([np.interp(wanted, arc, column) for column in corners.T], axis=1)


def propose_ends(
    kind: str,
    points: Float64,
    log_density: Float64,
    clusters: Clusters,
    *,
    axis: int = 0,
    seed: int = 0,
) -> tuple[int, int]:
    """Two particles between which a path is worth a look.

    Parameters
    ----------
    kind : {"extremes", "distant", "densest"}
        The densest particles near the 5th and 95th percentile along `axis`; the two particles
        farthest apart among the denser half; those at the centres of the two densest clusters.
    points : (N, m) float64
        Whitened latents.
    log_density : (N,) float64
    clusters : Clusters
    axis : int
    seed : int

    Returns
    -------
    start, end : int
        Rows of the particles.
    """
    if kind == "extremes":
        low, high = (_dense_near(points[:, axis], log_density, p) for p in (_LOW, _HIGH))
        return low, high
    if kind == "densest":
        order = np.argsort(-log_density[clusters.nearest], kind="stable")
        first, second = clusters.nearest[order[:2]]
        return int(first), int(second)
    from scipy.spatial.distance import cdist

    dense = np.flatnonzero(log_density >= np.median(log_density))
    dense = dense[sample(len(dense), _PAIRS, seed)]
    far = cdist(points[dense], points[dense])
    first, second = np.unravel_index(int(far.argmax()), far.shape)
    return int(dense[first]), int(dense[second])


def _dense_near(values: Float64, log_density: Float64, percentile: float) -> int:
    """The densest particle within two percentiles of one percentile of `values` (N,)."""
    low, high = np.percentile(values, [percentile - _WINDOW, percentile + _WINDOW])
    near = np.flatnonzero((values >= low) & (values <= high))
    return int(near[log_density[near].argmax()])
