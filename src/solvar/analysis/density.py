"""Where particles lie: the density of two latents with their errors taken out, drawn where particles are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Likelihoods, Mixture
from solvar.analysis.neighbours import nearest, sample
from solvar.analysis.valleys import visible

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SAMPLE = 20_000
_MARGIN = 2.0  # errors beyond the outermost particles
# expected particles within one error of a place; with fewer, nothing is drawn there
_FEWEST = 1.0


@dataclass(frozen=True, eq=False)
class DensityMap:
    """Density in the plane of two components, on a grid of G × G nodes, axes y, x.

    Attributes
    ----------
    components : tuple of int
        Zero-based components of x and y.
    x, y : (G,) float64
        Nodes in eigenvolume units.
    raw : (G, G) float64
        Density of the posterior means; sums to 1.
    deconvolved : (G, G) float64
        Density of the latents themselves, errors and shrinkage taken out, 0 where next to no particle lies;
        sums to 1.
    gaussians : int
        How many it is made of.
    """

    components: tuple[int, int]
    x: Float64
    y: Float64
    raw: Float64
    deconvolved: Float64
    gaussians: int


def density_map(
    mixture: Mixture,
    seen: Likelihoods,
    scale: Float64,
    *,
    components: tuple[int, int],
    place: tuple[int, int] = (0, 1),
    grid: int = 64,
) -> DensityMap:
    """The density of two of the m components of a mixture.

    Parameters
    ----------
    mixture : Mixture
    seen : Likelihoods
        Of the particles that it was made of.
    scale : (2,) float64
        Prior standard deviations of the two, eigenvolume units.
    components : tuple of int
        What the run calls them, from 0.
    place : tuple of int
        Where they are among the m.
    grid : int
        Nodes G per axis.
    """
    axes = np.asarray(place)
    points, error = seen.expected[:, axes], seen.error[np.ix_(axes, axes)]
    shown = _marginal(visible(mixture, seen), axes)
    sides = [_nodes(points[:, j], shown, j, float(error[j, j]), grid) for j in range(2)]
    nodes = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    density = np.exp(shown.log_density(nodes))
    within = seen.weight.sum() * density * 2 * np.pi * np.sqrt(np.linalg.det(error))
    kept = np.where(within < _FEWEST, 0, density).reshape(grid, grid)
    kept = kept if kept.any() else density.reshape(grid, grid)
    edges = [_edges(side) for side in sides]
    raw, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=edges[::-1], weights=seen.weight)
    raw /= max(raw.sum(), 1e-300)
    return DensityMap(
        components, sides[0] * scale[0], sides[1] * scale[1], raw, kept / kept.sum(), len(mixture)
    )


def _marginal(mixture: Mixture, axes: Int64) -> Mixture:
    return Mixture(mixture.share, mixture.mean[:, axes], mixture.covariance[:, axes[:, None], axes])


def _nodes(values: Float64, mixture: Mixture, axis: int, variance: float, grid: int) -> Float64:
    """Nodes that hold the particles and the Gaussians where they really lie."""
    reach = _MARGIN * np.sqrt(mixture.covariance[:, axis, axis])
    ends = [mixture.mean[:, axis] - reach, mixture.mean[:, axis] + reach]
    margin = _MARGIN * min(np.sqrt(variance), 1.0) / 2
    low = min(float(np.quantile(values, 0.001)) - margin, float(ends[0].min()))
    high = max(float(np.quantile(values, 0.999)) + margin, float(ends[1].max()))
    return np.linspace(low, high, grid)


def _edges(nodes: Float64) -> Float64:
    half = (nodes[1] - nodes[0]) / 2
    return np.append(nodes - half, nodes[-1] + half)


def log_density(points: Float64, neighbours: int, seed: int = 0) -> Float64:
    """Relative log-density (N,) of whitened latents (N, m), median 0.

    From the distance to the k-th neighbour among at most 20,000 particles drawn by `seed`; a particle
    is not its own neighbour.
    """
    reference = sample(len(points), _SAMPLE, seed)
    neighbours = min(neighbours, len(reference) - 1)
    distance, _ = nearest(points[reference], points, neighbours + 1)
    radius = distance[:, neighbours - 1]
    radius[reference] = distance[reference, neighbours]
    found = -points.shape[1] * np.log(np.maximum(radius, np.finfo(np.float32).tiny))
    return found - np.median(found)
