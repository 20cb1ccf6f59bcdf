"""The slow background of an image, fitted outside the particle."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.imaging.background import Background
from solvar.imaging.fourier import HalfDisc, images_to_disc
from solvar.imaging.noise import (
    background_powers,
    frequency_shells,
    ring_means,
    smearing,
    whole_plane,
)

GRIDS = [(32, 12.0), (33, 12.0), (32, 16.0)]


def _noise(box: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Coloured noise (count, L, L), and its power in all shells."""
    shell = frequency_shells(box)
    power = box**2 * (0.5 + np.exp(-((np.arange(shell.max() + 1) / 4) ** 2)))
    white = np.fft.fft2(np.random.default_rng(seed).standard_normal((count, box, box)))
    images = np.fft.ifft2(white * np.sqrt(power[shell] / box**2)).real
    return images.astype(np.float32), power


@pytest.mark.parametrize(("box", "radius"), GRIDS)
def test_any_polynomial_of_second_degree_is_taken_out_whole(box: int, radius: float) -> None:
    y, x = (np.mgrid[:box, :box] - box // 2) / box
    images = np.stack([1000 + 0 * x, 30 * x - y, x * y, x**2 - 2 * y**2 + 7]).astype(np.float32)
    background = Background(box, radius)
    coefficients, spread = background.fitted(images)
    background.subtract(images, coefficients)
    assert np.abs(images).max() < 1e-3 and spread.max() < 1e-3


@pytest.mark.parametrize(("box", "radius"), GRIDS)
def test_the_error_of_a_fit_is_what_the_spectrum_of_the_noise_says(box: int, radius: float) -> None:
    images, power = _noise(box, 3000)
    background = Background(box, radius)
    found = np.cov(background.fitted(images)[0].T)
    root = np.linalg.inv(np.linalg.cholesky(background.error(power)))
    np.testing.assert_allclose(root @ found @ root.T, np.eye(len(found)), atol=0.12)


@pytest.mark.parametrize(("box", "radius"), GRIDS)
def test_what_fits_take_from_the_spectrum_is_known(box: int, radius: float) -> None:
    images, power = _noise(box, 1500)
    background = Background(box, radius)
    background.subtract(images, background.fitted(images)[0])
    powers = background_powers(images, background.window)
    measured = ring_means(whole_plane(powers.mean(axis=0, dtype=np.float64)))
    expected = (smearing(background.window) - background.lost_power()) @ power
    np.testing.assert_allclose(measured[1:], expected[1:], rtol=0.1)


@pytest.mark.parametrize("modes", [1, 3, 6])
def test_noise_of_freed_images_is_nowhere_larger_than_it_is_believed_to_be(modes: int) -> None:
    """In no direction of the image, though the error of a background is shared by many coefficients."""
    background, disc = Background(32, 13.0), HalfDisc.of_radius(5)
    images, power = _noise(32, 3000)
    gain = np.diag(np.arange(6) < modes).astype(float)
    coefficients = background.fitted(images)[0]
    freed = images.copy()
    background.subtract(freed, coefficients @ gain.T)
    variance = background.variance(disc, power, gain, gain @ background.error(power) @ gain)
    weight = np.sqrt(disc.weight / power[disc.shell])

    def largest(images: np.ndarray, believed: np.ndarray) -> float:
        data = images_to_disc(images, disc) * weight / np.sqrt(believed)
        real = np.concatenate([data.real, data.imag[:, 1:]], axis=1)
        return float(np.linalg.eigvalsh(np.cov(real.T))[-1])

    # the largest eigenvalue that so many draws of independent noise have
    chance = largest(images, np.ones(len(disc)))
    assert largest(freed, variance) < 1.1 * chance + 0.02
    assert largest(freed, np.ones(len(disc))) > 1.5 * chance
    assert variance.min() >= 1


def test_an_offset_costs_no_more_than_the_coefficient_that_it_is() -> None:
    background, disc = Background(32, 13.0), HalfDisc.of_radius(15)
    power = _noise(32, 1)[1]
    gain = np.diag(np.arange(6) < 1).astype(float)
    variance = background.variance(disc, power, gain, gain @ background.error(power) @ gain)
    assert variance[0] > 100 and variance[1:].max() < 1.01


def test_nothing_is_believed_less_where_nothing_is_taken_out() -> None:
    background, disc = Background(32, 13.0), HalfDisc.of_radius(15)
    nothing = np.zeros((6, 6))
    assert np.all(background.variance(disc, _noise(32, 1)[1], nothing, nothing) == 1)
