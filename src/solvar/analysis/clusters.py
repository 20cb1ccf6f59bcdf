"""Clusters of the whitened latents: k-means or a mixture of Gaussians, their number by BIC."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.neighbours import sample

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FEWEST, MOST = 2, 20
_BIC_PARTICLES = 20_000  # enough for BIC to tell clusters of 1 % apart; seconds a mixture
_MINIBATCH_ABOVE = 100_000
_PATIENCE = 3  # larger numbers are tried until BIC has risen this often in a row


@dataclass(frozen=True, eq=False)
class Clusters:
    """K clusters of N particles, the largest first.

    Attributes
    ----------
    label : (N,) int64
        Cluster of each particle, from 0.
    centre : (K, m) float64
        Means in whitened latents.
    size : (K,) int64
        Particles of each cluster.
    nearest : (K,) int64
        Row of the particle nearest to each centre.
    method : str
        "kmeans" or "mixture".
    bic : dict
        BIC of the mixtures that were tried, by their number of Gaussians; empty if K was given.
    """

    label: Int64
    centre: Float64
    size: Int64
    nearest: Int64
    method: str
    bic: dict[int, float]

    def __len__(self) -> int:
        return len(self.size)


def find_clusters(
    points: Float64,
    count: int | None = None,
    method: Literal["kmeans", "mixture"] = "kmeans",
    seed: int = 0,
) -> Clusters:
    """Cluster whitened latents.

    Parameters
    ----------
    points : (N, m) float64
    count : int, optional
        Number of clusters K; default: the mixture's BIC decides.
    method : {"kmeans", "mixture"}
        A mixture is fitted to at most 100,000 particles and labels all.
    seed : int
    """
    bic = {} if count else bic_by_count(points, seed)
    count = min(count or min(bic, key=lambda k: bic[k]), len(points))
    if method == "mixture":
        fitted = points[sample(len(points), _MINIBATCH_ABOVE, seed)]
        label = _mixture(fitted, count, seed).predict(points)
    else:
        label = _k_means(points, count, seed)
    return _described(points, np.asarray(label, np.int64), method, bic)


def bic_by_count(points: Float64, seed: int = 0) -> dict[int, float]:
    """BIC of Gaussian mixtures with 2, 3 … components; at most 20,000 of `points` (N, m) are used."""
    points = points[sample(len(points), _BIC_PARTICLES, seed)]
    # a Gaussian with full covariance needs several particles a parameter
    most = max(FEWEST, min(MOST, len(points) // (5 * (points.shape[1] + 1))))
    found: dict[int, float] = {}
    for count in range(min(FEWEST, len(points)), most + 1):
        found[count] = float(_mixture(points, count, seed).bic(points))
        if count - min(found, key=lambda k: found[k]) >= _PATIENCE:
            break
    return found


def _mixture(points: Float64, count: int, seed: int) -> GaussianMixture:
    from sklearn.mixture import GaussianMixture

    # 1e-4 of the prior variance keeps a Gaussian from collapsing on a few particles
    mixture = GaussianMixture(count, reg_covar=1e-4, n_init=2, max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mixture that is still creeping ranks as well
        return mixture.fit(points)


def _k_means(points: Float64, count: int, seed: int) -> Int64:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(points) > _MINIBATCH_ABOVE:
        few = MiniBatchKMeans(count, batch_size=16_384, n_init=3, random_state=seed)
        return few.fit_predict(points)
    return KMeans(count, n_init=5, random_state=seed).fit_predict(points)


def _described(points: Float64, label: Int64, method: str, bic: dict[int, float]) -> Clusters:
    """Sort by size, leave empty clusters out, find centres and their nearest particles."""
    from sklearn.metrics import pairwise_distances_argmin

    _, label, size = np.unique(label, return_inverse=True, return_counts=True)
    order = np.argsort(-size, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    label, size = rank[label], size[order]
    sums = [np.bincount(label, column, len(size)) for column in points.T]
    centre = np.stack(sums, axis=1) / size[:, None]
    nearest = pairwise_distances_argmin(centre, points)
    return Clusters(label, centre, size, nearest.astype(np.int64), method, bic)
