"""Captured variance and principal angles."""

import numpy as np
import pytest

from solvar.evaluation import (
    captured_variance,
    captured_variance_by_rank,
    covariance_fsc_curve,
    principal_angles,
)
from solvar.evaluation.covariance import variance_along

BOX = 16


@pytest.fixture
def truth():
    rng = np.random.default_rng(2)
    k = np.fft.fftfreq(BOX, 1 / BOX)
    k2 = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2
    smooth = np.fft.ifftn(
        np.fft.fftn(rng.standard_normal((5, BOX, BOX, BOX)), axes=(1, 2, 3)) * (k2 <= 9),
        axes=(1, 2, 3),
    ).real.reshape(5, -1)
    basis = np.linalg.svd(smooth, full_matrices=False)[2]
    scaled = basis * np.sqrt([5.0, 4.0, 3.0, 2.0, 1.0])[:, None]
    return scaled.reshape(5, BOX, BOX, BOX)


def test_the_true_leading_subspace_captures_everything_a_subspace_of_its_rank_can(truth):
    assert captured_variance(truth[:3], truth) == pytest.approx(1)
    np.testing.assert_allclose(captured_variance_by_rank(truth, truth), 1)


def test_a_trailing_subspace_captures_its_share_of_the_best(truth):
    assert captured_variance(truth[2:4], truth) == pytest.approx((3 + 2) / (5 + 4))


def test_an_orthogonal_or_empty_subspace_captures_nothing(truth):
    assert captured_variance(truth[4:], truth[:4]) == pytest.approx(0, abs=1e-12)
    assert captured_variance(truth[:0], truth) == 0


def test_captured_variance_ignores_scale_order_sign_and_mixing_of_the_estimate(truth):
    rng = np.random.default_rng(0)
    mixed = np.tensordot(rng.standard_normal((3, 3)), truth[:3] + truth[2:], axes=1)
    expected = captured_variance(truth[:3] + truth[2:], truth)
    assert captured_variance(mixed, truth) == pytest.approx(expected)


def test_a_repeated_eigenvolume_counts_once(truth):
    repeated = np.stack([truth[0], 2 * truth[0]])
    assert captured_variance(repeated, truth) == pytest.approx(5 / (5 + 4))


def test_what_is_outside_mask_or_band_does_not_matter(truth):
    mask = np.zeros((BOX, BOX, BOX))
    mask[4:12, 4:12, 4:12] = 1
    disturbed = truth + np.random.default_rng(1).standard_normal(truth.shape) * (1 - mask)
    assert captured_variance(disturbed[:2], truth, mask=mask) == pytest.approx(
        captured_variance(truth[:2], truth, mask=mask)
    )
    checkerboard = (-1.0) ** np.indices((BOX, BOX, BOX)).sum(axis=0)
    assert captured_variance(truth[:2] + checkerboard, truth) == pytest.approx(1)
    assert captured_variance(truth[:2] + checkerboard, truth, k_c=BOX) < 0.6


def test_rank_uses_only_the_first_eigenvolumes(truth):
    estimate = truth[[4, 0, 1]]
    assert captured_variance(estimate, truth, rank=1) == pytest.approx(1 / 5)
    assert captured_variance(estimate, truth, rank=2) == pytest.approx(6 / 9)


def test_principal_angles_of_turned_planes_are_the_angles_of_turning(truth):
    unit = truth / np.sqrt((truth**2).sum(axis=(1, 2, 3), keepdims=True))
    angle = np.deg2rad(25)
    turned = np.stack([unit[0], np.cos(angle) * unit[1] + np.sin(angle) * unit[2]])
    np.testing.assert_allclose(principal_angles(turned, unit[:2]), [0, 25], atol=1e-5)


def test_variance_along_the_true_eigenvolumes_is_the_true_eigenvalues():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(8**3, 3)))
    eigenvalues = np.array([9.0, 4.0, 1.0])
    unit = basis.T.reshape(3, 8, 8, 8)
    true = unit * np.sqrt(eigenvalues)[:, None, None, None]
    np.testing.assert_allclose(variance_along(unit, true), eigenvalues, rtol=1e-6)
    mixed = (unit[:1] + unit[1:2]) / np.sqrt(2)
    np.testing.assert_allclose(variance_along(mixed, true), [6.5], rtol=1e-6)


def test_covariance_fsc_does_not_depend_on_the_basis():
    truth = np.random.default_rng(0).standard_normal((3, 12, 12, 12)).astype(np.float32)
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    turned = np.tensordot(turn.astype(np.float32), truth, axes=1)
    np.testing.assert_allclose(covariance_fsc_curve(2 * turned, truth), 1, atol=1e-4)
    assert covariance_fsc_curve(truth[:1], truth)[3:].max() < 0.95
    np.testing.assert_array_equal(covariance_fsc_curve(truth[:0], truth), np.zeros(7))
