"""The image posterior against dense algebra, brute-force integration and its own calibration."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.likelihood import image_posterior

RNG = np.random.default_rng(7)


def _images(count: int, pixels: int, rank: int, noise: float = 1.0):
    """Slices (s, E) and data y drawn from the model, with the truth."""
    slices = RNG.standard_normal((count, rank + 1, pixels)) * 0.3
    slices[:, 0] *= 4
    z = RNG.standard_normal((count, rank))
    contrast = 1 + 0.15 * RNG.standard_normal(count)
    clean = slices[:, 0] + np.einsum("br,brn->bn", z, slices[:, 1:])
    y = contrast[:, None] * clean + noise * RNG.standard_normal((count, pixels))
    return slices, y, z, contrast


def _gram(slices: np.ndarray, y: np.ndarray) -> np.ndarray:
    rows = np.concatenate([slices, y[:, None]], axis=1)
    return rows @ rows.transpose(0, 2, 1)


@pytest.mark.parametrize("rank", [0, 1, 4])
def test_posterior_equals_dense_gaussian_algebra(rank: int) -> None:
    slices, y, _, _ = _images(5, 40, rank)
    found = image_posterior(_gram(slices, y), contrast_sd=0.0)
    for b in range(5):
        s, e = slices[b, 0], slices[b, 1:].T
        covariance = e @ e.T + np.eye(40)
        residual = y[b] - s
        dense = -0.5 * (
            residual @ np.linalg.solve(covariance, residual) + np.linalg.slogdet(covariance)[1]
        )
        assert found.log_likelihood[b] - 0.5 * y[b] @ y[b] == pytest.approx(dense, rel=1e-9)
        gain = e.T @ np.linalg.inv(covariance)
        np.testing.assert_allclose(found.z[b], gain @ residual, atol=1e-10)
        np.testing.assert_allclose(found.covariance[b], np.eye(rank) - gain @ e, atol=1e-10)


@pytest.mark.parametrize("noise_scale", [0.2, 1.0, 5.0])
def test_contrast_integral_equals_a_fine_grid(noise_scale: float) -> None:
    slices, y, _, _ = _images(20, 60, 3)
    slices, y, tau = slices / noise_scale, y / noise_scale, 0.2
    products = _gram(slices, y)
    found = image_posterior(products, tau)
    grid = np.linspace(1e-3, 2.5, 4001)
    log = np.empty((20, len(grid)))
    for i, a in enumerate(grid):
        scaled = slices * a
        log[:, i] = image_posterior(_gram(scaled, y), 0.0).log_likelihood
    log -= 0.5 * ((grid - 1) / tau) ** 2 + np.log(tau * np.sqrt(2 * np.pi))
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    mass = weight.sum(axis=1)
    evidence = log.max(axis=1) + np.log(mass * (grid[1] - grid[0]))
    np.testing.assert_allclose(found.log_likelihood, evidence, atol=2e-2)
    np.testing.assert_allclose(found.contrast, weight @ grid / mass, atol=2e-3)
    np.testing.assert_allclose(found.contrast_square, weight @ grid**2 / mass, atol=4e-3)


@pytest.mark.parametrize("strength", [0.2, 3.0])
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("tau", [0.1, 0.3, 0.5])
def test_evidence_of_a_faint_image_is_integrated_over_positive_contrasts(
    tau: float, share: float, strength: float
) -> None:
    rng = np.random.default_rng(0)
    slices = strength * rng.standard_normal((20, 4, 400)) * np.array([1, 0.4, 0.4, 0.4])[:, None]
    y = rng.standard_normal((20, 400)) + share * slices[:, 0]
    grid = np.concatenate([np.linspace(0.05, 0.2, 500)[:-1], np.linspace(0.2, 1 + 6 * tau, 1000)])
    log = [image_posterior(_gram(slices * a, y), 0.0).log_likelihood for a in grid]
    log = np.transpose(log) - 0.5 * ((grid - 1) / tau) ** 2 - np.log(tau * np.sqrt(2 * np.pi))
    peak = log.max(axis=1, keepdims=True)
    evidence = peak[:, 0] + np.log(np.trapezoid(np.exp(log - peak), grid, axis=1))
    found = image_posterior(_gram(slices, y), tau)
    np.testing.assert_allclose(found.log_likelihood, evidence, atol=0.05 if strength < 1 else 0.2)


@pytest.mark.parametrize("contrast_sd", [0.0, 0.15])
def test_latents_drawn_from_the_model_are_calibrated(contrast_sd: float) -> None:
    rank, count = 3, 6000
    slices, y, z, contrast = _images(count, 30, rank)
    if contrast_sd == 0:
        y -= (contrast - 1)[:, None] * (slices[:, 0] + np.einsum("br,brn->bn", z, slices[:, 1:]))
    found = image_posterior(_gram(slices, y), contrast_sd)
    error = z - found.z
    chi2 = np.einsum("bi,bij,bj->b", error, np.linalg.inv(found.covariance), error)
    assert chi2.mean() / rank == pytest.approx(1.0, abs=0.05)


def test_second_moment_is_covariance_plus_product_of_means_at_fixed_contrast() -> None:
    slices, y, _, _ = _images(4, 30, 2)
    found = image_posterior(_gram(slices, y), 0.0)
    expected = np.einsum("bi,bj->bij", found.first, found.first)
    expected[:, 1:, 1:] += found.covariance
    np.testing.assert_allclose(found.second, expected, atol=1e-10)
    np.testing.assert_array_equal(found.contrast, 1.0)
