"""Half-set correlations: what they are invariant to, and what chance looks like."""

from __future__ import annotations

import numpy as np

from solvar.estimation.prior import column_precision, extend
from solvar.imaging.fsc import covariance_fsc, fourier_shell_correlation, shell_products

RNG = np.random.default_rng(11)


def _columns(rank: int = 3, box: int = 20) -> np.ndarray:
    return RNG.standard_normal((rank, box, box, box)).astype(np.float32)


def test_shell_products_equal_a_direct_sum_over_the_full_grid() -> None:
    first, second = _columns(2, 9), _columns(3, 9)
    frequency = np.fft.fftfreq(9, 1 / 9)
    radius = np.sqrt(frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + frequency**2)
    a, b = (np.fft.fftn(v, axes=(1, 2, 3)) for v in (first, second))
    found = shell_products(first, second, 5)
    for s in range(5):
        members = np.rint(radius) == s
        direct = (a[:, members] @ b[:, members].conj().T) / members.sum()
        np.testing.assert_allclose(found[s], direct.real, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(direct.imag, 0, atol=1e-2)


def test_covariance_fsc_does_not_depend_on_the_basis() -> None:
    first, second = _columns(), _columns()
    second += first
    rotation = np.linalg.qr(RNG.standard_normal((3, 3)))[0].astype(np.float32)
    turned = np.tensordot(rotation, second, axes=1)
    np.testing.assert_allclose(
        covariance_fsc(first, second, 10), covariance_fsc(first, turned, 10), atol=1e-4
    )


def test_covariance_fsc_is_one_for_equal_and_small_for_unrelated_columns() -> None:
    first, second = _columns(), _columns()
    np.testing.assert_allclose(covariance_fsc(first, first, 10), 1, atol=1e-4)
    assert np.abs(np.diag(covariance_fsc(first, second, 10))[4:]).max() < 0.1


def test_root_of_covariance_fsc_is_the_signal_fraction_of_a_column() -> None:
    signal = _columns(3, 32)
    halves = [signal + _columns(3, 32) for _ in range(2)]  # as much noise as signal
    diagonal = np.diag(covariance_fsc(*halves, 16))[6:]
    np.testing.assert_allclose(np.sqrt(diagonal), 0.5, atol=0.06)


def test_mean_fsc_of_equal_signal_and_noise_is_one_half() -> None:
    signal = _columns(1, 32)[0]
    halves = [signal + _columns(1, 32)[0] for _ in range(2)]
    np.testing.assert_allclose(fourier_shell_correlation(*halves, 16)[6:], 0.5, atol=0.1)


def test_no_agreement_means_a_strong_prior_and_full_agreement_a_weak_one() -> None:
    information = np.full(3, 100.0)
    strong, middle, weak = column_precision(np.array([0.0, 0.25, 1.0]), information, 0.5)
    assert strong > 1e4 and weak < 1e-1
    assert middle == 50.0  # f = 1/2: as much signal as noise


def test_extension_keeps_the_ratio_to_the_reference() -> None:
    reference = np.arange(1.0, 11.0)
    extended = extend(3 * reference[:6], 5, reference)
    np.testing.assert_allclose(extended, 3 * reference)
