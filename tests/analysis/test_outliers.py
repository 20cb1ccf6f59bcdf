"""Distances are calibrated; planted outliers are flagged and few others."""

import numpy as np
import pytest
from scipy.stats import kstest

from solvar.analysis.outliers import discovery_threshold, find_outliers, mahalanobis, robust_score


def posterior(count=5000, rank=4, seed=0):
    """Posterior means and covariances of latents that are N(0, 1), in prior standard deviations."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(count, rank, rank)) * rng.uniform(0.3, 3, (count, 1, 1))
    information = factor @ factor.transpose(0, 2, 1)
    covariance = np.linalg.inv(information + np.eye(rank))
    truth, noise = rng.normal(size=(2, count, rank))
    told = np.einsum("nij,nj->ni", information, truth) + np.einsum("nij,nj->ni", factor, noise)
    return np.einsum("nij,nj->ni", covariance, told), covariance, rng


def test_p_values_are_uniform_under_the_model():
    z, covariance, _ = posterior()
    _, p_value = mahalanobis(z, covariance)
    assert kstest(p_value, "uniform").pvalue > 0.01


def test_p_values_stay_uniform_where_images_tell_nothing_of_a_component():
    z, covariance, _ = posterior(rank=2)
    wide = np.tile(np.eye(3), (len(z), 1, 1))
    wide[:, :2, :2] = covariance
    _, p_value = mahalanobis(np.column_stack([z, np.zeros(len(z))]), wide)
    np.testing.assert_allclose(p_value, mahalanobis(z, covariance)[1])


def test_planted_outliers_are_found_and_little_else():
    z, covariance, rng = posterior()
    likelihood = rng.normal(-100, 3, len(z))
    z[:50] += 12 * rng.choice([-1, 1], (50, z.shape[1]))
    likelihood[50:70] -= 60
    found = find_outliers(z, covariance, likelihood)
    assert found.far[:50].mean() > 0.95
    assert found.far[50:].sum() <= 10
    np.testing.assert_array_equal(np.flatnonzero(found.unlikely), np.arange(50, 70))


def test_score_does_not_mind_outliers():
    values = np.random.default_rng(0).normal(5, 2, 10_000)
    values[:500] = -1e6
    good = robust_score(values)[500:]
    assert good.std() == pytest.approx(1, rel=0.1)
    assert (robust_score(np.ones(5)) == 0).all()


def test_discovery_threshold_is_that_of_benjamini_and_hochberg():
    p_value = np.array([0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205])
    assert discovery_threshold(p_value, 0.05) == 0.008
    assert discovery_threshold(np.array([0.5, 0.9]), 0.05) == -1
