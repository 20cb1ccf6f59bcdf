"""Particles that the model does not explain: far latents, unlikely images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

FALSE_DISCOVERY_RATE = 0.05
LOWEST_SCORE = -5.0
_LEAST_INFORMATION = 1e-3  # directions of which an image tells less say nothing about outliers
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Outliers:
    """Two tests of N particles.

    Attributes
    ----------
    distance : (N,) float64
        Mahalanobis distance of the latents under the model's Gaussian prior.
    p_value : (N,) float64
        Chi-square probability of a larger distance.
    score : (N,) float64
        Log-likelihood in robust standard deviations from its median.
    far : (N,) bool
        Distance too large, 5 % of those flagged expected to be false (Benjamini-Hochberg).
    unlikely : (N,) bool
        Score below -5.
    """

    distance: Float64
    p_value: Float64
    score: Float64
    far: NDArray[np.bool_]
    unlikely: NDArray[np.bool_]


def find_outliers(whitened: Float64, covariance: Float64, log_likelihood: Float64) -> Outliers:
    """Test latents and log-likelihood of each particle.

    Parameters
    ----------
    whitened : (N, m) float64
        Posterior means in prior standard deviations.
    covariance : (N, m, m) float64
        Posterior covariances in the same units.
    log_likelihood : (N,) float64
    """
    distance, p_value = mahalanobis(whitened, covariance)
    score = robust_score(log_likelihood)
    far = p_value <= discovery_threshold(p_value, FALSE_DISCOVERY_RATE)
    return Outliers(distance, p_value, score, far, score < LOWEST_SCORE)


def mahalanobis(whitened: Float64, covariance: Float64) -> tuple[Float64, Float64]:
    """Distance (N,) of posterior means from 0 and its chi-square p-value (N,).

    If the latents are N(0, 1), posterior means scatter with covariance 1 - C_i (law of total
    variance), so that zᵀ(1 - C_i)⁻¹z is chi-square with m degrees of freedom. It is the same number as
    the distance of the unshrunk estimate under the total covariance, prior plus error. Directions
    about which an image says nothing are left out. A population that is far from Gaussian, such as a rare
    state, is flagged as well: the distance tells what to look at, not what to throw away.

    Parameters
    ----------
    whitened : (N, m) float64
    covariance : (N, m, m) float64
    """
    from scipy.stats import chi2

    squared = np.empty(len(whitened))
    freedom = np.empty(len(whitened))
    for first in range(0, len(whitened), _BLOCK):
        part = slice(first, first + _BLOCK)
        values, vectors = np.linalg.eigh(covariance[part])
        told = 1 - values
        along = np.einsum("nij,ni->nj", vectors, whitened[part])
        used = told > _LEAST_INFORMATION
        squared[part] = np.where(used, along**2 / np.where(used, told, 1), 0).sum(axis=1)
        freedom[part] = used.sum(axis=1)
    p_value = np.where(freedom > 0, chi2.sf(squared, np.maximum(freedom, 1)), 1.0)
    return np.sqrt(squared), p_value


def robust_score(values: Float64) -> Float64:
    """Distance (N,) from the median in units of 1.4826 times the median absolute deviation."""
    centred = values - np.median(values)
    spread = 1.4826 * float(np.median(np.abs(centred)))
    return centred / spread if spread > 0 else np.zeros_like(centred)


def discovery_threshold(p_value: Float64, rate: float) -> float:
    """Largest p-value (N,) to accept so that a share `rate` of the accepted is false; -1: none."""
    ordered = np.sort(p_value)
    accepted = ordered <= rate * (1 + np.arange(len(ordered))) / len(ordered)
    return float(ordered[np.flatnonzero(accepted)[-1]]) if accepted.any() else -1.0
