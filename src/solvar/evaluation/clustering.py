"""How well clusters of latents are the true states of a discrete set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST_FITTED = 20_000  # centres of more particles cost more and move no further


def kmeans_labels(z: Float64, clusters: int, seed: int = 0) -> Int64:
    """k-means labels of latents, (N,).

    Distances are those of the latents as they are, which for orthonormal eigenvolumes is the distance of
    the volumes: whitening would let components of pure noise weigh as much as the first. That is why a
    score has a k-means of its own, beside `analysis.find_clusters`, which is whitened and may change.

    Parameters
    ----------
    z : (N, r)
    clusters : int
        At most N.
    seed : int
        Of the starts, and of the 20,000 particles that are fitted when there are more.
    """
    from sklearn.cluster import KMeans

    fitted = z
    if len(z) > _MOST_FITTED:
        fitted = z[np.random.default_rng(seed).choice(len(z), _MOST_FITTED, replace=False)]
    found = KMeans(clusters, n_init=10, random_state=seed).fit(fitted)
    return found.predict(z).astype(np.int64)


def cluster_agreement(labels: Int64, state: Int64) -> dict[str, float]:
    """Adjusted Rand index and adjusted mutual information of two labellings (N,).

    Returns
    -------
    dict
        `ari` and `ami`: 1 for the same partition under any names, 0 on average for chance.
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    return {
        "ari": float(adjusted_rand_score(state, labels)),
        "ami": float(adjusted_mutual_info_score(state, labels)),
    }


def confusion(labels: Int64, state: Int64) -> Int64:
    """Particles of each true state (rows, ascending) in each cluster (columns), (K, C).

    Columns are in the order that puts most particles on the diagonal; clusters that match no state follow.
    """
    from scipy.optimize import linear_sum_assignment

    states, row = np.unique(state, return_inverse=True)
    clusters, column = np.unique(labels, return_inverse=True)
    table = np.zeros((len(states), len(clusters)), np.int64)
    np.add.at(table, (row, column), 1)
    _, matched = linear_sum_assignment(table, maximize=True)
    rest = np.setdiff1d(np.arange(len(clusters)), matched)
    return table[:, np.concatenate([matched, rest])]
