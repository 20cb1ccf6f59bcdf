"""Where the particles really lie: the density of two latents with their errors taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.neighbours import nearest, sample

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_GROUPS = 32
_SAMPLE = 20_000
_ITERATIONS = 300
_PATIENCE = 10
_HELD_OUT = 0.2
# The prior is divided by; beyond 4.9 standard deviations it is taken as flat, which keeps the rounding
# errors of the FFT below the density there.
_LOG_PRIOR_FLOOR = -12.0
_TINY = 1e-12


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
        Density of the latents themselves, errors and shrinkage taken out; sums to 1.
    iterations : int
        Iterations of expectation maximisation: the regularisation, chosen by held-out likelihood.
    held_out : (T,) float64
        Mean log-likelihood of the held-out particles, by iteration, up to a constant.
    """

    components: tuple[int, int]
    x: Float64
    y: Float64
    raw: Float64
    deconvolved: Float64
    iterations: int
    held_out: Float64


def deconvolve(
    z: Float64,
    covariance: Float64,
    prior_variance: Float64,
    *,
    components: tuple[int, int] = (0, 1),
    grid: int = 64,
    seed: int = 0,
) -> DensityMap:
    """Maximum-likelihood density p of two latents, stopped early (Richardson-Lucy).

    A posterior N(z_i, C_i) is likelihood times the prior π = N(0, prior_variance); the likelihood of
    a particle at x is therefore N(x; z_i, C_i)/π(x), and expectation maximisation reads

        p ← (p/π) · mean_i [ N(·; z_i, C_i) / Σ_y N(y; z_i, C_i) p(y)/π(y) ].

    This undoes the shrinkage of z towards 0 along with its errors; it starts at p = π. Covariances
    are replaced by the mean of at most 32 groups, so that an iteration costs two convolutions a group
    whatever the number of particles. A fifth of the particles is held out to find the number of
    iterations; the density is then made from all.

    Parameters
    ----------
    z : (N, 2) float64
        Posterior means.
    covariance : (N, 2, 2) float64
        Their posterior covariances.
    prior_variance : (2,) float64
        The model's eigenvalues.
    components : tuple of int
        Kept in the result.
    grid : int
        Nodes G per axis.
    seed : int
    """
    scale = np.sqrt(np.maximum(prior_variance, np.finfo(np.float32).tiny))
    points, covariance = z / scale, covariance / np.outer(scale, scale)
    axes = [_nodes(points[:, j], covariance[:, j, j], grid) for j in range(2)]
    group, kernels = _covariance_groups(covariance, seed)
    step = np.array([axis[1] - axis[0] for axis in axes])
    transfer = _transfer(kernels, step, grid)
    held = np.random.default_rng(seed).random(len(points)) < _HELD_OUT
    train = _deposit(points[~held], group[~held], len(kernels), axes)
    test = _deposit(points[held], group[held], len(kernels), axes)
    log_prior = -0.5 * (axes[1][:, None] ** 2 + axes[0][None, :] ** 2)
    prior = np.exp(np.maximum(log_prior - log_prior.max(), _LOG_PRIOR_FLOOR))
    prior /= prior.sum()
    _, held_out = _maximise(train, test, prior, transfer, _ITERATIONS)
    iterations = int(np.argmax(held_out))
    density, _ = _maximise(train + test, None, prior, transfer, iterations)
    raw = (train + test).sum(axis=0)
    return DensityMap(
        components, axes[0] * scale[0], axes[1] * scale[1], raw / max(raw.sum(), 1.0),
        density / density.sum(), iterations, held_out,
    )  # fmt: skip


def _nodes(values: Float64, variance: Float64, grid: int) -> Float64:
    """Nodes that cover the latents (N,) once their shrinkage towards 0 is undone."""
    low, high = np.quantile(values, [0.001, 0.999])
    # z is drawn towards 0 by about 1 - C/Λ; a component of mere noise would need an endless grid
    stretch = 1 / np.clip(1 - float(np.median(variance)), 0.5, 1.0)
    margin = 2 * float(np.sqrt(np.median(variance))) + 0.05 * max(float(high - low), 1e-3)
    return np.linspace(low * stretch - margin, high * stretch + margin, grid)


def _covariance_groups(covariance: Float64, seed: int) -> tuple[Int64, Float64]:
    """Group (N,) of each 2 × 2 covariance and the mean covariance of each group."""
    from sklearn.cluster import KMeans

    values, vectors = np.linalg.eigh(covariance)
    logarithm = np.einsum(
        "nij,nj,nkj->nik", vectors, np.log(np.maximum(values, _TINY)), vectors, optimize=True
    )
    # log-Euclidean distance of covariances: width, elongation and direction count alike
    features = logarithm[:, [0, 0, 1], [0, 1, 1]] * [1, np.sqrt(2), 1]
    some = features[sample(len(features), _SAMPLE, seed)]
    count = min(_GROUPS, len(np.unique(some.round(6), axis=0)))
    group = KMeans(count, n_init=1, random_state=seed).fit(some).predict(features)
    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    entries = [np.bincount(group, covariance[:, i, j]) / size for i, j in ((0, 0), (0, 1), (1, 1))]
    means = np.stack([[entries[0], entries[1]], [entries[1], entries[2]]])
    return group, np.moveaxis(means, -1, 0)


def _transfer(kernels: Float64, step: Float64, grid: int) -> NDArray[np.complex128]:
    """Transforms (K, 2G, G + 1) of Gaussians (K, 2, 2) sampled on the zero-padded grid."""
    offset = np.fft.fftfreq(2 * grid, 1 / (2 * grid))
    y, x = np.meshgrid(offset * step[1], offset * step[0], indexing="ij")
    # a kernel narrower than the grid would miss its own neighbours: half a node is the finest
    floor = np.diag((0.5 * step) ** 2)
    inverse = np.linalg.inv(kernels + floor)
    place = np.stack([x, y])
    exponent = np.einsum("iab,kij,jab->kab", place, inverse, place, optimize=True)
    kernel = np.exp(-0.5 * exponent)
    kernel /= kernel.sum(axis=(1, 2), keepdims=True)
    return np.fft.rfft2(kernel)


def _deposit(points: Float64, group: Int64, groups: int, axes: list[Float64]) -> Float64:
    """Histograms (K, G, G) of the groups, each particle shared between its four nearest nodes."""
    grid = len(axes[0])
    place = [(points[:, j] - axes[j][0]) / (axes[j][1] - axes[j][0]) for j in range(2)]
    inside = (place[0] >= 0) & (place[1] >= 0) & (place[0] < grid - 1) & (place[1] < grid - 1)
    x, y, group = place[0][inside], place[1][inside], group[inside]
    column, row = x.astype(np.int64), y.astype(np.int64)
    right, up = x - column, y - row
    total = np.zeros(groups * grid * grid)
    for down, above in ((0, 1 - up), (1, up)):
        for left, beside in ((0, 1 - right), (1, right)):
            node = (group * grid + row + down) * grid + column + left
            total += np.bincount(node, above * beside, len(total))
    return total.reshape(groups, grid, grid)


def _maximise(
    train: Float64,
    test: Float64 | None,
    prior: Float64,
    transfer: NDArray[np.complex128],
    iterations: int,
) -> tuple[Float64, Float64]:
    """Density (G, G) after `iterations`, and the held-out likelihood before each.

    With `test`, stops when its likelihood has not risen for ten iterations.
    """
    grid, padded = len(prior), (2 * len(prior), 2 * len(prior))
    density, held_out, best = prior, [], 0
    for iteration in range(iterations):
        ratio = density / prior
        spectrum = np.fft.rfft2(ratio, padded) * transfer
        expected = np.maximum(np.fft.irfft2(spectrum, padded)[:, :grid, :grid], _TINY)
        if test is not None:
            held_out.append(float((test * np.log(expected)).sum() / max(test.sum(), 1.0)))
            best = iteration if held_out[-1] > held_out[best] else best
            if iteration - best >= _PATIENCE:
                break
        # the kernels are even, so correlating is convolving; one inverse transform serves all groups
        back = (np.fft.rfft2(train / expected, padded) * transfer).sum(axis=0)
        gathered = np.maximum(np.fft.irfft2(back, padded)[:grid, :grid], 0)
        density = ratio * gathered / max(train.sum(), 1.0)
        density = density / density.sum()
    return density, np.asarray(held_out)


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
