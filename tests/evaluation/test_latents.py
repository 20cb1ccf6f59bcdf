"""Metrics of latents, contrasts and error bars."""

import numpy as np
import pytest

from solvar.evaluation import calibration_chi2, contrast_agreement, embedding_r2, knn_spearman

N = 800


@pytest.fixture
def curve():
    rng = np.random.default_rng(0)
    u = rng.random(N)
    return u, np.column_stack([np.cos(3 * u), np.sin(3 * u)]) * [1.0, 0.3]


def test_a_curved_embedding_without_noise_is_read_perfectly(curve):
    u, z = curve
    assert knn_spearman(z, u)[0] > 0.999
    assert embedding_r2(z, u, "knn")[0] > 0.995


def test_unrelated_latents_tell_nothing():
    rng = np.random.default_rng(1)
    u, z = rng.random(N), rng.standard_normal((N, 3))
    assert abs(knn_spearman(z, u)[0]) < 0.15
    assert embedding_r2(z, u, "knn")[0] < 0.1
    assert embedding_r2(z, u, "ridge")[0] < 0.05


def test_a_parabola_is_seen_by_neighbours_and_not_by_a_line():
    u = np.linspace(-1, 1, N)
    assert embedding_r2(u[:, None] ** 2, u**2, "ridge")[0] > 0.999
    assert embedding_r2(u[:, None], u**2, "knn")[0] > 0.99
    assert embedding_r2(u[:, None], u**2, "ridge")[0] < 0.02


def test_metrics_do_not_depend_on_the_scale_of_the_latents(curve):
    u, z = curve
    noisy = z + np.random.default_rng(2).normal(0, 0.1, z.shape)
    stretched = noisy @ np.diag([1e3, 1e-2])
    np.testing.assert_allclose(knn_spearman(noisy, u), knn_spearman(stretched, u), atol=1e-6)


def test_several_coordinates_are_judged_one_by_one():
    rng = np.random.default_rng(3)
    u = rng.random((N, 2))
    z = np.column_stack([u[:, 0], rng.standard_normal(N)])
    spearman = knn_spearman(z, u)
    assert spearman[0] > 0.95 and abs(spearman[1]) < 0.2


def test_a_particle_is_not_its_own_neighbour():
    rng = np.random.default_rng(4)
    u = rng.random(N)
    # every particle has a latent of its own and its neighbours know nothing of it
    assert abs(knn_spearman(rng.standard_normal((N, 8)), u, neighbours=1)[0]) < 0.15
    # the same among exact duplicates, where "the nearest" may be anyone
    assert abs(knn_spearman(rng.integers(0, 2, (N, 1)).astype(float), u)[0]) < 0.2


def test_constant_latents_are_no_error():
    u = np.linspace(0, 1, 50)
    assert knn_spearman(np.zeros((50, 2)), u)[0] == 0
    assert embedding_r2(np.zeros((50, 2)), u)[0] == 0


def test_contrast_agreement_forgives_a_common_factor():
    rng = np.random.default_rng(5)
    true = rng.normal(1, 0.15, N)
    perfect = contrast_agreement(3 * true, true)
    assert perfect["correlation"] == pytest.approx(1) and perfect["rmse"] < 1e-12
    noisy = contrast_agreement(true + rng.normal(0, 0.1, N), true)
    assert noisy["rmse"] == pytest.approx(0.1, rel=0.1)
    assert noisy["correlation"] == pytest.approx(0.15 / np.hypot(0.15, 0.1), abs=0.05)
    assert contrast_agreement(np.ones(N), true)["correlation"] == 0


@pytest.mark.parametrize("overconfidence", [1.0, 4.0])
def test_calibration_reads_one_for_honest_error_bars(overconfidence):
    rng = np.random.default_rng(6)
    factor = rng.standard_normal((4000, 3, 3)) + 3 * np.eye(3)
    covariance = factor @ np.swapaxes(factor, 1, 2)
    true = rng.standard_normal((4000, 3))
    z = true + np.einsum("nij,nj->ni", factor, rng.standard_normal((4000, 3)))
    precision = overconfidence * np.linalg.inv(covariance)
    assert calibration_chi2(z, true, precision) == pytest.approx(overconfidence, rel=0.04)
