"""How much of the true state the latents tell, and whether their error bars are honest."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_MOST_QUERIES = 20_000  # neighbours of more particles than these add cost and no precision


def whitened(z: Float64) -> Float64:
    """Latents (N, r) centred and with unit covariance; directions without variance are dropped."""
    centred = z - z.mean(axis=0)
    # to one scale first: eigenvalues may span more decades than the next step resolves
    spread = centred.std(axis=0)
    centred = centred[:, spread > 0] / spread[spread > 0]
    variance, axes = np.linalg.eigh(centred.T @ centred / max(len(z), 1))
    keep = variance > 1e-10 * max(variance.max(initial=0.0), 1e-300)
    return centred @ (axes[:, keep] / np.sqrt(variance[keep]))


def embedding_r2(
    z: Float64,
    coordinate: Float64,
    method: Literal["knn", "ridge"] = "knn",
    folds: int = 5,
    seed: int = 0,
) -> Float64:
    """Cross-validated R² of true state coordinates predicted from latents.

    Parameters
    ----------
    z : (N, r)
        Latents.
    coordinate : (N,) or (N, d)
        True coordinates.
    method
        "knn": nearest neighbours, finds any relation; "ridge": linear, asks for a straight one.
    folds : int
    seed : int
        Of the folds.

    Returns
    -------
    (d,) float64
        1 perfect, 0 no better than the mean.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.neighbors import KNeighborsRegressor

    features, target = whitened(z), columns(coordinate)
    if not features.shape[1]:
        return np.zeros(target.shape[1])
    training = len(z) * (folds - 1) // folds
    model = (
        RidgeCV(np.logspace(-3, 5, 9))
        if method == "ridge"
        else KNeighborsRegressor(neighbours_of(training))
    )
    split = KFold(folds, shuffle=True, random_state=seed)
    predicted = columns(cross_val_predict(model, features, target, cv=split))
    residual = ((target - predicted) ** 2).sum(axis=0)
    total = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    return 1 - np.divide(residual, total, out=np.ones_like(total), where=total > 0)


def knn_spearman(
    z: Float64, coordinate: Float64, neighbours: int | None = None, seed: int = 0
) -> Float64:
    """Spearman correlation of true coordinates with the mean of each particle's latent neighbours.

    A particle never counts among its own neighbours. Distances are in whitened latents.

    Parameters
    ----------
    z : (N, r)
    coordinate : (N,) or (N, d)
    neighbours : int, optional
        Default about √N / 2, at least 5 and at most 20.
    seed : int
        Of the 20,000 particles asked when there are more.

    Returns
    -------
    (d,) float64
    """
    from scipy.stats import rankdata
    from sklearn.neighbors import NearestNeighbors

    features, target = whitened(z), columns(coordinate)
    if not features.shape[1]:
        return np.zeros(target.shape[1])
    count = neighbours or neighbours_of(len(z))
    asked = np.arange(len(z))
    if len(asked) > _MOST_QUERIES:
        asked = np.random.default_rng(seed).choice(len(z), _MOST_QUERIES, replace=False)
    found = NearestNeighbors(n_neighbors=count + 1).fit(features)
    nearest = found.kneighbors(features[asked], return_distance=False)
    # itself is usually first, but not among duplicates: strike it out wherever it is
    itself = nearest == asked[:, None]
    itself[~itself.any(axis=1), -1] = True
    others = nearest[~itself].reshape(len(asked), count)
    predicted, true = rankdata(target[others].mean(axis=1), axis=0), rankdata(target[asked], axis=0)
    return np.array([_correlation(a, b) for a, b in zip(predicted.T, true.T, strict=True)])


def contrast_agreement(contrast: Float64, truth: Float64) -> dict[str, float]:
    """Correlation and RMSE of contrasts (N,), both divided by their means first."""
    estimate, true = contrast / contrast.mean(), truth / truth.mean()
    return {
        "correlation": _correlation(estimate, true),
        "rmse": float(np.sqrt(((estimate - true) ** 2).mean())),
        "true_spread": float(true.std()),
    }


def calibration_chi2(z: Float64, true_z: Float64, precision: Float64) -> float:
    """Mean of (z-z_true)ᵀ M (z-z_true) / r over particles: 1 when the error bars are honest.

    Parameters
    ----------
    z, true_z : (N, r)
        Posterior mean and truth in the same basis and units.
    precision : (N, r, r)
        Posterior precision M.
    """
    return float((squared_deviation(z, true_z, precision) / z.shape[1]).mean())


def squared_deviation(z: Float64, true_z: Float64, precision: Float64) -> Float64:
    """(z-z_true)ᵀ M (z-z_true) of each particle, (N,): χ² with r degrees of freedom."""
    error = z - true_z
    return np.einsum("ni,nij,nj->n", error, precision, error)


def latents_in_basis(
    true_z: Float64,
    truth_eigenvolumes: NDArray[np.float32],
    eigenvolumes: NDArray[np.float32],
    mean_difference: NDArray[np.float32] | None = None,
) -> Float64:
    """True latents as coordinates along estimated eigenvolumes.

    Parameters
    ----------
    true_z : (N, q)
        In units of the unit-norm true eigenvolumes.
    truth_eigenvolumes : (q, L, L, L)
        True eigenvolumes, any positive scale.
    eigenvolumes : (r, L, L, L)
        Estimated, orthonormal.
    mean_difference : (L, L, L), optional
        True minus estimated mean, of which the eigenvolumes would have to make up a part.

    Returns
    -------
    (N, r) float64
    """
    true = truth_eigenvolumes.reshape(len(truth_eigenvolumes), -1)
    basis = eigenvolumes.reshape(len(eigenvolumes), -1)
    unit = true / np.linalg.norm(true, axis=1, keepdims=True)
    coordinates = true_z @ (unit @ basis.T).astype(np.float64)
    if mean_difference is None:
        return coordinates
    return coordinates + (basis @ mean_difference.ravel()).astype(np.float64)


def _correlation(first: Float64, second: Float64) -> float:
    """Correlation coefficient; 0 where one of the two does not vary."""
    spread = float(first.std() * second.std())
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return covariance / spread if spread > 1e-12 else 0.0


def neighbours_of(count: int) -> int:
    """How many neighbours predict well among so many particles: about √N / 2, from 5 to 20."""
    return max(1, min(20, max(5, round(np.sqrt(count) / 2)), count - 1))


def columns(coordinate: Float64) -> Float64:
    """Coordinates (N,) or (N, d) as (N, d) float64."""
    coordinate = np.asarray(coordinate, np.float64)
    return coordinate[:, None] if coordinate.ndim == 1 else coordinate
